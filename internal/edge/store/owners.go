package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"hubbub.dev/hubbub/proto"
)

// ErrFenced refuses what an owner does of which the guild has been taken.
var ErrFenced = errors.New("store: the guild has another owner")

// Tenure is one owner's time with a guild. The zero Generation is that of a guild
// that does not exist yet.
type Tenure struct {
	Owner      string // names one process, not only its node
	Generation uint64
}

type tenureRow struct {
	bun.BaseModel `bun:"table:guilds"`

	ID         int64  `bun:"id,pk"`
	Owner      string `bun:"owner"`
	Generation int64  `bun:"generation"`
}

// TakeGuild makes owner the guild's owner and returns the guild as it is from then
// on: whatever another owner writes later is refused. An owner that has the guild
// already goes on in its tenure. It fails with ErrNotFound, or with ErrFenced when
// another took the guild at the same time.
func (s *Store) TakeGuild(ctx context.Context, id proto.Snowflake, owner string) (record GuildRecord, tenure Tenure, err error) {
	err = s.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		var row tenureRow
		if err := tx.NewSelect().Model(&row).Where("id = ?", int64(id)).Scan(ctx); err != nil {
			return err
		}
		if row.Owner != owner {
			r, err := tx.NewUpdate().Model((*tenureRow)(nil)).
				Set("owner = ?", owner).Set("generation = ?", row.Generation+1).
				Where("id = ?", int64(id)).Where("generation = ?", row.Generation).Exec(ctx)
			if err != nil {
				return err
			}
			if n, err := r.RowsAffected(); err != nil || n == 0 {
				return errors.Join(err, ErrFenced)
			}
			row.Generation++
		}
		tenure = Tenure{owner, uint64(row.Generation)}
		// What an owner before wrote is complete: it held the row's lock.
		record, err = loadGuild(ctx, tx, int64(id))
		return err
	})
	if errors.Is(err, ErrFenced) {
		return GuildRecord{}, Tenure{}, ErrFenced
	}
	if err != nil {
		return GuildRecord{}, Tenure{}, classify("take guild", err)
	}
	return record, tenure, nil
}

// hold makes sure that a tenure lasts until the end of the transaction.
func (s *Store) hold(ctx context.Context, tx bun.Tx, guild int64, t Tenure) error {
	if t.Generation == 0 {
		r, err := tx.NewRaw("INSERT INTO guilds (id, body, owner, generation) VALUES (?, '{}', ?, 1) ON CONFLICT (id) DO NOTHING", guild, t.Owner).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrFenced)
		}
		return nil
	}
	q := tx.NewSelect().Model((*tenureRow)(nil)).Column("id").
		Where("id = ?", guild).Where("generation = ?", int64(t.Generation)).Where("owner = ?", t.Owner)
	if s.db.Dialect().Name() == dialect.PG {
		q = q.For("SHARE") // SQLite has one writer at a time as it is
	}
	var found int64
	err := q.Scan(ctx, &found)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrFenced
	}
	return err
}

// numbers is how many node numbers an id has room for, less the last, which is for
// ids that are made before there is a lease.
const numbers = 1023

type numberRow struct {
	bun.BaseModel `bun:"table:numbers"`

	Number  int64  `bun:"number,pk"`
	Holder  string `bun:"holder"`
	Expires int64  `bun:"expires"`
}

// LeaseNumber gives holder a node number, 0 to 1022, that nobody else has until the
// lease ends. A holder that has one gets the same again, with a new end.
func (s *Store) LeaseNumber(ctx context.Context, holder string, now time.Time, lease time.Duration) (uint16, error) {
	until := now.Add(lease).UnixMilli()
	for {
		var mine numberRow
		err := s.db.NewSelect().Model(&mine).Where("holder = ?", holder).OrderExpr("number").Limit(1).Scan(ctx)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			if mine.Number, err = s.freeNumber(ctx, now); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, classify("lease number", err)
		}
		r, err := s.db.NewInsert().Model(&numberRow{Number: mine.Number, Holder: holder, Expires: until}).
			On("CONFLICT (number) DO UPDATE").Set("holder = EXCLUDED.holder").Set("expires = EXCLUDED.expires").
			Where("number_row.holder = EXCLUDED.holder").WhereOr("number_row.expires < ?", now.UnixMilli()).Exec(ctx)
		if err != nil {
			return 0, classify("lease number", err)
		}
		if n, err := r.RowsAffected(); err != nil || n > 0 {
			return uint16(mine.Number), classify("lease number", err)
		}
		// Somebody else was faster.
	}
}

// freeNumber returns the lowest number that nobody holds.
func (s *Store) freeNumber(ctx context.Context, now time.Time) (int64, error) {
	var held []int64
	err := s.db.NewSelect().Model((*numberRow)(nil)).Column("number").Where("expires >= ?", now.UnixMilli()).OrderExpr("number").Scan(ctx, &held)
	if err != nil {
		return 0, classify("lease number", err)
	}
	next := int64(0)
	for _, n := range held {
		if n == next {
			next++
		}
	}
	if next >= numbers {
		return 0, fmt.Errorf("store: all %d node numbers are leased", numbers)
	}
	return next, nil
}
