package discovery

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/bus/bustest"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/serve/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ear keeps what a listener was told last.
type ear struct {
	views   chan *fleet.View
	members chan []fleet.Member
}

func newEar() *ear { return &ear{make(chan *fleet.View, 100), make(chan []fleet.Member, 1000)} }

func (e *ear) Fleet(v *fleet.View)      { e.views <- v }
func (e *ear) Members(m []fleet.Member) { e.members <- m }

// until waits for a view that is as wanted.
func until(t *testing.T, e *ear, what string, want func(*fleet.View) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case v := <-e.views:
			if want(v) {
				return
			}
		case <-deadline:
			t.Fatal("never seen: " + what)
		}
	}
}

// begin starts a node; stop ends it without a goodbye.
func begin(t *testing.T, b Bus, cfg Config) (s *Service, e *ear, stop func()) {
	t.Helper()
	g := run.NewGroup(context.Background(), slog.New(slog.DiscardHandler))
	s, e = New(cfg, b), newEar()
	s.Listen(e)
	if err := s.Start(g); err != nil {
		t.Fatal(err)
	}
	stop = func() { g.Stop(); g.Wait() }
	t.Cleanup(stop)
	return s, e, stop
}

func member(name string, epoch int64) fleet.Member {
	return fleet.Member{Name: name, Epoch: epoch, Roles: fleet.Guilds}
}

func TestNodesFindEachOtherAndPart(t *testing.T) {
	b := bustest.New(t)
	a, earA, _ := begin(t, b, Config{Self: member("a", 1), Alone: true, Sample: func(m *fleet.Member) { m.Load = 0.25 }})
	if a.View().Alive("a", fleet.Guilds) {
		t.Error("a node that is joining owns guilds")
	}
	if err := a.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.View().GuildOwner(1) != "a" {
		t.Error("who joined owns nothing")
	}
	other, earB, _ := begin(t, b, Config{Self: member("b", 1)})
	// b asked, so it knows a at once.
	until(t, earB, "a", func(v *fleet.View) bool { return v.Alive("a", fleet.Guilds) })
	if err := other.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, earA, "b", func(v *fleet.View) bool { return v.Alive("b", fleet.Guilds) })
	for list := range earB.members {
		if len(list) == 2 && list[0].Load == 0.25 {
			break
		}
	}
	other.Drain(t.Context())
	until(t, earA, "all on a", func(v *fleet.View) bool {
		for g := range uint64(100) {
			if v.GuildOwner(g) != "a" {
				return false
			}
		}
		return true
	})
	other.Leave(t.Context())
	until(t, earA, "b gone", func(v *fleet.View) bool { return !v.Alive("b", fleet.All) })
}

func TestASilentNodeIsForgotten(t *testing.T) {
	b := bustest.New(t)
	a, earA, _ := begin(t, b, Config{Self: member("a", 1), Alone: true})
	other, _, kill := begin(t, b, Config{Self: member("b", 1), Alone: true})
	for _, s := range []*Service{a, other} {
		if err := s.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	until(t, earA, "b", func(v *fleet.View) bool { return v.Alive("b", fleet.Guilds) })
	kill()
	until(t, earA, "b gone", func(v *fleet.View) bool { return !v.Alive("b", fleet.All) })
}

// TestALostConnectionIsKnownAtOnce ends the bus connection of a node that goes on.
func TestALostConnectionIsKnownAtOnce(t *testing.T) {
	hub, err := bus.Start(bus.Config{Name: "hub", Listen: "127.0.0.1:-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	own, err := bus.Start(bus.Config{Name: "b", URL: hub.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	_, earA, _ := begin(t, hub, Config{Self: member("a", 1)})
	other, _, stop := begin(t, own, Config{Self: member("b", 1)})
	if err := other.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, earA, "b", func(v *fleet.View) bool { return v.Alive("b", fleet.Guilds) })
	own.Close()
	until(t, earA, "b gone", func(v *fleet.View) bool { return !v.Alive("b", fleet.All) })
	stop()
}

// TestWhoIsTakenForDeadComesBack says so of a node that is alive.
func TestWhoIsTakenForDeadComesBack(t *testing.T) {
	b := bustest.New(t)
	_, earA, _ := begin(t, b, Config{Self: member("a", 1), Alone: true})
	told := make(chan struct{}, 1)
	other, _, _ := begin(t, b, Config{Self: member("b", 1), Alone: true, Mourned: func() { told <- struct{}{} }})
	if err := other.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, earA, "b", func(v *fleet.View) bool { return v.Alive("b", fleet.Guilds) })
	dead := member("b", 1)
	dead.Gone = true
	if err := b.Publish(Subject, dead); err != nil {
		t.Fatal(err)
	}
	until(t, earA, "b gone", func(v *fleet.View) bool { return !v.Alive("b", fleet.All) })
	until(t, earA, "b back", func(v *fleet.View) bool { return v.Alive("b", fleet.Guilds) })
	<-told
}

func TestOneNodeForAName(t *testing.T) {
	b := bustest.New(t)
	first, _, _ := begin(t, b, Config{Self: member("a", 1), Alone: true})
	second, _, _ := begin(t, b, Config{Self: member("a", 2), Alone: true})
	select {
	case <-first.Displaced():
	case <-second.Displaced():
		t.Error("the newer node must end")
	case <-time.After(20 * time.Second):
		t.Error("two nodes of one name go on")
	}
}

func TestWhatIsNoAnnouncementIsCounted(t *testing.T) {
	b := bustest.New(t)
	a, earA, _ := begin(t, b, Config{Self: member("a", 1), Alone: true})
	if err := b.Publish(Subject, "nonsense"); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(Subject, fleet.Member{Name: "x.y", Roles: fleet.All}); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(Subject, member("b", 1)); err != nil {
		t.Fatal(err)
	}
	until(t, earA, "b", func(v *fleet.View) bool { return v.Alive("b", fleet.Guilds) })
	if a.View().Alive("x.y", fleet.All) {
		t.Error("a name that breaks subjects was taken in")
	}
}

var _ Bus = (*bus.Bus)(nil)

// A node that was stopped for a while ends nobody's session when there is no other that
// could have taken it for dead.
func TestALoneNodeIsNotMourned(t *testing.T) {
	for _, others := range []bool{false, true} {
		mourned := false
		s := New(Config{Self: member("a", 1), Alone: true, Mourned: func() { mourned = true }}, bustest.New(t))
		now := monotonic.Now()
		s.announce(now)
		if others {
			s.table.Hear(now, member("b", 1))
		}
		s.announce(now.Add(time.Minute))
		if mourned != others {
			t.Errorf("with others: %v, mourned: %v", others, mourned)
		}
	}
}
