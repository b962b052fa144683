package ws

import (
	"net"
	"testing"
	"time"
)

// deaf is a net.Conn of which only deadlines and its end are used.
type deaf struct{ net.Conn }

func (deaf) SetWriteDeadline(time.Time) error { return nil }
func (deaf) Close() error                     { return nil }

func queueOnly(bound int) *Conn {
	return &Conn{net: &transport{Conn: deaf{}}, bound: bound, start: func(*Conn) {}}
}

func TestQueueIsBoundedInBytesButTakesOneMessageOfAnySize(t *testing.T) {
	c := queueOnly(100)
	if !c.Send(make([]byte, 1000), false) {
		t.Error("a message alone is refused")
	}
	if c.Send([]byte("x"), false) {
		t.Error("the bound does not hold")
	}
	if batch, _, _ := c.take(nil); len(batch) != 1 || !c.Send([]byte("x"), false) {
		t.Error("what the writer took still counts")
	}
}

func TestSendingDoesNotAllocateInSteadyState(t *testing.T) {
	c, head, body := queueOnly(1<<20), []byte(`{"op":0,"s":1,`), make([]byte, 100)
	var batch []message
	cycle := func() {
		c.SendSpliced(head, body)
		c.Send(body, true)
		batch, _, _ = c.take(batch)
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
	var batch []message
	for b.Loop() {
		c.SendSpliced(head, body)
		batch, _, _ = c.take(batch)
	}
}

// An idle connection has no writer, and each burst starts one.
func TestWriterIsThereWhileThereIsSomethingToWrite(t *testing.T) {
	c, started := queueOnly(1<<20), 0
	c.start = func(*Conn) { started++ }
	for burst := 1; burst <= 3; burst++ {
		c.Send([]byte("a"), false)
		c.Send([]byte("b"), false)
		if batch, _, next := c.take(nil); len(batch) != 2 || next != more {
			t.Fatalf("%d messages, then %d", len(batch), next)
		}
		if _, _, next := c.take(nil); next != idle {
			t.Fatalf("with nothing to write, %d", next)
		}
		if started != burst {
			t.Fatalf("%d writers for %d bursts", started, burst)
		}
	}
	c.Drop()
	c.Drop()
	c.Close(1000, "")
	if _, _, next := c.take(nil); next != over || started != 4 {
		t.Errorf("after Drop: %d, and %d writers", next, started)
	}
}
