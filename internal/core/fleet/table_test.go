package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

func at(d time.Duration) clock.Time { return clock.Time(1).Add(d) }

func self() Member { return Member{Name: "me", Epoch: 10, Roles: All} }

func names(v *View) string {
	var list []string
	for _, m := range v.Members() {
		list = append(list, m.Name)
	}
	return strings.Join(list, " ")
}

func expect(t *testing.T, table *Table, want string) {
	t.Helper()
	if got := names(table.View()); got != want {
		t.Fatalf("in view: %q, want %q", got, want)
	}
}

func TestWhoIsSilentIsGone(t *testing.T) {
	table := NewTable(at(0), self())
	expect(t, table, "me")
	if !table.Hear(at(0), Member{Name: "a", Epoch: 1, Roles: Guilds}) || !table.Hear(at(0), Member{Name: "b", Epoch: 1, Roles: Voice}) {
		t.Fatal("a new node gives no new view")
	}
	expect(t, table, "a b me")
	for i := range 4 { // b is silent
		now := at(time.Duration(i) * Interval)
		table.Hear(now, self())
		if table.Hear(now, Member{Name: "a", Epoch: 1, Roles: Guilds, Load: 0.5}) {
			t.Error("a load gives a new view")
		}
		for tick := range 4 {
			table.Tick(now.Add(time.Duration(tick) * Interval / 4))
		}
		if _, there := table.View().Member("b"); there != (i < 2) {
			t.Fatalf("after %d s: %q", i, names(table.View()))
		}
	}
	expect(t, table, "a me")
	if list := table.Members(); list[0].Load != 0.5 {
		t.Errorf("the load of a is %v", list[0].Load)
	}
}

// TestDeathIsKnownInThreeSeconds looks from the last word of a node.
func TestDeathIsKnownInThreeSeconds(t *testing.T) {
	table := NewTable(at(0), self())
	table.Hear(at(0), Member{Name: "a", Epoch: 1, Roles: Guilds})
	for d := time.Duration(0); ; d += Interval / 4 {
		if d%Interval == 0 {
			table.Hear(at(d), self())
		}
		if table.Tick(at(d)) {
			if d > 3*time.Second || d < 2*time.Second {
				t.Fatalf("known after %v", d)
			}
			break
		}
	}
}

func TestNobodyDiesWhileTheBusIsAway(t *testing.T) {
	table := NewTable(at(0), self())
	table.Hear(at(0), Member{Name: "a", Epoch: 1, Roles: Guilds})
	table.Hear(at(0), Member{Name: "b", Epoch: 1, Roles: Guilds})
	for d := time.Duration(0); d < time.Hour; d += time.Second {
		if table.Tick(at(d)) {
			t.Fatalf("somebody died after %v of silence of all", d)
		}
	}
	back := at(time.Hour)
	table.Hear(back, self())
	table.Hear(back, Member{Name: "a", Epoch: 1, Roles: Guilds})
	if table.Tick(back) {
		t.Fatal("b died before it could say a word")
	}
	for d := time.Duration(0); d <= 3*time.Second; d += Interval / 4 {
		if d%Interval == 0 {
			table.Hear(back.Add(d), self())
			table.Hear(back.Add(d), Member{Name: "a", Epoch: 1, Roles: Guilds})
		}
		table.Tick(back.Add(d))
	}
	expect(t, table, "a me")
}

func TestWordsOfAnEarlierLifeAreIgnored(t *testing.T) {
	table := NewTable(at(0), self())
	table.Hear(at(0), Member{Name: "a", Epoch: 5, Roles: Guilds})
	if table.Hear(at(0), Member{Name: "a", Epoch: 4, Gone: true}) {
		t.Error("an old goodbye counted")
	}
	expect(t, table, "a me")
	if !table.Hear(at(0), Member{Name: "a", Epoch: 6, Roles: Guilds}) {
		t.Error("a restart gives no new view")
	}
	if !table.Hear(at(0), Member{Name: "a", Epoch: 6, Gone: true}) || table.Hear(at(0), Member{Name: "a", Epoch: 6, Gone: true}) {
		t.Error("a goodbye gives one new view")
	}
	expect(t, table, "me")
}

