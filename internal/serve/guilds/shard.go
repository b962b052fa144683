package guilds

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// delivery is one thing for a shard to do: a request to a guild, a voice
// server's announcement, or, for Close, to say that all before it is done.
type delivery struct {
	guild   proto.Snowflake
	message bus.Message
	node    *guild.VoiceNode
	barrier chan struct{}
}

// shard owns some of the guilds. All but its mailbox and counter belongs to its
// goroutine.
type shard struct {
	service *Service
	mailbox *run.Mailbox[delivery]
	loaded  atomic.Int64 // guilds, for the metrics

	config guild.Config
	nodes  *guild.Nodes
	guilds map[proto.Snowflake]*entry
}

type entry struct {
	*guild.Guild
	used clock.Time
}

func newShard(s *Service, ids *ids) *shard {
	nodes := guild.NewNodes()
	return &shard{
		service: s,
		mailbox: run.NewMailbox[delivery](mailboxSize),
		config:  guild.Config{IDs: ids, Random: rand.Reader, TokenKey: s.cfg.TokenKey, Nodes: nodes},
		nodes:   nodes,
		guilds:  map[proto.Snowflake]*entry{},
	}
}

func (sh *shard) run(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-sh.mailbox.Receive():
			sh.deliver(ctx, monotonic.Now(), time.Now(), d)
		case <-ticker.C:
			sh.tick(monotonic.Now(), time.Now())
		}
		sh.loaded.Store(int64(len(sh.guilds)))
	}
}

func (sh *shard) deliver(ctx context.Context, now clock.Time, wall time.Time, d delivery) {
	switch {
	case d.barrier != nil:
		close(d.barrier)
	case d.node != nil:
		if sh.nodes.Announce(now, *d.node) {
			sh.nodesChanged(now, wall)
		}
	default:
		in := guild.Input{Wall: wall}
		if err := d.message.Decode(&in.Request); err != nil || in.Request.Guild != d.guild {
			sh.service.metrics.malformed.Inc()
			return
		}
		sh.service.metrics.requests.WithLabelValues(kind(&in.Request)).Inc()
		if reply := sh.handle(ctx, now, in); reply != nil {
			sh.service.respond(d.message, reply)
		}
	}
}

// kind names a request for the metrics.
func kind(r *guild.Request) string {
	switch {
	case r.Call != nil:
		return "call"
	case r.Attach != nil:
		return "attach"
	case r.Detach != nil:
		return "detach"
	case r.Voice != nil:
		return "voice"
	case r.Members != nil:
		return "members"
	case r.Presence != nil:
		return "presence"
	case r.Report != nil:
		return "report"
	}
	return "empty"
}

// handle carries out one request: load, decide, store, send. It returns the
// answer to a call, nil for all else.
func (sh *shard) handle(ctx context.Context, now clock.Time, in guild.Input) *guild.Result {
	s := sh.service
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	id := in.Request.Guild
	g, err := sh.load(ctx, now, id)
	if err != nil {
		return sh.failed(in, "load guild", err)
	}
	if channel, message, ok := guild.NeedsMessage(in.Request.Call); ok {
		m, err := s.store.Message(ctx, channel, message)
		switch {
		case err == nil:
			in.Message = &m
		case !errors.Is(err, store.ErrNotFound):
			return sh.failed(in, "load message", err)
		}
	}
	existed := g.Exists()
	out := g.Handle(in)
	if err := s.store.Apply(ctx, id, writes(out.Writes)); err != nil {
		g.Rollback()
		return sh.failed(in, "store", err)
	}
	sh.send(out.Messages)
	if !g.Exists() {
		delete(sh.guilds, id)
		if !existed {
			sh.refuseVoice(in.Request)
		}
	}
	return out.Reply
}

// load returns a guild, from the store when it is not loaded, and one that does
// not exist yet when the store has none.
func (sh *shard) load(ctx context.Context, now clock.Time, id proto.Snowflake) (*guild.Guild, error) {
	e := sh.guilds[id]
	if e == nil {
		record, err := sh.service.store.LoadGuild(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			e = &entry{Guild: guild.New(id, sh.config)}
		case err != nil:
			return nil, err
		default:
			e = &entry{Guild: guild.Load(guild.Record(record), sh.config)}
		}
		sh.guilds[id] = e
	}
	e.used = now
	return e.Guild, nil
}

func (sh *shard) failed(in guild.Input, doing string, err error) *guild.Result {
	sh.service.metrics.failures.Inc()
	sh.service.log.Error("guild request failed", "doing", doing, "guild", in.Request.Guild, "kind", kind(&in.Request), "err", err)
	if in.Request.Call == nil {
		return nil
	}
	return guild.Overloaded()
}

func writes(list []guild.Write) []store.Write {
	out := make([]store.Write, len(list))
	for i, w := range list {
		out[i] = store.Write(w)
	}
	return out
}

func (sh *shard) send(messages []guild.Message) {
	s := sh.service
	for _, m := range messages {
		var body any = m.Gateway
		if m.Voice != nil {
			body = m.Voice
		}
		if err := s.bus.Publish(m.Subject, body); err != nil {
			s.metrics.unsent.Inc()
			s.log.Warn("guild message lost", "subject", m.Subject, "err", err)
			continue
		}
		s.metrics.sent.Inc()
	}
}

// refuseVoice ends a connection that a voice server made with a token of a guild
// that is gone.
func (sh *shard) refuseVoice(r guild.Request) {
	if r.Report == nil || !r.Report.Connected {
		return
	}
	sh.send([]guild.Message{{Subject: guild.VoiceSubject(r.Report.Node), Voice: &guild.VoiceCommand{
		Guild: r.Guild, User: r.Report.User, Join: r.Report.Join, End: true, Code: guild.CloseTerminated,
	}}})
}

// tick forgets voice servers that fell silent and guilds that nobody uses.
func (sh *shard) tick(now clock.Time, wall time.Time) {
	if sh.nodes.Expire(now) {
		sh.nodesChanged(now, wall)
	}
	for id, e := range sh.guilds {
		if e.Idle() && now.Sub(e.used) > idleFor {
			delete(sh.guilds, id)
		}
	}
}

func (sh *shard) nodesChanged(now clock.Time, wall time.Time) {
	for _, e := range sh.guilds {
		sh.send(e.NodesChanged(wall).Messages)
	}
}
