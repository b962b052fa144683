package signalling

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/proto"
)

func TestPlacement(t *testing.T) {
	p := NewPlacement(3, 2)
	acquire := func(channel proto.Snowflake, home, worker int) {
		t.Helper()
		if h, w := p.Acquire(channel); h != home || w != worker {
			t.Fatalf("home %d, worker %d; want %d, %d", h, w, home, worker)
		}
	}
	acquire(1, 0, 0)
	acquire(1, 0, 0)
	acquire(2, 1, 1) // another channel goes where there is nobody
	acquire(1, 0, 2) // the channel spreads
	acquire(1, 0, 1) // of two that are as idle, any
	acquire(1, 0, 2)
	acquire(1, 0, 0) // all are alike, and home comes first
	p.Release(1, 0)
	p.Release(1, 0)
	acquire(1, 0, 0) // home has room again
	if home, ok := p.Home(1); home != 0 || !ok {
		t.Errorf("home %d, %t", home, ok)
	}
	p.Release(2, 1)
	if _, ok := p.Home(2); ok || p.Channels() != 1 {
		t.Error("a channel without sessions has a home")
	}
}

func TestOneWorkerTakesAll(t *testing.T) {
	p := NewPlacement(1, 2)
	for range 100 {
		if home, worker := p.Acquire(7); home != 0 || worker != 0 {
			t.Fatalf("home %d, worker %d", home, worker)
		}
	}
}

func TestPlacementSpreadsEvenly(t *testing.T) {
	p := NewPlacement(4, 0)
	for range DefaultSpreadFrom {
		if _, worker := p.Acquire(7); worker != 0 {
			t.Fatal("spread too early")
		}
	}
	for range 9500 {
		p.Acquire(7)
	}
	for worker := range 4 {
		if n := p.Peers(worker); n != 2500 {
			t.Errorf("worker %d has %d peers", worker, n)
		}
	}
}

// TestPlacementProperties has sessions of a few channels come and go.
func TestPlacementProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers, spreadFrom := rapid.IntRange(1, 4).Draw(t, "workers"), rapid.IntRange(1, 3).Draw(t, "spread from")
		p := NewPlacement(workers, spreadFrom)
		type session struct {
			channel proto.Snowflake
			worker  int
		}
		var sessions []session
		homes := map[proto.Snowflake]int{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(sessions) > 0 && rapid.Bool().Draw(t, "leave") {
				i := rapid.IntRange(0, len(sessions)-1).Draw(t, "who")
				gone := sessions[i]
				p.Release(gone.channel, gone.worker)
				sessions = slices.Delete(sessions, i, i+1)
				if !slices.ContainsFunc(sessions, func(s session) bool { return s.channel == gone.channel }) {
					delete(homes, gone.channel)
				}
				continue
			}
			channel := proto.Snowflake(rapid.IntRange(1, 3).Draw(t, "channel"))
			atHome, least := 0, len(sessions)
			for worker := range workers {
				least = min(least, p.Peers(worker))
			}
			home, known := homes[channel]
			for _, s := range sessions {
				if known && s.channel == channel && s.worker == home {
					atHome++
				}
			}
			got, worker := p.Acquire(channel)
			switch {
			case known && got != home:
				t.Fatalf("home went from %d to %d", home, got)
			case worker != got && atHome < spreadFrom:
				t.Fatalf("spread with %d at home", atHome)
			case (!known || atHome >= spreadFrom) && p.Peers(worker) != least+1:
				t.Fatalf("a worker with %d peers, where another has %d", p.Peers(worker)-1, least)
			}
			homes[channel] = got
			sessions = append(sessions, session{channel, worker})
		}
		for worker := range workers {
			n := 0
			for _, s := range sessions {
				if s.worker == worker {
					n++
				}
			}
			if p.Peers(worker) != n {
				t.Fatalf("worker %d counts %d of %d", worker, p.Peers(worker), n)
			}
		}
		if p.Channels() != len(homes) {
			t.Fatalf("%d channels of %d", p.Channels(), len(homes))
		}
	})
}
