package store

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"hubbub.dev/hubbub/proto"
)

// GuildRecord is all of a guild but its messages. The guild's roles are in
// Guild.Roles; every member and invite carries its user.
type GuildRecord struct {
	Guild    proto.Guild
	Channels []proto.Channel
	Members  []proto.Member
	Invites  []proto.Invite
}

// Write is one change to a guild; exactly one field is set. Puts insert or
// replace. Guild is stored without its roles, which are written one by one.
// DeleteChannel deletes its messages too, DeleteGuild everything of the guild.
type Write struct {
	Guild   *proto.Guild
	Channel *proto.Channel
	Role    *proto.Role
	Member  *proto.Member
	Invite  *proto.Invite
	Message *proto.Message

	DeleteGuild   bool
	DeleteChannel proto.Snowflake
	DeleteRole    proto.Snowflake
	DeleteMember  proto.Snowflake
	DeleteInvite  string
	DeleteMessage [2]proto.Snowflake // channel and id
}

type guildRow struct {
	bun.BaseModel `bun:"table:guilds"`

	ID   int64       `bun:"id,pk"`
	Body proto.Guild `bun:"body,type:text"`
}

type channelRow struct {
	bun.BaseModel `bun:"table:channels"`

	ID      int64         `bun:"id,pk"`
	GuildID int64         `bun:"guild_id"`
	Body    proto.Channel `bun:"body,type:text"`
}

type roleRow struct {
	bun.BaseModel `bun:"table:roles"`

	GuildID int64      `bun:"guild_id,pk"`
	ID      int64      `bun:"id,pk"`
	Body    proto.Role `bun:"body,type:text"`
}

type memberRow struct {
	bun.BaseModel `bun:"table:members"`

	GuildID int64        `bun:"guild_id,pk"`
	UserID  int64        `bun:"user_id,pk"`
	Body    proto.Member `bun:"body,type:text"`
}

type inviteRow struct {
	bun.BaseModel `bun:"table:invites"`

	Code      string       `bun:"code,pk"`
	GuildID   int64        `bun:"guild_id"`
	InviterID int64        `bun:"inviter_id"`
	Body      proto.Invite `bun:"body,type:text"`
}

// GuildIDs returns every guild there is, oldest first.
func (s *Store) GuildIDs(ctx context.Context) ([]proto.Snowflake, error) {
	var ids []int64
	err := s.db.NewSelect().Model((*guildRow)(nil)).Column("id").Order("id").Scan(ctx, &ids)
	return snowflakes(ids), classify("guild ids", err)
}

// GuildIDsOfUser returns the guilds that user is a member of, oldest first.
func (s *Store) GuildIDsOfUser(ctx context.Context, user proto.Snowflake) ([]proto.Snowflake, error) {
	var ids []int64
	err := s.db.NewSelect().Model((*memberRow)(nil)).Column("guild_id").
		Where("user_id = ?", int64(user)).Order("guild_id").Scan(ctx, &ids)
	return snowflakes(ids), classify("guild ids of user", err)
}

func snowflakes(ids []int64) []proto.Snowflake {
	out := make([]proto.Snowflake, len(ids))
	for i, id := range ids {
		out[i] = proto.Snowflake(id)
	}
	return out
}

func loadGuild(ctx context.Context, tx bun.Tx, id int64) (r GuildRecord, err error) {
	var guild guildRow
	if err := tx.NewSelect().Model(&guild).Where("id = ?", id).Scan(ctx); err != nil {
		return r, err
	}
	r.Guild = guild.Body

	var roles []roleRow
	if err := tx.NewSelect().Model(&roles).Where("guild_id = ?", id).Order("id").Scan(ctx); err != nil {
		return r, err
	}
	for i := range roles {
		r.Guild.Roles = append(r.Guild.Roles, roles[i].Body)
	}

	var channels []channelRow
	if err := tx.NewSelect().Model(&channels).Where("guild_id = ?", id).Order("id").Scan(ctx); err != nil {
		return r, err
	}
	for i := range channels {
		r.Channels = append(r.Channels, channels[i].Body)
	}

	var members []memberRow
	if err := tx.NewSelect().Model(&members).Where("guild_id = ?", id).Order("user_id").Scan(ctx); err != nil {
		return r, err
	}
	var invites []inviteRow
	if err := tx.NewSelect().Model(&invites).Where("guild_id = ?", id).Order("code").Scan(ctx); err != nil {
		return r, err
	}
	users, err := guildUsers(ctx, tx, id)
	if err != nil {
		return r, err
	}
	for i := range members {
		m := members[i].Body
		u, ok := users[members[i].UserID]
		if !ok {
			continue // the account is gone
		}
		m.User = &u
		r.Members = append(r.Members, m)
	}
	for i := range invites {
		v := invites[i].Body
		v.InviterID = proto.Snowflake(invites[i].InviterID)
		if u, ok := users[invites[i].InviterID]; ok {
			v.Inviter = &u
		}
		r.Invites = append(r.Invites, v)
	}
	return r, nil
}

// guildUsers returns the users a guild's members and invites name. Sub-selects,
// not id lists: a large guild has more members than a statement may be long.
func guildUsers(ctx context.Context, tx bun.Tx, guild int64) (map[int64]proto.User, error) {
	var rows []userRow
	err := tx.NewSelect().Model(&rows).
		Where("id IN (SELECT user_id FROM members WHERE guild_id = ?)", guild).
		WhereOr("id IN (SELECT inviter_id FROM invites WHERE guild_id = ?)", guild).Scan(ctx)
	if err != nil {
		return nil, err
	}
	users := make(map[int64]proto.User, len(rows))
	for i := range rows {
		users[rows[i].ID] = rows[i].Body
	}
	return users, nil
}

