// Package gateway owns the gateway's WebSockets and the sessions behind them: who
// they are, which guilds they are attached to, and what they are owed. Sessions are
// spread over a fixed number of shards, one goroutine each. It never decides what
// is in a guild or who may see it: it passes requests to the guild's owner and
// events to the sessions named.
package gateway

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/edge/ws"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

const (
	// queueBytes bounds what may wait for one slow client: a few snapshots of
	// large guilds. Bodies are shared, so that this is not what a client costs.
	queueBytes = 8 << 20
	// Bounds of what a resume can replay.
	replayFrames = 1024
	replayBytes  = 2 << 20
	replayFrame  = 64 << 10
	// storeTimeout bounds the look-ups of one Identify.
	storeTimeout = 10 * time.Second
	// storeLookups is how many Identifies may be at the store at once; the others
	// wait in their reader's goroutine.
	storeLookups = 64
	// longestTurn is how long an Identify or Resume may wait for its turn: libraries give
	// READY and RESUMED 15 s.
	longestTurn = 10 * time.Second
	// closeTimeout bounds Close.
	closeTimeout = 2500 * time.Millisecond
)

// Bus is what the gateway needs of the bus.
type Bus interface {
	Publish(subject string, m any) error
	Subscribe(subject string, f func(bus.Message)) (unsubscribe func(), err error)
}

// Store is what the gateway needs of the store.
type Store interface {
	UserByToken(ctx context.Context, hash [32]byte) (store.User, error)
	ApplicationByBot(ctx context.Context, bot proto.Snowflake) (store.Application, error)
	GuildIDsOfUser(ctx context.Context, user proto.Snowflake) ([]proto.Snowflake, error)
}

// Config of the gateway. Zero durations and counts take the defaults named.
type Config struct {
	Node      string // names this gateway on the bus
	Epoch     int64  // when it was started, in ms
	Region    string // told to clients in READY's trace
	PublicURL string // where a proxy in front is reached; its scheme goes for its host
	// Route returns the bus subject of a guild's owner.
	Route func(proto.Snowflake) string
	// Beside names the voice node that clients reach where they reached this gateway;
	// empty when there is none.
	Beside string

	Heartbeat    time.Duration // 41.25 s
	ResumeWindow time.Duration // 60 s

	Shards            int // goroutines that own sessions; one per core
	PendingPerAddress int // connections without a session from one address; 256
	FailuresPerMinute int // failed Identifies from one address, loopback excepted; 30
	AdmitPerSecond    int // Identifies, and as many Resumes; 250 for each core

	// Restored is what Suspend returned in the program before in this process, or nil.
	Restored []Suspended

	Log     *slog.Logger
	Metrics prometheus.Registerer // nil for none
}

