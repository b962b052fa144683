package gateway

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/ws"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

const (
	clientMail = 4096
	busMail    = 16384
	// sweepEvery is how often time is taken to have passed, and lookEvery how often every
	// session is looked at for it: to fetch thousands from memory costs, and their bounds
	// are a minute and more.
	sweepEvery = time.Second
	lookEvery  = 5 * time.Second
)

// mail is one message to a shard. Each kind brings its own handling.
type mail interface {
	deliver(sh *shard, now clock.Time)
}

// shard owns a part of the sessions. Its two mailboxes keep clients from crowding
// out the bus:
//
//   - clients: what readers post. A full one costs the connection that posts.
//   - events: what the bus brings. A full one means that events are lost, so every
//     session of the shard is ended and told to identify anew (overrun).
type shard struct {
	service *Service
	clients *run.Mailbox[mail]
	events  *run.Mailbox[mail]
	overrun atomic.Bool

	sessions map[string]*client
	users    map[proto.Snowflake][]*client
	guilds   map[proto.Snowflake]*crowd
	// gathering has the crowds in which events wait.
	gathering []*crowd
	looked    clock.Time // when every session was looked at last
	handoff
	transfers
}

func newShard(g *Service) *shard {
	return &shard{
		service: g, clients: run.NewMailbox[mail](clientMail), events: run.NewMailbox[mail](busMail),
		sessions: make(map[string]*client), users: make(map[proto.Snowflake][]*client),
		guilds: make(map[proto.Snowflake]*crowd), handoff: newHandoff(),
		transfers: transfers{arriving: make(map[string]*arrival), leaving: make(map[string]*departure)},
	}
}

// run is the body of the shard's goroutine.
func (sh *shard) run(ctx context.Context) {
	sweep := run.NewTicker(sh.service.often(sweepEvery))
	defer sweep.Stop()
	round := time.NewTimer(time.Hour)
	defer round.Stop()
	for due := clock.Time(0); ; {
		select {
		case m := <-sh.clients.Receive():
			m.deliver(sh, monotonic.Now())
		case m := <-sh.events.Receive():
			m.deliver(sh, monotonic.Now())
		case <-round.C:
			sh.rounds(monotonic.Now())
			sh.transfersDue(monotonic.Now())
			due = 0
		case <-sweep.C:
			sh.sweep(monotonic.Now())
		case <-ctx.Done():
			return
		}
		if sh.overrun.Swap(false) {
			sh.invalidate()
		}
		if next := clock.Earliest(sh.due(), sh.transferDue()); next != 0 && next != due {
			due = next
			round.Reset(next.Sub(monotonic.Now()))
		}
	}
}

// post brings an event of the bus; when there is no room the sessions are stale.
func (sh *shard) post(m mail) {
	if !sh.events.Post(m) {
		sh.overrun.Store(true)
	}
}

// sweep acts on the time that passed, and on connections whose end was not told
// because the mailbox was full.
func (sh *shard) sweep(now clock.Time) {
	sh.remind(now)
	// A tick that is a little early is the right one all the same.
	if now.Sub(sh.looked) < sh.service.often(lookEvery)-sh.service.often(sweepEvery)/2 {
		return
	}
	sh.looked = now
	for _, c := range sh.sessions {
		if c.conn != nil && c.conn.Closed() {
			sh.disconnect(now, c)
		}
		if c.conn != nil {
			c.session.Beaten(clock.Time(c.pulse.at.Load()))
			c.session.Ack(c.pulse.ack.Load())
		}
		step, over := c.session.Timeout(now)
		if over {
			sh.end(c)
			continue
		}
		sh.apply(now, c, step)
	}
}

// often returns how often to do what is enough to be done each d, if bounds are as long as
// they are by default.
func (g *Service) often(d time.Duration) time.Duration {
	return min(d, g.cfg.Heartbeat/8, g.cfg.ResumeWindow/2)
}

// invalidate ends every session of the shard: they have missed events. Their clients
// are to come back, so what calls they are in goes on.
func (sh *shard) invalidate() {
	sh.service.log.Error("events were missed", "sessions", len(sh.sessions))
	sh.service.metrics.overruns.Inc()
	for _, c := range sh.sessions {
		if c.conn != nil {
			c.conn.Send(session.InvalidSession(), false)
			sh.close(c, proto.CloseUnknownError)
		}
		sh.remove(c, true)
	}
	for _, a := range sh.arriving {
		a.spoil()
	}
}

