package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/shield"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/edge/tlsmux"
	"hubbub.dev/hubbub/internal/serve/discovery"
	"hubbub.dev/hubbub/internal/serve/gateway"
	"hubbub.dev/hubbub/internal/serve/guilds"
	"hubbub.dev/hubbub/internal/serve/media"
	"hubbub.dev/hubbub/internal/serve/rest"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/internal/serve/voice"
	"hubbub.dev/hubbub/web"
)

// Node is a running platform.
type Node struct {
	cfg       Config
	log       *slog.Logger
	group     *run.Group
	metrics   *prometheus.Registry
	closing   atomic.Bool
	draining  atomic.Bool
	upgraded  chan struct{} // holds one token: it is time to Replace
	asked     chan struct{} // closed when the operator wants the node to drain
	askedOnce sync.Once
	opened    atomic.Bool // the roles are there
	name      string      // in the fleet
	epoch     int64       // ms since 1970
	ailing    atomic.Pointer[string]
	exile     shield.Exile // of the media ports, for discovery's goroutine alone
	bus       *bus.Bus
	discovery *discovery.Service
	listener  net.Listener
	// What a node without the role has not: each is nil then.
	store   *store.Store
	media   workers
	voice   *voice.Service
	guilds  *guilds.Service
	gateway *gateway.Service
	rest    *rest.Service
	app     *app

	authority *tlsmux.Authority
	server    *http.Server
	port      string

	adminToken string
	invite     string
	ownerLink  string
	// undo closes what was opened, last first.
	undo []func()
}

// workers are the media workers, in this process or in a child.
type workers interface {
	voice.Media
	Start(g *run.Group, sink media.Sink)
	Stats(worker int) media.WorkerStats
	Close() error
}

// Start brings everything up and returns when clients can join. What was opened
// before an error is closed again.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Log, metrics: prometheus.NewRegistry(), asked: make(chan struct{}), upgraded: make(chan struct{}, 1)}
	n.group = run.NewGroup(context.WithoutCancel(ctx), cfg.Log)
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, step := range []func(context.Context) error{n.openData, n.openBus, n.openPort, n.openFleet, n.openAuthority, n.openRoles, n.join, n.serve, n.greet} {
		if err := step(ctx); err != nil {
			n.unwind()
			return nil, err
		}
	}
	return n, nil
}

func (n *Node) onClose(f func()) { n.undo = append(n.undo, f) }

func (n *Node) unwind() {
	for i := len(n.undo) - 1; i >= 0; i-- {
		n.undo[i]()
	}
	n.undo = nil
	n.group.Stop()
	n.group.Wait()
}

// openData makes the data directory and opens the database in it.
func (n *Node) openData(ctx context.Context) error {
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory (--data): %w", err)
	}
	if err := n.lockData(); err != nil {
		return err
	}
	token, err := secretFile(filepath.Join(n.cfg.DataDir, "admin.token"))
	if err != nil {
		return fmt.Errorf("admin token: %w", err)
	}
	n.adminToken = token
	if n.name, err = n.nodeName(); err != nil {
		return err
	}
	n.epoch = time.Now().UnixMilli()
	if n.cfg.roles.Has(fleet.Stored) {
		if n.store, err = store.Open(ctx, n.cfg.Database); err != nil {
			return fmt.Errorf("database: %w", err)
		}
		n.onClose(func() { _ = n.store.Close() })
	}
	if n.cfg.roles.Has(fleet.Gateway | fleet.REST) {
		n.app, err = newApp(web.Dist())
	}
	return err
}

// lockData keeps a second server out of the data directory: each would hold its
// own truth about the guilds in it.
func (n *Node) lockData() error {
	f, err := os.OpenFile(filepath.Join(n.cfg.DataDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("data directory (--data): %w", err)
	}
	n.onClose(func() { _ = f.Close() })
	free, err := tryLock(f)
	switch {
	case err != nil:
		return fmt.Errorf("data directory (--data): lock: %w", err)
	case !free:
		return fmt.Errorf("data directory (--data): another Hubbub is running with its data in %s", n.cfg.DataDir)
	}
	return nil
}

// secretFile reads a secret of the data directory, making it when missing.
func secretFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(b))) >= 32 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	s := base64.RawURLEncoding.EncodeToString(raw[:])
	return s, os.WriteFile(path, []byte(s+"\n"), 0o600)
}

