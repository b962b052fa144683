package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// firstTimeout bounds making the first guild.
const firstTimeout = 20 * time.Second

// welcome makes sure that there is a guild to talk in and links that lead into
// it. It returns the code of a lasting invite, and the code that makes its user
// an administrator, which is empty once it was used.
func (n *Node) welcome(ctx context.Context) (invite, owner string, err error) {
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	ids, err := n.store.GuildIDs(ctx)
	if err != nil {
		return "", "", err
	}
	if len(ids) == 0 {
		id, err := n.firstGuild(ctx)
		if err != nil {
			return "", "", fmt.Errorf("first guild: %w", err)
		}
		ids = append(ids, id)
	}
	return n.links(ctx, ids[0])
}

// firstGuild makes a guild with a text channel, three voice channels and an
// administrator role, owned by a system account that nobody can log in to.
func (n *Node) firstGuild(ctx context.Context) (proto.Snowflake, error) {
	gen := proto.NewGenerator(1023)
	now := time.Now()
	host := proto.User{ID: gen.Next(now), Username: "hubbub", Discriminator: "0", System: true}
	switch err := n.store.CreateUser(ctx, store.User{User: host, CreatedAt: now}); {
	case errors.Is(err, store.ErrTaken):
		u, err := n.store.UserByUsername(ctx, host.Username)
		if err != nil {
			return 0, err
		}
		host = u.User
	case err != nil:
		return 0, err
	}
	// Nodes that start together make one guild: all by the id of the first.
	secret, err := n.store.Secret(ctx, "first-guild", func() []byte { return []byte(gen.Next(now).String()) })
	if err != nil {
		return 0, err
	}
	id, err := proto.ParseSnowflake(string(secret))
	if err != nil {
		return 0, err
	}
	channel := func(t proto.ChannelType, name string) map[string]any {
		return map[string]any{"type": t, "name": name}
	}
	_, err = n.call(ctx, id, guild.OpGuildCreate, nil, map[string]any{
		"name": n.cfg.Name, "owner_id": host.ID,
		"channels": []any{
			channel(proto.ChannelText, "general"),
			channel(proto.ChannelVoice, "Lounge"), channel(proto.ChannelVoice, "Game Night"), channel(proto.ChannelVoice, "Quiet Room"),
		},
	})
	if err != nil {
		if made, _ := n.store.GuildIDs(ctx); len(made) > 0 {
			return id, nil // another node was faster
		}
		return 0, err
	}
	_, err = n.call(ctx, id, guild.OpRoleCreate, nil, map[string]any{
		"name": "Admin", "permissions": proto.PermAdministrator, "hoist": true, "color": 0xE8A33D,
	})
	return id, err
}

// links finds the two invites in a guild, and makes what is missing.
func (n *Node) links(ctx context.Context, id proto.Snowflake) (invite, owner string, err error) {
	body, err := n.call(ctx, id, guild.OpInviteList, nil, nil)
	if err != nil {
		return "", "", err
	}
	var invites []proto.Invite
	if err := json.Unmarshal(body, &invites); err != nil {
		return "", "", err
	}
	for _, i := range invites {
		switch {
		case i.ExpiresAt != nil:
		case len(i.RoleIDs) > 0 && i.MaxUses == 1:
			owner = i.Code
		case i.MaxUses == 0 && len(i.RoleIDs) == 0:
			invite = i.Code
		}
	}
	fresh := invite == ""
	if fresh {
		if invite, err = n.makeInvite(ctx, id, map[string]any{"max_age": 0, "max_uses": 0, "unique": true}); err != nil {
			return "", "", err
		}
	}
	if fresh && owner == "" {
		owner, err = n.ownerInvite(ctx, id)
	}
	return invite, owner, err
}

func (n *Node) ownerInvite(ctx context.Context, id proto.Snowflake) (string, error) {
	body, err := n.call(ctx, id, guild.OpRoleList, nil, nil)
	if err != nil {
		return "", err
	}
	var roles []proto.Role
	if err := json.Unmarshal(body, &roles); err != nil {
		return "", err
	}
	for _, r := range roles {
		if r.Permissions.Has(proto.PermAdministrator) {
			return n.makeInvite(ctx, id, map[string]any{"max_age": 0, "max_uses": 1, "unique": true, "role_ids": []proto.Snowflake{r.ID}})
		}
	}
	return "", nil
}

// makeInvite makes an invite to the guild's first channel that people can see.
func (n *Node) makeInvite(ctx context.Context, id proto.Snowflake, want map[string]any) (string, error) {
	body, err := n.call(ctx, id, guild.OpChannelList, nil, nil)
	if err != nil {
		return "", err
	}
	var channels []proto.Channel
	if err := json.Unmarshal(body, &channels); err != nil {
		return "", err
	}
	for _, c := range channels {
		if c.Type == proto.ChannelCategory {
			continue
		}
		body, err := n.call(ctx, id, guild.OpInviteCreate, map[string]string{"channel": c.ID.String()}, want)
		if err != nil {
			return "", err
		}
		var made proto.Invite
		err = json.Unmarshal(body, &made)
		return made.Code, err
	}
	return "", errors.New("the first guild has no channel to invite into")
}

// call asks a guild's owner to do op as the operator.
func (n *Node) call(ctx context.Context, id proto.Snowflake, op string, params map[string]string, body any) (json.RawMessage, error) {
	c := guild.Call{Op: op, Actor: guild.Actor{Admin: true}, Params: params}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		c.Body = b
	}
	var res guild.Result
	for {
		res = guild.Result{}
		err := n.bus.Request(ctx, n.route(id), guild.Request{Guild: id, Call: &c}, &res)
		if err == nil && !res.Misplaced {
			break
		}
		if (err != nil && !errors.Is(err, bus.ErrNoResponders)) || !pause(ctx, askAgain) {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
	}
	if res.Status >= 400 {
		return nil, fmt.Errorf("%s: %d %s", op, res.Status, res.Body)
	}
	return res.Body, nil
}
