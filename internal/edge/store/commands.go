package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"hubbub.dev/hubbub/proto"
)

type commandRow struct {
	bun.BaseModel `bun:"table:commands"`

	ID            int64                    `bun:"id,pk"`
	ApplicationID int64                    `bun:"application_id"`
	GuildID       int64                    `bun:"guild_id"` // 0 for a global command
	Type          int                      `bun:"type"`
	Name          string                   `bun:"name"`
	Body          proto.ApplicationCommand `bun:"body,type:text"`
}

func newCommandRow(c proto.ApplicationCommand) *commandRow {
	return &commandRow{ID: int64(c.ID), ApplicationID: int64(c.ApplicationID), GuildID: int64(c.GuildID), Type: c.Type, Name: c.Name, Body: c}
}

// Commands returns an application's commands in one guild, or its global ones
// for guild 0, by name.
func (s *Store) Commands(ctx context.Context, application, guild proto.Snowflake) ([]proto.ApplicationCommand, error) {
	var rows []commandRow
	err := s.db.NewSelect().Model(&rows).
		Where("application_id = ? AND guild_id = ?", int64(application), int64(guild)).Order("name", "type").Scan(ctx)
	if err != nil {
		return nil, classify("commands", err)
	}
	commands := make([]proto.ApplicationCommand, len(rows))
	for i := range rows {
		commands[i] = rows[i].Body
	}
	return commands, nil
}

// CommandByID returns one command of an application, global or of any guild, or
// ErrNotFound.
func (s *Store) CommandByID(ctx context.Context, application, id proto.Snowflake) (proto.ApplicationCommand, error) {
	var row commandRow
	err := s.db.NewSelect().Model(&row).Where("id = ? AND application_id = ?", int64(id), int64(application)).Scan(ctx)
	return row.Body, classify("command", err)
}

// PutCommand stores a command and returns it as stored. A known id is changed
// (ErrTaken when its new name is another's); otherwise a command of the same
// application, guild, type and name is replaced and keeps its id, and created is
// false.
func (s *Store) PutCommand(ctx context.Context, c proto.ApplicationCommand) (stored proto.ApplicationCommand, created bool, err error) {
	err = s.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		stored, created, err = putCommand(ctx, tx, c)
		return err
	})
	return stored, created, classify("put command", err)
}

func putCommand(ctx context.Context, tx bun.Tx, c proto.ApplicationCommand) (proto.ApplicationCommand, bool, error) {
	r, err := tx.NewUpdate().Model(newCommandRow(c)).WherePK().Where("application_id = ?", int64(c.ApplicationID)).Exec(ctx)
	if err != nil {
		return c, false, err
	}
	if n, err := r.RowsAffected(); err != nil || n > 0 {
		return c, false, err
	}
	var same commandRow
	err = tx.NewSelect().Model(&same).Column("id").
		Where("application_id = ? AND guild_id = ? AND type = ? AND name = ?", int64(c.ApplicationID), int64(c.GuildID), c.Type, c.Name).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		_, err = tx.NewInsert().Model(newCommandRow(c)).Exec(ctx)
		return c, true, err
	}
	if err != nil {
		return c, false, err
	}
	c.ID = proto.Snowflake(same.ID)
	_, err = tx.NewUpdate().Model(newCommandRow(c)).WherePK().Exec(ctx)
	return c, false, err
}

// ReplaceCommands makes commands the only ones of an application in a guild (0:
// global) and returns them as stored: those whose type and name were known keep
// their ids.
func (s *Store) ReplaceCommands(ctx context.Context, application, guild proto.Snowflake, commands []proto.ApplicationCommand) ([]proto.ApplicationCommand, error) {
	stored := make([]proto.ApplicationCommand, 0, len(commands))
	err := s.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		kept := make([]int64, 0, len(commands))
		for _, c := range commands {
			c.ApplicationID, c.GuildID = application, guild
			c, _, err := putCommand(ctx, tx, c)
			if err != nil {
				return err
			}
			stored = append(stored, c)
			kept = append(kept, int64(c.ID))
		}
		gone := tx.NewDelete().Model((*commandRow)(nil)).Where("application_id = ? AND guild_id = ?", int64(application), int64(guild))
		if len(kept) > 0 {
			gone = gone.Where("id NOT IN (?)", bun.List(kept))
		}
		return remove(ctx, gone)
	})
	if err != nil {
		return nil, classify("replace commands", err)
	}
	return stored, nil
}

// DeleteCommand removes one command of an application; ErrNotFound if unknown.
func (s *Store) DeleteCommand(ctx context.Context, application, id proto.Snowflake) error {
	r, err := s.db.NewDelete().Model((*commandRow)(nil)).Where("id = ? AND application_id = ?", int64(id), int64(application)).Exec(ctx)
	return affected("delete command", r, err)
}