// apply does what a session asks.
func (sh *shard) apply(now clock.Time, c *client, step session.Step) {
	if step.Send != nil && !c.conn.Send(step.Send, false) {
		sh.tooSlow(now, c)
		return
	}
	switch {
	case step.Presence != nil:
		c.status = step.Presence
		for g := range c.guilds {
			sh.request(guild.Request{Guild: g, Presence: &guild.PresenceRequest{SessionRef: sh.ref(c), Status: *step.Presence}})
		}
	case step.Voice != nil:
		if _, ok := c.guilds[step.Voice.GuildID]; ok {
			c.voice.Ask(now, step.Voice)
			sh.request(guild.Request{Guild: step.Voice.GuildID, Voice: &guild.VoiceRequest{SessionRef: sh.ref(c), State: *step.Voice}})
		}
	case step.Members != nil:
		if _, ok := c.guilds[step.Members.GuildID]; ok {
			sh.request(guild.Request{Guild: step.Members.GuildID, Members: &guild.MembersRequest{SessionRef: sh.ref(c), Query: *step.Members}})
		}
	}
	if step.Close != 0 {
		sh.close(c, step.Close)
		sh.disconnect(now, c)
	}
}

func (sh *shard) ref(c *client) guild.SessionRef {
	return guild.SessionRef{Gateway: sh.service.cfg.Node, Epoch: sh.service.cfg.Epoch, Session: c.id, User: c.user}
}

// request asks a guild's owner for something that has no reply.
func (sh *shard) request(r guild.Request) {
	if err := sh.service.bus.Publish(sh.service.cfg.Route(r.Guild), r); err != nil {
		sh.service.log.Warn("gateway request lost", "guild", r.Guild, "err", err)
	}
}

func (sh *shard) attach(now clock.Time, c *client, g proto.Snowflake) {
	sh.await(now, c, g)
	sh.request(guild.Request{Guild: g, Attach: sh.attachment(c)})
}

func (sh *shard) attachment(c *client) *guild.Attach {
	return &guild.Attach{SessionRef: sh.ref(c), Bot: c.bot, Intents: c.intents, Status: c.status, Large: c.large}
}

// detach takes a session out of a guild for good. Where it is the gateway that leaves
// and not its client, a call goes on.
func (sh *shard) detach(c *client, g proto.Snowflake, leaving bool) {
	sh.unseat(c, g)
	sh.forget(c, g)
	sh.request(guild.Request{Guild: g, Detach: &guild.Detach{SessionRef: sh.ref(c), Leaving: leaving}})
}

// dispatch gives one session one event.
func (sh *shard) dispatch(now clock.Time, c *client, body *session.Payload) {
	seq, send := c.session.Dispatch(body)
	if !send {
		return
	}
	var head [40]byte
	if !c.conn.SendSpliced(session.AppendHead(head[:0], seq), body.Bytes()) {
		sh.tooSlow(now, c)
	}
}

// tooSlow is the reason that a slow client is closed with.
const tooSlow = "Too slow."

// tooSlow closes a client that does not take what it is sent. It may resume, which
// gives it a new queue and what the buffer still has.
func (sh *shard) tooSlow(now clock.Time, c *client) {
	sh.service.metrics.slow.Inc()
	c.conn.Close(proto.CloseUnknownError, tooSlow)
	sh.disconnect(now, c)
}

func (sh *shard) close(c *client, code proto.CloseCode) { c.conn.Close(code, session.Reason(code)) }

// disconnect leaves a session to be resumed. Its connection has ended or is ending.
func (sh *shard) disconnect(now clock.Time, c *client) {
	c.conn, c.pulse = nil, nil
	c.session.Disconnect(now)
}

// end forgets a session that its client has ended, or that has timed out.
func (sh *shard) end(c *client) { sh.remove(c, false) }

// remove forgets a session and tells its guilds whether it is the gateway that leaves.
func (sh *shard) remove(c *client, leaving bool) {
	sh.remember(monotonic.Now(), c, leaving)
	for g := range c.guilds {
		sh.detach(c, g, leaving)
	}
	delete(sh.leaving, c.id)
	sh.strike(c)
}

// enlist makes a session one of the shard's, and strike none of them.
func (sh *shard) enlist(c *client) {
	sh.sessions[c.id] = c
	sh.users[c.user] = append(sh.users[c.user], c)
	sh.service.metrics.sessions.Inc()
	sh.service.live.Add(1)
}

func (sh *shard) strike(c *client) {
	delete(sh.sessions, c.id)
	mine := sh.users[c.user]
	for i := range mine {
		if mine[i] == c {
			mine[i] = mine[len(mine)-1]
			mine[len(mine)-1] = nil
			mine = mine[:len(mine)-1]
			break
		}
	}
	if sh.users[c.user] = mine; len(mine) == 0 {
		delete(sh.users, c.user)
	}
	sh.service.metrics.sessions.Dec()
	sh.service.live.Add(-1)
}

