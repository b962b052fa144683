package guild

import (
	"encoding/json"
	"slices"

	"hubbub.dev/hubbub/proto"
)

// memberEvent is the payload of GUILD_MEMBER_ADD and GUILD_MEMBER_UPDATE.
type memberEvent struct {
	proto.Member
	GuildID proto.Snowflake `json:"guild_id"`
}

func (g *Guild) listMembers(c *call) (any, error) {
	after, _ := proto.ParseSnowflake(c.params["after"])
	limit := c.number("limit", 1, 1000, 1)
	list := []proto.Member{}
	for _, id := range g.memberIDs() {
		if id > after && len(list) < limit {
			list = append(list, *g.members[id])
		}
	}
	return list, nil
}

func (g *Guild) searchMembers(c *call) (any, error) {
	return g.membersNamed(c.params["query"], c.number("limit", 1, 1000, 1)), nil
}

func (g *Guild) getMember(c *call) (any, error) {
	m, err := g.memberOf(c)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// joined is what accepting an invite answers.
type joined struct {
	proto.Invite
	NewMember bool `json:"new_member"`
}

func (g *Guild) joinMember(c *call) (any, error) {
	var invite *proto.Invite
	if code := c.params["code"]; code != "" || !c.admin {
		if invite = g.validInvite(code); invite == nil {
			return nil, refuse(proto.ErrUnknownInvite)
		}
	}
	answer := joined{NewMember: c.member == nil}
	if invite != nil {
		answer.Invite = g.inviteObject(invite)
	} else {
		answer.GuildID, answer.Guild = g.id, g.card()
	}
	if c.member != nil {
		return answer, nil
	}
	var roles []proto.Snowflake
	if invite != nil {
		roles = slices.DeleteFunc(slices.Clone(invite.RoleIDs), func(id proto.Snowflake) bool { return g.roles[id] == nil })
		g.useInvite(invite)
	}
	g.admit(c.actor, roles)
	return answer, nil
}

// admit makes user a member.
func (g *Guild) admit(user proto.User, roles []proto.Snowflake) *proto.Member {
	m := &proto.Member{User: &user, Roles: orEmpty(roles), JoinedAt: g.in.Wall.UTC()}
	g.setMember(m)
	g.dispatch("GUILD_MEMBER_ADD", proto.IntentGuildMembers, nil, memberEvent{*m, g.id})
	g.broadcast(GatewayMessage{Joined: &Membership{User: user.ID, Guild: g.id}})
	return m
}

func (g *Guild) addMember(c *call) (any, error) {
	if !c.admin {
		return nil, refuse(proto.ErrMissingPermissions)
	}
	var user proto.User
	if json.Unmarshal(c.body, &user) != nil || user.ID == 0 {
		return nil, refuse(proto.ErrInvalidJSON)
	}
	if m := g.members[user.ID]; m != nil {
		return m, nil
	}
	return g.admit(user, nil), nil
}

// refreshMember takes over the actor's user object, which users change outside
// of any guild.
func (g *Guild) refreshMember(c *call) (any, error) {
	if c.member == nil {
		return nil, refuse(proto.ErrUnknownMember)
	}
	m := *c.member
	m.User = &c.actor
	set(g, g.members, m.User.ID, &m) // the store has users by themselves
	g.announceMember(&m)
	return nil, nil
}

// announceMember sends GUILD_MEMBER_UPDATE to those who asked for it, and to the
// member itself in any case.
func (g *Guild) announceMember(m *proto.Member) {
	event := memberEvent{*m, g.id}
	g.dispatch("GUILD_MEMBER_UPDATE", proto.IntentGuildMembers, nil, event)
	g.dispatch("GUILD_MEMBER_UPDATE", 0, func(s *session) bool {
		return s.ref.User == m.User.ID && s.intents&proto.IntentGuildMembers == 0
	}, event)
}

func (g *Guild) removeMember(c *call) (any, error) {
	m, err := g.memberOf(c)
	if err != nil {
		return nil, err
	}
	if m.User.ID == g.info.OwnerID && !c.admin {
		return nil, refuse(proto.ErrMissingPermissions) // owners delete or hand over
	}
	if m != c.member && !c.admin && (!g.base(c).Has(proto.PermKickMembers) || !g.outranks(c.member, m)) {
		return nil, refuse(proto.ErrMissingPermissions)
	}
	user := m.User.ID
	if v := g.voice[user]; v != nil {
		g.leaveVoice(v, CloseDisconnected)
	}
	g.expel(user)
	unset(g, g.members, user)
	delete(g.memberJSON, user)
	delete(g.stateJSON, user)
	delete(g.presenceJSON, user)
	g.write(Write{DeleteMember: user})
	g.dispatch("GUILD_MEMBER_REMOVE", proto.IntentGuildMembers, nil, struct {
		GuildID proto.Snowflake `json:"guild_id"`
		User    *proto.User     `json:"user"`
	}{g.id, m.User})
	return nil, nil
}

func (g *Guild) addMemberRole(c *call) (any, error) {
	return g.changeRole(c, func(m *proto.Member, r proto.Snowflake) []proto.Snowflake { return append(without(m.Roles, r), r) })
}

func (g *Guild) removeMemberRole(c *call) (any, error) {
	return g.changeRole(c, func(m *proto.Member, r proto.Snowflake) []proto.Snowflake { return without(m.Roles, r) })
}

func (g *Guild) changeRole(c *call, change func(*proto.Member, proto.Snowflake) []proto.Snowflake) (any, error) {
	m, err := g.memberOf(c)
	if err != nil {
		return nil, err
	}
	r, err := g.roleOf(c)
	if err != nil {
		return nil, err
	}
	next := *m
	next.Roles = change(m, r.ID)
	if err := g.mayGive(c, m.Roles, []proto.Snowflake{r.ID}, next.Roles); err != nil {
		return nil, err
	}
	g.replaceMember(&next)
	return nil, nil
}

// mayGive refuses an actor that may not turn the roles was into now, or names
// among asked a role that cannot be given.
func (g *Guild) mayGive(c *call, was, asked, now []proto.Snowflake) error {
	if err := g.need(c, proto.PermManageRoles); err != nil {
		return err
	}
	for _, id := range asked {
		if g.roles[id] == nil {
			return refuse(proto.ErrUnknownRole)
		}
		if id == g.id || g.roles[id].Managed {
			return refuse(proto.ErrInvalidRole)
		}
	}
	if c.admin {
		return nil
	}
	for id, r := range g.roles {
		if slices.Contains(was, id) != slices.Contains(now, id) && !g.outranksRole(c.member, r) {
			return refuse(proto.ErrMissingPermissions)
		}
	}
	return nil
}

// replaceMember changes a member and all that follows from it.
func (g *Guild) replaceMember(m *proto.Member) {
	g.setMember(m)
	g.announceMember(m)
	g.reconcileUser(m.User.ID)
}

// updateMember changes what its form names: every part needs a permission of
// its own, and all are granted or none is done.
func (g *Guild) updateMember(c *call) (any, error) {
	old, err := g.memberOf(c)
	if err != nil {
		return nil, err
	}
	m := *old
	c.nullableText("nick", 32, &m.Nick)
	c.ids("roles", maxRoles, &m.Roles)
	slices.Sort(m.Roles)
	m.Roles = slices.Compact(m.Roles)
	c.boolean("mute", &m.Mute)
	c.boolean("deaf", &m.Deaf)
	var target *proto.Snowflake
	c.nullableID("channel_id", &target)
	if err := c.err(); err != nil {
		return nil, err
	}
	if err := g.mayUpdate(c, old, &m, target); err != nil {
		return nil, err
	}
	if c.has("nick") || c.has("roles") || m.Mute != old.Mute || m.Deaf != old.Deaf {
		g.replaceMember(&m)
	}
	if v := g.voice[m.User.ID]; v != nil && c.has("channel_id") {
		switch {
		case target == nil, *target != v.channel && v.session.Gateway == "":
			// Without a session nobody can tell its client where to go.
			g.leaveVoice(v, CloseDisconnected)
		case *target != v.channel:
			g.enter(&m, v.session, g.channels[*target], v.self)
		}
	}
	return &m, nil
}

func (g *Guild) mayUpdate(c *call, old, m *proto.Member, target *proto.Snowflake) error {
	if c.has("nick") {
		if err := g.mayRename(c, old); err != nil {
			return err
		}
	}
	if c.has("roles") {
		if err := g.mayGive(c, old.Roles, m.Roles, m.Roles); err != nil {
			return err
		}
	}
	if !c.has("mute") && !c.has("deaf") && !c.has("channel_id") {
		return nil
	}
	v := g.voice[old.User.ID]
	if v == nil {
		return refuse(proto.ErrNotConnectedToVoice)
	}
	var needed proto.Permissions
	for field, p := range map[string]proto.Permissions{"mute": proto.PermMuteMembers, "deaf": proto.PermDeafenMembers, "channel_id": proto.PermMoveMembers} {
		if c.has(field) {
			needed |= p
		}
	}
	if err := g.needIn(c, g.channels[v.channel], needed); err != nil {
		return err
	}
	if target == nil || *target == v.channel {
		return nil
	}
	ch := g.channels[*target]
	if ch == nil {
		return refuse(proto.ErrUnknownChannel)
	}
	if !ch.Type.IsVoice() {
		return refuse(proto.ErrNotOnThisChannelType)
	}
	// MOVE_MEMBERS over there as well: it is what may fill a channel past its limit.
	return g.needIn(c, ch, proto.PermConnect|proto.PermMoveMembers)
}

func (g *Guild) mayRename(c *call, m *proto.Member) error {
	has := g.base(c)
	own := m == c.member && has.Has(proto.PermChangeNickname)
	if own || c.admin || has.Has(proto.PermManageNicknames) && (m == c.member || g.outranks(c.member, m)) {
		return nil
	}
	return refuse(proto.ErrMissingPermissions)
}
