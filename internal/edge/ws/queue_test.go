package ws

import (
	"net"
	"testing"
	"time"
)

// deaf is a net.Conn of which only deadlines and its end are used.
type deaf struct{ net.Conn }

func (deaf) SetWriteDeadline(time.Time) error { return nil }
func (deaf) SetDeadline(time.Time) error      { return nil }
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

// sink is a connection that takes everything, and counts it.
type sink struct {
	deaf
	written int
}

func (s *sink) Write(p []byte) (int, error) {
	s.written += len(p)
	return len(p), nil
}

func answering() (c *Conn, out *sink, started *int) {
	c, out, started = queueOnly(1<<20), new(sink), new(int)
	c.net = &transport{Conn: out, traffic: new(Traffic)}
	c.start = func(*Conn) { *started++ }
	return c, out, started
}

func TestAnswerStartsNoWriterUnlessThereIsMore(t *testing.T) {
	c, out, started := answering()
	if !c.Answer([]byte("beat")) || out.written != 6 || *started != 0 || c.writing {
		t.Fatalf("%d bytes, %d writers", out.written, *started)
	}
	c.Send([]byte("first"), false)
	if !c.Answer([]byte("second")) || out.written != 6 || *started != 1 {
		t.Fatalf("overtakes: %d bytes, %d writers", out.written, *started)
	}
	batch, _, _ := c.take(nil)
	if len(batch) != 2 || string(batch[1].body) != "second" {
		t.Fatalf("%d wait", len(batch))
	}
	c.take(nil)
	if long := make([]byte, MaxAnswer+1); !c.Answer(long) || out.written != 6 || *started != 2 {
		t.Errorf("a long one: %d bytes, %d writers", out.written, *started)
	}
}

// busy has something happen while a write is under way.
type busy struct {
	deaf
	meanwhile func()
	err       error
}

func (b busy) Write(p []byte) (int, error) {
	b.meanwhile()
	return len(p), b.err
}

func TestAnswerLeavesToAWriterWhatCameMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*Conn)
		err       error
		then      next
	}{
		"a message":             {func(c *Conn) { c.Send([]byte("a"), false) }, nil, more},
		"a close":               {func(c *Conn) { c.Close(4000, "") }, nil, closing},
		"an end":                {(*Conn).Drop, nil, over},
		"nothing but a failure": {func(*Conn) {}, net.ErrClosed, over},
	} {
		conn, _, started := answering()
		conn.net.Conn = busy{meanwhile: func() { c.meanwhile(conn) }, err: c.err}
		conn.Answer([]byte("beat"))
		if _, _, next := conn.take(nil); *started != 1 || next != c.then {
			t.Errorf("%s: %d writers, then %d", name, *started, next)
		}
	}
}

func TestAnsweringAllocatesNothing(t *testing.T) {
	c, _, _ := answering()
	text := []byte(`{"op":11,"d":null}`)
	if n := testing.AllocsPerRun(1000, func() { c.Answer(text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAnswer(b *testing.B) {
	c, _, _ := answering()
	text := []byte(`{"op":11,"d":null}`)
	b.ReportAllocs()
	for b.Loop() {
		c.Answer(text)
	}
}

func BenchmarkWrite(b *testing.B) {
	c, _, _ := answering()
	s, m := new(scratch), message{body: make([]byte, 100)}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.write(s, &m, nil); err != nil {
			b.Fatal(err)
		}
	}
}
