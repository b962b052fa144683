package voice

import (
	"context"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/ws"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

const (
	inboxSize   = 4096
	controlSize = 8192
)

// input is something a client did: it was admitted, it sent a frame, it answered a ping, or
// it is gone, whichever is set.
type input struct {
	client *client
	admit  *signalling.Admission
	data   []byte // of a frame; binary says of which kind
	binary bool
	pong   bool
	closed proto.CloseCode
}

// control is something that is not a client's doing: a worker's event, a guild's
// command, or a question of the service, whichever is set.
type control struct {
	event   sfu.Event
	command *guild.VoiceCommand
	ask     func() // runs on the shard's goroutine
}

// shard is the goroutine that owns the sessions of the channels that are at home on
// one worker. Control has a mailbox of its own, so that no crowd of clients delays a moderator.
type shard struct {
	service  *Service
	home     int
	cfg      signalling.Config
	core     *signalling.Shard
	clients  map[signalling.ConnID]*client
	inbox    *run.Mailbox[input]
	control  *run.Mailbox[control]
	sessions atomic.Int64
	over     bool // suspended

	burst [][]byte // that wire was made of last
	wire  []byte
}

func newShard(s *Service, cfg signalling.Config) *shard {
	return &shard{
		service: s, home: cfg.Home, cfg: cfg, core: signalling.NewShard(cfg),
		clients: make(map[signalling.ConnID]*client),
		inbox:   run.NewMailbox[input](inboxSize),
		control: run.NewMailbox[control](controlSize),
	}
}

func (h *shard) post(in input) bool { return h.inbox.Post(in) }

func (h *shard) tell(c control) bool {
	if h.control.Post(c) {
		return true
	}
	if c.command != nil {
		h.service.cfg.Log.Error("voice shard overloaded: guild command dropped", "home", h.home)
	}
	return false
}

func (h *shard) run(ctx context.Context) {
	tick := run.NewTicker(time.Second)
	defer tick.Stop()
	round := time.NewTimer(time.Hour)
	defer round.Stop()
	for due := clock.Time(0); ; {
		select {
		case <-ctx.Done():
			return
		case in := <-h.inbox.Receive():
			h.input(monotonic.Now(), in)
		case c := <-h.control.Receive():
			h.controlled(monotonic.Now(), c)
		case <-round.C:
			h.core.Tell(monotonic.Now())
			due = 0
		case <-tick.C:
			now := monotonic.Now()
			h.core.Beaten(now, h.beat)
			h.core.Tick(now)
		}
		if h.over {
			return
		}
		h.flush(monotonic.Now())
		h.sessions.Store(int64(h.core.Sessions()))
		if next := h.core.Due(); next != 0 && next != due {
			due = next
			round.Reset(next.Sub(monotonic.Now()))
		}
	}
}

func (h *shard) input(now clock.Time, in input) {
	c := in.client
	switch {
	case in.admit != nil:
		h.admit(now, c, in.admit)
	case in.closed != 0:
		delete(h.clients, c.id)
		h.core.Closed(now, c.id, in.closed)
	case in.pong:
		h.core.Answered(c.id)
	default:
		frame, code := signalling.Decode(in.data, in.binary)
		if code != 0 {
			h.service.close(c, code) // its reader tells of the end
			return
		}
		h.core.Frame(now, c.id, frame)
	}
}

// beat returns when a connection's reader last answered a heartbeat.
func (h *shard) beat(conn signalling.ConnID) clock.Time {
	c := h.clients[conn]
	if c == nil {
		return 0
	}
	return clock.Time(c.beat.Load())
}

func (h *shard) admit(now clock.Time, c *client, a *signalling.Admission) {
	s := h.service
	if s.closing.Load() {
		s.close(c, proto.VoiceCloseServerCrashed)
		if !a.Resume {
			s.placement.release(a.Claims.Channel, a.Worker)
		}
		return
	}
	s.metrics.admitted(a.Resume)
	h.clients[c.id] = c
	h.core.Admit(now, c.id, *a)
}

func (h *shard) controlled(now clock.Time, c control) {
	switch {
	case c.ask != nil:
		c.ask()
	case c.command != nil:
		h.core.Command(now, *c.command)
	default:
		h.core.Event(now, c.event)
	}
}

// flush does what the core asks for. Doing it may lead to more.
func (h *shard) flush(now clock.Time) {
	for outputs := h.core.Drain(); len(outputs) > 0; outputs = h.core.Drain() {
		for i := range outputs {
			h.do(now, &outputs[i])
		}
	}
	h.burst, h.wire = nil, nil
}

func (h *shard) do(now clock.Time, o *signalling.Output) {
	s := h.service
	switch {
	case o.Frame != nil:
		if c := h.clients[o.Conn]; c != nil {
			c.send(o.Frame)
		}
	case o.Frames != nil:
		if c := h.clients[o.Conn]; c != nil {
			c.sendAll(h.wireOf(o.Frames))
		}
	case o.Ping:
		if c := h.clients[o.Conn]; c != nil {
			c.ping()
		}
	case o.Close != 0:
		if c := h.clients[o.Conn]; c != nil {
			s.close(c, o.Close)
			delete(h.clients, o.Conn)
		}
	case o.Command != nil:
		if !s.media.Post(o.Worker, *o.Command) {
			s.metrics.refused.Inc()
			h.core.Refused(now, o.Worker, *o.Command)
		}
	case o.Report != nil:
		h.report(o.Report)
	case o.Joined != nil:
		if c := h.clients[o.Joined.Conn]; c != nil {
			s.metrics.joined(c, o.Joined)
		}
	case o.Released != 0:
		s.placement.release(o.Released, o.Worker)
	}
}

// wireOf returns frames as they are written, the same for those who are told the same one
// after the other.
func (h *shard) wireOf(frames [][]byte) []byte {
	if len(h.burst) != len(frames) || &h.burst[0] != &frames[0] {
		h.burst, h.wire = frames, ws.Wire(frames)
	}
	return h.wire
}

// report tells the guild. An end is told to the other shards too: the channel may
// be placed anew, and the join's token must begin no session there.
func (h *shard) report(r *signalling.Report) {
	h.request(h.service.cfg.Route(r.Guild), guild.Request{Guild: r.Guild, Report: &r.VoiceReport})
	if r.Connected {
		return
	}
	for _, other := range h.service.shards {
		if other != h {
			other.tell(control{command: &guild.VoiceCommand{Guild: r.Guild, User: r.User, Join: r.Join, End: true}})
		}
	}
}

func (h *shard) request(subject string, r guild.Request) {
	if err := h.service.bus.Publish(subject, r); err != nil {
		h.service.cfg.Log.Warn("voice report not sent", "err", err)
	}
}

func (h *shard) closeAll() { h.core.CloseAll(monotonic.Now(), proto.VoiceCloseServerCrashed) }

// restore makes the shard what it was when it was suspended.
func (h *shard) restore(st *signalling.State) error {
	core, err := signalling.Restore(monotonic.Now(), h.cfg, st)
	if err != nil {
		return err
	}
	if h.core = core; !h.service.placement.core.Restore(h.home, st) {
		return signalling.ErrState
	}
	h.sessions.Store(int64(core.Sessions()))
	return nil
}

// suspend ends the shard, and returns what it was.
func (h *shard) suspend() signalling.State {
	now := monotonic.Now()
	st := h.core.State(now, proto.VoiceCloseServerCrashed)
	h.flush(now)
	h.over = true
	return st
}
