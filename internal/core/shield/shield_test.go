package shield

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

const start = clock.Time(time.Hour)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// flood counts so many packets from an address evenly over a second.
func (s *Shield) flood(from clock.Time, a netip.Addr, count int) {
	for i := range count {
		now := from.Add(time.Second * time.Duration(i) / time.Duration(count))
		if !s.Blocked(now, a) {
			s.Count(now, a)
		}
	}
}

func TestNetworkIsBlockedForAWhile(t *testing.T) {
	for _, one := range []struct{ from, same, other string }{
		{"203.0.113.7", "203.0.113.250", "203.0.112.7"},
		{"::ffff:203.0.113.7", "203.0.113.1", "::203.0.113.7"},
		{"2001:db8:1::1", "2001:db8:1:ffff::2", "2001:db8:2::1"},
	} {
		s := New(1, Config{PrefixRate: 100, Block: 5 * time.Second})
		s.flood(start, addr(one.from), 100)
		now := start.Add(time.Second - time.Millisecond)
		if s.Blocked(now, addr(one.from)) || s.Networks(now) != 0 {
			t.Errorf("%s: blocked at the rate allowed", one.from)
		}
		s.Count(now, addr(one.from))
		if !s.Blocked(now, addr(one.same)) || s.Blocked(now, addr(one.other)) || s.Networks(now) != 1 {
			t.Errorf("%s: not blocked, or others are", one.from)
		}
		now = now.Add(5 * time.Second)
		if s.Blocked(now, addr(one.from)) || s.Networks(now) != 0 {
			t.Errorf("%s: blocked for too long", one.from)
		}
	}
}

func TestBlockLastsAsLongAsTheFlood(t *testing.T) {
	s := New(1, Config{PrefixRate: 100, Block: 2 * time.Second})
	a := addr("203.0.113.7")
	for second := range 10 {
		s.flood(start.Add(time.Duration(second)*time.Second), a, 500)
	}
	if now := start.Add(11 * time.Second); !s.Blocked(now, a) {
		t.Error("not blocked a second after the flood")
	}
	if now := start.Add(12 * time.Second); s.Blocked(now, a) {
		t.Error("blocked for longer than two seconds after the flood")
	}
}

// TestForgedNetworks floods from more networks than the table holds: the one that sends
// much is found among them, and nobody else is blocked.
func TestForgedNetworks(t *testing.T) {
	s := New(7, Config{PrefixRate: 1000})
	loud := addr("198.51.100.1")
	now := start
	for i := range 200_000 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i)*0x9E3779B1)
		now = start.Add(time.Duration(i) * 5 * time.Microsecond)
		s.Count(now, netip.AddrFrom4(b))
		if i%50 == 0 {
			s.Count(now, loud)
		}
	}
	if !s.Blocked(now, loud) {
		t.Error("the loud one is hidden by the others")
	}
	if n := s.Networks(now); n != 1 {
		t.Errorf("%d networks blocked", n)
	}
}

func TestAttackHasHysteresis(t *testing.T) {
	s := New(1, Config{AttackRate: 1000, CalmRate: 250, Onset: 2 * time.Second, Calm: 5 * time.Second})
	rates := []struct {
		rate     uint64
		attacked bool
	}{
		{5000, false}, {5000, false}, // the first says nothing: since when is not known
		{999, false}, {1000, false}, {1000, true}, {600, true}, // between the two
		{100, true}, {100, true}, {100, true}, {100, true}, {300, true}, // calm interrupted
		{100, true}, {100, true}, {100, true}, {100, true}, {100, false},
		{900, false}, {1200, false}, {900, false}, {1200, false}, {1200, true},
	}
	for i, r := range rates {
		now := start.Add(time.Duration(i) * time.Second)
		s.Count(now, addr("203.0.113.7"))
		s.CountPeer()
		s.Observe(now, r.rate-2)
		s.Observe(now, 1<<40) // twice at one instant is once
		if s.Attacked() != r.attacked {
			t.Errorf("second %d at %d/s: attacked %v", i, r.rate, s.Attacked())
		}
	}
}

func TestShieldAllocatesNothing(t *testing.T) {
	s := New(1, Config{PrefixRate: 10})
	i := uint32(0)
	if n := testing.AllocsPerRun(2000, func() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], i/20<<8)
		a := netip.AddrFrom4(b)
		if !s.Blocked(start, a) {
			s.Count(start, a)
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzShield takes any addresses at any pace: nothing is blocked that did not send more
// than its share.
func FuzzShield(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint16(3))
	f.Fuzz(func(t *testing.T, data []byte, pace uint16) {
		s := New(3, Config{PrefixRate: 3})
		sent := map[uint64]int{}
		now := start
		for len(data) >= 5 {
			a := netip.AddrFrom4([4]byte(data))
			if data[4]&1 == 1 {
				a = netip.AddrFrom16([16]byte{0: data[0], 5: data[1], 15: data[2]})
			}
			data = data[5:]
			now = now.Add(time.Duration(pace) * time.Millisecond)
			if blocked := s.Blocked(now, a); blocked && sent[key(a)] <= 3 {
				t.Fatalf("blocked after %d", sent[key(a)])
			} else if !blocked {
				s.Count(now, a)
			}
			sent[key(a)]++
		}
	})
}

func BenchmarkCount(b *testing.B) {
	for name, networks := range map[string]uint32{"one": 1, "many": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			s := New(1, Config{PrefixRate: 1 << 30})
			b.ReportAllocs()
			i := uint32(0)
			for b.Loop() {
				var a [4]byte
				binary.BigEndian.PutUint32(a[:], i%networks<<8)
				addr := netip.AddrFrom4(a)
				if !s.Blocked(start, addr) {
					s.Count(start, addr)
				}
				i++
			}
		})
	}
}

func BenchmarkBlocked(b *testing.B) {
	s := New(1, Config{PrefixRate: 1})
	a := addr("203.0.113.7")
	s.Count(start, a)
	s.Count(start, a)
	b.ReportAllocs()
	for b.Loop() {
		s.Blocked(start, a)
	}
}
