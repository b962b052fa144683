//go:build linux

package load

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3/pkg/crypto/selfsign"

	"hubbub.dev/hubbub/internal/serve/run"
)

// murmur is as much of a mumble-server as the load needs: it lets everyone in, and
// forwards voice to all others. TCP and UDP have one port.
type murmur struct {
	t     *testing.T
	tcp   net.Listener
	udp   *net.UDPConn
	group *run.Group
	mu    sync.Mutex
	users []*murmurUser
}

type murmurUser struct {
	voice *mumbleLink // the server's end
	addr  netip.AddrPort
}

func startMurmur(t *testing.T, refuse string) *murmur {
	t.Helper()
	certificate, err := selfsign.GenerateSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	m := &murmur{t: t, group: run.NewGroup(context.Background(), slog.New(slog.DiscardHandler))}
	// A port that is free for TCP may be taken for UDP.
	for range 10 {
		m.tcp, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
		if err != nil {
			t.Fatal(err)
		}
		addr := m.tcp.Addr().(*net.TCPAddr)
		if m.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: addr.IP, Port: addr.Port}); err == nil {
			break
		}
		_ = m.tcp.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	m.group.Go("accept", func(context.Context) {
		for {
			conn, err := m.tcp.Accept()
			if err != nil {
				return
			}
			m.group.Go("client", func(context.Context) {
				defer func() { _ = conn.Close() }()
				// Of clients that are refused some give up before they are told.
				if err := m.serve(conn.(*tls.Conn), refuse); err != nil && refuse == "" {
					t.Error(err)
				}
			})
		}
	})
	m.group.Go("voice", func(context.Context) { m.forward() })
	t.Cleanup(func() {
		_ = m.tcp.Close()
		_ = m.udp.Close()
		m.group.Wait()
	})
	return m
}

func (m *murmur) serve(conn *tls.Conn, refuse string) error {
	c := &mumbleClient{conn: conn}
	for _, want := range []uint16{mumbleVersion, mumbleAuthenticate} {
		if kind, _, err := c.next(); err != nil || kind != want {
			return fmt.Errorf("message %d, %w", kind, err)
		}
	}
	if refuse != "" {
		return c.write(mumbleReject, appendBytes(nil, 2, refuse))
	}
	var key, client, server ocbBlock
	for _, b := range []*ocbBlock{&key, &client, &server} {
		_, _ = rand.Read(b[:])
	}
	voice, err := newMumbleLink(key[:], server[:], client[:])
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.users = append(m.users, &murmurUser{voice: voice})
	m.mu.Unlock()
	setup := appendBytes(appendBytes(appendBytes(nil, 1, string(key[:])), 2, string(client[:])), 3, string(server[:]))
	if err := c.write(mumbleCryptSetup, setup); err != nil {
		return err
	}
	if err := c.write(mumbleServerSync, appendField(nil, 1, 1)); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, conn)
	return nil
}

// forward finds out by trial whose a datagram from a new address is.
func (m *murmur) forward() {
	buffer := make([]byte, datagramSize)
	for {
		n, addr, err := m.udp.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		m.mu.Lock()
		for _, u := range m.users {
			if u.addr.IsValid() && u.addr != addr {
				continue
			}
			plain := append([]byte(nil), buffer[:n]...)
			nonce := u.voice.nonceOf(plain[0])
			var tag ocbBlock
			u.voice.cipher.open(plain[mumbleHeader:], &nonce, &tag)
			if [3]byte(tag[:3]) == [3]byte(plain[1:mumbleHeader]) {
				u.addr, u.voice.in = addr, nonce
				m.pass(u, plain[mumbleHeader:])
				break
			}
		}
		m.mu.Unlock()
	}
}

func (m *murmur) pass(from *murmurUser, plain []byte) {
	for i, u := range m.users {
		out := make([]byte, mumbleHeader, datagramSize)
		switch {
		case plain[0] == mumbleUDPPing && u == from:
			out = append(out, plain...)
		case plain[0] == mumbleOpus && u != from && u.addr.IsValid():
			out = append(appendVarint(append(out, mumbleOpus), uint32(i)), plain[1:]...)
		default:
			continue
		}
		if _, err := m.udp.WriteToUDPAddrPort(out[:u.voice.protect(out)], u.addr); err != nil {
			m.t.Error(err)
		}
	}
}

func TestMumbleIsMeasuredBeside(t *testing.T) {
	m := startMurmur(t, "")
	cfg := small(t)
	cfg.Mumble, cfg.Speakers, cfg.Duration = m.tcp.Addr().String(), 3, 300*time.Millisecond
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Windows) != 2 || r.Windows[1].Target != "mumble" {
		t.Fatalf("%+v", r.Windows)
	}
	// Speakers hear one another there.
	whole(t, &r.Windows[1], 5+2)
}

func TestMumbleRefusalIsTold(t *testing.T) {
	m := startMurmur(t, "server is full")
	cfg := small(t)
	cfg.Mumble = m.tcp.Addr().String()
	cfg.Joins = 1
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "server is full") {
		t.Errorf("got %v", err)
	}
}
