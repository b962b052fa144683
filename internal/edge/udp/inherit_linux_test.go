package udp

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"
)

// TestInherit hands a socket over in which a datagram waits, and closes the first.
func TestInherit(t *testing.T) {
	for _, bind := range []string{"127.0.0.1", "::"} {
		old, err := Reserve(netip.MustParseAddr(bind), 0)
		if err != nil {
			t.Fatal(err)
		}
		sender, err := Listen(netip.MustParseAddr("127.0.0.1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), old.LocalAddr().Port())
		send := func(text string) {
			t.Helper()
			if n := sender.WriteBatch([]Message{{Buffer: []byte(text), Size: len(text), Addr: to}}); n != 1 {
				t.Fatal("not sent")
			}
		}
		send("waits")
		f, err := old.File()
		if err != nil {
			t.Fatal(err)
		}
		if err := f.SetReadDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
			t.Errorf("the runtime watches a socket that is to be handed over: %v", err)
		}
		local := old.LocalAddr()
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		next, err := Inherit(f)
		if err != nil {
			t.Fatal(err)
		}
		if next.LocalAddr() != local {
			t.Errorf("%v became %v", local, next.LocalAddr())
		}
		send("comes")
		batch := NewBatch()
		for _, want := range []string{"waits", "comes"} {
			n, err := next.ReadBatch(batch[:1], 10*time.Second)
			if err != nil || n != 1 || string(batch[0].Buffer[:batch[0].Size]) != want {
				t.Fatalf("read %d, %q, %v; want %q", n, batch[0].Buffer[:batch[0].Size], err, want)
			}
			if batch[0].Addr != sender.LocalAddr() {
				t.Errorf("from %v, not %v", batch[0].Addr, sender.LocalAddr())
			}
		}
		reply := []Message{{Buffer: []byte("reply"), Size: 5, Addr: sender.LocalAddr()}}
		if next.WriteBatch(reply) != 1 {
			t.Error("the inherited socket does not send")
		}
		if n, err := sender.ReadBatch(batch, 10*time.Second); n != 1 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		for _, c := range []*Conn{next, sender} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestInheritRefusesFiles(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Inherit(f); err == nil {
		t.Errorf("%v is a socket", c)
	}
}