func (n *Node) openBus(context.Context) (err error) {
	n.bus, err = bus.Start(bus.Config{
		URL: n.cfg.NATS, Name: n.name, Listen: n.cfg.NATSListen, Cluster: n.cfg.ClusterListen, Peers: n.cfg.ClusterPeers,
		Secret: n.cfg.BusSecret, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.onClose(n.bus.Close)
	return nil
}

// openPort takes the one TCP port. Nobody is served on it before the roles run.
func (n *Node) openPort(context.Context) (err error) {
	// What is still there says so itself, in heartbeats and requests; the kernel's keepalives
	// every 15 s would wake both hosts for nothing.
	listening := net.ListenConfig{KeepAlive: -1}
	if before := n.cfg.Succession; before != nil {
		n.listener, err = before.listen()
	} else {
		n.listener, err = listening.Listen(n.group.Context(), "tcp", n.cfg.HTTP)
	}
	if err != nil {
		return fmt.Errorf("HTTP port (--http): %w", err)
	}
	n.onClose(func() { _ = n.listener.Close() })
	n.port = portOf(n.listener)
	return nil
}

// openVoice makes the media workers and the voice service, of what the program before left
// if it can be.
func (n *Node) openVoice(key []byte) error {
	if before := n.cfg.Succession; before != nil {
		err := n.makeVoice(key, before)
		if err == nil {
			return nil
		}
		n.log.Error("the calls of the program before are not taken over: they are cut and come back", "err", err)
		before.letGo()
	}
	return n.makeVoice(key, nil)
}

func (n *Node) makeVoice(key []byte, before *Succession) (err error) {
	mc := media.Config{
		BasePort: max(n.cfg.UDPPort, 0), Workers: n.cfg.Workers, Legacy: n.cfg.LegacyEncryption,
		MaxSpeakers: n.cfg.MaxSpeakers, Wait: n.cfg.Wait, AttackRate: n.cfg.AttackRate, Log: n.log, Metrics: n.metrics,
	}
	if n.cfg.UDPBind != "" {
		mc.Bind = netip.MustParseAddr(n.cfg.UDPBind)
	}
	if n.media, err = n.openMedia(mc, before); err != nil {
		return fmt.Errorf("media ports (--udp-port, --workers): %w", err)
	}
	vc := voice.Config{
		Node: n.name, Route: n.route, Key: key, Legacy: n.cfg.LegacyEncryption, Version: n.cfg.Version,
		Heartbeat: n.cfg.HeartbeatInterval, ResumeWindow: n.cfg.ResumeWindow, Log: n.log, Metrics: n.metrics,
		SpreadFrom: n.cfg.SpreadFrom, AdmitPerSecond: n.cfg.AdmitRate,
	}
	vc.Bound = mc.Bind
	if n.cfg.PublicIP != "" {
		vc.PublicIP = netip.MustParseAddr(n.cfg.PublicIP)
	}
	if before != nil {
		vc.Restored = before.legacy.Voice
	}
	if n.voice, err = voice.New(vc, n.bus, n.media); err != nil {
		return errors.Join(fmt.Errorf("voice: %w", err), n.media.Close())
	}
	n.onClose(func() { _ = n.media.Close() })
	n.discovery.Listen(n.voice)
	n.media.Start(n.group, n.voice.Event)
	return nil
}

// openMedia makes the media workers, which are nil after an error.
func (n *Node) openMedia(cfg media.Config, before *Succession) (workers, error) {
	if !n.cfg.MediaProcess {
		m, err := media.New(cfg)
		if err != nil {
			return nil, err
		}
		return m, nil
	}
	command := media.Command{Args: n.cfg.MediaArgs}
	if before != nil {
		handed := before.handed
		before.handed = media.Handed{} // whatever comes of it
		s, err := media.TakeOver(cfg, command, &before.legacy.Media, handed)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s, err := media.NewSupervisor(cfg, command)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// busiest returns the load of the media worker that has the most to do, because peers
// cannot move from it to another.
func (n *Node) busiest() float64 {
	load := 0.0
	for i := range n.media.Workers() {
		load = max(load, n.media.Stats(i).Load)
	}
	return load
}

// serve begins to take connections.
func (n *Node) serve(context.Context) error {
	config, err := n.tlsConfig()
	if err != nil {
		return err
	}
	n.server = newServer(n.routes(), n.log)
	l := tlsmux.Listen(n.listener, config, n.group.Go)
	n.onClose(func() { _ = n.server.Close(); _ = l.Close() })
	n.group.Go("memory", trimMemory)
	n.group.Go("http", func(context.Context) {
		if err := n.server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !n.closing.Load() {
			n.log.Error("http server ended", "err", err)
		}
	})
	return nil
}

func (n *Node) tlsConfig() (*tls.Config, error) {
	if n.cfg.Domain == "" {
		return n.authority.TLSConfig(), nil
	}
	return tlsmux.DomainTLSConfig(n.group.Context(), tlsmux.DomainConfig{
		Domain: n.cfg.Domain, Email: n.cfg.ACMEEmail, CA: n.cfg.ACMECA, Dir: filepath.Join(n.cfg.DataDir, "certificates"), Log: n.log,
	}, n.authority)
}

// greet makes the first guild and tells ctl where this server is.
func (n *Node) greet(ctx context.Context) (err error) {
	if n.rest != nil {
		n.invite, n.ownerLink, err = n.welcome(ctx)
		if errors.Is(err, bus.ErrNoResponders) && !n.cfg.alone() {
			n.log.Warn("no guild node is running yet: no invite to show")
		} else if err != nil {
			return err
		}
	}
	where, err := json.Marshal(map[string]string{"url": n.URL()})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.cfg.DataDir, "server.json"), append(where, '\n'), 0o600)
}

// Done is closed when the node can no longer serve: a part of it failed.
func (n *Node) Done() <-chan struct{} { return n.group.Context().Done() }

// Close says goodbye to every client with a code that lets it resume, and ends
// within ctx or 5 s, whichever is first.
func (n *Node) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	n.closing.Store(true)
	n.discovery.Drain(ctx)
	// Voice goes first: once the gateway's sessions end, guilds would tell it to
	// end the calls of those who are not connected yet.
	if n.voice != nil {
		n.voice.Close(ctx)
	}
	if n.gateway != nil {
		n.gateway.Close(ctx)
	}
	if n.guilds != nil {
		n.guilds.Close(ctx)
	}
	n.discovery.Leave(ctx)
	n.unwind()
}

// URL returns where to open the app in plain HTTP on this host.
func (n *Node) URL() string { return "http://" + n.local() }

// HTTPSURL returns the same over TLS, signed by the authority of CAFile.
func (n *Node) HTTPSURL() string { return "https://" + n.local() }

// local returns host and port that this host reaches the server under.
func (n *Node) local() string {
	host := listenHost(n.cfg.HTTP)
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, n.port)
}

// listenHost returns the one host that a listener is bound to, "" for all.
func listenHost(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host).IsUnspecified() {
		return ""
	}
	return host
}

// CAFile returns the local authority's certificate.
func (n *Node) CAFile() string { return n.authority.Path() }

// AdminToken returns the token of the admin API.
func (n *Node) AdminToken() string { return n.adminToken }

func (n *Node) upgradeMedia(ctx context.Context, path string) error {
	s, ok := n.media.(*media.Supervisor)
	if !ok {
		return errors.New("the media workers have no process of their own (--media-process)")
	}
	return s.Upgrade(ctx, path)
}

// MediaPort returns the media port of a worker.
func (n *Node) MediaPort(worker int) uint16 { return n.media.Port(worker) }

// sinkCheck keeps the voice service's sink of the type that workers want.
var _ func(int, sfu.Event) = (*voice.Service)(nil).Event
