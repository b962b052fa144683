package ws

import (
	"net"
	"testing"
	"time"
)

// deaf is a net.Conn of which only deadlines are used.
type deaf struct{ net.Conn }

func (deaf) SetWriteDeadline(time.Time) error { return nil }

func queueOnly(bound int) *Conn {
	return &Conn{net: &transport{Conn: deaf{}}, bound: bound, wake: make(chan struct{}, 1)}
}

func TestQueueIsBoundedInBytesButTakesOneMessageOfAnySize(t *testing.T) {
	c := queueOnly(100)
	if !c.Send(make([]byte, 1000), false) {
		t.Error("a message alone is refused")
	}
	if c.Send([]byte("x"), false) {
		t.Error("the bound does not hold")
	}
	if batch, _, _, _ := c.take(); len(batch) != 1 || !c.Send([]byte("x"), false) {
		t.Error("what the writer took still counts")
	}
}

func TestSendingDoesNotAllocateInSteadyState(t *testing.T) {
	c, head, body := queueOnly(1<<20), []byte(`{"op":0,"s":1,`), make([]byte, 100)
	cycle := func() {
		c.SendSpliced(head, body)
		c.Send(body, true)
		batch, _, _, _ := c.take()
		c.recycle(batch)
	}
	for range 4 {
		cycle()
	}
	if n := testing.AllocsPerRun(1000, cycle); n != 0 {
		t.Errorf("%v allocations for two messages", n)
	}
}

func BenchmarkSendSpliced(b *testing.B) {
	c, head, body := queueOnly(1<<20), []byte(`{"op":0,"s":1,`), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		c.SendSpliced(head, body)
		batch, _, _, _ := c.take()
		c.recycle(batch)
	}
}
