package media

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/clock"
)

// gathers returns the wait after a second in which each listener heard speakers at 50
// packets a second.
func gathers(g *gatherer, speakers, listeners int) time.Duration {
	now := g.began
	for range 10 {
		now = now.Add(gatherWindow)
		g.delivered, g.listeners = speakers*listeners*5, listeners
		g.update(now)
	}
	return g.wait
}

func TestWaitOnlyWhereItGains(t *testing.T) {
	for _, c := range []struct {
		speakers, listeners int
		want                time.Duration
	}{
		{0, 0, 0},
		{1, 50, 0},      // little to do
		{1, 10_000, 0},  // much, but nothing to gather
		{2, 1000, 5e6},  // half a packet more
		{5, 100, 5e6},   // 1.25 more
		{30, 100, 2e6},  // three more come sooner
		{100, 100, 6e5}, // and sooner
		{10, 10, 0},     // 5,000 a second
		{10, 20, 5e6},   // 10,000 a second
		{10, 13, 5e6},   // 6,500 are enough to go on
		{10, 11, 0},     // 5,500 are not
		{10, 13, 0},     // nor 6,500 to begin
		{1000, 1000, 6e4},
	} {
		g := &gatherer{most: mostWait, began: 1}
		if c.listeners == 13 && c.want > 0 {
			gathers(g, 10, 20)
		}
		if got := gathers(g, c.speakers, c.listeners).Round(time.Microsecond); got != c.want {
			t.Errorf("%d speakers, %d listeners: %v, want %v", c.speakers, c.listeners, got, c.want)
		}
	}
}

func TestWaitIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := gatherer{most: time.Duration(rapid.IntRange(0, int(mostWait)).Draw(rt, "most"))}
		now := clock.Time(time.Hour)
		for range 20 {
			now = now.Add(time.Duration(rapid.IntRange(0, int(time.Second)).Draw(rt, "elapsed")))
			g.delivered = rapid.IntRange(0, 1e6).Draw(rt, "delivered")
			g.listeners = rapid.IntRange(0, g.delivered).Draw(rt, "listeners")
			g.update(now)
			if g.wait < 0 || g.wait > g.most {
				rt.Fatalf("a wait of %v, at most %v", g.wait, g.most)
			}
		}
	})
}

func TestWaitCanBeTurnedOff(t *testing.T) {
	for _, c := range []struct{ wait, want time.Duration }{
		{0, defaultWait}, {time.Millisecond, time.Millisecond}, {time.Second, mostWait}, {-1, 0},
	} {
		m, err := New(Config{Bind: loopback, Workers: 1, Wait: c.wait})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.workers[0].gather.most; got != c.want {
			t.Errorf("%v: at most %v, want %v", c.wait, got, c.want)
		}
		m.Close()
	}
}
