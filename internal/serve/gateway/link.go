package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/edge/ws"
	"hubbub.dev/hubbub/proto"
)

// link is one connection as its reader sees it. Until it has a session the reader
// handles its frames, and so waits for the store and for shards, which never wait
// themselves; from then on it hands them to the session's shard.
type link struct {
	service    *Service
	conn       *ws.Conn
	addr       netip.Addr
	version    int
	compressed bool // the whole connection is
	gate       session.Gate
	pulse      pulse
}

// pulse is what a reader tells its session's shard of heartbeats that it has answered. The
// shard looks at it in its sweep.
type pulse struct {
	at  atomic.Int64  // of the last, a clock.Time; 0: none yet
	ack atomic.Uint64 // newest sequence number that the client says it has
}

// greet is the body of the connection's first goroutine. Another reads on once there is
// a session: looking a client up takes a deep stack, which it would keep.
func (l *link) greet(ctx context.Context) {
	c := l.begin(ctx)
	if c == nil {
		l.conn.Drop()
		return
	}
	l.service.door.seat(l.addr, l.conn)
	l.conn.SetReadDeadline(time.Time{})
	l.service.group.Go("gateway reader", func(ctx context.Context) { l.read(ctx, c) })
}

// read is the body of the reader's goroutine. Plain heartbeats it answers itself: on a
// server with thousands of silent clients they are nearly all there is to do, and each hand
// they pass through has to be woken.
func (l *link) read(ctx context.Context, c *client) {
	defer l.conn.Drop()
	stop := context.AfterFunc(ctx, l.conn.Abort)
	defer stop()
	sh := l.service.shardOf(c.id)
	for {
		frame, err := l.next()
		if err != nil {
			var closed *ws.CloseError
			clean := errors.As(err, &closed) && (closed.Code == 1000 || closed.Code == 1001)
			sh.clients.Post(cut{client: c, conn: l.conn, clean: clean}) // refused: the sweep finds it
			return
		}
		if l.answer(frame) {
			continue
		}
		if !sh.clients.Post(input{client: c, conn: l.conn, frame: frame}) {
			l.close(proto.CloseUnknownError)
		}
	}
}

// answer answers a plain heartbeat, and is false for everything else.
func (l *link) answer(frame []byte) bool {
	text, seq, ok := session.Beat(frame)
	if !ok {
		return false
	}
	if seq > l.pulse.ack.Load() {
		l.pulse.ack.Store(seq)
	}
	l.pulse.at.Store(int64(monotonic.Now()))
	if !l.conn.Answer(text) {
		l.service.metrics.slow.Inc()
		l.conn.Close(proto.CloseUnknownError, tooSlow)
	}
	return true
}

// next returns the next frame that is within the limits; otherwise the connection
// is closing.
func (l *link) next() ([]byte, error) {
	frame, _, err := l.conn.Read()
	switch {
	case errors.Is(err, ws.ErrTooLarge):
		l.close(proto.CloseDecodeError)
	case err == nil && !l.gate.Admit(monotonic.Now()):
		l.close(proto.CloseRateLimited)
		return nil, ws.ErrLost
	}
	return frame, err
}

func (l *link) close(code proto.CloseCode) { l.conn.Close(code, session.Reason(code)) }

// begin leads the connection to its session; nil when it ends before.
func (l *link) begin(ctx context.Context) *client {
	now := monotonic.Now()
	stop := context.AfterFunc(ctx, l.conn.Abort)
	defer stop()
	var hello session.Step
	l.gate, hello = session.NewGate(now, l.service.cfg.Heartbeat)
	l.conn.Send(hello.Send, false)
	l.conn.SetReadDeadline(monotonic.At(l.gate.Deadline()))
	for {
		frame, err := l.next()
		if err != nil {
			if !monotonic.Now().Before(l.gate.Deadline()) {
				l.close(proto.CloseSessionTimedOut)
			}
			return nil
		}
		step := l.gate.Handle(frame)
		var c *client
		switch {
		case step.Send != nil:
			l.conn.Send(step.Send, false)
		case step.Identify != nil || step.Resume != nil:
			c, step.Close = l.admit(ctx, step)
		}
		if step.Close != 0 {
			l.close(step.Close)
			return nil
		}
		if c != nil {
			return c
		}
	}
}

// admit waits for the turn of an Identify or a Resume. One who has none gets an answer
// that costs nothing: to identify again in one to five seconds, or to come back and
// resume.
func (l *link) admit(ctx context.Context, step session.Step) (*client, proto.CloseCode) {
	resume := step.Resume != nil
	switch ok := l.service.turns.Pass(ctx, monotonic.Now(), resume); {
	case ok && resume:
		return l.resume(ctx, step.Resume)
	case ok:
		return l.identify(ctx, step.Identify)
	case resume:
		l.conn.Send(session.Reconnect(), false)
		return nil, proto.CloseUnknownError
	}
	l.conn.Send(session.InvalidSession(), false)
	return nil, 0
}