// register is the first of a session: the user's events reach it from now on, and
// wait for READY.
type register struct{ *client }

func (m register) deliver(sh *shard, now clock.Time) {
	c := m.client
	c.session = session.New(now, &sh.service.session)
	c.session.Connect(now)
	c.guilds = make(map[proto.Snowflake]*place)
	sh.enlist(c)
}

// open makes a session ready: guilds are the user's as the store has them.
type open struct {
	client *client
	guilds []proto.Snowflake
	ready  *proto.ReadyData
}

func (m open) deliver(sh *shard, now clock.Time) {
	c := m.client
	if sh.sessions[c.id] != c {
		return
	}
	for _, g := range m.guilds {
		if c.covers(g) {
			c.guilds[g] = nil
		}
	}
	m.ready.Guilds = make([]proto.UnavailableGuild, 0, len(c.guilds))
	for g := range c.guilds {
		m.ready.Guilds = append(m.ready.Guilds, proto.UnavailableGuild{ID: g, Unavailable: true})
	}
	data, err := json.Marshal(m.ready)
	if err != nil {
		sh.service.log.Error("gateway READY", "err", err)
		return
	}
	c.ready = true
	sh.dispatch(now, c, session.Body("READY", data))
	for g := range c.guilds {
		sh.attach(now, c, g)
	}
}

// input is one frame of a client.
type input struct {
	client *client
	conn   *ws.Conn
	frame  []byte
}

func (m input) deliver(sh *shard, now clock.Time) {
	if m.client.conn == m.conn { // and not one that was closed or replaced
		sh.apply(now, m.client, m.client.session.Handle(now, m.frame))
	}
}

// cut is the end of a connection; clean when the client itself ended the session
// by closing with 1000 or 1001 (Gateway, "Disconnecting").
type cut struct {
	client *client
	conn   *ws.Conn
	clean  bool
}

func (m cut) deliver(sh *shard, now clock.Time) {
	c := m.client
	if sh.sessions[c.id] != c || (c.conn != m.conn && c.conn != nil) {
		return
	}
	if m.clean || !c.ready {
		sh.end(c)
		return
	}
	if c.conn != nil {
		sh.disconnect(now, c)
	}
}

// resume asks to go on with a session over another connection.
type resume struct {
	id         string
	token      [32]byte
	seq        uint64
	conn       *ws.Conn
	pulse      *pulse
	secure     bool
	compressed bool
	answer     chan<- resumed // has room for the one answer
}

// resumed answers resume: the session, or the code to close with, or neither when
// the session is lost.
type resumed struct {
	client *client
	code   proto.CloseCode
}

func (m resume) deliver(sh *shard, now clock.Time) {
	c := sh.sessions[m.id]
	switch {
	case c == nil || !c.ready || sh.leaving[m.id] != nil:
		m.answer <- resumed{}
		return
	case subtle.ConstantTimeCompare(c.token[:], m.token[:]) == 0:
		m.answer <- resumed{code: proto.CloseAuthenticationFailed}
		return
	}
	missed, code, ok := c.session.Resume(now, m.seq)
	if !ok {
		if code == 0 {
			if c.conn != nil {
				sh.close(c, proto.CloseUnknownError)
			}
			sh.end(c)
		}
		m.answer <- resumed{code: code}
		return
	}
	if c.conn != nil {
		sh.close(c, proto.CloseUnknownError) // half-open, or the client has two
	}
	c.conn, c.pulse, c.host, c.secure = m.conn, m.pulse, m.conn.Host(), m.secure
	if c.packed && !m.compressed {
		c.conn.SetEncoder(ws.ZlibPayload{})
	}
	m.answer <- resumed{client: c}
	sh.replay(now, c, m.seq, missed)
}

// replay sends what the client missed after seq, and RESUMED.
func (sh *shard) replay(now clock.Time, c *client, seq uint64, missed [][]byte) {
	var head [40]byte
	for i, body := range missed {
		if !c.conn.SendSpliced(session.AppendHead(head[:0], seq+1+uint64(i)), body) {
			sh.tooSlow(now, c)
			return
		}
	}
	sh.dispatch(now, c, resumedBody)
}

var resumedBody = session.Body("RESUMED", []byte(`{"_trace":[]}`))

// drain ends every session of a server that is going away.
type drain struct{}

func (drain) deliver(sh *shard, _ clock.Time) {
	sh.draining = true
	for id, a := range sh.arriving {
		sh.giveUp(id, a)
	}
	for _, c := range sh.sessions {
		if c.conn != nil {
			goodbye(c.conn)
		}
		sh.remove(c, true)
	}
}
