package media

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/disgoorg/disgo/voice"
	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// asChild has the test binary be a supervisor's child.
const asChild = "HUBBUB_TEST_MEDIA_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		if err := RunChild("test", func(ctx context.Context) { <-ctx.Done() }); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

var loopback = netip.MustParseAddr("127.0.0.1")

// workers is a Media or a Supervisor.
type workers interface {
	Start(g *run.Group, sink Sink)
	Post(worker int, c sfu.Command) bool
	Workers() int
	Port(worker int) uint16
	Addr(worker int) netip.AddrPort
	Fingerprint() string
	Stats(worker int) WorkerStats
	Close() error
}

// rig is a worker behind a real socket.
type rig struct {
	workers
	t      testing.TB
	worker int
	events chan sfu.Event
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	cfg.Bind, cfg.Workers, cfg.Log = loopback, max(cfg.Workers, 1), slog.New(slog.DiscardHandler)
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return startRig(t, m)
}

func startRig(t testing.TB, m workers) *rig {
	t.Helper()
	r := &rig{workers: m, t: t, events: make(chan sfu.Event, 1024)}
	g := run.NewGroup(context.Background(), slog.New(slog.DiscardHandler))
	m.Start(g, func(_ int, ev sfu.Event) { r.events <- ev })
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		g.Wait()
	})
	return r
}

func (r *rig) post(c sfu.Command) {
	r.t.Helper()
	if !r.Post(r.worker, c) {
		r.t.Fatal("the mailbox is full")
	}
}

// expect waits for an event that fits, and passes over others.
func (r *rig) expect(what string, fits func(sfu.Event) bool) sfu.Event {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case ev := <-r.events:
			if fits(ev) {
				return ev
			}
		case <-deadline:
			r.t.Fatalf("no event: %s", what)
		}
	}
}

func connected(id sfu.PeerID) func(sfu.Event) bool {
	return func(ev sfu.Event) bool { return ev.Connected != nil && ev.Connected.Peer == id }
}

func speaking(id sfu.PeerID, on bool) func(sfu.Event) bool {
	return func(ev sfu.Event) bool {
		return ev.Speaking != nil && *ev.Speaking == sfu.PeerSpeaking{Peer: id, On: on}
	}
}

// settle waits until the worker has carried out every command posted so far: it
// answers discovery for an SSRC that was added last.
func (r *rig) settle() {
	r.t.Helper()
	id := sfu.PeerID(1 << 40)
	const ssrc = 0xFFFF_FFF0
	r.post(sfu.Command{Add: &sfu.AddPeer{Peer: id, Channel: 1 << 40, SSRC: ssrc}})
	c := r.dial(ssrc)
	c.discover()
	r.post(sfu.Command{Remove: &sfu.RemovePeer{Peer: id}})
}

// client is a native client, which encrypts with disgo.
type client struct {
	t      testing.TB
	conn   *net.UDPConn
	ssrc   uint32
	crypt  voice.Encrypter
	stale  int // answers to discovery that may still come
	buffer [2048]byte
}

// native adds a peer and returns its client after IP discovery.
func (r *rig) native(id sfu.PeerID, channel uint64, mode string) *client {
	r.t.Helper()
	ssrc := uint32(id) << 4
	r.post(sfu.Command{Add: &sfu.AddPeer{Peer: id, Channel: channel, SSRC: ssrc}})
	c := r.dial(ssrc)
	c.discover()
	native := &sfu.SetNative{Peer: id, Mode: mode}
	binary.BigEndian.PutUint64(native.Key[:], uint64(id))
	r.post(sfu.Command{Native: native})
	if mode != proto.ModeXSalsa20 {
		crypt, err := voice.NewEncrypter(voice.EncryptionMode(mode), native.Key[:])
		if err != nil {
			r.t.Fatal(err)
		}
		c.crypt = crypt
	}
	r.settle()
	return c
}

func (r *rig) dial(ssrc uint32) *client {
	r.t.Helper()
	to := netip.AddrPortFrom(loopback, r.Port(r.worker))
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return &client{t: r.t, conn: conn, ssrc: ssrc}
}

func (c *client) write(datagram []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(datagram); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the next datagram, which is valid until the next read.
func (c *client) read() []byte {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		n, err := c.conn.Read(c.buffer[:])
		if err != nil {
			c.t.Fatal(err)
		}
		if !c.outdated(c.buffer[:n]) {
			return c.buffer[:n]
		}
	}
}

// outdated reports whether a datagram is one more answer to discovery, which a busy
// host delays until it was asked for again.
func (c *client) outdated(datagram []byte) bool {
	if c.stale == 0 || len(datagram) != 74 || datagram[1] != 2 {
		return false
	}
	c.stale--
	return true
}

// nothing checks that no datagram waits for the client.
func (c *client) nothing() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, err := c.conn.Read(c.buffer[:])
	for err == nil && c.outdated(c.buffer[:n]) {
		n, err = c.conn.Read(c.buffer[:])
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("got %x, %v; want nothing", c.buffer[:n], err)
	}
}

func discovery(ssrc uint32) []byte {
	request := make([]byte, 74)
	binary.BigEndian.PutUint32(request, 1<<16|70)
	binary.BigEndian.PutUint32(request[4:], ssrc)
	return request
}

// discover asks for the own address until it is told: the peer may not be added yet.
func (c *client) discover() netip.AddrPort {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		c.write(discovery(c.ssrc))
		c.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := c.conn.Read(c.buffer[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.stale++
			continue
		}
		if err != nil || n != 74 {
			c.t.Fatalf("discovery: %d bytes, %v", n, err)
		}
		text := c.buffer[8:72]
		for len(text) > 0 && text[len(text)-1] == 0 {
			text = text[:len(text)-1]
		}
		addr, err := netip.ParseAddr(string(text))
		if err != nil {
			c.t.Fatal(err)
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(c.buffer[72:]))
	}
	c.t.Fatal("discovery got no answer")
	return netip.AddrPort{}
}

// header returns the header of the client's packet number i.
func (c *client) header(i int) (h [12]byte) {
	h[0], h[1] = 0x80, 0x78
	binary.BigEndian.PutUint16(h[2:], uint16(i))
	binary.BigEndian.PutUint32(h[4:], uint32(i*960))
	binary.BigEndian.PutUint32(h[8:], c.ssrc)
	return h
}

func (c *client) sealed(i int, payload string) []byte {
	return append([]byte(nil), c.crypt.Encrypt(c.header(i), []byte(payload))...)
}

func (c *client) send(i int, payload string) {
	c.t.Helper()
	c.write(c.sealed(i, payload))
}

// hear returns the next packet's header and payload.
func (c *client) hear() (rtp.Header, string) {
	c.t.Helper()
	pkt := append([]byte(nil), c.read()...)
	clear := 12
	if pkt[0]&0x10 != 0 {
		clear += 4
	}
	plain, err := c.crypt.Decrypt(clear, pkt)
	if err != nil {
		c.t.Fatal(err)
	}
	plain = append(pkt[:clear:clear], plain...)
	h, _, ok := rtp.Parse(plain)
	if !ok {
		c.t.Fatalf("not RTP: %x", plain)
	}
	return h, string(h.Payload(plain))
}

// hears checks that the next packet is from a speaker and holds what it said.
func (c *client) hears(from *client, said string) {
	c.t.Helper()
	h, payload := c.hear()
	if h.SSRC != from.ssrc || payload != said || h.PayloadType != 120 || h.Marker {
		c.t.Fatalf("got %q under %+v, want %q from %#x", payload, h, said, from.ssrc)
	}
}
