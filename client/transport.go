package client

import (
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/proto"
)

const (
	keepaliveInterval = 5 * time.Second
	discoveryRetry    = 500 * time.Millisecond
	discoveryTries    = 10
	datagramSize      = 2048
	maxFrame          = 1275 // of Opus, RFC 6716 section 3.4
	frameSamples      = 960  // 20 ms
)

// silence is the Opus frame that ends speech (Voice Connections, "Voice Data
// Interpolation").
var silence = []byte{0xF8, 0xFF, 0xFE}

// counters are the media statistics of a Voice, over all its transports.
type counters struct {
	sent, received, malformed, replayed, overflow atomic.Uint64
	rtt                                           atomic.Int64
}

// transport is the UDP side of one voice session: it outlives cuts of the voice
// WebSocket.
type transport struct {
	conn     net.Conn
	ssrc     uint32
	speakers *speakers
	deliver  func(Packet)
	counters *counters
	done     chan struct{}
	tasks    sync.WaitGroup

	open opener // receive goroutine only

	mu        sync.Mutex
	seal      sealer
	sequence  uint16
	timestamp uint32
	next      time.Time // when the frame after the last one is due
	header    [rtpHeaderSize]byte
	buffer    []byte

	pingSequence atomic.Uint32
	pingSent     atomic.Int64 // Unix ns
}

// dialTransport opens a socket towards the media worker that Ready named.
func (c *Client) dialTransport(ctx context.Context, ready proto.VoiceReady) (*transport, error) {
	addr, err := netip.ParseAddr(ready.IP)
	if err != nil || ready.Port <= 0 || ready.Port > 65535 {
		return nil, errors.New("client: voice: Ready names no address")
	}
	conn, err := c.dial(ctx, "udp", netip.AddrPortFrom(addr, uint16(ready.Port)).String())
	if err != nil {
		return nil, fmt.Errorf("client: voice: %w", err)
	}
	return &transport{
		conn: conn, ssrc: ready.SSRC,
		sequence: uint16(rand.Uint32()), timestamp: rand.Uint32(),
		done: make(chan struct{}),
	}, nil
}

