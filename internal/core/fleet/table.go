package fleet

import (
	"maps"
	"slices"
	"strings"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/ring"
)

// Table is one node's knowledge of the fleet. It has one owner, and what it makes
// of its knowledge, a View, is for all to read.
type Table struct {
	self      Member
	members   map[string]*entry
	heard     clock.Time // when anybody was last heard, this node too
	displaced bool
	view      *View
	said      clock.Time // when the node announced itself last
	overslept bool
}

type entry struct {
	Member
	heard clock.Time
}

// NewTable returns the table of a node that knows nobody else. The node itself
// never expires from it.
func NewTable(now clock.Time, self Member) *Table {
	t := &Table{members: map[string]*entry{}, heard: now}
	t.SetSelf(now, self)
	return t
}

// SetSelf says what the node now says of itself, and reports whether that gives a
// new View.
func (t *Table) SetSelf(now clock.Time, self Member) bool {
	old := t.members[self.Name]
	// Where there is nobody else, nobody has forgotten it.
	t.overslept = t.overslept || old != nil && len(t.members) > 1 && now.Sub(t.said) > Silence-Interval/4
	t.said = now
	t.self = self
	if self.Gone {
		delete(t.members, self.Name)
	} else {
		t.members[self.Name] = &entry{self, now}
	}
	if old != nil && !self.Gone && samePlace(&old.Member, &self) {
		return false
	}
	t.survey()
	return true
}

// Hear takes in an announcement and reports whether it gives a new View. One that
// makes no sense, or is of an earlier life of its node, is ignored.
func (t *Table) Hear(now clock.Time, m Member) bool {
	t.wake(now)
	if m.Name == t.self.Name {
		t.displaced = t.displaced || m.Epoch > t.self.Epoch
		return false
	}
	old := t.members[m.Name]
	switch {
	case !ValidName(m.Name), old != nil && m.Epoch < old.Epoch:
		return false
	case m.Gone:
		delete(t.members, m.Name)
		if old == nil {
			return false
		}
		t.survey()
		return true
	case old == nil && len(t.members) >= MaxMembers:
		return false
	}
	t.members[m.Name] = &entry{m, now}
	if old == nil && m.Joining || old != nil && samePlace(&old.Member, &m) {
		return false
	}
	t.survey()
	return true
}

// wake notes that somebody was heard. Nobody's silence counts for a time in which
// nobody was heard.
func (t *Table) wake(now clock.Time) {
	if deaf := now.Sub(t.heard); deaf > Deaf {
		for _, e := range t.members {
			e.heard = e.heard.Add(deaf)
		}
	}
	t.heard = now
}

// Tick forgets those who have been silent for too long and reports whether that
// gives a new View. It is to be called about four times an Interval.
func (t *Table) Tick(now clock.Time) bool {
	if now.Sub(t.heard) > Deaf {
		return false
	}
	before := len(t.members)
	maps.DeleteFunc(t.members, func(name string, e *entry) bool {
		return name != t.self.Name && now.Sub(e.heard) > Silence
	})
	if len(t.members) == before {
		return false
	}
	t.survey()
	return true
}

// Overslept reports, once for each time, that this node has not announced itself for so
// long that others may have forgotten it: it was stopped, or its host was.
func (t *Table) Overslept() bool {
	overslept := t.overslept
	t.overslept = false
	return overslept
}

// Displaced reports whether another node has started under this node's name: this
// one must end.
func (t *Table) Displaced() bool { return t.displaced }

// View returns what follows from the table.
func (t *Table) View() *View { return t.view }

// Members returns everybody as last heard, by name.
func (t *Table) Members() []Member {
	list := make([]Member, 0, len(t.members))
	for _, name := range slices.Sorted(maps.Keys(t.members)) {
		list = append(list, t.members[name].Member)
	}
	return list
}

// samePlace reports whether two words of one node differ in nothing that decides what
// others place on it.
func samePlace(a, b *Member) bool {
	return a.Epoch == b.Epoch && a.Roles == b.Roles && a.Region == b.Region && a.Endpoint == b.Endpoint &&
		(a.Ailing == "") == (b.Ailing == "") && a.Joining == b.Joining && a.Draining == b.Draining && a.Attacked == b.Attacked
}

