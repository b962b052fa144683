package ws

import (
	"context"
	"sync"

	"github.com/coder/websocket"
)

// scratch is a writer's space for one message while it splices and encodes. It is
// pooled, not kept by the connection: an idle one then costs nothing.
type scratch struct{ plain, encoded []byte }

// maxScratch is the largest buffer that goes back to the pool.
const maxScratch = 64 << 10

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// WriteLoop writes what is queued until the connection is closed or ctx ends. It
// is the body of the connection's writer goroutine, and the connection's resources
// are free when it returns.
func (c *Conn) WriteLoop(ctx context.Context) {
	// A connection that the library did not close itself is held by its finalizer
	// for good.
	defer func() { _ = c.ws.CloseNow() }()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.end()
	}()
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		batch, encoder, closing, dropped := c.take()
		if dropped || !c.writeAll(batch, encoder) {
			return
		}
		if closing != nil {
			// Waits for the peer's close frame, so that its unread input does not
			// reset the connection before it has read ours; the deadline of Close
			// bounds the wait.
			_ = c.ws.Close(websocket.StatusCode(closing.Code), closing.Reason)
			return
		}
		c.recycle(batch)
	}
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

func (c *Conn) write(s *scratch, m *message, encoder Encoder) error {
	data, binary := m.body, m.binary
	if m.headN > 0 {
		s.plain = append(append(s.plain[:0], m.head[:m.headN]...), m.body...)
		data = s.plain
	}
	if encoder != nil {
		var err error
		if s.encoded, binary, err = encoder.Encode(s.encoded[:0], data); err != nil {
			return err
		}
		data = s.encoded
	}
	typ := websocket.MessageText
	if binary {
		typ = websocket.MessageBinary
	}
	// No context: the deadline on the socket bounds the write, and a context
	// would cost a registration for every frame.
	return c.ws.Write(context.Background(), typ, data)
}
