// Package ws owns one WebSocket connection: its upgrade, a reader's next message,
// a queue bounded in bytes with a writer behind it while there is something to
// write, and a close that blocks nobody. It never looks into a message, starts no goroutine, and lets no
// peer address out in an error.
package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/proto"
)

const (
	// writeTimeout bounds one write: a peer that takes nothing for so long is
	// gone, whatever TCP hopes.
	writeTimeout = 20 * time.Second
	// closeTimeout bounds everything after Close: the queue's rest, the close
	// frame and the peer's answer.
	closeTimeout = time.Second
	// maxHead is the longest head that SendSpliced takes.
	maxHead = 40
)

// Errors of Read.
var (
	// ErrTooLarge is a message over Options.ReadLimit. The connection is still
	// open, so that the caller can close it with its own code.
	ErrTooLarge = errors.New("ws: message over the read limit")
	// ErrLost is a connection that ended without a close frame, or that this
	// side has closed. It carries no cause, since causes carry addresses.
	ErrLost = errors.New("ws: connection lost")
)

// CloseError is the peer's close frame. Code is 1005 when the frame had none.
type CloseError struct {
	Code   proto.CloseCode
	Reason string
}

// Error returns the code and the reason.
func (e *CloseError) Error() string {
	return fmt.Sprintf("ws: closed by the peer with %d %q", e.Code, e.Reason)
}

// Traffic counts bytes on the wire under the HTTP and WebSocket layers, over all
// connections that share it.
type Traffic struct{ In, Out atomic.Uint64 }

// Encoder rewrites each message on its way out. Encode appends the encoded form
// of message to dst and says whether it goes as a binary message. It is called by
// one goroutine at a time, in the order of sending, so it may keep a stream's state.
type Encoder interface {
	Encode(dst, message []byte) (out []byte, binary bool, err error)
}

// Options of Accept.
type Options struct {
	ReadLimit  int64    // bytes of one message from the peer
	QueueBytes int      // bytes that may wait to be written
	Encoder    Encoder  // nil sends messages as they are
	Traffic    *Traffic // nil counts nothing
	// Write has to call Flush in a goroutine of its own. It is called when there is
	// something to write, or a close to see to, and nobody who does: an idle connection
	// has no writer.
	Write func(*Conn)
	// Pong is called by Read when the peer answers a Ping, nil for not at all. Some
	// peers send pongs unasked (RFC 6455 section 5.5.3).
	Pong func()
}

// message is one queue entry: up to maxHead bytes of its own, then a body that
// may be shared with other connections.
type message struct {
	head   [maxHead]byte
	headN  uint8
	binary bool
	wire   bool // body is frames as they are written
	body   []byte
}

func (m *message) size() int { return int(m.headN) + len(m.body) }

// Conn is one accepted connection. Read is for one goroutine; all else but Flush may
// be called from anywhere and never blocks.
type Conn struct {
	ws    *websocket.Conn
	net   *transport
	start func(*Conn) // Options.Write
	limit int64
	bound int

	local, remote netip.AddrPort
	host          string
	secure        bool

	mu      sync.Mutex
	writing bool // Flush runs or is about to, or has ended the connection
	encoder Encoder
	queue   []message
	queued  int // bytes in queue
	closing *CloseError
	dropped bool
}

// Accept upgrades a request, from any origin: credentials travel inside the
// messages, never in cookies. On an error the response has been written. The
// handler is free to return at once: nothing of the request is kept.
func Accept(w http.ResponseWriter, r *http.Request, o Options) (*Conn, error) {
	tap := &tap{ResponseWriter: w, traffic: o.Traffic}
	socket, err := websocket.Accept(tap, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true,
		CompressionMode:    websocket.CompressionDisabled,
		OnPongReceived:     onPong(o.Pong),
	})
	if err != nil {
		return nil, fmt.Errorf("ws: upgrade refused: %w", err)
	}
	// The library would close an oversize message with 1009; Read has its own
	// limit so that the service chooses the code.
	socket.SetReadLimit(-1)
	c := &Conn{
		ws: socket, net: tap.conn, start: o.Write, limit: o.ReadLimit, bound: o.QueueBytes, encoder: o.Encoder,
		host:   r.Host,
		secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
	c.remote, _ = netip.ParseAddrPort(r.RemoteAddr)
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		c.local, _ = netip.ParseAddrPort(a.String())
	}
	return c, nil
}

func onPong(pong func()) func(context.Context, []byte) {
	if pong == nil {
		return nil
	}
	return func(context.Context, []byte) { pong() }
}

