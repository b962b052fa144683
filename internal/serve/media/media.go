// Package media owns the media workers: each is one goroutine on one thread with
// one UDP socket, which opens what peers send, asks core/sfu who hears it, and seals
// and sends it. It is told what to do by posted commands and tells what happened by
// events, and nothing else crosses. It never logs or reports a peer's address.
package media

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/internal/serve/run"
)

// Config says where workers listen.
type Config struct {
	// Bind is the address to listen on; invalid: all of them.
	Bind netip.Addr
	// BasePort is the first worker's UDP port, the others follow; 0 takes free ones.
	BasePort int
	// Workers is how many there are; 0: one for each core.
	Workers int
	// Legacy allows the xsalsa20_poly1305 mode.
	Legacy bool
	// MaxSpeakers is how many speakers of a channel are heard at once, the loudest of
	// them; 0: 16.
	MaxSpeakers int
	// Wait is the most that a worker under load waits for packets that can leave
	// together with those that came, up to 5 ms. Zero is no wait: what one read brought
	// leaves together all the same.
	Wait time.Duration
	// AttackRate is from how many packets of nobody a second a worker calls itself
	// attacked; 0: 100,000.
	AttackRate int
	Log        *slog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

// Sink takes a worker's events on the worker's goroutine. It must not block.
type Sink func(worker int, ev sfu.Event)

// Media is a set of workers.
type Media struct {
	workers     []*worker
	fingerprint string
	metrics     registration
}

// New opens the workers' sockets and makes the certificate of their DTLS servers.
func New(cfg Config) (*Media, error) {
	certificate, err := selfSigned()
	if err != nil {
		return nil, fmt.Errorf("media: making a certificate: %w", err)
	}
	sockets, err := openSockets(cfg, udp.Listen)
	if err != nil {
		return nil, err
	}
	m := assemble(cfg, sockets, certificate, nil)
	if m.metrics, err = register(cfg.Metrics, m); err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

// openSockets opens a socket for each worker, to be read here or to be handed over.
func openSockets(cfg Config, open func(netip.Addr, uint16) (*udp.Conn, error)) (sockets []*udp.Conn, err error) {
	count := cfg.Workers
	if count == 0 {
		count = runtime.NumCPU()
	}
	if count < 0 || cfg.BasePort < 0 || cfg.BasePort+count > 1<<16 {
		return nil, fmt.Errorf("media: %d workers do not fit from UDP port %d", count, cfg.BasePort)
	}
	program, err := filter()
	if err != nil {
		return nil, fmt.Errorf("media: assembling the socket's filter: %w", err)
	}
	for i := range count {
		port := 0
		if cfg.BasePort != 0 {
			port = cfg.BasePort + i
		}
		socket, err := open(cfg.Bind, uint16(port))
		if err != nil {
			_ = closeSockets(sockets)
			return nil, fmt.Errorf("media: worker %d: %w", i, err)
		}
		if err := socket.Filter(program); err != nil {
			// It saves work and is not needed.
			cfg.Log.Warn("the kernel filters nothing for a media socket", "worker", i, "error", err)
		}
		sockets = append(sockets, socket)
	}
	return sockets, nil
}

func closeSockets(sockets []*udp.Conn) (err error) {
	for _, s := range sockets {
		err = errors.Join(err, s.Close())
	}
	return err
}

// assemble makes the workers of sockets. Nil memories keep nothing beyond the process.
func assemble(cfg Config, sockets []*udp.Conn, certificate tls.Certificate, memories []memory) *Media {
	m := &Media{fingerprint: fingerprintOf(certificate)}
	for i, socket := range sockets {
		var kept *memory
		if memories != nil {
			kept = &memories[i]
		}
		m.workers = append(m.workers, newWorker(i, socket, certificate, cfg, kept))
	}
	return m
}

func fingerprintOf(certificate tls.Certificate) string {
	return browser.FingerprintOf(certificate.Certificate[0]).String()
}

// reachable returns where this host reaches a socket at a local address.
func reachable(local netip.AddrPort) netip.AddrPort {
	if local.Addr().IsUnspecified() {
		// The socket of all addresses takes IPv4 too.
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), local.Port())
	}
	return local
}

// Start runs the workers until the group stops. The sink gets all their events.
func (m *Media) Start(g *run.Group, sink Sink) {
	for _, w := range m.workers {
		w.group, w.sink, w.done = g, sink, make(chan struct{})
		g.Go("media", w.run)
	}
}

// Post gives a worker a command without waiting. It is false when the worker's
// mailbox is full: the command is lost, and the peer's state no longer what its
// sender believes.
func (m *Media) Post(worker int, c sfu.Command) bool {
	return m.workers[worker].post(order{command: c})
}

// Workers returns how many workers there are.
func (m *Media) Workers() int { return len(m.workers) }

// Port returns a worker's UDP port.
func (m *Media) Port(worker int) uint16 { return m.workers[worker].socket.LocalAddr().Port() }

// Addr returns where the other workers of this host reach a worker.
func (m *Media) Addr(worker int) netip.AddrPort {
	return reachable(m.workers[worker].socket.LocalAddr())
}

// Fingerprint returns the DTLS certificate's fingerprint as SDP has it: "sha-256 "
// and bytes in upper-case hex with colons between.
func (m *Media) Fingerprint() string { return m.fingerprint }

// Stats returns what a worker counted until at most a second ago.
func (m *Media) Stats(worker int) WorkerStats { return *m.workers[worker].published.Load() }

// Close ends the workers, waits for them, and closes their sockets.
func (m *Media) Close() error {
	m.metrics.unregister()
	var err error
	for _, w := range m.workers {
		w.stop()
		err = errors.Join(err, w.socket.Close())
	}
	return err
}
