package udp

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.IPv6Loopback()
)

// endpoint is what Conn and Memory have in common.
type endpoint interface {
	ReadBatch(ms []Message, wait time.Duration) (int, error)
	WriteBatch(ms []Message) int
	LocalAddr() netip.AddrPort
	Wake()
	Dropped() uint64
	Close() error
}

func listenOn(t testing.TB, addr netip.Addr) *Conn {
	t.Helper()
	c, err := Listen(addr, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// pairs are two endpoints of each kind, and the address of the second for the first.
func pairs(t testing.TB) map[string][2]endpoint {
	network := NewNetwork()
	return map[string][2]endpoint{
		"kernel": {listenOn(t, loopback4), listenOn(t, loopback4)},
		"memory": {
			network.Listen(netip.MustParseAddrPort("192.0.2.1:1")),
			network.Listen(netip.MustParseAddrPort("192.0.2.2:2")),
		},
	}
}

func outgoing(to netip.AddrPort, payloads ...string) []Message {
	ms := make([]Message, len(payloads))
	for i, p := range payloads {
		ms[i] = Message{Buffer: []byte(p), Size: len(p), Addr: to}
	}
	return ms
}

// collect reads until it has count datagrams.
func collect(t testing.TB, c endpoint, count int) (got []Message) {
	t.Helper()
	ms := NewBatch()
	for len(got) < count {
		n, err := c.ReadBatch(ms, patience)
		if err != nil || n == 0 {
			t.Fatalf("%d of %d datagrams came, %v", len(got), count, err)
		}
		for _, m := range ms[:n] {
			m.Buffer = bytes.Clone(m.Buffer[:m.Size])
			got = append(got, m)
		}
	}
	return got
}

func TestBatchesArriveWhole(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			a, b := pair[0], pair[1]
			payloads := make([]string, Batch+10)
			for i := range payloads {
				payloads[i] = string(bytes.Repeat([]byte{byte('a' + i%26)}, 1+i))
			}
			if sent := a.WriteBatch(outgoing(b.LocalAddr(), payloads...)); sent != len(payloads) {
				t.Fatalf("%d of %d sent", sent, len(payloads))
			}
			for i, m := range collect(t, b, len(payloads)) {
				if string(m.Buffer) != payloads[i] || m.Addr != a.LocalAddr() {
					t.Fatalf("datagram %d: %q from %v", i, m.Buffer, m.Addr)
				}
			}
			if n := b.Dropped(); n != 0 {
				t.Errorf("%d dropped", n)
			}
		})
	}
}

func TestReadWaitsNoLongerThanAsked(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			for _, wait := range []time.Duration{0, time.Millisecond} {
				if n, err := pair[0].ReadBatch(NewBatch(), wait); n != 0 || err != nil {
					t.Errorf("got %d, %v", n, err)
				}
			}
		})
	}
}

func TestWakeEndsARead(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			c := pair[0]
			for range 3 {
				done := make(chan error, 1)
				go func() {
					n, err := c.ReadBatch(NewBatch(), time.Hour)
					if n != 0 {
						t.Errorf("%d datagrams", n)
					}
					done <- err
				}()
				c.Wake()
				c.Wake()
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(patience):
					t.Fatal("still reading")
				}
				// What the second Wake left must not be there in the next round.
				if _, err := c.ReadBatch(NewBatch(), time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestDualStack(t *testing.T) {
	wild := listenOn(t, netip.Addr{})
	port := wild.LocalAddr().Port()
	for _, from := range []netip.Addr{loopback4, loopback6} {
		c, err := Listen(from, 0)
		if err != nil && from.Is6() {
			t.Logf("no IPv6 here: %v", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.WriteBatch(outgoing(netip.AddrPortFrom(from, port), "question"))
		question := collect(t, wild, 1)[0]
		if question.Addr != c.LocalAddr() {
			t.Errorf("from %v, want %v", question.Addr, c.LocalAddr())
		}
		wild.WriteBatch(outgoing(question.Addr, "answer"))
		if answer := collect(t, c, 1)[0]; string(answer.Buffer) != "answer" {
			t.Errorf("got %q", answer.Buffer)
		}
	}
}

func TestUnsendableIsSkipped(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	ms := outgoing(b.LocalAddr(), "first", "for nobody", "for IPv6", "last")
	ms[1].Addr = netip.AddrPortFrom(loopback4, 0)
	ms[2].Addr = netip.AddrPortFrom(loopback6, 9)
	if sent := a.WriteBatch(ms); sent != 2 {
		t.Errorf("%d sent, want 2", sent)
	}
	got := collect(t, b, 2)
	if string(got[0].Buffer) != "first" || string(got[1].Buffer) != "last" {
		t.Errorf("got %q and %q", got[0].Buffer, got[1].Buffer)
	}
}

func TestTooLongIsEmpty(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			pair[0].WriteBatch(outgoing(pair[1].LocalAddr(), string(make([]byte, MaxDatagram+1)), "next"))
			got := collect(t, pair[1], 2)
			if got[0].Size != 0 || string(got[1].Buffer) != "next" {
				t.Errorf("got %d bytes and %q", got[0].Size, got[1].Buffer)
			}
		})
	}
}

func TestOverflowIsCounted(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			big := string(make([]byte, MaxDatagram))
			for range 10_000 {
				pair[0].WriteBatch(outgoing(pair[1].LocalAddr(), big))
			}
			if pair[1].Dropped() == 0 {
				t.Error("nothing dropped of 20 MB that nobody read")
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	taken := listenOn(t, loopback4).LocalAddr()
	if c, err := Listen(taken.Addr(), taken.Port()); err == nil {
		c.Close()
		t.Error("listening twice on one port")
	}
}

func TestReadAfterClose(t *testing.T) {
	c, err := Listen(loopback4, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadBatch(NewBatch(), 0); err == nil {
		t.Error("no error")
	}
	if sent := c.WriteBatch(outgoing(c.LocalAddr(), "late")); sent != 0 {
		t.Errorf("%d sent", sent)
	}
	c.Wake()
}

func TestBatchesAllocateNothing(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			a, b := pair[0], pair[1]
			ms, out := NewBatch(), outgoing(b.LocalAddr(), "one", "two", "three")
			for range memoryQueue {
				a.WriteBatch(out)
				collectQuietly(b, ms, len(out))
			}
			if n := testing.AllocsPerRun(100, func() {
				a.WriteBatch(out)
				collectQuietly(b, ms, len(out))
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func collectQuietly(c endpoint, ms []Message, count int) {
	for count > 0 {
		n, err := c.ReadBatch(ms, patience)
		if n == 0 || err != nil {
			panic("what was sent did not come")
		}
		count -= n
	}
}

func BenchmarkWriteBatch(b *testing.B) {
	a, c := listenOn(b, loopback4), listenOn(b, loopback4)
	out := make([]Message, Batch)
	for i := range out {
		out[i] = Message{Buffer: make([]byte, 200), Size: 200, Addr: c.LocalAddr()}
	}
	in := NewBatch()
	b.ReportAllocs()
	for b.Loop() {
		a.WriteBatch(out)
		collectQuietly(c, in, Batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/Batch, "ns/datagram")
}
