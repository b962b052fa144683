package ws

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// scratch is a writer's space for one message while it splices and encodes. It is
// pooled, not kept by the connection: an idle one then costs nothing.
type scratch struct{ plain, encoded []byte }

const (
	// MaxAnswer is the longest text of Answer: what a frame's shortest header can say.
	MaxAnswer = 125
	// wholeFrame is the longest message that is copied behind its frame's header.
	wholeFrame = 4 << 10
	// finalText and finalBinary are the first byte of a frame that is a whole message. In
	// place of a length, long16 and long64 say that it follows (RFC 6455 section 5.2).
	finalText   = 0x81
	finalBinary = 0x82
	long16      = 126
	long64      = 127
)

// appendHeader appends the header of a server's frame, which is not masked.
func appendHeader(dst []byte, first byte, size int) []byte {
	switch {
	case size <= MaxAnswer:
		return append(dst, first, byte(size))
	case size <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, first, long16), uint16(size))
	default:
		return binary.BigEndian.AppendUint64(append(dst, first, long64), uint64(size))
	}
}

func appendFrame(dst, text []byte) []byte {
	return append(appendHeader(dst, finalText, len(text)), text...)
}

// Wire returns texts as they are written to a connection without an Encoder, once for
// many of them. What is for thousands is one entry in the queue of each.
func Wire(texts [][]byte) []byte {
	size := 0
	for _, text := range texts {
		size += 10 + len(text)
	}
	wire := make([]byte, 0, size)
	for _, text := range texts {
		wire = appendFrame(wire, text)
	}
	return wire
}

// pingFrame is a whole ping, unmasked.
var pingFrame = []byte{0x89, 0}

// maxScratch is the largest buffer that goes back to the pool.
const maxScratch = 64 << 10

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Flush writes what is queued and returns when there is no more. It reports whether
// the connection has ended, which it does once: its resources are free then.
func (c *Conn) Flush() (ended bool) {
	var batch []message
	for {
		var encoder Encoder
		var next next
		batch, encoder, next = c.take(batch)
		if next == idle {
			return false
		}
		if next == over || !c.writeAll(batch, encoder) {
			break
		}
		if next == closing {
			// Waits for the peer's close frame, so that its unread input does not
			// reset the connection before it has read ours; the deadline of Close
			// bounds the wait.
			_ = c.ws.Close(websocket.StatusCode(c.closing.Code), c.closing.Reason)
			break
		}
	}
	c.mu.Lock()
	c.end()
	c.mu.Unlock()
	// A connection that the library did not close itself is held by its finalizer
	// for good.
	_ = c.ws.CloseNow()
	return true
}

// next is what a writer does after it has written its batch.
type next uint8

const (
	more    next = iota // comes again
	idle                // nothing, it has no batch: it ends
	closing             // closes the connection
	over                // nothing: the connection has ended
)

// take hands the queued messages to the writer and extends its deadline. The slice of
// those written before is queued in until the writer ends.
func (c *Conn) take(written []message) ([]message, Encoder, next) {
	clear(written)
	c.mu.Lock()
	defer c.mu.Unlock()
	batch := c.queue
	c.queue, c.queued = written[:0], 0
	switch {
	case c.dropped:
		return nil, nil, over
	case c.closing != nil:
		return batch, c.encoder, closing
	case len(batch) == 0:
		c.queue, c.writing = nil, false
		c.rest()
		return nil, nil, idle
	}
	_ = c.net.SetWriteDeadline(time.Now().Add(writeTimeout))
	return batch, c.encoder, more
}

// rest takes the writer's deadline back, which would wake the process for nothing. c.mu is
// held.
func (c *Conn) rest() { _ = c.net.SetWriteDeadline(time.Time{}) }

// Answer is Send for a short text, at most MaxAnswer bytes, and for the goroutine that
// reads: when nothing else is to be written, it writes at once, and no writer is started.
// While the client takes nothing it waits, as a writer does. The text is not kept.
func (c *Conn) Answer(text []byte) bool {
	if len(text) > MaxAnswer || !c.claim() {
		return c.Send(bytes.Clone(text), false)
	}
	s := scratches.Get().(*scratch)
	s.plain = appendFrame(s.plain[:0], text)
	_, err := c.net.Write(s.plain)
	scratches.Put(s)
	c.mu.Lock()
	if err != nil && !c.dropped {
		c.end()
	}
	if c.writing = c.dropped || c.closing != nil || len(c.queue) > 0; !c.writing {
		c.rest()
		c.mu.Unlock()
		return true
	}
	c.mu.Unlock()
	c.start(c)
	return true
}

// claim makes the caller the one who writes, when there is nobody and nothing else is to
// be written.
func (c *Conn) claim() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing || c.closing != nil || c.dropped || c.encoder != nil {
		return false
	}
	c.writing = true
	_ = c.net.SetWriteDeadline(time.Now().Add(writeTimeout))
	return true
}

func (c *Conn) writeAll(batch []message, encoder Encoder) bool {
	if len(batch) == 0 {
		return true
	}
	s := scratches.Get().(*scratch)
	defer func() {
		if cap(s.plain)+cap(s.encoded) <= maxScratch {
			scratches.Put(s)
		}
	}()
	c.net.cork(len(batch) > 1)
	for i := range batch {
		if c.write(s, &batch[i], encoder) != nil {
			return false
		}
	}
	return c.net.uncork() == nil
}

// write writes one message. Frames are made here and not by the library, whose writer
// takes two locks and a buffer for each.
func (c *Conn) write(s *scratch, m *message, encoder Encoder) error {
	if m.wire {
		_, err := c.net.Write(m.body)
		return err
	}
	head, body, first := m.head[:m.headN], m.body, byte(finalText)
	binary := m.binary
	if encoder != nil {
		if len(head) > 0 {
			s.plain = append(append(s.plain[:0], head...), body...)
			head, body = nil, s.plain
		}
		var err error
		if s.encoded, binary, err = encoder.Encode(s.encoded[:0], body); err != nil {
			return err
		}
		body = s.encoded
	}
	if binary {
		first = finalBinary
	}
	s.plain = append(appendHeader(s.plain[:0], first, len(head)+len(body)), head...)
	if len(body) > wholeFrame {
		return c.net.writeBoth(s.plain, body)
	}
	s.plain = append(s.plain, body...)
	_, err := c.net.Write(s.plain)
	return err
}
