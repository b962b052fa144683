package udp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"
)

// short puts aside what has one byte.
func short(t testing.TB) []bpf.RawInstruction {
	t.Helper()
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Val: 1, SkipFalse: 1},
		bpf.RetConstant{Val: 1},
		bpf.RetConstant{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// apart returns a socket, and another that puts aside what is short.
func apart(t testing.TB, addr netip.Addr, every time.Duration) (from, to *Conn) {
	t.Helper()
	from, to = listenOn(t, loopback4), listenOn(t, addr)
	if err := to.Aside(short(t), every); err != nil {
		t.Fatal(err)
	}
	return from, to
}

// now returns what can be read at once.
func now(t testing.TB, c *Conn) (texts []string) {
	t.Helper()
	ms := NewBatch()
	n, err := c.ReadBatch(ms, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms[:n] {
		texts = append(texts, string(m.Buffer[:m.Size]))
	}
	return texts
}

// TestAside has datagrams that can wait wake the reader while they are few, and lie
// while others go by once they are many.
func TestAside(t *testing.T) {
	for _, bind := range []string{"127.0.0.1", "::"} {
		a, b := apart(t, netip.MustParseAddr(bind), time.Hour)
		to := netip.AddrPortFrom(loopback4, b.LocalAddr().Port())
		send := func(texts ...string) {
			t.Helper()
			if n := a.WriteBatch(outgoing(to, texts...)); n != len(texts) {
				t.Fatalf("%d of %d sent", n, len(texts))
			}
		}
		send("long")
		if got := collect(t, b, 1); string(got[0].Buffer) != "long" || got[0].Addr != a.LocalAddr() {
			t.Errorf("%s: %q from %v", bind, got[0].Buffer, got[0].Addr)
		}
		for _, text := range []string{"1", "2"} {
			send(text)
			if got := collect(t, b, 1); string(got[0].Buffer) != text || got[0].Addr != a.LocalAddr() {
				t.Errorf("%s: %q from %v", bind, got[0].Buffer, got[0].Addr)
			}
		}
		send("3", "long", "4")
		if got := now(t, b); !slices.Equal(got, []string{"long"}) {
			t.Errorf("%s: read %q", bind, got)
		}
		b.aside.next = time.Time{} // it is time
		if got := now(t, b); !slices.Equal(got, []string{"3", "4"}) {
			t.Errorf("%s: read %q", bind, got)
		}
		b.aside.next = time.Time{}
		if got := now(t, b); got != nil || !b.aside.armed {
			t.Errorf("%s: read %q, armed %v", bind, got, b.aside.armed)
		}
		send("5")
		if got := collect(t, b, 1); string(got[0].Buffer) != "5" || b.aside.armed {
			t.Errorf("%s: read %q, armed %v", bind, got[0].Buffer, b.aside.armed)
		}
		// A look that comes so late that the timer is over, as after a pause of the process.
		b.aside.next, b.aside.brought = time.Time{}, time.Time{}
		send("6")
		if got := now(t, b); !slices.Equal(got, []string{"6"}) || !b.aside.armed {
			t.Errorf("%s: read %q, armed %v", bind, got, b.aside.armed)
		}
		send("7")
		if got := collect(t, b, 1); string(got[0].Buffer) != "7" {
			t.Errorf("%s: read %q", bind, got[0].Buffer)
		}
	}
}

// TestAsideIsReadInTime has nothing but what is aside, and often.
func TestAsideIsReadInTime(t *testing.T) {
	const every = 20 * time.Millisecond
	a, b := apart(t, loopback4, every)
	for range 5 {
		many, looked := !b.aside.armed, b.aside.brought
		a.WriteBatch(outgoing(b.LocalAddr(), "1"))
		collect(t, b, 1)
		if between := b.aside.brought.Sub(looked); many && between < every/2 {
			t.Errorf("read %v after what came before", between)
		}
	}
	b.Gather(time.Millisecond)
	a.WriteBatch(outgoing(b.LocalAddr(), "long", "2"))
	for rest := 2; rest > 0; {
		rest -= len(collect(t, b, 1))
	}
	b.Gather(0)
	b.Doze(every)
	a.WriteBatch(outgoing(b.LocalAddr(), "3", "long"))
	for rest := 2; rest > 0; {
		rest -= len(collect(t, b, 1))
	}
	b.Doze(0)
	a.WriteBatch(outgoing(b.LocalAddr(), "4"))
	collect(t, b, 1)
}

// TestAsideIsNotForgotten has no read leave room for what is aside.
func TestAsideIsNotForgotten(t *testing.T) {
	a, b := apart(t, loopback4, time.Nanosecond)
	a.WriteBatch(outgoing(b.LocalAddr(), "1"))
	for reads := 1; ; reads++ {
		for range 2 {
			a.WriteBatch(outgoing(b.LocalAddr(), slices.Repeat([]string{"long"}, Batch)...))
		}
		got := now(t, b)
		if len(got) != Batch {
			t.Fatalf("%d datagrams in one read", len(got))
		}
		if slices.Contains(got, "1") {
			if reads != asideSkipped+1 {
				t.Errorf("in read %d", reads)
			}
			return
		}
		if reads > asideSkipped {
			t.Fatal("forgotten")
		}
	}
}

// TestAsideKeepsThePort has a second process refused, and the next one follow the first.
func TestAsideKeepsThePort(t *testing.T) {
	a, b := apart(t, loopback4, time.Hour)
	if c, err := Listen(loopback4, b.LocalAddr().Port()); err == nil {
		c.Close()
		t.Error("the port was taken twice")
	}
	f, err := b.File()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	a.WriteBatch(outgoing(b.LocalAddr(), "1")) // nobody puts it aside now
	next, err := Inherit(f)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if got := now(t, next); !slices.Equal(got, []string{"1"}) {
		t.Errorf("read %q", got)
	}
	if err := next.Aside(short(t), time.Hour); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		a.WriteBatch(outgoing(next.LocalAddr(), "1"))
		collect(t, next, 1)
	}
	a.WriteBatch(outgoing(next.LocalAddr(), "2", "long"))
	if got := now(t, next); !slices.Equal(got, []string{"long"}) {
		t.Errorf("read %q", got)
	}
}

func TestAsideRefused(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	if err := b.Aside(nil, time.Hour); err == nil {
		t.Fatal("an empty program was taken")
	}
	a.WriteBatch(outgoing(b.LocalAddr(), "1"))
	if got := collect(t, b, 1); string(got[0].Buffer) != "1" {
		t.Errorf("read %q", got[0].Buffer)
	}
}

func TestAsideAllocatesNothing(t *testing.T) {
	a, b := apart(t, loopback4, time.Millisecond)
	out, in := outgoing(b.LocalAddr(), "1", "long"), NewBatch()
	if n := testing.AllocsPerRun(100, func() {
		a.WriteBatch(out)
		collectQuietly(b, in, 2)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
