// Package store owns what outlives the process: users, tokens, applications,
// guilds, messages, commands and secrets, in SQLite or PostgreSQL, behind one
// query layer. It never decides what may be stored: the callers' rules do.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the "pgx" driver
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors that callers tell apart; all others are the database's.
var (
	ErrNotFound = errors.New("store: not found")
	ErrTaken    = errors.New("store: taken")
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a database. It is safe for concurrent use.
type Store struct {
	db *bun.DB
}

// Open connects to the database that dsn names and brings its tables up to date.
// dsn is "sqlite:<path>", "sqlite::memory:" (private to this Store) or a
// "postgres://" URL.
func Open(ctx context.Context, dsn string) (*Store, error) {
	db, dialect, options, err := connect(dsn)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, db, options); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Store{db: bun.NewDB(db, dialect)}, nil
}

type migration struct {
	dialect goose.Dialect
	options []goose.ProviderOption
}

func connect(dsn string) (*sql.DB, schema.Dialect, migration, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok && path != "" {
		db, err := connectSQLite(path)
		return db, sqlitedialect.New(), migration{dialect: goose.DialectSQLite3}, err
	}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		db, err := sql.Open("pgx", dsn)
		if err != nil {
			return nil, nil, migration{}, fmt.Errorf("store: %w", err)
		}
		// Nodes of a fleet may start together; one migrates, the others look every second
		// whether it is done, for five minutes.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
		if err != nil {
			return nil, nil, migration{}, errors.Join(fmt.Errorf("store: %w", err), db.Close())
		}
		return db, pgdialect.New(), migration{goose.DialectPostgres, []goose.ProviderOption{goose.WithSessionLocker(locker)}}, nil
	}
	// The DSN may hold a password, so the error repeats none of it.
	return nil, nil, migration{}, errors.New(`store: the DSN must begin with "sqlite:" or "postgres://"`)
}

func connectSQLite(path string) (*sql.DB, error) {
	query := url.Values{
		// A second writer waits; immediate transactions keep a reader that turns
		// writer from failing at once with SQLITE_BUSY.
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)"},
	}
	connections := max(4, runtime.NumCPU())
	if path == ":memory:" {
		connections = 1 // each connection would see a database of its own
	} else if err := makePrivate(path); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: escapePath(path), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// makePrivate makes a database that does not exist yet, so that its owner alone may
// read it; SQLite gives its journal the same mode.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

func migrate(ctx context.Context, db *sql.DB, m migration) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	options := append(m.options, goose.WithDisableGlobalRegistry(true))
	provider, err := goose.NewProvider(m.dialect, db, files, options...)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	return nil
}

// Close ends all connections.
func (s *Store) Close() error { return s.db.Close() }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return fmt.Errorf("store: ping: %w", err)
	}
	return nil
}

type secretRow struct {
	bun.BaseModel `bun:"table:secrets"`

	Name  string `bun:"name,pk"`
	Value string `bun:"value"`
}

// Secret returns the secret called name. The first caller of all nodes makes it;
// afterwards it is the same for everybody.
func (s *Store) Secret(ctx context.Context, name string, generate func() []byte) ([]byte, error) {
	row := secretRow{Name: name}
	err := s.db.NewSelect().Model(&row).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		row.Value = base64.StdEncoding.EncodeToString(generate())
		if _, err := s.db.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(ctx); err != nil {
			return nil, fmt.Errorf("store: secret %s: %w", name, err)
		}
		// Another node may have been first.
		err = s.db.NewSelect().Model(&row).WherePK().Scan(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("store: secret %s: %w", name, err)
	}
	value, err := base64.StdEncoding.DecodeString(row.Value)
	if err != nil {
		return nil, fmt.Errorf("store: secret %s: %w", name, err)
	}
	return value, nil
}

// classify turns the drivers' errors into this package's, and names what was
// being done in all others.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		if c := lite.Code(); c == sqlite3.SQLITE_CONSTRAINT_UNIQUE || c == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
			return ErrTaken
		}
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23505" { // unique_violation
		return ErrTaken
	}
	return fmt.Errorf("store: %s: %w", doing, err)
}

// affected turns an update or delete that met no row into ErrNotFound.
func affected(doing string, r sql.Result, err error) error {
	if err != nil {
		return classify(doing, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return classify(doing, err)
	}
	if n == 0 {
		return ErrNotFound
	}
	return nil
}
