package guild

import (
	"encoding/json"
	"slices"

	"hubbub.dev/hubbub/proto"
)

const maxRoles = 250

// roleEvent is the payload of GUILD_ROLE_CREATE and GUILD_ROLE_UPDATE.
type roleEvent struct {
	GuildID proto.Snowflake `json:"guild_id"`
	Role    *proto.Role     `json:"role"`
}

func (g *Guild) listRoles(*call) (any, error) { return g.sortedRoles(), nil }

func (g *Guild) createRole(c *call) (any, error) {
	if err := g.need(c, proto.PermManageRoles); err != nil {
		return nil, err
	}
	if len(g.roles) >= maxRoles {
		return nil, refuse(proto.ErrMaxRoles)
	}
	// At the lowest position and younger than the others there, the new role
	// outranks nobody.
	r := proto.Role{ID: g.nextID(), Name: "new role", Position: 1, Permissions: g.roles[g.id].Permissions}
	if c.has("permissions") {
		r.Permissions = 0
	}
	return g.saveRole(c, &r, "GUILD_ROLE_CREATE")
}

func (g *Guild) updateRole(c *call) (any, error) {
	old, err := g.roleOf(c)
	if err != nil {
		return nil, err
	}
	if err := g.needOver(c, old); err != nil {
		return nil, err
	}
	r := *old
	return g.saveRole(c, &r, "GUILD_ROLE_UPDATE")
}

// saveRole reads the form into r, which is a copy or new, and keeps it.
func (g *Guild) saveRole(c *call, r *proto.Role, event string) (any, error) {
	had := proto.Permissions(0)
	if old := g.roles[r.ID]; old != nil {
		had = old.Permissions
	}
	if r.ID != g.id {
		c.text("name", 1, 100, &r.Name)
	}
	c.permissions("permissions", &r.Permissions)
	c.integer("color", 0, 0xFFFFFF, &r.Color)
	c.boolean("hoist", &r.Hoist)
	c.boolean("mentionable", &r.Mentionable)
	if err := c.err(); err != nil {
		return nil, err
	}
	if c.has("permissions") && (r.Permissions^had)&^g.base(c) != 0 {
		return nil, refuse(proto.ErrMissingPermissions)
	}
	g.setRole(r)
	g.dispatch(event, proto.IntentGuilds, nil, roleEvent{g.id, r})
	g.reconcile(0)
	return r, nil
}

// needOver refuses an actor that may not manage roles, or not this one.
func (g *Guild) needOver(c *call, r *proto.Role) error {
	if err := g.need(c, proto.PermManageRoles); err != nil {
		return err
	}
	if !c.admin && !g.outranksRole(c.member, r) {
		return refuse(proto.ErrMissingPermissions)
	}
	return nil
}

func (g *Guild) deleteRole(c *call) (any, error) {
	r, err := g.roleOf(c)
	if err != nil {
		return nil, err
	}
	if r.ID == g.id || r.Managed {
		return nil, refuse(proto.ErrInvalidRole)
	}
	if err := g.needOver(c, r); err != nil {
		return nil, err
	}
	for _, m := range g.members {
		if hasRole(m, r.ID) {
			next := *m
			next.Roles = without(m.Roles, r.ID)
			g.setMember(&next)
		}
	}
	var changed []*proto.Channel
	for _, ch := range g.sortedChannels() {
		next := *ch
		next.PermissionOverwrites = withoutOverwrite(ch.PermissionOverwrites, r.ID)
		if len(next.PermissionOverwrites) < len(ch.PermissionOverwrites) {
			g.setChannel(&next)
			changed = append(changed, &next)
		}
	}
	unset(g, g.roles, r.ID)
	g.write(Write{DeleteRole: r.ID})
	g.dispatch("GUILD_ROLE_DELETE", proto.IntentGuilds, nil, struct {
		GuildID proto.Snowflake `json:"guild_id"`
		RoleID  proto.Snowflake `json:"role_id"`
	}{g.id, r.ID})
	g.reconcile(0)
	for _, ch := range changed {
		g.dispatch("CHANNEL_UPDATE", proto.IntentGuilds, g.viewers(ch.ID), ch)
	}
	return nil, nil
}

func without(ids []proto.Snowflake, id proto.Snowflake) []proto.Snowflake {
	return slices.DeleteFunc(slices.Clone(ids), func(other proto.Snowflake) bool { return other == id })
}

// moveRoles sets positions. Nobody can move a role from or to above its own.
func (g *Guild) moveRoles(c *call) (any, error) {
	if err := g.need(c, proto.PermManageRoles); err != nil {
		return nil, err
	}
	var list []struct {
		ID       proto.Snowflake `json:"id"`
		Position *int            `json:"position"`
	}
	if json.Unmarshal(c.body, &list) != nil || len(list) > maxRoles {
		return nil, refuse(proto.ErrInvalidJSON)
	}
	var moved []*proto.Role
	for _, p := range list {
		old := g.roles[p.ID]
		if old == nil || p.ID == g.id {
			return nil, refuse(proto.ErrUnknownRole)
		}
		if p.Position == nil {
			continue
		}
		r := *old
		r.Position = min(max(*p.Position, 1), maxRoles)
		if !c.admin && !(g.outranksRole(c.member, old) && g.outranksRole(c.member, &r)) {
			return nil, refuse(proto.ErrMissingPermissions)
		}
		moved = append(moved, &r)
	}
	for _, r := range moved {
		g.setRole(r)
		g.dispatch("GUILD_ROLE_UPDATE", proto.IntentGuilds, nil, roleEvent{g.id, r})
	}
	return g.sortedRoles(), nil
}