func (t *Table) survey() {
	members := slices.DeleteFunc(t.Members(), func(m Member) bool { return m.Joining })
	t.view = &View{members: members, guilds: placeGuilds(members)}
}

// placeGuilds returns the ring of the guild nodes that are to own guilds: those that
// are well and stay, or all when there is none such.
func placeGuilds(members []Member) *ring.Ring {
	for _, fit := range []func(*Member) bool{
		func(m *Member) bool { return m.Ailing == "" && !m.Draining },
		func(*Member) bool { return true },
	} {
		var nodes []ring.Node
		for i := range members {
			if m := &members[i]; m.Roles.Has(Guilds) && fit(m) {
				nodes = append(nodes, ring.Node{Name: m.Name, Weight: 1})
			}
		}
		if len(nodes) == 0 {
			continue
		}
		// Names are valid and different, and MaxMembers is within the ring's bounds.
		if r, err := ring.New(nodes); err == nil {
			return r
		}
	}
	return nil
}

// View is the fleet at one time, for placement. It is immutable, and nil is a fleet
// of nobody. Nodes that are joining are not in it. What it says of loads is as old
// as it is.
type View struct {
	members []Member // by name
	guilds  *ring.Ring
}

// Members returns everybody, by name. The list must not be changed.
func (v *View) Members() []Member {
	if v == nil {
		return nil
	}
	return v.members
}

// Member returns a node by its name.
func (v *View) Member(name string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(v.Members(), name, func(m Member, name string) int { return strings.Compare(m.Name, name) })
	if !ok {
		return Member{}, false
	}
	return v.members[i], true
}

// Alive reports whether a node is there in one of the roles given.
func (v *View) Alive(name string, in Roles) bool {
	m, ok := v.Member(name)
	return ok && m.Roles.Has(in)
}

// Mourning remembers who of a role has gone from the Views that it is shown, so that
// one who was there by then can be told. The zero Mourning remembers nobody.
type Mourning struct {
	last *View
	dead map[string]int64 // epochs
}

// Back takes the next View and returns the names of those who had gone from an earlier
// one and are back in the same life, and of those whose earlier life ended unnoticed:
// the next may have begun long ago.
func (d *Mourning) Back(v *View, role Roles) []string {
	var back []string
	for _, m := range v.Members() {
		if was, there := d.last.Member(m.Name); there && was.Epoch != m.Epoch && m.Roles.Has(role) {
			back = append(back, m.Name)
		}
		if epoch, dead := d.dead[m.Name]; dead {
			if epoch == m.Epoch {
				back = append(back, m.Name)
			}
			delete(d.dead, m.Name)
		}
	}
	for _, m := range d.last.Members() {
		if m.Roles.Has(role) && !v.Alive(m.Name, role) && len(d.dead) < MaxMembers {
			if d.dead == nil {
				d.dead = map[string]int64{}
			}
			d.dead[m.Name] = m.Epoch
		}
	}
	d.last = v
	return back
}

// GuildOwner returns the name of the node that a guild belongs to, or "". It neither
// allocates nor locks.
func (v *View) GuildOwner(guild uint64) string {
	if v == nil {
		return ""
	}
	return v.guilds.Owner(guild)
}

// OwnerChanged reports whether a guild has another owner than in an earlier view, or one
// that has restarted since.
func (v *View) OwnerChanged(was *View, guild uint64) bool {
	before, _ := was.Member(was.GuildOwner(guild))
	now, _ := v.Member(v.GuildOwner(guild))
	return before.Name != now.Name || before.Epoch != now.Epoch
}

// Gone reports whether a node of an earlier view is there no longer, or has restarted.
func (v *View) Gone(was *View, name string) bool {
	before, there := was.Member(name)
	now, still := v.Member(name)
	return there && (!still || now.Epoch != before.Epoch)
}
