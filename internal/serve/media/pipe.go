package media

import (
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pipeQueue is how many datagrams wait for a handshake: two flights of a client.
const pipeQueue = 16

// pipe is the network that a DTLS server believes to be on: datagrams come from the
// worker's socket and go to it. It loses datagrams when its reader is slow.
type pipe struct {
	in     chan []byte
	out    func(datagram []byte)
	expire chan struct{}
	closed chan struct{}
	once   sync.Once
	// released is set when it was the worker's side that closed the pipe.
	released atomic.Bool
}

func newPipe(out func(datagram []byte)) *pipe {
	return &pipe{
		in:     make(chan []byte, pipeQueue),
		out:    out,
		expire: make(chan struct{}, 1),
		closed: make(chan struct{}),
	}
}

// deliver gives the DTLS server a copy of a datagram.
func (p *pipe) deliver(datagram []byte) {
	if len(p.in) < cap(p.in) { // its only sender is the worker
		p.in <- slices.Clone(datagram)
	}
}

// ReadFrom implements net.PacketConn.
func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-p.closed:
		return 0, nil, net.ErrClosed
	case <-p.expire:
		return 0, nil, os.ErrDeadlineExceeded
	case datagram := <-p.in:
		return copy(b, datagram), p.LocalAddr(), nil
	}
}

// WriteTo implements net.PacketConn.
func (p *pipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	default:
	}
	p.out(slices.Clone(b))
	return len(b), nil
}

// release ends reads and writes: the DTLS server is of no more use. It may be called
// again.
func (p *pipe) release() {
	p.released.Store(true)
	_ = p.Close()
}

// Close implements net.PacketConn. The DTLS server calls it when the client closed,
// and when the handshake failed.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// LocalAddr implements net.PacketConn. Neither end has an address that DTLS needs to
// know, and none that it could log.
func (p *pipe) LocalAddr() net.Addr { return &net.UDPAddr{} }

// SetDeadline implements net.PacketConn.
func (p *pipe) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn. Any deadline has passed: the DTLS
// server sets one to interrupt a read, and lifts it again.
func (p *pipe) SetReadDeadline(t time.Time) error {
	select {
	case <-p.expire:
	default:
	}
	if !t.IsZero() {
		select {
		case p.expire <- struct{}{}:
		default:
		}
	}
	return nil
}

// SetWriteDeadline implements net.PacketConn. Writes never wait.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
