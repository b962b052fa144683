package store

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hubbub.dev/hubbub/proto"
)

// User is an account: the public user and what only the server knows of it.
// PasswordHash is empty for bots and guests.
type User struct {
	proto.User
	PasswordHash string
	CreatedAt    time.Time
}

type userRow struct {
	bun.BaseModel `bun:"table:users"`

	ID           int64      `bun:"id,pk"`
	UsernameKey  string     `bun:"username_key"`
	PasswordHash string     `bun:"password_hash"`
	CreatedAt    int64      `bun:"created_at"`
	Body         proto.User `bun:"body,type:text"`
}

func newUserRow(u User) *userRow {
	return &userRow{
		ID:           int64(u.ID),
		UsernameKey:  strings.ToLower(u.Username),
		PasswordHash: u.PasswordHash,
		CreatedAt:    u.CreatedAt.UnixMilli(),
		Body:         u.User,
	}
}

func (r *userRow) user() User {
	return User{User: r.Body, PasswordHash: r.PasswordHash, CreatedAt: time.UnixMilli(r.CreatedAt).UTC()}
}

// CreateUser stores a new user. A username taken by another, in whatever case,
// is ErrTaken.
func (s *Store) CreateUser(ctx context.Context, u User) error {
	_, err := s.db.NewInsert().Model(newUserRow(u)).Exec(ctx)
	return classify("create user", err)
}

// UpdateUser replaces a user; ErrNotFound, or ErrTaken for its new username.
func (s *Store) UpdateUser(ctx context.Context, u User) error {
	r, err := s.db.NewUpdate().Model(newUserRow(u)).WherePK().Exec(ctx)
	return affected("update user", r, err)
}

// UserByID returns a user or ErrNotFound.
func (s *Store) UserByID(ctx context.Context, id proto.Snowflake) (User, error) {
	var row userRow
	err := s.db.NewSelect().Model(&row).Where("id = ?", int64(id)).Scan(ctx)
	return row.user(), classify("user by id", err)
}

// UserByUsername returns the user of that name, in whatever case, or ErrNotFound.
func (s *Store) UserByUsername(ctx context.Context, username string) (User, error) {
	var row userRow
	err := s.db.NewSelect().Model(&row).Where("username_key = ?", strings.ToLower(username)).Scan(ctx)
	return row.user(), classify("user by username", err)
}

// CountUsers returns how many users there are, bots and guests included.
func (s *Store) CountUsers(ctx context.Context) (int, error) {
	n, err := s.db.NewSelect().Model((*userRow)(nil)).Count(ctx)
	return int(n), classify("count users", err)
}

// usersByID returns those of ids that exist.
func usersByID(ctx context.Context, db bun.IDB, ids []int64) (map[proto.Snowflake]proto.User, error) {
	users := make(map[proto.Snowflake]proto.User, len(ids))
	if len(ids) == 0 {
		return users, nil
	}
	var rows []userRow
	if err := db.NewSelect().Model(&rows).Where("id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, classify("users by id", err)
	}
	for i := range rows {
		users[rows[i].Body.ID] = rows[i].Body
	}
	return users, nil
}

type tokenRow struct {
	bun.BaseModel `bun:"table:tokens"`

	Hash      string `bun:"hash,pk"`
	UserID    int64  `bun:"user_id"`
	CreatedAt int64  `bun:"created_at"`
}

// PutToken makes the bearer token with this hash valid for user.
func (s *Store) PutToken(ctx context.Context, user proto.Snowflake, hash [32]byte, at time.Time) error {
	row := tokenRow{Hash: hex.EncodeToString(hash[:]), UserID: int64(user), CreatedAt: at.UnixMilli()}
	_, err := s.db.NewInsert().Model(&row).Exec(ctx)
	return classify("put token", err)
}

// UserByToken returns the user whose token has this hash, or ErrNotFound.
func (s *Store) UserByToken(ctx context.Context, hash [32]byte) (User, error) {
	var row userRow
	err := s.db.NewSelect().Model(&row).
		Where("id = (SELECT user_id FROM tokens WHERE hash = ?)", hex.EncodeToString(hash[:])).Scan(ctx)
	return row.user(), classify("user by token", err)
}

// DeleteToken makes the token with this hash invalid; ErrNotFound if it was.
func (s *Store) DeleteToken(ctx context.Context, hash [32]byte) error {
	r, err := s.db.NewDelete().Model((*tokenRow)(nil)).Where("hash = ?", hex.EncodeToString(hash[:])).Exec(ctx)
	return affected("delete token", r, err)
}

// DeleteTokens makes every token of user invalid.
func (s *Store) DeleteTokens(ctx context.Context, user proto.Snowflake) error {
	_, err := s.db.NewDelete().Model((*tokenRow)(nil)).Where("user_id = ?", int64(user)).Exec(ctx)
	return classify("delete tokens", err)
}

// Application is a bot's application. Reads fill Bot and Owner from the users
// BotID and OwnerID; writes ignore both.
type Application struct {
	proto.Application
	BotID   proto.Snowflake
	OwnerID proto.Snowflake
}

type applicationRow struct {
	bun.BaseModel `bun:"table:applications"`

	ID      int64             `bun:"id,pk"`
	BotID   int64             `bun:"bot_id"`
	OwnerID int64             `bun:"owner_id"`
	Body    proto.Application `bun:"body,type:text"`
}

// PutApplication stores an application, new or changed; ErrTaken when its bot
// belongs to another.
func (s *Store) PutApplication(ctx context.Context, a Application) error {
	row := applicationRow{ID: int64(a.ID), BotID: int64(a.BotID), OwnerID: int64(a.OwnerID), Body: a.Application}
	row.Body.Bot, row.Body.Owner = nil, nil
	_, err := s.db.NewInsert().Model(&row).
		On("CONFLICT (id) DO UPDATE").Set("bot_id = EXCLUDED.bot_id, owner_id = EXCLUDED.owner_id, body = EXCLUDED.body").Exec(ctx)
	return classify("put application", err)
}

// ApplicationByID returns an application or ErrNotFound.
func (s *Store) ApplicationByID(ctx context.Context, id proto.Snowflake) (Application, error) {
	return s.application(ctx, "id = ?", id)
}

// ApplicationByBot returns the application of a bot user, or ErrNotFound.
func (s *Store) ApplicationByBot(ctx context.Context, bot proto.Snowflake) (Application, error) {
	return s.application(ctx, "bot_id = ?", bot)
}

func (s *Store) application(ctx context.Context, where string, id proto.Snowflake) (Application, error) {
	var row applicationRow
	if err := s.db.NewSelect().Model(&row).Where(where, int64(id)).Scan(ctx); err != nil {
		return Application{}, classify("application", err)
	}
	a := Application{Application: row.Body, BotID: proto.Snowflake(row.BotID), OwnerID: proto.Snowflake(row.OwnerID)}
	users, err := usersByID(ctx, s.db, []int64{row.BotID, row.OwnerID})
	if err != nil {
		return Application{}, err
	}
	if u, ok := users[a.BotID]; ok {
		a.Bot = &u
	}
	if u, ok := users[a.OwnerID]; ok {
		a.Owner = &u
	}
	return a, nil
}
