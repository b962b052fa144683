// Package guilds owns the guilds of this node: it takes and loads them, gives them
// their requests, stores what they change and sends what they say. Guilds are spread
// over a fixed number of shards, one goroutine each, by id. It never decides
// anything about a guild, which core/guild does, nor which are this node's, which
// core/fleet does.
package guilds

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

const (
	defaultShards = 4
	// mailboxSize bounds what waits for one shard. A full mailbox refuses: calls
	// are answered 503, all else is dropped and counted.
	mailboxSize = 8192
	// storeTimeout bounds one look at the store or one write to it, for which the
	// shard's other guilds wait.
	storeTimeout = 5 * time.Second
	// idleFor is how long a guild stays loaded with nobody online.
	idleFor = 10 * time.Minute
	// tickEvery is how often idle guilds are looked for.
	tickEvery = time.Second
)

// Bus is what the guilds need of the bus.
type Bus interface {
	Publish(subject string, m any) error
	Forward(m bus.Message, subject string, v any) error
	Subscribe(subject string, f func(bus.Message)) (unsubscribe func(), err error)
}

// Store is what the guilds need of the store.
type Store interface {
	TakeGuild(ctx context.Context, id proto.Snowflake, owner string) (store.GuildRecord, store.Tenure, error)
	Apply(ctx context.Context, guild proto.Snowflake, t store.Tenure, writes []store.Write) error
	Message(ctx context.Context, channel, id proto.Snowflake) (proto.Message, error)
}

// Config of the guilds.
type Config struct {
	Node     string // names this node
	Owner    string // names this process: a node that restarts is another owner
	Number   uint16 // of the ids made here, 0 to 1023, nobody else's in the fleet
	TokenKey []byte // signs voice tokens
	// View returns the fleet as it is known now.
	View func() *fleet.View
	// Fallback names the regions that channels go to, in this order, while their own has
	// no voice node; with none named that is any.
	Fallback []string
	Shards   int // goroutines that own guilds; 4
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil for none
}

// Service runs the guilds.
type Service struct {
	cfg     Config
	log     *slog.Logger
	bus     Bus
	store   Store
	shards  []*shard
	metrics *metrics
	group   *run.Group // nil until Start
	unsub   []func()
	// gateways that have gone, for Fleet alone.
	gateways fleet.Mourning
}

// New returns a service that answers once it is started.
func New(cfg Config, b Bus, st Store) *Service {
	if cfg.Shards <= 0 {
		cfg.Shards = defaultShards
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, log: cfg.Log, bus: b, store: st}
	ids := &ids{generator: proto.NewGenerator(cfg.Number)}
	for range cfg.Shards {
		s.shards = append(s.shards, newShard(s, ids))
	}
	s.metrics = newMetrics(cfg.Metrics, s.shards)
	return s
}

// Start starts the shards and subscribes to the bus.
func (s *Service) Start(g *run.Group) error {
	s.group = g
	for _, sh := range s.shards {
		g.Go("guild shard", sh.run)
	}
	for subject, receive := range map[string]func(bus.Message){
		guild.OwnerSubject(s.cfg.Node): s.receive,
		guild.SubjectClaimed:           s.receiveClaimed,
	} {
		unsub, err := s.bus.Subscribe(subject, receive)
		if err != nil {
			s.unsubscribe()
			return err
		}
		s.unsub = append(s.unsub, unsub)
	}
	return nil
}

func (s *Service) unsubscribe() {
	for _, unsub := range s.unsub {
		unsub()
	}
	s.unsub = nil
}

// Close takes no more requests and returns when those taken are done, with ctx,
// or with the group that the shards run in.
func (s *Service) Close(ctx context.Context) {
	if s.group == nil {
		return
	}
	s.unsubscribe()
	for _, sh := range s.shards {
		done := make(chan struct{})
		if !sh.mailbox.Post(delivery{do: func(clock.Time, time.Time) { close(done) }}) {
			continue
		}
		select {
		case <-done:
		case <-ctx.Done():
		case <-s.group.Context().Done():
		}
	}
}

// receive posts a request to its guild's shard. Only calls have a reply subject,
// so that the refusal of all else goes nowhere.
func (s *Service) receive(m bus.Message) {
	var head struct {
		Guild proto.Snowflake `cbor:"1,keyasint"`
	}
	if err := m.Decode(&head); err != nil || head.Guild == 0 {
		s.metrics.malformed.Inc()
		return
	}
	if !s.shardOf(head.Guild).mailbox.Post(delivery{guild: head.Guild, message: m}) {
		s.metrics.dropped.Inc()
		s.respond(m, guild.Overloaded())
	}
}

func (s *Service) shardOf(id proto.Snowflake) *shard {
	// The low bits count within a millisecond and are mostly zero.
	return s.shards[uint64(id>>22)%uint64(len(s.shards))]
}

func (s *Service) respond(m bus.Message, r *guild.Result) {
	if err := m.Respond(r); err != nil {
		s.log.Warn("guild answer lost", "subject", m.Subject, "err", err)
	}
}

// ids makes the ids of all shards: they share the node's number, and so must
// share its sequence.
type ids struct {
	mu        sync.Mutex
	generator *proto.Generator
}

// Next returns a fresh id.
func (i *ids) Next(now time.Time) proto.Snowflake {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.generator.Next(now)
}
