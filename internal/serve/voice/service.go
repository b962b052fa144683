// Package voice owns the voice gateway: its WebSocket connections, one shard
// goroutine for each media worker that drives internal/core/signalling, and what
// passes between the shards, the workers and the guilds. It never looks into media,
// and never lets a client's address into a message, a log or a metric.
//
// # Queues and what happens when they are full
//
//   - client to shard: the connection is closed with 4015, from which its client
//     resumes. A lost notice of a closed connection is made up for by the heartbeat
//     deadline.
//   - shard to client, bounded in bytes: the same.
//   - shard to worker: the session ends with 4015, since what the worker holds of
//     it is unknown. What is about no session (the end of a peer, a relay) is tried
//     again every second.
//   - worker and bus to shard: dropped and counted. It takes thousands at once.
package voice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/ws"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

const (
	// defaultHeartbeat is the gateway's too. Who is gone shows sooner: by the silence of
	// their media (docs/adr/0024).
	defaultHeartbeat    = 41250 * time.Millisecond
	defaultResumeWindow = time.Minute
	// identifyTimeout is how long a connection may stay without a session. It is
	// closed with 4009, as one whose session has timed out.
	identifyTimeout = 10 * time.Second
	// longestTurn is how long an Identify or Resume may wait for its turn: half of what
	// it has in all.
	longestTurn = 5 * time.Second
	// messageLimit payloads per messageWindow are taken from one connection.
	messageLimit  = 120
	messageWindow = time.Minute
	// queueBytes may wait for a client: enough to introduce 10,000 members to it who
	// all have something to say, and to tell of what they do in the meantime.
	queueBytes = 2 << 20
	// sessionsPerWorker is a full worker, for the capacity that the node announces.
	sessionsPerWorker = 1000
)

