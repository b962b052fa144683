package ws

import (
	"bufio"
	"net"
	"net/http"
	"sync"
)

const (
	// readBuffer holds a frame header and a small frame; longer payloads are read
	// straight into the message.
	readBuffer = 512
	// writeBuffer holds a small frame; longer payloads are written straight from
	// the message.
	writeBuffer = 512
	// corkBytes is how much a burst gathers before it goes out: about one TLS
	// record.
	corkBytes = 16 << 10
)

// tap is a ResponseWriter that keeps hold of the hijacked connection, and gives
// the WebSocket small buffers in place of the HTTP server's two of 4 KiB.
type tap struct {
	http.ResponseWriter
	traffic *Traffic
	conn    *transport
}

// Hijack takes the connection over from the HTTP server.
func (t *tap) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// What the client sent along with its request comes first.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	traffic := t.traffic
	if traffic == nil {
		traffic = new(Traffic)
	}
	t.conn = &transport{Conn: conn, early: append([]byte(nil), early...), traffic: traffic}
	if err := rw.Writer.Flush(); err != nil {
		return nil, nil, err
	}
	return t.conn, bufio.NewReadWriter(
		bufio.NewReaderSize(t.conn, readBuffer), bufio.NewWriterSize(t.conn, writeBuffer)), nil
}

// transport is the byte stream under a WebSocket. It counts, and it joins the
// small writes of a burst into one: only the writer corks, but the reader writes
// pongs and close frames too, hence the lock.
type transport struct {
	net.Conn
	early   []byte
	traffic *Traffic

	mu     sync.Mutex
	corked *[]byte
}

var corks = sync.Pool{New: func() any { b := make([]byte, 0, corkBytes); return &b }}

// Read reads what came with the request, then from the connection.
func (t *transport) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(p, t.early)
		if t.early = t.early[n:]; len(t.early) == 0 {
			t.early = nil
		}
		return n, nil
	}
	n, err := t.Conn.Read(p)
	t.traffic.In.Add(uint64(n))
	return n, err
}

// Write writes p, or gathers it while the transport is corked.
func (t *transport) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.write(p)
}

// writeBoth is Write for two parts of one frame, which nothing may come between.
func (t *transport) writeBoth(first, second []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.write(first)
	if err == nil {
		_, err = t.write(second)
	}
	return err
}

func (t *transport) write(p []byte) (int, error) {
	if t.corked == nil {
		return t.send(p)
	}
	if len(*t.corked)+len(p) > corkBytes {
		if err := t.flush(); err != nil {
			return 0, err
		}
		if len(p) > corkBytes {
			return t.send(p)
		}
	}
	*t.corked = append(*t.corked, p...)
	return len(p), nil
}

func (t *transport) cork(on bool) {
	if !on {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.corked = corks.Get().(*[]byte)
}

func (t *transport) uncork() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.corked == nil {
		return nil
	}
	err := t.flush()
	corks.Put(t.corked)
	t.corked = nil
	return err
}

func (t *transport) flush() error {
	if len(*t.corked) == 0 {
		return nil
	}
	_, err := t.send(*t.corked)
	*t.corked = (*t.corked)[:0]
	return err
}

func (t *transport) send(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	t.traffic.Out.Add(uint64(n))
	return n, err
}