// LocalAddr returns the address that the peer connected to, as this host sees it.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// RemoteAddr returns the peer's address. It is for limits only: it goes into no
// log, message or error.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// Host returns the host, with port if any, as the client named it.
func (c *Conn) Host() string { return c.host }

// Secure reports whether the client's connection is HTTPS, here or at a proxy
// that says so. It only shapes URLs that are given back to this same client.
func (c *Conn) Secure() bool { return c.secure }

// SetReadDeadline makes Read fail with ErrLost after t; the zero time is none.
func (c *Conn) SetReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == nil {
		_ = c.net.SetReadDeadline(t)
	}
}

// SetEncoder encodes what is written from now on, for a client that asks for
// compression after the connection has begun.
func (c *Conn) SetEncoder(e Encoder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.encoder = e
}

// Read returns the next message. Its error is a *CloseError, ErrTooLarge or
// ErrLost; after the first one the caller calls Close or Drop and reads no more.
// The message is the caller's to keep.
func (c *Conn) Read() (data []byte, binary bool, err error) {
	// Reading ends with the connection.
	typ, r, err := c.ws.Reader(context.Background())
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(r, c.limit+1))
	}
	switch {
	case err != nil:
		return nil, false, readError(err)
	case int64(len(data)) > c.limit:
		return nil, false, ErrTooLarge
	case c.Closed():
		return nil, false, ErrLost
	}
	return data, typ == websocket.MessageBinary, nil
}

func readError(err error) error {
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		return &CloseError{Code: proto.CloseCode(closed.Code), Reason: closed.Reason}
	}
	return ErrLost
}

// Send queues a message and reports whether it was within the bound; if not, it
// is not sent, and the caller should close with a code that the client can resume
// from. A message alone in the queue is always within the bound. Once Close was
// called messages are dropped and Send reports true. The caller must not change
// data afterwards.
func (c *Conn) Send(data []byte, binary bool) bool {
	return c.push(message{body: data, binary: binary})
}

// SendSpliced queues a text message made of head, at most 40 bytes that are
// copied, and body, which is not; so one body serves many connections. It returns
// as Send does.
func (c *Conn) SendSpliced(head, body []byte) bool {
	m := message{body: body}
	m.headN = uint8(copy(m.head[:], head))
	return c.push(m)
}

// SendWire queues what Wire made of some texts, for a connection without an Encoder. It
// returns as Send does.
func (c *Conn) SendWire(wire []byte) bool { return c.push(message{body: wire, wire: true}) }

// Ping asks the peer's WebSocket library for a sign of life, which shows as Options.Pong.
func (c *Conn) Ping() { c.push(message{body: pingFrame, wire: true}) }

func (c *Conn) push(m message) bool {
	c.mu.Lock()
	if c.closing != nil || c.dropped {
		c.mu.Unlock()
		return true
	}
	if c.queued > 0 && c.queued+m.size() > c.bound {
		c.mu.Unlock()
		return false
	}
	c.queued += m.size()
	c.queue = append(c.queue, m)
	c.unlockAndWrite()
	return true
}

// unlockAndWrite sees to it that somebody does what there is to do now. c.mu is held.
func (c *Conn) unlockAndWrite() {
	idle := !c.writing
	c.writing = true
	c.mu.Unlock()
	if idle {
		c.start(c)
	}
}

// Close has what is queued sent, then a close frame, and ends the connection within a
// second. Only the first call counts.
func (c *Conn) Close(code proto.CloseCode, reason string) {
	c.mu.Lock()
	if c.closing != nil || c.dropped {
		c.mu.Unlock()
		return
	}
	c.closing = &CloseError{Code: code, Reason: reason}
	// Under the lock, so that the writer cannot lengthen it again.
	_ = c.net.SetDeadline(time.Now().Add(closeTimeout))
	c.unlockAndWrite()
}

// Drop ends the connection at once, without a close frame. After Close it does
// nothing: the writer is about to end it.
func (c *Conn) Drop() {
	c.mu.Lock()
	if c.closing != nil || c.dropped {
		c.mu.Unlock()
		return
	}
	c.end()
	c.unlockAndWrite()
}

// Abort makes Read and Flush fail, so that both goroutines end soon. It starts no
// writer: whoever reads then drops the connection.
func (c *Conn) Abort() { _ = c.net.Close() }

// end frees what the connection holds; c.mu is held.
func (c *Conn) end() {
	c.dropped = true
	c.queue, c.queued = nil, 0
	_ = c.net.Close()
}

// Closed reports whether Close or Drop was called, or writing failed.
func (c *Conn) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing != nil || c.dropped
}