// Config is what a voice node is told.
type Config struct {
	Node string
	// Route returns the bus subject of a guild's owner.
	Route    func(proto.Snowflake) string
	PublicIP netip.Addr // for clients from outside, when this host is behind NAT
	Bound    netip.Addr // that the media ports are bound to; the zero Addr for all
	Key      []byte     // of voice tokens
	Legacy   bool       // offers xsalsa20_poly1305 too
	// SpreadFrom is how many peers of a channel one worker has before others take the
	// next; 0: signalling.DefaultSpreadFrom.
	SpreadFrom int
	// AdmitPerSecond is how many Identifies, and as many Resumes, are let in; 0: 250 for
	// each core.
	AdmitPerSecond int
	// Heartbeat and ResumeWindow are 41.25 s and a minute by default.
	Heartbeat    time.Duration
	ResumeWindow time.Duration
	Version      string
	// Restored is what Suspend returned in the program before in this process, or nil.
	Restored []signalling.State
	Random   func([]byte) // fills its argument with secret random bytes
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Media is what signalling asks of the media workers: orders are posted, and what
// comes of them arrives at Service.Event.
type Media interface {
	Workers() int
	Port(worker int) uint16
	Addr(worker int) netip.AddrPort // where the other workers reach it
	Fingerprint() string            // "sha-256 AB:CD:…" of the certificate for DTLS
	Post(worker int, c sfu.Command) bool
}

// Bus is where guilds are.
type Bus interface {
	Publish(subject string, m any) error
	Subscribe(subject string, f func(bus.Message)) (unsubscribe func(), err error)
}

// Service is one voice node.
type Service struct {
	cfg       Config
	bus       Bus
	media     Media
	host      netip.Addr // first address of this host that is not a loopback
	shards    []*shard
	placement placement
	lobby     lobby
	turns     *run.Turnstile
	metrics   metrics

	group         atomic.Pointer[run.Group] // nil before Start
	subscriptions []func()
	closing       atomic.Bool
	fleet         *fleet.View // as last told, for Fleet alone
	lastConn      atomic.Uint64
	open          atomic.Int64  // connections
	closed        chan struct{} // holds one token: a connection has ended
	warnNAT       sync.Once
}

// New returns a service for the workers of m.
func New(cfg Config, b Bus, m Media) (*Service, error) {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	if cfg.ResumeWindow == 0 {
		cfg.ResumeWindow = defaultResumeWindow
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Random == nil {
		cfg.Random = secretRandom
	}
	fingerprint, ok := browser.ParseFingerprint(m.Fingerprint())
	if !ok {
		return nil, fmt.Errorf("voice: %q is no certificate fingerprint", m.Fingerprint())
	}
	s := &Service{
		cfg: cfg, bus: b, media: m, host: hostAddress(),
		turns:     run.NewTurnstile(cfg.AdmitPerSecond, longestTurn),
		placement: placement{core: signalling.NewPlacement(m.Workers(), cfg.SpreadFrom)}, lobby: newLobby(), closed: make(chan struct{}, 1),
	}
	modes := []string{proto.ModeAES256GCM, proto.ModeXChaCha20}
	if cfg.Legacy {
		modes = append(modes, proto.ModeXSalsa20)
	}
	var workers []signalling.Worker
	for worker := range m.Workers() {
		workers = append(workers, signalling.Worker{Port: m.Port(worker), Addr: m.Addr(worker)})
	}
	if cfg.Restored != nil && len(cfg.Restored) != len(workers) {
		return nil, fmt.Errorf("voice: %w", signalling.ErrState)
	}
	for home := range workers {
		h := newShard(s, signalling.Config{
			Node: cfg.Node, Home: home, Workers: workers, Fingerprint: fingerprint, Modes: modes,
			Version: cfg.Version, Heartbeat: cfg.Heartbeat, ResumeWindow: cfg.ResumeWindow, Random: cfg.Random,
		})
		if cfg.Restored != nil {
			if err := h.restore(&cfg.Restored[home]); err != nil {
				return nil, fmt.Errorf("voice: %w", err)
			}
		}
		s.shards = append(s.shards, h)
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics, s); err != nil {
		return nil, fmt.Errorf("voice: metrics: %w", err)
	}
	return s, nil
}

// Start listens to the guilds and starts the shards. Connections that come before
// it are turned away.
func (s *Service) Start(g *run.Group) error {
	for subject, receive := range map[string]func(bus.Message){
		guild.VoiceSubject(s.cfg.Node): s.command,
		guild.SubjectClaimed:           s.claimed,
	} {
		unsubscribe, err := s.bus.Subscribe(subject, receive)
		if err != nil {
			s.unsubscribe()
			return fmt.Errorf("voice: %w", err)
		}
		s.subscriptions = append(s.subscriptions, unsubscribe)
	}
	s.group.Store(g)
	for _, h := range s.shards {
		g.Go("voice shard", h.run)
	}
	g.Go("voice housekeeping", s.keepHouse)
	return nil
}

// command passes what a guild says on to every shard: any of them may come to
// know the join that it is about.
func (s *Service) command(m bus.Message) {
	var c guild.VoiceCommand
	if err := m.Decode(&c); err != nil {
		s.cfg.Log.Error("voice command unreadable", "err", err)
		return
	}
	if c.Verify {
		s.verify(&c)
		return
	}
	for _, h := range s.shards {
		h.tell(control{command: &c})
	}
}

// verify tells a guild that a join is over when no shard has it.
func (s *Service) verify(c *guild.VoiceCommand) {
	left, found := new(atomic.Int32), new(atomic.Bool)
	left.Store(int32(len(s.shards)))
	for _, h := range s.shards {
		h.tell(control{ask: func() {
			if h.core.Has(c.Guild, c.User, c.Join) {
				found.Store(true)
			}
			if left.Add(-1) == 0 && !found.Load() {
				h.request(s.cfg.Route(c.Guild), guild.Request{Guild: c.Guild, Report: &guild.VoiceReport{User: c.User, Join: c.Join, Node: s.cfg.Node}})
			}
		}})
	}
}

// Event takes what a worker says of a peer, for the shard that made the peer. It never
// blocks.
func (s *Service) Event(_ int, e sfu.Event) {
	if home := signalling.HomeOf(e.Peer()); home < len(s.shards) {
		s.shards[home].tell(control{event: e})
	}
}

func (s *Service) unsubscribe() {
	for _, unsubscribe := range s.subscriptions {
		unsubscribe()
	}
	s.subscriptions = nil
}

// claimed tells a guild's new owner of all connections of the guild, and when that is
// all.
func (s *Service) claimed(m bus.Message) {
	var c guild.Claimed
	if err := m.Decode(&c); err != nil {
		s.cfg.Log.Error("voice: claim unreadable", "err", err)
		return
	}
	left := new(atomic.Int32)
	left.Store(int32(len(s.shards)))
	for _, h := range s.shards {
		h.tell(control{ask: func() {
			for _, r := range h.core.RollCall(monotonic.Now(), c.Guild) {
				h.request(guild.OwnerSubject(c.Node), guild.Request{Guild: r.Guild, Claim: c.Generation, Report: &r.VoiceReport})
			}
			if left.Add(-1) == 0 {
				h.request(guild.OwnerSubject(c.Node), guild.Request{
					Guild: c.Guild, Claim: c.Generation, Present: &guild.Present{Node: s.cfg.Node, Role: guild.RoleVoice},
				})
			}
		}})
	}
}

// Returned takes in that the bus was away: commands of guilds were missed, so the
// guilds are told of every connection again.
func (s *Service) Returned() {
	s.reportAll(func(proto.Snowflake) bool { return true })
}

func (s *Service) reportAll(of func(proto.Snowflake) bool) {
	for _, h := range s.shards {
		h.tell(control{ask: func() { h.core.ReportAll(of) }})
	}
}

// Fleet takes in who is there: what was said to owners who are no more was lost, so
// their guilds' new owners are told.
func (s *Service) Fleet(v *fleet.View) {
	was := s.fleet
	s.fleet = v
	s.reportAll(func(g proto.Snowflake) bool { return v.OwnerChanged(was, uint64(g)) })
}

// Members is told how the others are doing, which is nothing to a voice node.
func (s *Service) Members([]fleet.Member) {}

// keepHouse turns out connections that never identify.
func (s *Service) keepHouse(ctx context.Context) {
	run.Every(ctx, time.Second, func() {
		for _, c := range s.lobby.expired(monotonic.Now()) {
			s.close(c, proto.VoiceCloseSessionTimeout)
		}
	})
}

// Capacity is how many sessions this node is made for.
func (s *Service) Capacity() int { return sessionsPerWorker * len(s.shards) }

// Sessions returns how many sessions there are.
func (s *Service) Sessions() int {
	n := 0
	for _, h := range s.shards {
		n += int(h.sessions.Load())
	}
	return n
}

// List returns every session.
func (s *Service) List(ctx context.Context) ([]signalling.Info, error) {
	answers := make(chan []signalling.Info, len(s.shards))
	for _, h := range s.shards {
		if !h.tell(control{ask: func() { answers <- h.core.List() }}) {
			return nil, errors.New("voice: a shard is overloaded")
		}
	}
	var all []signalling.Info
	for range s.shards {
		select {
		case some := <-answers:
			all = append(all, some...)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return all, nil
}

// Suspend is Close for a process that goes on as another program: it returns what the
// service is, for Config.Restored there. From then on it is of no use.
func (s *Service) Suspend(ctx context.Context) ([]signalling.State, error) {
	type part struct {
		home  int
		state signalling.State
	}
	parts := make(chan part, len(s.shards))
	s.closing.Store(true)
	s.unsubscribe()
	for _, c := range s.lobby.all() {
		s.close(c, proto.VoiceCloseServerCrashed)
	}
	for _, h := range s.shards {
		if !h.tell(control{ask: func() { parts <- part{h.home, h.suspend()} }}) {
			return nil, errors.New("voice: a shard is overloaded")
		}
	}
	states := make([]signalling.State, len(s.shards))
	for range s.shards {
		select {
		case p := <-parts:
			states[p.home] = p.state
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.parted(ctx)
	return states, nil
}

// parted waits until all connections have ended, or for ctx or the group.
func (s *Service) parted(ctx context.Context) {
	for s.open.Load() > 0 {
		select {
		case <-s.closed:
		case <-ctx.Done():
			return
		case <-s.group.Load().Context().Done():
			return
		}
	}
}

// Close takes no more connections and closes those there are with 4015, from which clients resume or join anew. It returns when all have ended,
// or with ctx. The shards end with their group.
func (s *Service) Close(ctx context.Context) {
	group := s.group.Load()
	if s.closing.Swap(true) || group == nil {
		return
	}
	s.unsubscribe()
	for _, c := range s.lobby.all() {
		s.close(c, proto.VoiceCloseServerCrashed)
	}
	for _, h := range s.shards {
		h.tell(control{ask: h.closeAll})
	}
	s.parted(ctx)
}

// ServeHTTP takes one WebSocket connection, on any path. The version is the query
// parameter v.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	group := s.group.Load()
	if group == nil || s.closing.Load() {
		run.TurnAway(w, http.StatusServiceUnavailable)
		return
	}
	c := &client{id: signalling.ConnID(s.lastConn.Add(1)), service: s}
	if s.turns.Full(monotonic.Now()) {
		run.TurnAway(w, http.StatusServiceUnavailable)
		return
	}
	if !s.lobby.enter(c, r.RemoteAddr, monotonic.Now().Add(identifyTimeout)) {
		run.TurnAway(w, http.StatusServiceUnavailable)
		return
	}
	socket, err := ws.Accept(w, r, ws.Options{ReadLimit: signalling.MaxFrame, QueueBytes: queueBytes, Write: s.write, Pong: c.answered})
	if err != nil {
		s.lobby.leave(c)
		s.cfg.Log.Debug("voice upgrade refused", "err", err)
		return
	}
	version, known := signalling.ParseVersion(r.URL.Query().Get("v"))
	proxied := r.Header.Get("X-Forwarded-For") != ""
	c.version, c.addresses, c.from = version, s.addresses(socket, proxied), origin(socket.RemoteAddr().Addr(), proxied)
	c.ws.Store(socket)
	s.open.Add(1)
	switch {
	case s.closing.Load(): // since the check above
		s.lobby.leave(c)
		s.close(c, proto.VoiceCloseServerCrashed)
		return
	case !known:
		s.lobby.leave(c)
		s.close(c, proto.VoiceCloseBadRequest)
		return
	}
	c.send(signalling.Hello(version, s.cfg.Heartbeat.Milliseconds()))
	group.Go("voice greeter", c.greet)
}

// write starts a connection's writer.
func (s *Service) write(socket *ws.Conn) {
	s.group.Load().Go("voice writer", func(context.Context) {
		if !socket.Flush() {
			return
		}
		s.open.Add(-1)
		select {
		case s.closed <- struct{}{}:
		default:
		}
	})
}