// Apply makes all writes to a guild, or none. It fails with ErrFenced when the
// tenure that they are made in is over, or when it is that of a new guild and the
// guild exists.
func (s *Store) Apply(ctx context.Context, guild proto.Snowflake, t Tenure, writes []Write) error {
	if len(writes) == 0 {
		return nil
	}
	err := s.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if err := s.hold(ctx, tx, int64(guild), t); err != nil {
			return err
		}
		for _, w := range writes {
			if err := apply(ctx, tx, int64(guild), w); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, ErrFenced) {
		return ErrFenced
	}
	return classify("apply", err)
}

func apply(ctx context.Context, tx bun.Tx, guild int64, w Write) error {
	switch {
	case w.Guild != nil:
		body := *w.Guild
		body.Roles = nil
		return put(ctx, tx, &guildRow{ID: guild, Body: body}, "id", "body")
	case w.Channel != nil:
		return put(ctx, tx, &channelRow{ID: int64(w.Channel.ID), GuildID: guild, Body: *w.Channel}, "id", "body")
	case w.Role != nil:
		return put(ctx, tx, &roleRow{GuildID: guild, ID: int64(w.Role.ID), Body: *w.Role}, "guild_id, id", "body")
	case w.Member != nil:
		body := *w.Member
		body.User = nil
		return put(ctx, tx, &memberRow{GuildID: guild, UserID: int64(w.Member.User.ID), Body: body}, "guild_id, user_id", "body")
	case w.Invite != nil:
		body := *w.Invite
		body.Guild, body.Channel, body.Inviter = nil, nil, nil
		return put(ctx, tx, &inviteRow{Code: body.Code, GuildID: guild, InviterID: int64(body.InviterID), Body: body}, "code", "body")
	case w.Message != nil:
		return put(ctx, tx, newMessageRow(guild, *w.Message), "channel_id, id", "body")
	case w.DeleteGuild:
		return deleteGuild(ctx, tx, guild)
	case w.DeleteChannel != 0:
		return deleteChannel(ctx, tx, int64(w.DeleteChannel))
	case w.DeleteRole != 0:
		return remove(ctx, tx.NewDelete().Model((*roleRow)(nil)).Where("guild_id = ? AND id = ?", guild, int64(w.DeleteRole)))
	case w.DeleteMember != 0:
		return remove(ctx, tx.NewDelete().Model((*memberRow)(nil)).Where("guild_id = ? AND user_id = ?", guild, int64(w.DeleteMember)))
	case w.DeleteInvite != "":
		return remove(ctx, tx.NewDelete().Model((*inviteRow)(nil)).Where("code = ?", w.DeleteInvite))
	case w.DeleteMessage[1] != 0:
		return remove(ctx, tx.NewDelete().Model((*messageRow)(nil)).
			Where("channel_id = ? AND id = ?", int64(w.DeleteMessage[0]), int64(w.DeleteMessage[1])))
	}
	return errors.New("empty write")
}

func put(ctx context.Context, tx bun.Tx, row any, key, column string) error {
	_, err := tx.NewInsert().Model(row).On("CONFLICT (" + key + ") DO UPDATE").Set(column + " = EXCLUDED." + column).Exec(ctx)
	return err
}

func remove(ctx context.Context, q *bun.DeleteQuery) error {
	_, err := q.Exec(ctx)
	return err
}

func deleteChannel(ctx context.Context, tx bun.Tx, channel int64) error {
	if err := remove(ctx, tx.NewDelete().Model((*messageRow)(nil)).Where("channel_id = ?", channel)); err != nil {
		return err
	}
	return remove(ctx, tx.NewDelete().Model((*channelRow)(nil)).Where("id = ?", channel))
}

func deleteGuild(ctx context.Context, tx bun.Tx, guild int64) error {
	if err := remove(ctx, tx.NewDelete().Model((*guildRow)(nil)).Where("id = ?", guild)); err != nil {
		return err
	}
	for _, model := range []any{(*channelRow)(nil), (*roleRow)(nil), (*memberRow)(nil), (*inviteRow)(nil), (*messageRow)(nil), (*commandRow)(nil)} {
		if err := remove(ctx, tx.NewDelete().Model(model).Where("guild_id = ?", guild)); err != nil {
			return err
		}
	}
	return nil
}

// ChannelGuild returns which guild a channel belongs to, or ErrNotFound.
func (s *Store) ChannelGuild(ctx context.Context, channel proto.Snowflake) (proto.Snowflake, error) {
	var row channelRow
	err := s.db.NewSelect().Model(&row).Column("guild_id").Where("id = ?", int64(channel)).Scan(ctx)
	return proto.Snowflake(row.GuildID), classify("guild of channel", err)
}

// InviteGuild returns which guild an invite is for, or ErrNotFound.
func (s *Store) InviteGuild(ctx context.Context, code string) (proto.Snowflake, error) {
	var row inviteRow
	err := s.db.NewSelect().Model(&row).Column("guild_id").Where("code = ?", code).Scan(ctx)
	return proto.Snowflake(row.GuildID), classify("guild of invite", err)
}
