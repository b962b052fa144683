package media

import (
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
)

func TestOverloadIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		full, reads int
		took        time.Duration
		drops       uint64
		behind      bool
	}{
		"idle":                       {0, 0, 0, 0, false},
		"busy":                       {0, 100, time.Millisecond, 0, false},
		"catches up":                 {9, 10, 10 * time.Millisecond, 0, false},
		"never catches up":           {10, 10, 10 * time.Millisecond, 0, true},
		"drops of the filter":        {0, 10, time.Millisecond, 1000, false},
		"drops of a full queue":      {5, 10, time.Millisecond, 1000, true},
		"one turn longer than voice": {0, 3, turnBudget + 1, 0, true},
	} {
		o := overload{began: clock.Time(time.Hour)}
		for window := range uint64(2) {
			if o.shed > 0 {
				t.Errorf("%s: sheds after one window", name)
			}
			for i := range c.reads {
				o.observe(i < c.full, c.took)
			}
			o.update(o.began.Add(overloadWindow), c.drops*(1+window))
		}
		if (o.shed > 0) != c.behind {
			t.Errorf("%s: sheds %v", name, o.shed)
		}
	}
}

// TestOverloadSettlesAndRecovers has a worker that keeps up with half of its load.
func TestOverloadSettlesAndRecovers(t *testing.T) {
	o := overload{began: clock.Time(time.Hour)}
	now := o.began
	windows := func(count int, behind func() bool) (least, most float64) {
		least = 1
		for range count {
			now = now.Add(overloadWindow)
			o.observe(behind(), time.Millisecond)
			o.update(now, 0)
			least, most = min(least, o.shed), max(most, o.shed)
		}
		return least, most
	}
	half := func() bool { return o.shed < 0.5 }
	windows(10, half)
	if least, most := windows(100, half); least < 0.45 || most > 0.65 {
		t.Errorf("sheds from %v to %v where half is too much", least, most)
	}
	if _, most := windows(100, func() bool { return true }); most != shedMost {
		t.Errorf("sheds %v at most, want %v", most, shedMost)
	}
	windows(100, func() bool { return false })
	if o.shed != 0 {
		t.Errorf("still sheds %v", o.shed)
	}
}

// TestOverloadedWorkerSheds keeps a worker behind: it drops voice, counts it, says so
// in its load, still answers checks and pings, and forwards all when it has caught up.
func TestOverloadedWorkerSheds(t *testing.T) {
	b := newBench(t)
	var sockets [4]*udp.Memory
	var voices [4][][]byte
	for i := range sockets {
		s, crypt := b.native(1+i, proto.ModeAES256GCM)
		sockets[i], voices[i] = s, packets(1+i, 600, crypt)
	}
	next := 0
	round := func(full bool) {
		for i := range sockets {
			b.write(sockets[i], voices[i][next])
		}
		next++
		b.step(20 * time.Millisecond)
		b.load(b.now, full, time.Millisecond)
		for _, s := range sockets {
			for b.read(s) != nil {
			}
		}
	}
	for range 50 {
		round(true)
	}
	shed := b.verdicts[sfu.Shed]
	if shed == 0 || b.verdicts[sfu.Forwarded] == 0 {
		t.Fatalf("%d shed, %d forwarded", shed, b.verdicts[sfu.Forwarded])
	}
	b.nextHousekeeping = b.now
	b.step(0)
	if s := b.published.Load(); s.Load != 1 || s.Shed == 0 || s.Drops["shed"] != shed {
		t.Errorf("load %v, shed %v, %d packets", s.Load, s.Shed, s.Drops["shed"])
	}
	ping := []byte{0x13, 0x37, 0xCA, 0xFE, 1, 2, 3, 4}
	b.write(sockets[0], ping)
	b.step(0)
	if got := b.read(sockets[0]); len(got) != len(ping) {
		t.Errorf("a ping was answered with %x", got)
	}
	for range 500 {
		round(false)
	}
	before := b.verdicts[sfu.Forwarded]
	round(false)
	if got := b.verdicts[sfu.Forwarded] - before; got != 4 {
		t.Errorf("%d of 4 forwarded after the overload", got)
	}
}
