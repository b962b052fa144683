package guilds

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// delivery is one thing for a shard to do: a request to a guild, or, where do is
// set, something of the service's.
type delivery struct {
	guild   proto.Snowflake
	message bus.Message
	do      func(now clock.Time, wall time.Time)
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
	// gathering has those of the guilds that are being rebuilt.
	gathering map[proto.Snowflake]*entry
	view      *fleet.View       // that the guilds were last held against
	leaving   []proto.Snowflake // guilds that may have channels on voice nodes that are to be left
	pace      int               // how many people may be moved from there now
}

type entry struct {
	*guild.Guild
	used   clock.Time
	tenure store.Tenure
	// claimedAt is when all were told of the tenure last.
	claimedAt clock.Time
	rollCall
}

func newShard(s *Service, ids *ids) *shard {
	nodes := guild.NewNodes(s.cfg.Fallback...)
	return &shard{
		service: s,
		mailbox: run.NewMailbox[delivery](mailboxSize),
		config:  guild.Config{IDs: ids, Random: rand.Reader, TokenKey: s.cfg.TokenKey, Nodes: nodes},
		nodes:   nodes,
		guilds:  map[proto.Snowflake]*entry{}, gathering: map[proto.Snowflake]*entry{},
	}
}

func (sh *shard) run(ctx context.Context) {
	ticker := run.NewTicker(tickEvery)
	defer ticker.Stop()
	calls := time.NewTicker(rollCallEvery)
	defer calls.Stop()
	for calling := true; ; {
		// Nearly always there is nothing for it to look at.
		if busy := len(sh.gathering)+len(sh.leaving) > 0; busy != calling {
			if calling = busy; busy {
				calls.Reset(rollCallEvery)
			} else {
				calls.Stop()
			}
		}
		select {
		case <-ctx.Done():
			return
		case d := <-sh.mailbox.Receive():
			sh.deliver(ctx, monotonic.Now(), time.Now(), d)
		case <-ticker.C:
			sh.tick(monotonic.Now())
		case <-calls.C:
			sh.endRollCalls(ctx, monotonic.Now(), time.Now())
			sh.relocate(time.Now())
		}
		sh.loaded.Store(int64(len(sh.guilds)))
	}
}

func (sh *shard) deliver(ctx context.Context, now clock.Time, wall time.Time, d delivery) {
	if d.do != nil {
		d.do(now, wall)
		return
	}
	in := guild.Input{Wall: wall}
	if err := d.message.Decode(&in.Request); err != nil || in.Request.Guild != d.guild {
		sh.service.metrics.malformed.Inc()
		return
	}
	if sh.late(&in.Request) {
		sh.service.metrics.misplaced.Inc()
		return
	}
	if !sh.mine(d.guild) {
		sh.passOn(d.message, &in.Request)
		return
	}
	sh.service.metrics.requests.WithLabelValues(kind(&in.Request)).Inc()
	if sh.held(d, &in.Request) {
		return
	}
	if reply := sh.handle(ctx, now, in, d); reply != nil {
		sh.service.respond(d.message, reply)
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
	case r.Wake != nil:
		return "wake"
	case r.Present != nil:
		return "present"
	case r.Handover != nil:
		return "handover"
	}
	return "empty"
}

