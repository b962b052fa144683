// Package tlsmux owns the one TCP port that speaks HTTP and HTTPS, told apart by
// the first byte a client sends, and the certificates behind it: a local
// authority's, or real ones for a domain. It never reads a request.
package tlsmux

import (
	"bufio"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// helloTimeout bounds how long a client may take to send its first byte,
	// and then to finish its TLS handshake.
	helloTimeout = 10 * time.Second
	// maxPending bounds connections that have not said what they are yet, so
	// that idle dials cannot hold every file descriptor. One more cuts the
	// oldest: a client that means it speaks at once, and outlives a flood of
	// silent ones, where a full house would shut it out.
	maxPending = 512
	// recordHandshake is the content type that every TLS connection begins
	// with (RFC 8446 §5.1), and that no HTTP method does.
	recordHandshake = 0x16
)

// Listener accepts plain and TLS connections on one port. Accept returns
// connections whose first byte has come: *tls.Conn for TLS.
type Listener struct {
	net.Listener
	config *tls.Config
	ready  chan net.Conn
	done   chan struct{}
	spawn  func(name string, f func(context.Context))

	mu     sync.Mutex
	closed bool
	silent list.List // of net.Conn, the oldest first
}

// Listen wraps inner. spawn starts a goroutine of the owner's group: one accepts,
// and one per connection waits for its first byte.
func Listen(inner net.Listener, config *tls.Config, spawn func(string, func(context.Context))) *Listener {
	l := &Listener{
		Listener: inner, config: config, spawn: spawn,
		ready: make(chan net.Conn), done: make(chan struct{}),
	}
	spawn("tlsmux accept", l.acceptLoop)
	return l
}

// Accept returns the next connection that has said what it speaks.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close stops accepting and drops connections that were not accepted yet.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	for e := l.silent.Front(); e != nil; e = e.Next() {
		_ = e.Value.(net.Conn).Close()
	}
	return l.Listener.Close()
}

// enter makes room for a connection that has said nothing yet.
func (l *Listener) enter(c net.Conn) *list.Element {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close()
	}
	if l.silent.Len() == maxPending {
		_ = l.silent.Remove(l.silent.Front()).(net.Conn).Close()
	}
	return l.silent.PushBack(c)
}

// leave forgets a connection that has spoken or ended.
func (l *Listener) leave(e *list.Element) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent.Remove(e) // does nothing for one that was cut
}

func (l *Listener) acceptLoop(context.Context) {
	backoff := 5 * time.Millisecond
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: wait for some to come back.
			select {
			case <-l.done:
				return
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, time.Second)
			continue
		}
		backoff = 5 * time.Millisecond
		place := l.enter(c)
		l.spawn("tlsmux sniff", func(context.Context) { l.sniff(c, place) })
	}
}

func (l *Listener) sniff(c net.Conn, place *list.Element) {
	_ = c.SetReadDeadline(time.Now().Add(helloTimeout))
	// The request after the first byte is read by net/http through the same
	// buffer, so its size is net/http's.
	c = quick(c)
	p := &peeked{Conn: c, r: bufio.NewReaderSize(c, 4096)}
	first, err := p.r.Peek(1)
	l.leave(place)
	if err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	var out net.Conn = p
	if first[0] == recordHandshake {
		out = tls.Server(p, l.config)
	}
	select {
	case l.ready <- out:
	case <-l.done:
		_ = c.Close()
	}
}

// peeked gives back the bytes that were looked at, then reads on unbuffered, so
// that a connection costs no buffer once its first read is done.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.r == nil {
		return p.Conn.Read(b)
	}
	if p.r.Buffered() == 0 {
		p.r = nil
		return p.Conn.Read(b)
	}
	return p.r.Read(b)
}
