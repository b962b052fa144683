package media

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
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

func TestWaitIsAsConfigured(t *testing.T) {
	for _, c := range []struct{ wait, want time.Duration }{
		{0, 0}, {time.Millisecond, time.Millisecond}, {time.Second, mostWait}, {-1, 0},
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

// gatherLog is a socket that notes what it is told to wait.
type gatherLog struct {
	*udp.Memory
	told []time.Duration
}

func (g *gatherLog) Gather(wait time.Duration) { g.told = append(g.told, wait) }

// TestWorkerWaitsUnderLoad has fifteen peers hear one another at 50 packets a second each,
// and then one alone.
func TestWorkerWaitsUnderLoad(t *testing.T) {
	b := newBench(t)
	const peers = 15
	var sockets [peers]*udp.Memory
	var voices [peers][][]byte
	for i := range sockets {
		s, crypt := b.native(1+i, proto.ModeAES256GCM)
		sockets[i], voices[i] = s, packets(1+i, 200, crypt)
	}
	log := &gatherLog{Memory: b.socket.(*udp.Memory)}
	b.socket = log
	next := 0
	speak := func(rounds, speakers int) time.Duration {
		for range rounds {
			for i := range speakers {
				b.write(sockets[i], voices[i][next])
			}
			next++
			b.step(20 * time.Millisecond)
			b.load(b.now, false, time.Millisecond)
			for _, s := range sockets {
				for b.read(s) != nil {
				}
			}
		}
		return log.told[len(log.told)-1]
	}
	if got := speak(100, peers); got < 3*time.Millisecond || got > mostWait {
		t.Errorf("a wait of %v under load", got)
	}
	if got := speak(100, 1); got != 0 {
		t.Errorf("a wait of %v for one speaker", got)
	}
	b.gathered, b.waited = 10, 25*time.Millisecond
	b.nextHousekeeping = b.now
	b.step(0)
	if s := b.published.Load(); s.WaitMean != 2.5 || s.Wait != 0 {
		t.Errorf("a wait of %v ms, %v in the mean", s.Wait, s.WaitMean)
	}
}

// TestIdleWorkerWakesSeldom waits a little while nothing but keepalives comes, and no
// longer once anything else does.
func TestIdleWorkerWakesSeldom(t *testing.T) {
	g, now := gatherer{began: 1}, clock.Time(1)
	window := func(keepalives, others int) time.Duration {
		now = now.Add(gatherWindow)
		g.done += keepalives + others
		g.keepalives += keepalives
		g.update(now)
		return g.doze
	}
	for i := range idleAfter - 1 {
		if wait := window(idleFrom, 0); wait != 0 {
			t.Fatalf("window %d: waits for %v", i, wait)
		}
	}
	if wait := window(idleFrom, 0); wait != idleWait {
		t.Fatalf("idle: waits for %v", wait)
	}
	now = now.Add(time.Millisecond)
	if g.done++; !g.update(now) || g.doze != 0 {
		t.Fatalf("with a packet: waits for %v", g.doze)
	}
	for range idleAfter {
		window(idleFrom, 0)
	}
	if g.doze != 0 {
		t.Fatalf("waits for %v after a window that was not idle", g.doze)
	}
	if window(idleFrom, 0); g.doze != idleWait {
		t.Fatalf("idle again: waits for %v", g.doze)
	}
	if window(idleFrom-1, 0); g.doze != 0 {
		t.Fatalf("few clients: waits for %v", g.doze)
	}
}

// TestKeepalivesApartAreNoReason has a keepalive that woke nobody be answered, and count
// neither for staying awake nor for a doze.
func TestKeepalivesApartAreNoReason(t *testing.T) {
	for _, apart := range []bool{false, true} {
		b := newBench(t)
		s, _ := b.native(1, proto.ModeAES256GCM)
		b.apart = apart
		done, keepalives := b.gather.done, b.gather.keepalives
		b.write(s, make([]byte, native.PingSize))
		b.step(0)
		if b.read(s) == nil {
			t.Fatal("no answer")
		}
		b.gather.done++ // as run counts what it has read
		if apart && (b.gather.done != done || b.gather.keepalives != keepalives) {
			t.Errorf("%d to do, %d keepalives", b.gather.done-done, b.gather.keepalives-keepalives)
		}
		if !apart && (b.gather.done != done+1 || b.gather.keepalives != keepalives+1) {
			t.Errorf("in one socket: %d to do, %d keepalives", b.gather.done-done, b.gather.keepalives-keepalives)
		}
	}
}