// handle carries out one request: load, decide, store, send. It returns the
// answer to a call, nil for all else, and for a call that has to wait, as d, until the
// guild is rebuilt.
func (sh *shard) handle(ctx context.Context, now clock.Time, in guild.Input, d delivery) *guild.Result {
	s := sh.service
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	id := in.Request.Guild
	sh.outlived(&in.Request)
	known := sh.guilds[id] != nil
	g, err := sh.load(ctx, now, in.Wall, id)
	if err != nil {
		return sh.failed(in, "load guild", err)
	}
	if !known && (sh.late(&in.Request) || sh.held(d, &in.Request)) {
		return nil
	}
	if sh.handover(ctx, now, in, g, known) {
		return nil
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
	if err := s.store.Apply(ctx, id, g.tenure, writes(out.Writes)); err != nil {
		g.Rollback()
		if errors.Is(err, store.ErrFenced) {
			s.metrics.misplaced.Inc()
			s.log.Info("a guild has another owner", "guild", id)
			sh.drop(id)
			return sh.answerable(in, guild.Misplaced())
		}
		return sh.failed(in, "store", err)
	}
	if !existed && g.Exists() {
		g.tenure.Generation = 1
	}
	sh.send(g, out.Messages)
	if !g.Exists() {
		sh.drop(id)
		if !existed {
			sh.refuseVoice(g, in.Request)
		}
	}
	return out.Reply
}

// load returns a guild, which it takes when it is not loaded, and one that does not
// exist yet when the store has none.
func (sh *shard) load(ctx context.Context, now clock.Time, wall time.Time, id proto.Snowflake) (*entry, error) {
	e := sh.guilds[id]
	if e == nil {
		owner := sh.service.cfg.Owner
		began := monotonic.Now()
		record, tenure, err := sh.service.store.TakeGuild(ctx, id, owner)
		switch {
		case errors.Is(err, store.ErrNotFound):
			e = &entry{Guild: guild.New(id, sh.config), tenure: store.Tenure{Owner: owner}}
		case err != nil:
			return nil, err
		default:
			e = &entry{Guild: guild.Load(guild.Record(record), sh.config), tenure: tenure}
			// The others have time to answer from when they are asked, however slow the store was.
			sh.callRoll(now.Add(monotonic.Now().Sub(began)), wall, id, e)
		}
		sh.guilds[id] = e
	}
	e.used = now
	return e, nil
}

// drop forgets a guild: it has another owner, or is gone.
func (sh *shard) drop(id proto.Snowflake) {
	delete(sh.guilds, id)
	delete(sh.gathering, id)
}

func (sh *shard) failed(in guild.Input, doing string, err error) *guild.Result {
	sh.service.metrics.failures.Inc()
	sh.service.log.Error("guild request failed", "doing", doing, "guild", in.Request.Guild, "kind", kind(&in.Request), "err", err)
	return sh.answerable(in, guild.Overloaded())
}

// answerable returns r for a request that has an answer.
func (sh *shard) answerable(in guild.Input, r *guild.Result) *guild.Result {
	if in.Request.Call == nil {
		return nil
	}
	return r
}

func writes(list []guild.Write) []store.Write {
	out := make([]store.Write, len(list))
	for i, w := range list {
		out[i] = store.Write(w)
	}
	return out
}

func (sh *shard) send(e *entry, messages []guild.Message) {
	s := sh.service
	for _, m := range messages {
		var body any = m.Gateway
		if m.Voice != nil {
			body = m.Voice
		}
		if m.Gateway != nil {
			m.Gateway.SetGeneration(e.tenure.Generation)
		}
		sh.publish(m.Subject, body)
	}
	if len(messages) > 0 {
		s.metrics.sent.Add(float64(len(messages)))
	}
}

func (sh *shard) publish(subject string, body any) {
	if err := sh.service.bus.Publish(subject, body); err != nil {
		sh.service.metrics.unsent.Inc()
		sh.service.log.Warn("guild message lost", "subject", subject, "err", err)
	}
}

// refuseVoice ends a connection that a voice server made with a token of a guild
// that is gone.
func (sh *shard) refuseVoice(e *entry, r guild.Request) {
	if r.Report == nil || !r.Report.Connected {
		return
	}
	sh.send(e, []guild.Message{{Subject: guild.VoiceSubject(r.Report.Node), Voice: &guild.VoiceCommand{
		Guild: r.Guild, User: r.Report.User, Join: r.Report.Join, End: true, Code: guild.CloseTerminated,
	}}})
}

// tick forgets guilds that nobody uses.
func (sh *shard) tick(now clock.Time) {
	for id, e := range sh.guilds {
		if e.Idle() && !e.Rebuilding() && now.Sub(e.used) > idleFor {
			sh.drop(id)
		}
	}
}
