package harness

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// Proxy is a TCP proxy whose connections can be cut.
type Proxy struct {
	listener net.Listener
	tasks    sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  map[net.Conn]bool
	total  int
}

// NewProxy forwards to the host and port of a URL until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	_, host, _ := strings.Cut(target, "://")
	p, err := openProxy(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// openProxy forwards to a host and port until it is closed.
func openProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	p.tasks.Go(p.accept)
	return p, nil
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.Cut()
	p.tasks.Wait()
}

// Addr is the host and port to dial instead of the target.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Retarget forwards connections that are made from now on to the host and port of another
// URL.
func (p *Proxy) Retarget(target string) {
	_, host, _ := strings.Cut(target, "://")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = host
}

// Cut drops every connection of the moment, as a broken network does: no
// WebSocket close, no TLS alert. New ones are let through.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Accepted returns how many connections were ever made.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		out, err := net.Dial("tcp", target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = true, true
		p.total++
		p.mu.Unlock()
		p.tasks.Go(func() { p.pipe(in, out) })
		p.tasks.Go(func() { p.pipe(out, in) })
	}
}

func (p *Proxy) pipe(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = from.Close()
	_ = to.Close()
	p.mu.Lock()
	delete(p.conns, from)
	p.mu.Unlock()
}
