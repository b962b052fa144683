// Package tlsmux owns the one TCP port that speaks HTTP and HTTPS, told apart by
// the first byte a client sends, and the certificates behind it: a local
// authority's, or real ones for a domain. It never reads a request.
package tlsmux

import (
	"bufio"
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
	// that idle dials cannot hold every file descriptor.
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
	slots  chan struct{}
	done   chan struct{}
	once   sync.Once
	spawn  func(name string, f func(context.Context))
}

// Listen wraps inner. spawn starts a goroutine of the owner's group: one accepts,
// and one per connection waits for its first byte.
func Listen(inner net.Listener, config *tls.Config, spawn func(string, func(context.Context))) *Listener {
	l := &Listener{
		Listener: inner, config: config, spawn: spawn,
		ready: make(chan net.Conn), slots: make(chan struct{}, maxPending), done: make(chan struct{}),
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
	var err error
	l.once.Do(func() {
		close(l.done)
		err = l.Listener.Close()
	})
	return err
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
		select {
		case l.slots <- struct{}{}:
			l.spawn("tlsmux sniff", func(ctx context.Context) { l.sniff(ctx, c) })
		default:
			_ = c.Close()
		}
	}
}

func (l *Listener) sniff(ctx context.Context, c net.Conn) {
	defer func() { <-l.slots }()
	_ = c.SetReadDeadline(time.Now().Add(helloTimeout))
	// Browsers hold connections open that say nothing; the owner's end must not
	// wait for them.
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	// The request after the first byte is read by net/http through the same
	// buffer, so its size is net/http's.
	p := &peeked{Conn: c, r: bufio.NewReaderSize(c, 4096)}
	first, err := p.r.Peek(1)
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