func TestANodeOfTheSameNameDisplacesAnOlderOne(t *testing.T) {
	table := NewTable(at(0), self())
	older, newer := self(), self()
	older.Epoch, newer.Epoch = 9, 11
	table.Hear(at(0), older)
	table.Hear(at(0), self())
	if table.Displaced() {
		t.Error("displaced by itself or an older one")
	}
	table.Hear(at(0), newer)
	if !table.Displaced() {
		t.Error("two nodes of one name")
	}
}

func TestWhoOwnsGuilds(t *testing.T) {
	joining := self()
	joining.Joining = true
	table := NewTable(at(0), joining)
	if owner := table.View().GuildOwner(7); owner != "" {
		t.Errorf("%q owns a guild of a fleet of nobody", owner)
	}
	table.SetSelf(at(0), self())
	table.Hear(at(0), Member{Name: "a", Epoch: 1, Roles: Guilds})
	table.Hear(at(0), Member{Name: "v", Epoch: 1, Roles: Voice | Gateway})
	count := func() map[string]int {
		owned := map[string]int{}
		for g := range uint64(1000) {
			owned[table.View().GuildOwner(g<<22)]++
		}
		return owned
	}
	if owned := count(); owned["me"]+owned["a"] != 1000 || owned["a"] < 300 || owned["me"] < 300 {
		t.Errorf("%v", owned)
	}
	table.Hear(at(0), Member{Name: "a", Epoch: 1, Roles: Guilds, Draining: true})
	if owned := count(); owned["me"] != 1000 {
		t.Errorf("one drains: %v", owned)
	}
	ill := self()
	ill.Ailing = "database"
	table.SetSelf(at(0), ill)
	if owned := count(); owned["me"] == 0 || owned["a"] == 0 {
		t.Errorf("nobody is well: %v", owned)
	}
	if v := table.View(); !v.Alive("v", Voice) || v.Alive("v", Guilds) || v.Alive("x", All) {
		t.Error("who is alive in which role")
	}
	if n := testing.AllocsPerRun(100, func() { table.View().GuildOwner(42) }); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

func TestAFleetIsBounded(t *testing.T) {
	table := NewTable(at(0), self())
	for i := range 2 * MaxMembers {
		table.Hear(at(0), Member{Name: fmt.Sprintf("n%d", i), Epoch: 1, Joining: true})
	}
	if n := len(table.Members()); n != MaxMembers {
		t.Errorf("%d members", n)
	}
}

func TestRoles(t *testing.T) {
	for list, want := range map[string]Roles{"": All, "gateway, rest": Gateway | REST, "voice": Voice, "guilds,voice,gateway,rest": All} {
		got, err := ParseRoles(list)
		if err != nil || got != want {
			t.Errorf("%q: %v %v", list, got, err)
		}
		if again, err := ParseRoles(got.String()); err != nil || again != got {
			t.Errorf("%v does not survive its name", got)
		}
	}
	if _, err := ParseRoles("gateway,web"); err == nil || !strings.Contains(err.Error(), "web") {
		t.Errorf("%v", err)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"a": true, "host-1_b": true, "": false, "-a": false, "a.b": false, "a b": false, "ä": false, "*": false, strings.Repeat("a", 65): false} {
		if ValidName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	for s, want := range map[string]string{"host.example.org": "host-example-org", "..": "", "_a>": "a-"} {
		if got := CleanName(s); got != want {
			t.Errorf("%q becomes %q, want %q", s, got, want)
		}
	}
}

func FuzzHear(f *testing.F) {
	f.Add("a", int64(1), uint8(15), uint8(0), int64(time.Second))
	f.Add("me", int64(99), uint8(1), uint8(7), int64(5*time.Second))
	f.Fuzz(func(t *testing.T, name string, epoch int64, roles, flags uint8, pause int64) {
		table := NewTable(at(0), self())
		m := Member{Name: name, Epoch: epoch, Roles: Roles(roles), Joining: flags&1 != 0, Draining: flags&2 != 0, Gone: flags&4 != 0}
		now := at(time.Duration(pause & (1<<40 - 1)))
		table.Hear(now, m)
		table.Tick(now)
		table.View().GuildOwner(uint64(epoch))
		if clean := CleanName(name); clean != "" && !ValidName(clean) {
			t.Errorf("%q is cleaned to %q", name, clean)
		}
		if !slices.ContainsFunc(table.Members(), func(m Member) bool { return m.Name == "me" }) {
			t.Error("the node lost itself")
		}
	})
}

func TestWhoWasStoppedKnows(t *testing.T) {
	now := clock.Time(time.Second)
	self := Member{Name: "a", Epoch: 1, Roles: All}
	table := NewTable(now, self)
	for range 3 {
		now = now.Add(Interval)
		table.SetSelf(now, self)
		if table.Overslept() {
			t.Fatal("awake all the time")
		}
	}
	now = now.Add(Silence)
	if table.SetSelf(now, self); table.Overslept() {
		t.Error("told of others who are not there")
	}
	now = now.Add(Silence)
	table.Hear(now, Member{Name: "b", Epoch: 1, Roles: All}) // counts for nobody's silence
	table.SetSelf(now, self)
	if !table.Overslept() || table.Overslept() {
		t.Error("stopped for as long as others wait, and not told once")
	}
}

func TestMourningKnowsWhoWasAlive(t *testing.T) {
	now := clock.Time(time.Second)
	table := NewTable(now, Member{Name: "g", Epoch: 1, Roles: Guilds})
	var m Mourning
	hear := func(name string, epoch int64, roles Roles, gone bool) []string {
		table.Hear(now, Member{Name: name, Epoch: epoch, Roles: roles, Gone: gone})
		return m.Back(table.View(), Gateway)
	}
	for _, step := range []struct {
		name  string
		epoch int64
		roles Roles
		gone  bool
		back  bool
	}{
		{"a", 1, Gateway, false, false},
		{"v", 1, Voice, false, false},
		{"a", 1, Gateway, true, false},
		{"v", 1, Voice, true, false},
		{"a", 1, Gateway, false, true},  // it was there all the time
		{"v", 1, Voice, false, false},   // of another role
		{"a", 2, Gateway, false, true},  // its end went unnoticed
		{"a", 2, Gateway, true, false},  //
		{"a", 3, Gateway, false, false}, // it has started again
	} {
		if back := hear(step.name, step.epoch, step.roles, step.gone); (len(back) == 1) != step.back {
			t.Errorf("%+v: %v", step, back)
		}
	}
}

func TestWhatChangedBetweenViews(t *testing.T) {
	a, b := Member{Name: "a", Epoch: 1, Roles: Guilds}, Member{Name: "b", Epoch: 1, Roles: Gateway}
	table := NewTable(1, a)
	table.Hear(1, b)
	was := table.View()
	if was.OwnerChanged(was, 7) || was.Gone(was, "b") || was.Gone(was, "nobody") {
		t.Error("nothing has changed")
	}
	b.Epoch = 2
	table.Hear(2, b)
	if is := table.View(); !is.Gone(was, "b") || is.Gone(was, "a") || is.OwnerChanged(was, 7) {
		t.Error("b has restarted, and owns nothing")
	}
	b.Epoch, b.Gone = 3, true
	table.Hear(3, b)
	if is := table.View(); !is.Gone(was, "b") {
		t.Error("b has left")
	}
	other := NewTable(1, Member{Name: "a", Epoch: 2, Roles: Guilds})
	if !other.View().OwnerChanged(was, 7) {
		t.Error("the owner has restarted")
	}
}