// identify makes a session.
func (l *link) identify(ctx context.Context, d *proto.IdentifyData) (*client, proto.CloseCode) {
	g := l.service
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	select {
	case g.lookups <- struct{}{}:
		defer func() { <-g.lookups }()
	case <-ctx.Done():
		return nil, proto.CloseUnknownError
	}
	hash := token.Hash(d.Token)
	user, err := g.store.UserByToken(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, l.refuse(proto.CloseAuthenticationFailed)
	}
	if err != nil {
		return nil, l.troubled("user", err)
	}
	intents, code := session.AcceptIntents(d.Intents, user.Bot)
	if code != 0 {
		return nil, l.refuse(code)
	}
	ready := &proto.ReadyData{
		V: l.version, User: user.User, ResumeGatewayURL: g.resumeURL(l.conn), Shard: d.Shard, SessionType: "normal",
		PrivateChannels: noObjects, Relationships: noObjects, Trace: []string{g.cfg.Node, g.cfg.Region},
	}
	if user.Bot {
		app, err := g.store.ApplicationByBot(ctx, user.ID)
		switch {
		case err == nil:
			ready.Application = &proto.ApplicationPartial{ID: app.ID, Flags: app.Flags}
		case !errors.Is(err, store.ErrNotFound):
			return nil, l.troubled("application", err)
		}
	}
	c := &client{
		id: newSessionID(), user: user.ID, bot: user.Bot, token: hash, intents: intents, status: d.Presence,
		packed: d.Compress && !l.compressed, conn: l.conn, pulse: &l.pulse, host: l.conn.Host(), secure: g.secure(l.conn),
	}
	if d.Shard != nil {
		c.shard = *d.Shard
	}
	if c.bot {
		c.large = session.LargeThreshold(d.LargeThreshold)
	}
	ready.SessionID = c.id
	if c.packed {
		l.conn.SetEncoder(ws.ZlibPayload{})
	}
	sh := g.shardOf(c.id)
	if !sh.clients.Post(register{c}) {
		return nil, proto.CloseUnknownError
	}
	guilds, code := l.recheck(ctx, c)
	if code != 0 || !sh.clients.Post(open{client: c, guilds: guilds, ready: ready}) {
		sh.clients.Post(cut{client: c, conn: l.conn, clean: true})
		return nil, max(code, proto.CloseUnknownError)
	}
	return c, 0
}

// recheck reads what may have changed until the session was registered, from when
// on the bus tells of changes: that the token is good, and the user's guilds.
func (l *link) recheck(ctx context.Context, c *client) ([]proto.Snowflake, proto.CloseCode) {
	_, err := l.service.store.UserByToken(ctx, c.token)
	if errors.Is(err, store.ErrNotFound) {
		return nil, proto.CloseAuthenticationFailed
	}
	if err != nil {
		return nil, l.troubled("token", err)
	}
	guilds, err := l.service.store.GuildIDsOfUser(ctx, c.user)
	if err != nil {
		return nil, l.troubled("guilds", err)
	}
	return guilds, 0
}

// resume asks the session's shard to go on with it over this connection. A session
// that cannot be resumed leaves the client free to identify.
func (l *link) resume(ctx context.Context, d *proto.ResumeData) (*client, proto.CloseCode) {
	g := l.service
	ask := resume{
		id: d.SessionID, token: token.Hash(d.Token), seq: d.Seq, conn: l.conn, pulse: &l.pulse, secure: g.secure(l.conn), compressed: l.compressed,
	}
	r := l.ask(ctx, ask, func(m resume) mail { return m })
	if r == (resumed{}) && g.others.Load() {
		r = l.fetch(ctx, ask)
	}
	switch {
	case r.client != nil:
		g.metrics.resumes.WithLabelValues("resumed").Inc()
	case r.code != 0:
		g.metrics.resumes.WithLabelValues("refused").Inc()
		if r.code == proto.CloseAuthenticationFailed {
			g.door.failed(l.addr, monotonic.Now())
		}
	default:
		g.metrics.resumes.WithLabelValues("lost").Inc()
		l.conn.Send(session.InvalidSession(), false)
	}
	return r.client, r.code
}

// ask posts a question to a session's shard and waits for the answer.
func (l *link) ask(ctx context.Context, m resume, as func(resume) mail) resumed {
	answer := make(chan resumed, 1)
	m.answer = answer
	if !l.service.shardOf(m.id).clients.Post(as(m)) {
		return resumed{code: proto.CloseUnknownError}
	}
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return resumed{code: proto.CloseUnknownError}
	}
}

// fetch goes on with a session that another gateway may have. The token is looked up
// before all of them are asked.
func (l *link) fetch(ctx context.Context, ask resume) resumed {
	user, code := l.owner(ctx, ask.token)
	if code != 0 {
		return resumed{code: code}
	}
	return l.ask(ctx, ask, func(m resume) mail { return fetch{resume: m, user: user} })
}

// owner returns whose token it is.
func (l *link) owner(ctx context.Context, hash [32]byte) (proto.Snowflake, proto.CloseCode) {
	g := l.service
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	select {
	case g.lookups <- struct{}{}:
		defer func() { <-g.lookups }()
	case <-ctx.Done():
		return 0, proto.CloseUnknownError
	}
	user, err := g.store.UserByToken(ctx, hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, proto.CloseAuthenticationFailed
	case err != nil:
		return 0, l.troubled("token", err)
	}
	return user.ID, 0
}

// refuse counts a failed Identify.
func (l *link) refuse(code proto.CloseCode) proto.CloseCode {
	l.service.metrics.failures.Inc()
	l.service.door.failed(l.addr, monotonic.Now())
	return code
}

// troubled is for a store that did not answer, which is not the client's fault.
func (l *link) troubled(what string, err error) proto.CloseCode {
	l.service.log.Error("gateway identify", "reading", what, "err", err)
	return proto.CloseUnknownError
}

func newSessionID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
