package store

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"hubbub.dev/hubbub/proto"
)

type messageRow struct {
	bun.BaseModel `bun:"table:messages"`

	ChannelID int64         `bun:"channel_id,pk"`
	ID        int64         `bun:"id,pk"`
	GuildID   int64         `bun:"guild_id"`
	AuthorID  int64         `bun:"author_id"`
	Body      proto.Message `bun:"body,type:text"`
}

func newMessageRow(guild int64, m proto.Message) *messageRow {
	m.Member = nil
	return &messageRow{ChannelID: int64(m.ChannelID), ID: int64(m.ID), GuildID: guild, AuthorID: int64(m.Author.ID), Body: m}
}

// MessageQuery selects a page of a channel: the Limit (1 to 100) messages before
// or after an id, or around it, or the newest when all are zero.
type MessageQuery struct {
	Before proto.Snowflake
	After  proto.Snowflake
	Around proto.Snowflake
	Limit  int
}

// Message returns one message, its author as the user is now, or ErrNotFound.
func (s *Store) Message(ctx context.Context, channel, id proto.Snowflake) (proto.Message, error) {
	rows := make([]messageRow, 1)
	err := s.db.NewSelect().Model(&rows[0]).Where("channel_id = ? AND id = ?", int64(channel), int64(id)).Scan(ctx)
	if err != nil {
		return proto.Message{}, classify("message", err)
	}
	messages, err := s.withAuthors(ctx, rows)
	if err != nil {
		return proto.Message{}, err
	}
	return messages[0], nil
}

// Messages returns a page of a channel, newest first.
func (s *Store) Messages(ctx context.Context, channel proto.Snowflake, q MessageQuery) ([]proto.Message, error) {
	limit := int64(min(max(q.Limit, 1), 100))
	var rows []messageRow
	var err error
	switch {
	case q.Around != 0:
		older := limit / 2
		rows, err = s.page(ctx, channel, "id < ?", q.Around, older, false)
		if err == nil {
			var newer []messageRow
			newer, err = s.page(ctx, channel, "id >= ?", q.Around, limit-older, true)
			rows = append(newer, rows...)
		}
	case q.After != 0:
		rows, err = s.page(ctx, channel, "id > ?", q.After, limit, true)
	case q.Before != 0:
		rows, err = s.page(ctx, channel, "id < ?", q.Before, limit, false)
	default:
		rows, err = s.page(ctx, channel, "id > ?", 0, limit, false)
	}
	if err != nil {
		return nil, classify("messages", err)
	}
	return s.withAuthors(ctx, rows)
}

// page returns up to limit messages on one side of an id, those nearest to it
// when it ascends; newest first in any case.
func (s *Store) page(ctx context.Context, channel proto.Snowflake, where string, id proto.Snowflake, limit int64, ascending bool) ([]messageRow, error) {
	if limit == 0 {
		return nil, nil
	}
	order := "id DESC"
	if ascending {
		order = "id ASC"
	}
	var rows []messageRow
	err := s.db.NewSelect().Model(&rows).
		Where("channel_id = ?", int64(channel)).Where(where, int64(id)).OrderExpr(order).Limit(limit).Scan(ctx)
	if ascending {
		slices.Reverse(rows)
	}
	return rows, err
}

// withAuthors replaces the author that a message was stored with by the user of
// today, so that renamed users and new avatars show.
func (s *Store) withAuthors(ctx context.Context, rows []messageRow) ([]proto.Message, error) {
	ids := make([]int64, 0, len(rows))
	for i := range rows {
		ids = append(ids, rows[i].AuthorID)
	}
	slices.Sort(ids)
	users, err := usersByID(ctx, s.db, slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	messages := make([]proto.Message, len(rows))
	for i := range rows {
		messages[i] = rows[i].Body
		if u, ok := users[messages[i].Author.ID]; ok {
			messages[i].Author = u
		}
	}
	return messages, nil
}
