package guild

import (
	"testing"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/proto"
)

// reference is the documented pseudocode, step by step (Permissions,
// "Permission Overwrites").
func reference(g *Guild, m *proto.Member, ch *proto.Channel) proto.Permissions {
	if m.User.ID == g.info.OwnerID {
		return proto.PermAll
	}
	p := g.roles[g.id].Permissions
	for _, id := range m.Roles {
		p |= g.roles[id].Permissions
	}
	if p&proto.PermAdministrator != 0 {
		return proto.PermAll
	}
	find := func(id proto.Snowflake) proto.Overwrite {
		for _, o := range ch.PermissionOverwrites {
			if o.ID == id {
				return o
			}
		}
		return proto.Overwrite{}
	}
	everyone := find(g.id)
	p &= ^everyone.Deny
	p |= everyone.Allow
	var allow, deny proto.Permissions
	for _, id := range m.Roles {
		allow |= find(id).Allow
		deny |= find(id).Deny
	}
	p &= ^deny
	p |= allow
	own := find(m.User.ID)
	p &= ^own.Deny
	return p | own.Allow
}

func drawPermissions(t *rapid.T, label string) proto.Permissions {
	// Each bit is drawn, so that administrators stay rare enough.
	return proto.Permissions(rapid.Uint64().Draw(t, label)) & rapid.SampledFrom([]proto.Permissions{proto.PermAll, proto.PermAll &^ proto.PermAdministrator}).Draw(t, label+" mask")
}

func TestPermissionsFollowTheDocumentedAlgorithm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(guildID, Config{})
		g.info = &proto.Guild{ID: guildID, OwnerID: rapid.SampledFrom([]proto.Snowflake{owner, ann}).Draw(t, "owner")}
		ids := []proto.Snowflake{guildID, modRole, lowRole, topRole}
		for _, id := range ids {
			g.roles[id] = &proto.Role{ID: id, Permissions: drawPermissions(t, "role")}
		}
		m := &proto.Member{User: testUser(ann), Roles: rapid.SliceOfDistinct(rapid.SampledFrom(ids[1:]), rapid.ID).Draw(t, "roles")}
		ch := &proto.Channel{Type: rapid.SampledFrom([]proto.ChannelType{proto.ChannelText, proto.ChannelVoice}).Draw(t, "type")}
		for _, id := range rapid.Permutation(append(ids, ann, bob)).Draw(t, "overwrites") {
			o := proto.Overwrite{ID: id, Allow: drawPermissions(t, "allow"), Deny: drawPermissions(t, "deny")}
			if id == ann || id == bob {
				o.Type = proto.OverwriteMember
			}
			if rapid.Bool().Draw(t, "there") {
				ch.PermissionOverwrites = append(ch.PermissionOverwrites, o)
			}
		}
		want := reference(g, m, ch)
		got := g.permissionsIn(m, ch)
		if g.basePermissions(m).Has(proto.PermAdministrator) {
			if got != proto.PermAll {
				t.Fatalf("an administrator has %b", got)
			}
			return
		}
		switch {
		case !want.Has(proto.PermViewChannel):
			want = 0
		default:
			if !want.Has(proto.PermSendMessages) {
				want &^= restsOnSend
			}
			if ch.Type.IsVoice() && !want.Has(proto.PermConnect) {
				want &^= restsOnConnect
			}
		}
		if got != want {
			t.Fatalf("got %b, want %b", got, want)
		}
	})
}

func TestHierarchy(t *testing.T) {
	h := newHouse(t)
	g := h.g
	for _, c := range []struct {
		m, other proto.Snowflake
		want     bool
	}{
		{owner, mod, true}, {mod, owner, false}, {owner, owner, false},
		{mod, ann, true}, {ann, mod, false}, {ann, bob, false}, {mod, mod, false},
	} {
		if got := g.outranks(g.members[c.m], g.members[c.other]); got != c.want {
			t.Errorf("%d outranks %d: %v", c.m, c.other, got)
		}
	}
	twin := proto.Role{ID: modRole + 50, Position: 5}
	if compareRoles(g.roles[modRole], &twin) <= 0 {
		t.Error("of two roles at one position the younger is the higher")
	}
}
