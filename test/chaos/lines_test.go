//go:build linux

package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// platformName is the address that clients know the platform by. It stands for all
// gateways, as a name in DNS with several addresses does.
const platformName = "hubbub.test:8080"

// lines are the connections of one client: it comes to one gateway until that does
// not answer, then to the next.
type lines struct {
	from     net.IP
	gateways []string
	nonces   *nonces

	mu   sync.Mutex
	at   int
	open map[net.Conn]struct{} // TCP only
}

// dialPatience is how long a client waits for a host that does not answer at all.
const dialPatience = time.Second

func (l *lines) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialPatience, LocalAddr: &net.TCPAddr{IP: l.from}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: l.from}
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &tapped{Conn: conn, of: l.nonces.key()}, nil
	}
	if address != platformName {
		conn, err := d.DialContext(ctx, network, address)
		return l.keep(conn, err)
	}
	var errs []error
	for range l.gateways {
		l.mu.Lock()
		at := l.at
		l.mu.Unlock()
		conn, err := d.DialContext(ctx, network, l.gateways[at])
		if err == nil {
			return l.keep(conn, nil)
		}
		errs = append(errs, err)
		l.mu.Lock()
		if l.at == at {
			l.at = (at + 1) % len(l.gateways)
		}
		l.mu.Unlock()
	}
	return nil, errors.Join(errs...)
}

func (l *lines) keep(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := &line{Conn: conn, of: l}
	l.open[kept] = struct{}{}
	return kept, nil
}

// cut breaks every TCP connection of the client at once.
func (l *lines) cut() {
	l.mu.Lock()
	var all []net.Conn
	for conn := range l.open {
		all = append(all, conn)
	}
	l.mu.Unlock()
	for _, conn := range all {
		_ = conn.Close()
	}
}

type line struct {
	net.Conn
	of *lines
}

func (l *line) Close() error {
	l.of.mu.Lock()
	delete(l.of.open, l)
	l.of.mu.Unlock()
	return l.Conn.Close()
}

// nonces counts the nonces that all clients have received sealed packets with. Each
// UDP connection of the SDK has one key, so a nonce that comes twice on one was used
// twice with a key.
type nonces struct {
	keys, packets, twice atomic.Int64
}

func (n *nonces) key() *nonceSet {
	n.keys.Add(1)
	return &nonceSet{all: n, blocks: map[uint32]*[64]uint64{}}
}

type nonceSet struct {
	all    *nonces
	mu     sync.Mutex
	blocks map[uint32]*[64]uint64 // 4,096 nonces each
}

// note takes in a datagram from the server. What is sealed, RTP or RTCP, ends with
// the 4 bytes that change in its nonce.
func (s *nonceSet) note(pkt []byte) {
	if len(pkt) < 12+16+4 || pkt[0]>>6 != 2 {
		return
	}
	nonce := binary.BigEndian.Uint32(pkt[len(pkt)-4:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.packets.Add(1)
	block := s.blocks[nonce>>12]
	if block == nil {
		block = new([64]uint64)
		s.blocks[nonce>>12] = block
	}
	bit := uint64(1) << (nonce % 64)
	if block[nonce>>6%64]&bit != 0 {
		s.all.twice.Add(1)
	}
	block[nonce>>6%64] |= bit
}

// tapped shows what a client receives.
type tapped struct {
	net.Conn
	of *nonceSet
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.of.note(b[:n])
	return n, err
}

func TestNoncesThatComeTwiceAreCounted(t *testing.T) {
	var all nonces
	a, b := all.key(), all.key()
	packet := func(nonce uint32) []byte {
		pkt := make([]byte, 60)
		pkt[0] = 0x80
		binary.BigEndian.PutUint32(pkt[56:], nonce)
		return pkt
	}
	for nonce := range uint32(10000) {
		a.note(packet(nonce))
	}
	b.note(packet(7))
	a.note(make([]byte, 74)) // discovery is not sealed
	if all.twice.Load() != 0 || all.packets.Load() != 10001 || all.keys.Load() != 2 {
		t.Fatalf("%d twice of %d", all.twice.Load(), all.packets.Load())
	}
	a.note(packet(0))
	a.note(packet(9999))
	b.note(packet(7))
	if all.twice.Load() != 3 {
		t.Errorf("%d twice, not 3", all.twice.Load())
	}
}
