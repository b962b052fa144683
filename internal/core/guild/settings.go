package guild

import (
	"encoding/json"
	"maps"
	"slices"

	"hubbub.dev/hubbub/proto"
)

// defaultBitrate is that of a new voice channel, bit/s.
const defaultBitrate = 64000

// createGuild makes the guild that this object stands for.
func (g *Guild) createGuild(c *call) (any, error) {
	if g.info != nil {
		return nil, refuse(proto.ErrMissingAccess) // the id is taken
	}
	info := withLists(proto.Guild{
		ID: g.id, AFKTimeout: 300, MaxMembers: 500000, MaxVideoChannelUsers: 25,
		DefaultMessageNotifications: 1, PreferredLocale: "en-US",
	})
	owner := c.actor
	if c.admin {
		owner, _ = decode[proto.User](c.form, "owner", "DICT_TYPE_CONVERT", "Must be a user.")
	}
	info.OwnerID = owner.ID
	if c.admin && info.OwnerID == 0 {
		c.id("owner_id", &info.OwnerID)
		if info.OwnerID == c.actor.ID {
			owner = c.actor
		}
	}
	c.required("name")
	c.text("name", 2, 100, &info.Name)
	channels := g.firstChannels(c.form)
	if err := c.err(); err != nil {
		return nil, err
	}
	g.setInfo(&info)
	g.setRole(&proto.Role{ID: g.id, Name: "@everyone", Permissions: proto.PermDefault})
	for _, ch := range channels {
		g.setChannel(ch)
	}
	if owner.ID != 0 {
		g.admit(owner, nil)
	}
	return g.object(), nil
}

// firstChannels reads the channels of a guild that is being created; without
// any there is one to write and one to talk in.
func (g *Guild) firstChannels(f *form) []*proto.Channel {
	list := []json.RawMessage{json.RawMessage(`{"name":"general","type":0}`), json.RawMessage(`{"name":"General","type":2}`)}
	f.objects("channels", maxChannels, &list)
	channels := make([]*proto.Channel, 0, len(list))
	for i, body := range list {
		sub, err := parseForm(body)
		if err != nil {
			f.fail("channels", "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")
			return nil
		}
		ch := g.newChannel(sub)
		ch.Position = i
		if sub.err() != nil {
			if f.errors == nil {
				f.errors = map[string]any{}
			}
			f.errors["channels"] = sub.errors
		}
		channels = append(channels, ch)
	}
	return channels
}

func (g *Guild) getGuild(c *call) (any, error) {
	if c.params["with_counts"] != "true" {
		return g.object(), nil
	}
	return struct {
		proto.Guild
		Members int `json:"approximate_member_count"`
		Online  int `json:"approximate_presence_count"`
	}{g.object(), len(g.members), len(g.online)}, nil
}

func (g *Guild) getSnapshot(c *call) (any, error) {
	m := c.member
	if c.admin {
		m = nil
	}
	return g.snapshot(view{member: m, presences: true}), nil
}

func (g *Guild) updateGuild(c *call) (any, error) {
	if err := g.need(c, proto.PermManageGuild); err != nil {
		return nil, err
	}
	info := *g.info
	c.text("name", 2, 100, &info.Name)
	c.nullableText("description", 300, &info.Description)
	c.nullableText("icon", 64, &info.Icon)
	c.integer("afk_timeout", 60, 3600, &info.AFKTimeout)
	c.integer("verification_level", 0, 4, &info.VerificationLevel)
	c.integer("default_message_notifications", 0, 1, &info.DefaultMessageNotifications)
	c.integer("explicit_content_filter", 0, 2, &info.ExplicitContentFilter)
	c.text("preferred_locale", 2, 16, &info.PreferredLocale)
	c.nullableID("afk_channel_id", &info.AFKChannelID)
	c.nullableID("system_channel_id", &info.SystemChannelID)
	c.id("owner_id", &info.OwnerID)
	for field, id := range map[string]*proto.Snowflake{"afk_channel_id": info.AFKChannelID, "system_channel_id": info.SystemChannelID} {
		if id != nil && g.channels[*id] == nil {
			c.fail(field, "CHANNEL_INVALID", "There is no such channel.")
		}
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	if info.OwnerID != g.info.OwnerID {
		if !c.admin && c.actor.ID != g.info.OwnerID {
			return nil, refuse(proto.ErrMissingPermissions)
		}
		if g.members[info.OwnerID] == nil {
			return nil, refuse(proto.ErrUnknownMember)
		}
	}
	g.setInfo(&info)
	g.dispatch("GUILD_UPDATE", proto.IntentGuilds, nil, g.object())
	g.reconcile(0)
	return g.object(), nil
}

func (g *Guild) deleteGuild(c *call) (any, error) {
	if !c.admin && c.actor.ID != g.info.OwnerID {
		return nil, refuse(proto.ErrMissingPermissions)
	}
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		g.leaveVoice(g.voice[user], CloseTerminated)
	}
	for _, user := range slices.Sorted(maps.Keys(g.online)) {
		g.expel(user)
	}
	g.setInfo(nil)
	return nil, nil
}

// expel takes a user's sessions off the guild and has the gateways tell them.
func (g *Guild) expel(user proto.Snowflake) {
	for _, s := range slices.Clone(g.online[user]) {
		g.dropSession(s)
	}
	g.broadcast(GatewayMessage{Left: &Membership{User: user, Guild: g.id}})
}
