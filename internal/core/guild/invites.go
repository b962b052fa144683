package guild

import (
	"cmp"
	"io"
	"slices"
	"time"

	"hubbub.dev/hubbub/proto"
)

const (
	maxInvites       = 1000
	defaultInviteAge = 86400 // s
	maxInviteAge     = 604800
	maxInviteUses    = 100
	inviteCodeLength = 8
)

// inviteEvent is the payload of INVITE_CREATE and INVITE_DELETE.
type inviteEvent struct {
	GuildID   proto.Snowflake `json:"guild_id"`
	ChannelID proto.Snowflake `json:"channel_id"`
	Code      string          `json:"code"`
	Inviter   *proto.User     `json:"inviter,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	MaxAge    int             `json:"max_age"`
	MaxUses   int             `json:"max_uses"`
	Temporary bool            `json:"temporary"`
	Uses      int             `json:"uses"`
}

func (g *Guild) sortedInvites() []*proto.Invite {
	list := make([]*proto.Invite, 0, len(g.invites))
	for _, v := range g.invites {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *proto.Invite) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Code, b.Code))
	})
	return list
}

func (g *Guild) expired(v *proto.Invite) bool {
	return v.ExpiresAt != nil && !g.in.Wall.Before(*v.ExpiresAt)
}

// validInvite returns the invite of a code, nil when there is none any more.
func (g *Guild) validInvite(code string) *proto.Invite {
	v := g.invites[code]
	if v == nil || g.expired(v) {
		return nil
	}
	return v
}

// card returns of the guild what a stranger with an invite may know.
func (g *Guild) card() *proto.Guild {
	info := *g.info
	info.Roles = []proto.Role{}
	return &info
}

// inviteObject returns an invite as clients see it.
func (g *Guild) inviteObject(v *proto.Invite) proto.Invite {
	o := *v
	o.Guild = g.card()
	if ch := g.channels[v.ChannelID]; ch != nil {
		card := proto.Channel{ID: ch.ID, GuildID: g.id, Type: ch.Type, Name: ch.Name, PermissionOverwrites: []proto.Overwrite{}}
		o.Channel = &card
	}
	o.ApproximateMemberCount = len(g.members)
	o.ApproximatePresenceCount = len(g.online)
	return o
}

func (g *Guild) createInvite(c *call) (any, error) {
	ch, err := g.channelOf(c)
	if err != nil {
		return nil, err
	}
	if err := g.needIn(c, ch, proto.PermCreateInvite); err != nil {
		return nil, err
	}
	v := proto.Invite{
		GuildID: g.id, ChannelID: ch.ID, MaxAge: defaultInviteAge, CreatedAt: g.in.Wall.UTC(),
	}
	if c.actor.ID != 0 {
		v.InviterID, v.Inviter = c.actor.ID, &c.actor
	}
	var unique bool
	c.integer("max_age", 0, maxInviteAge, &v.MaxAge)
	c.integer("max_uses", 0, maxInviteUses, &v.MaxUses)
	c.boolean("temporary", &v.Temporary)
	c.boolean("unique", &unique)
	c.ids("role_ids", maxRoles, &v.RoleIDs)
	if err := c.err(); err != nil {
		return nil, err
	}
	if len(v.RoleIDs) > 0 {
		if err := g.mayGive(c, nil, v.RoleIDs, v.RoleIDs); err != nil {
			return nil, err
		}
	}
	if !unique {
		if same := g.similarInvite(&v); same != nil {
			return g.inviteObject(same), nil
		}
	}
	return g.saveInvite(ch, v)
}

// similarInvite returns an invite that says what v says and was never used.
func (g *Guild) similarInvite(v *proto.Invite) *proto.Invite {
	for _, o := range g.sortedInvites() {
		if o.ChannelID == v.ChannelID && o.InviterID == v.InviterID && o.MaxAge == v.MaxAge && o.MaxUses == v.MaxUses &&
			o.Temporary == v.Temporary && o.Uses == 0 && slices.Equal(o.RoleIDs, v.RoleIDs) && !g.expired(o) {
			return o
		}
	}
	return nil
}

func (g *Guild) saveInvite(ch *proto.Channel, v proto.Invite) (any, error) {
	code, err := inviteCode(g.cfg.Random)
	if err != nil {
		return nil, err
	}
	for _, o := range g.sortedInvites() {
		if g.expired(o) {
			g.removeInvite(o)
		}
	}
	if len(g.invites) >= maxInvites {
		return nil, refuse(proto.ErrMaxInvites)
	}
	v.Code = code
	if v.MaxAge > 0 {
		end := v.CreatedAt.Add(time.Duration(v.MaxAge) * time.Second)
		v.ExpiresAt = &end
	}
	g.setInvite(&v)
	g.dispatch("INVITE_CREATE", intentInvites, g.managersOf(ch), g.inviteEvent(&v))
	return g.inviteObject(&v), nil
}

// inviteCode returns a code of eight letters and digits: 62^8 of them, so that
// neither guessing nor chance meets one in use.
func inviteCode(random io.Reader) (string, error) {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	code := make([]byte, 0, inviteCodeLength)
	var b [16]byte
	for len(code) < inviteCodeLength {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", err
		}
		for _, v := range b {
			// 248 is the last multiple of 62 in a byte; more would favour some letters.
			if v < 248 && len(code) < inviteCodeLength {
				code = append(code, alphabet[int(v)%len(alphabet)])
			}
		}
	}
	return string(code), nil
}

func (g *Guild) inviteEvent(v *proto.Invite) inviteEvent {
	return inviteEvent{
		GuildID: g.id, ChannelID: v.ChannelID, Code: v.Code, Inviter: v.Inviter, CreatedAt: v.CreatedAt,
		MaxAge: v.MaxAge, MaxUses: v.MaxUses, Temporary: v.Temporary, Uses: v.Uses,
	}
}

func (g *Guild) removeInvite(v *proto.Invite) {
	g.dropInvite(v.Code)
	if ch := g.channels[v.ChannelID]; ch != nil {
		g.dispatch("INVITE_DELETE", intentInvites, g.managersOf(ch), g.inviteEvent(v))
	}
}

// useInvite counts one use and removes the invite with its last.
func (g *Guild) useInvite(v *proto.Invite) {
	next := *v
	next.Uses++
	if next.MaxUses > 0 && next.Uses >= next.MaxUses {
		g.removeInvite(&next)
		return
	}
	g.setInvite(&next)
}

func (g *Guild) listInvites(c *call) (any, error) {
	needed := proto.PermManageGuild
	var in *proto.Channel
	if c.params["channel"] != "" {
		ch, err := g.channelOf(c)
		if err != nil {
			return nil, err
		}
		if err := g.needIn(c, ch, proto.PermManageChannels); err != nil {
			return nil, err
		}
		in, needed = ch, 0
	}
	if err := g.need(c, needed); err != nil {
		return nil, err
	}
	list := []proto.Invite{}
	for _, v := range g.sortedInvites() {
		if !g.expired(v) && (in == nil || v.ChannelID == in.ID) {
			list = append(list, g.inviteObject(v))
		}
	}
	return list, nil
}

func (g *Guild) getInvite(c *call) (any, error) {
	v := g.validInvite(c.params["code"])
	if v == nil {
		return nil, refuse(proto.ErrUnknownInvite)
	}
	return g.inviteObject(v), nil
}

func (g *Guild) deleteInvite(c *call) (any, error) {
	v := g.validInvite(c.params["code"])
	if v == nil {
		return nil, refuse(proto.ErrUnknownInvite)
	}
	ch := g.channels[v.ChannelID]
	if v.InviterID != c.actor.ID && (ch == nil || !g.inChannel(c, ch).Has(proto.PermManageChannels)) {
		if err := g.need(c, proto.PermManageGuild); err != nil {
			return nil, err
		}
	}
	answer := g.inviteObject(v)
	g.removeInvite(v)
	return answer, nil
}
