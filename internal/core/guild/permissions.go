package guild

import (
	"cmp"

	"hubbub.dev/hubbub/proto"
)

const permSendTTS proto.Permissions = 1 << 12

// What is worth nothing without the permission it rests on (Permissions,
// "Implicit Permissions").
const (
	restsOnSend = proto.PermMentionEveryone | proto.PermAttachFiles | proto.PermEmbedLinks | permSendTTS

	restsOnConnect = proto.PermSpeak | proto.PermStream | proto.PermPrioritySpeaker | proto.PermUseVAD |
		proto.PermMuteMembers | proto.PermDeafenMembers | proto.PermMoveMembers |
		proto.PermRequestToSpeak | proto.PermManageChannels
)

// basePermissions returns what m may do in the whole guild: everything for the
// owner and administrators, else what @everyone and its roles give.
func (g *Guild) basePermissions(m *proto.Member) proto.Permissions {
	if m.User.ID == g.info.OwnerID {
		return proto.PermAll
	}
	var p proto.Permissions
	if everyone := g.roles[g.id]; everyone != nil {
		p = everyone.Permissions
	}
	for _, id := range m.Roles {
		if r := g.roles[id]; r != nil {
			p |= r.Permissions
		}
	}
	if p.Has(proto.PermAdministrator) {
		return proto.PermAll
	}
	return p
}

// permissionsIn returns what m may do in ch (Permissions, "Permission
// Overwrites"), less what is implied to be denied.
func (g *Guild) permissionsIn(m *proto.Member, ch *proto.Channel) proto.Permissions {
	p := g.basePermissions(m)
	if p.Has(proto.PermAdministrator) {
		return p
	}
	return implied(overwritten(p, g.id, m, ch.PermissionOverwrites), ch.Type)
}

// overwritten applies the overwrites to p: @everyone's, then those of all of the
// member's roles at once, then the member's own; in each step denials first.
func overwritten(p proto.Permissions, everyone proto.Snowflake, m *proto.Member, overwrites []proto.Overwrite) proto.Permissions {
	var roles, own proto.Overwrite
	for i := range overwrites {
		o := &overwrites[i]
		switch {
		case o.Type == proto.OverwriteMember:
			if o.ID == m.User.ID {
				own = *o
			}
		case o.ID == everyone:
			p = p&^o.Deny | o.Allow
		case hasRole(m, o.ID):
			roles.Allow |= o.Allow
			roles.Deny |= o.Deny
		}
	}
	// @everyone's overwrite may stand anywhere in the list, so the others wait
	// until the list is through.
	p = p&^roles.Deny | roles.Allow
	return p&^own.Deny | own.Allow
}

func implied(p proto.Permissions, t proto.ChannelType) proto.Permissions {
	if !p.Has(proto.PermViewChannel) {
		return 0
	}
	if !p.Has(proto.PermSendMessages) {
		p &^= restsOnSend
	}
	if t.IsVoice() && !p.Has(proto.PermConnect) {
		p &^= restsOnConnect
	}
	return p
}

func hasRole(m *proto.Member, role proto.Snowflake) bool {
	for _, id := range m.Roles {
		if id == role {
			return true
		}
	}
	return false
}

// compareRoles orders roles from the lowest up. Of two at one position the
// older, with the lower id, is the higher (Permissions, "Role Object").
func compareRoles(a, b *proto.Role) int {
	return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(b.ID, a.ID))
}

// highestRole returns the role that fixes m's place in the hierarchy.
func (g *Guild) highestRole(m *proto.Member) *proto.Role {
	highest := &proto.Role{ID: g.id}
	for _, id := range m.Roles {
		if r := g.roles[id]; r != nil && compareRoles(r, highest) > 0 {
			highest = r
		}
	}
	return highest
}

// outranks reports whether m may moderate other. The owner outranks everybody
// and nobody outranks the owner.
func (g *Guild) outranks(m, other *proto.Member) bool {
	switch g.info.OwnerID {
	case other.User.ID:
		return false
	case m.User.ID:
		return true
	}
	return compareRoles(g.highestRole(m), g.highestRole(other)) > 0
}

// outranksRole reports whether m may give, edit or delete a role.
func (g *Guild) outranksRole(m *proto.Member, r *proto.Role) bool {
	return m.User.ID == g.info.OwnerID || compareRoles(g.highestRole(m), r) > 0
}