func (c *Config) complete() {
	if c.Heartbeat == 0 {
		c.Heartbeat = 41250 * time.Millisecond
	}
	if c.ResumeWindow == 0 {
		c.ResumeWindow = time.Minute
	}
	if c.Shards == 0 {
		c.Shards = runtime.GOMAXPROCS(0)
	}
	if c.PendingPerAddress == 0 {
		c.PendingPerAddress = 256
	}
	if c.FailuresPerMinute == 0 {
		c.FailuresPerMinute = 30
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Service is the gateway: an http.Handler for its WebSocket endpoint.
type Service struct {
	cfg     Config
	session session.Config
	log     *slog.Logger
	bus     Bus
	store   Store
	public  *url.URL // nil without Config.PublicURL

	group   *run.Group
	shards  []*shard
	seed    maphash.Seed
	door    *door
	turns   *run.Turnstile
	lookups chan struct{} // one token for each look-up under way
	traffic ws.Traffic
	metrics *metrics
	unsub   []func()
	fleet   *fleet.View // as last told, for Fleet alone
	others  atomic.Bool // there are other gateways
	live    atomic.Int64
}

// New returns a gateway that serves once it is started.
func New(cfg Config, b Bus, s Store) *Service {
	cfg.complete()
	g := &Service{
		cfg: cfg, log: cfg.Log, bus: b, store: s, seed: maphash.MakeSeed(),
		session: session.Config{
			Heartbeat: cfg.Heartbeat, ResumeWindow: cfg.ResumeWindow, ReplayFrames: replayFrames, ReplayBytes: replayBytes, ReplayFrame: replayFrame,
		},
		door:    newDoor(cfg.PendingPerAddress, cfg.FailuresPerMinute),
		turns:   run.NewTurnstile(cfg.AdmitPerSecond, longestTurn),
		lookups: make(chan struct{}, storeLookups),
	}
	if u, err := url.Parse(cfg.PublicURL); err == nil && u.Host != "" {
		g.public = u
	}
	g.metrics = newMetrics(cfg.Metrics, g)
	for range cfg.Shards {
		g.shards = append(g.shards, newShard(g))
	}
	return g
}

// Start subscribes to the bus and starts the shards. It comes before the first
// request.
func (g *Service) Start(group *run.Group) error {
	g.group = group
	g.restore()
	for _, sh := range g.shards {
		group.Go("gateway shard", sh.run)
	}
	for subject, receive := range map[string]func(bus.Message){
		guild.GatewaySubject(g.cfg.Node): g.receive,
		guild.SubjectGatewayAll:          g.receive,
		guild.SubjectClaimed:             g.receiveClaimed,
		subjectFetch:                     g.receiveFetch,
		fetchedSubject(g.cfg.Node):       g.receiveFetched,
	} {
		unsub, err := g.bus.Subscribe(subject, receive)
		if err != nil {
			return errors.Join(err, g.unsubscribe())
		}
		g.unsub = append(g.unsub, unsub)
	}
	return nil
}

func (g *Service) unsubscribe() error {
	for _, unsub := range g.unsub {
		unsub()
	}
	g.unsub = nil
	return nil
}

// Close tells every client to reconnect, closes it with a code that lets it
// resume, and ends every session. It returns when the clients are gone, with ctx,
// or after 2.5 s, whichever is first. New clients are refused from then on.
func (g *Service) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	empty := g.door.shut()
	for _, sh := range g.shards {
		if !sh.clients.Post(drain{}) {
			g.log.Warn("gateway shard too busy to drain")
		}
	}
	select {
	case <-empty:
	case <-ctx.Done():
	}
	_ = g.unsubscribe()
}

// encoders are the transport compressions by name (Gateway, "Encoding and
// Compression"). The empty name is none.
var encoders = map[string]func() ws.Encoder{
	"":            func() ws.Encoder { return nil },
	"zlib-stream": func() ws.Encoder { return new(ws.ZlibStream) },
	"zstd-stream": func() ws.Encoder { return new(ws.ZstdStream) },
}

// ServeHTTP upgrades a request and starts the connection's reader. Its writer is there
// while there is something to write.
func (g *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	addr, now := g.limitAddr(r), monotonic.Now()
	if g.turns.Full(now) {
		run.TurnAway(w, http.StatusServiceUnavailable)
		return
	}
	if status := g.door.knock(addr, now); status != 0 {
		run.TurnAway(w, status)
		return
	}
	version, encoder, code := parseQuery(r.URL.Query())
	conn, err := ws.Accept(w, r, ws.Options{
		ReadLimit: session.MaxFrame, QueueBytes: queueBytes, Encoder: encoder, Traffic: &g.traffic,
		Write: func(conn *ws.Conn) {
			g.group.Go("gateway writer", func(context.Context) {
				if conn.Flush() {
					g.door.leave(addr, conn)
				}
			})
		},
	})
	if err != nil {
		g.door.giveUp(addr)
		return
	}
	g.door.enter(addr, conn)
	if code != 0 {
		conn.Close(code, session.Reason(code))
		return
	}
	l := &link{service: g, conn: conn, addr: addr, version: version, compressed: encoder != nil}
	g.group.Go("gateway greeter", l.greet)
}

// parseQuery reads the URL's query (Gateway, "Connecting"): v is 9 or 10, or absent
// for 10; encoding is json; compress names an encoder.
func parseQuery(q url.Values) (version int, encoder ws.Encoder, code proto.CloseCode) {
	switch q.Get("v") {
	case "", "10":
		version = 10
	case "9":
		version = 9
	default:
		return 0, nil, proto.CloseInvalidAPIVersion
	}
	newEncoder, ok := encoders[q.Get("compress")]
	if enc := q.Get("encoding"); !ok || (enc != "" && enc != "json") {
		return 0, nil, proto.CloseDecodeError
	}
	return version, newEncoder(), 0
}

// shardOf returns the shard that owns a session.
func (g *Service) shardOf(id string) *shard {
	return g.shards[maphash.String(g.seed, id)%uint64(len(g.shards))]
}

// limitAddr returns what the limits count by: an IPv4 address, or the /64 of an
// IPv6 one, which is what one household has. With a public URL there is a proxy in
// front, which names the client at the end of X-Forwarded-For; it is believed only from
// a private address.
func (g *Service) limitAddr(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := at.Addr().Unmap().WithZone("")
	if g.public != nil && (addr.IsLoopback() || addr.IsPrivate()) {
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		if client, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1])); err == nil {
			addr = client.Unmap().WithZone("")
		}
	}
	if p, err := addr.Prefix(64); err == nil && addr.Is6() {
		return p.Addr()
	}
	return addr
}