// discover asks the server which address our packets come from, again and again
// since both question and answer may be lost.
func (t *transport) discover(ctx context.Context) (netip.AddrPort, error) {
	request := discoveryRequest(t.ssrc)
	buf := make([]byte, datagramSize)
	for range discoveryTries {
		if ctx.Err() != nil {
			return netip.AddrPort{}, ctx.Err()
		}
		if _, err := t.conn.Write(request); err != nil && errors.Is(err, net.ErrClosed) {
			return netip.AddrPort{}, err
		}
		_ = t.conn.SetReadDeadline(time.Now().Add(discoveryRetry))
		for {
			n, err := t.conn.Read(buf)
			if err != nil {
				if !isTimeout(err) && !pause(ctx, discoveryRetry) {
					return netip.AddrPort{}, ctx.Err()
				}
				break
			}
			if own, err := parseDiscovery(buf[:n], t.ssrc); err == nil {
				return own, t.conn.SetReadDeadline(time.Time{})
			}
		}
	}
	return netip.AddrPort{}, fmt.Errorf("client: voice: no answer over UDP from port %s: it may be blocked", portOf(t.conn))
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func portOf(c net.Conn) string {
	_, port, _ := net.SplitHostPort(c.RemoteAddr().String())
	return port
}

// start begins to receive and to keep the path open. One silence frame goes out
// at once, since a server sends to nobody from whom nothing has decrypted yet.
func (t *transport) start(aead cipher.AEAD, s *speakers, deliver func(Packet), c *counters) error {
	t.seal.aead, t.open.aead = aead, aead
	t.speakers, t.deliver, t.counters = s, deliver, c
	if err := t.send(silence); err != nil {
		return err
	}
	t.tasks.Add(2)
	go t.receiveLoop()
	go t.keepaliveLoop()
	return nil
}

func (t *transport) close() {
	close(t.done)
	_ = t.conn.Close()
	t.tasks.Wait()
}

// send seals one Opus frame and sends it. After a pause the timestamp moves on by
// the time that passed, so that receivers play the pause as a pause.
func (t *transport) send(frame []byte) error {
	samples, ok := opusSamples(frame)
	if !ok || len(frame) > maxFrame {
		return fmt.Errorf("client: voice: %d bytes are no Opus packet", len(frame))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if pause := now.Sub(t.next); pause > 100*time.Millisecond && !t.next.IsZero() {
		t.timestamp += uint32(pause/(20*time.Millisecond)) * frameSamples
		t.next = now
	}
	if t.next.IsZero() {
		t.next = now
	}
	t.next = t.next.Add(time.Duration(samples) * time.Second / 48000)
	putRTPHeader(&t.header, t.sequence, t.timestamp, t.ssrc)
	t.sequence++
	t.timestamp += samples
	return t.write(t.header[:], frame)
}

// write seals and sends one packet; t.mu is held. A refused datagram is not an
// error: the server may be restarting, and the session will notice if not.
func (t *transport) write(clear, body []byte) error {
	sealed, err := t.seal.seal(t.buffer[:0], clear, body)
	if err != nil {
		return err
	}
	t.buffer = sealed
	if _, err := t.conn.Write(sealed); errors.Is(err, net.ErrClosed) {
		return err
	}
	t.counters.sent.Add(1)
	return nil
}

// keepaliveLoop pings, which keeps address translators open and measures the
// round trip, and sends an empty receiver report, which shows the server an
// address that changed.
func (t *transport) keepaliveLoop() {
	defer t.tasks.Done()
	tick := time.NewTicker(keepaliveInterval)
	defer tick.Stop()
	for {
		t.ping()
		t.report()
		select {
		case <-tick.C:
		case <-t.done:
			return
		}
	}
}

func (t *transport) ping() {
	var pkt [pingSize]byte
	binary.BigEndian.PutUint32(pkt[:], pingRequest)
	binary.BigEndian.PutUint32(pkt[4:], t.pingSequence.Add(1))
	t.pingSent.Store(time.Now().UnixNano())
	_, _ = t.conn.Write(pkt[:])
}

func (t *transport) report() {
	var header [rtcpHeaderSize]byte
	header[0], header[1], header[3] = 0x80, 201, 1 // RFC 3550 section 6.4.2, no blocks
	binary.BigEndian.PutUint32(header[4:], t.ssrc)
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.write(header[:], nil)
}

func (t *transport) receiveLoop() {
	defer t.tasks.Done()
	buf := make([]byte, datagramSize)
	for {
		n, err := t.conn.Read(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // refused: an ICMP answer to something we sent
			continue
		}
		t.receive(buf[:n])
	}
}

// receive handles one datagram. What is not from the server, or came before, is
// counted and dropped.
func (t *transport) receive(pkt []byte) {
	switch classify(pkt) {
	case kindRTP:
		t.receiveRTP(pkt)
	case kindPing:
		if binary.BigEndian.Uint32(pkt[4:]) == t.pingSequence.Load() {
			t.counters.rtt.Store(time.Now().UnixNano() - t.pingSent.Load())
		}
	case kindUnknown:
		t.counters.malformed.Add(1)
	}
}

func (t *transport) receiveRTP(pkt []byte) {
	clear, err := clearLength(pkt)
	if err != nil {
		t.counters.malformed.Add(1)
		return
	}
	plain, err := t.open.open(pkt, clear)
	if err != nil {
		if errors.Is(err, errReplayed) {
			t.counters.replayed.Add(1)
		} else {
			t.counters.malformed.Add(1)
		}
		return
	}
	p, err := parseRTP(plain, clear)
	if err != nil || len(p.Opus) == 0 {
		t.counters.malformed.Add(1)
		return
	}
	t.counters.received.Add(1)
	p.Opus = append([]byte(nil), p.Opus...)
	if t.speakers.attribute(&p) {
		t.deliver(p)
	}
}

// speakers maps SSRCs to users. The voice WebSocket writes it, the receive
// goroutine reads it; since the two race when we join, the first packets of an
// SSRC wait for its user.
type speakers struct {
	mu      sync.Mutex
	users   map[uint32]proto.Snowflake
	waiting []Packet
}

// waitingLimit is how many packets may wait for a user at most.
const waitingLimit = 32

func newSpeakers() *speakers { return &speakers{users: make(map[uint32]proto.Snowflake)} }

// set names the user of an SSRC and returns the packets that waited for that.
func (s *speakers) set(ssrc uint32, user proto.Snowflake) (freed []Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[ssrc] = user
	kept := s.waiting[:0]
	for _, p := range s.waiting {
		if p.SSRC == ssrc {
			p.UserID = user
			freed = append(freed, p)
		} else {
			kept = append(kept, p)
		}
	}
	s.waiting = kept
	return freed
}

// attribute fills in whose packet p is. It is false when p has to wait.
func (s *speakers) attribute(p *Packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.UserID = s.users[p.SSRC]
	if p.UserID != 0 || len(s.waiting) >= waitingLimit {
		return true
	}
	s.waiting = append(s.waiting, *p)
	return false
}

func (s *speakers) remove(user proto.Snowflake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.users, func(_ uint32, u proto.Snowflake) bool { return u == user })
}
