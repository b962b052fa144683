package sim

import (
	"fmt"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/proto"
)

// pipe is one direction of a client's connection: what goes in comes out in order.
type pipe struct {
	w    *world
	last clock.Time
}

func (p *pipe) carry(f func()) {
	p.last = max(p.last, p.w.now.Add(p.w.between(time.Millisecond, 30*time.Millisecond)))
	p.w.at(p.last, f)
}

// link is one gateway WebSocket of a client, both ends of it. It mirrors
// serve/gateway's link.
type link struct {
	client   *client
	server   *process
	up, down pipe
	gate     session.Gate
	held     *held
	open     bool // as the client sees it
	shutBy   proto.CloseCode
	busy     bool // the reader waits for the store or a shard
	ahead    [][]byte
}

// accept says hello.
func (l *link) accept() {
	var hello session.Step
	l.gate, hello = session.NewGate(l.server.w.now, gatewayHeartbeat)
	l.reply(hello.Send)
}

// send is what the client writes.
func (l *link) send(op proto.GatewayOpcode, d any) {
	frame := encode(map[string]any{"op": op, "d": d})
	l.up.carry(func() {
		l.server.do(aMessage, func() {
			if l.shutBy == 0 {
				l.frame(frame)
			}
		})
	})
}

// reply is what the server writes.
func (l *link) reply(frame []byte) {
	l.down.carry(func() {
		if l.open {
			l.client.frame(l, frame)
		}
	})
}

// shut is the server's close.
func (l *link) shut(code proto.CloseCode) {
	if l.shutBy != 0 {
		return
	}
	l.shutBy = code
	l.down.carry(func() { l.client.closed(l, code) })
}

// hangUp is the client's end of the connection: 1000 for good, 1006 for a cut.
func (l *link) hangUp(code proto.CloseCode) {
	if !l.open {
		return
	}
	l.open = false
	l.up.carry(func() {
		l.server.do(aMessage, func() {
			if l.shutBy != 0 {
				return
			}
			l.shutBy = code
			if l.held != nil {
				l.server.gateway.clients.post(func() { l.server.gateway.cut(l, code == 1000) })
			}
		})
	})
}

// frame takes what the client sent.
func (l *link) frame(frame []byte) {
	g := l.server.gateway
	switch {
	case l.busy:
		l.ahead = append(l.ahead, frame)
		l.server.w.bound(l.client.name+" ahead", len(l.ahead), session.Rate)
	case l.held != nil:
		c := l.held
		g.clients.post(func() {
			if c.conn == l {
				g.apply(c, c.session.Handle(g.p.w.now, frame))
			}
		})
	default:
		step := l.gate.Handle(frame)
		switch {
		case step.Send != nil:
			l.reply(step.Send)
		case step.Identify != nil:
			l.busy = true
			l.identify()
		case step.Resume != nil:
			l.busy = true
			l.resume(step.Resume)
		}
		if step.Close != 0 {
			l.server.w.violate("%s: gateway frame %s refused with %d", l.client.name, frame, step.Close)
			l.shut(step.Close)
		}
	}
}

// seated lets the reader go on once it knows whether there is a session.
func (l *link) seated(c *held, code proto.CloseCode) {
	l.busy, l.held = false, c
	if c != nil && l.shutBy != 0 { // it has hung up meanwhile
		clean := l.shutBy == 1000
		l.server.gateway.clients.post(func() { l.server.gateway.cut(l, clean) })
		return
	}
	if code != 0 {
		l.shut(code)
		return
	}
	ahead := l.ahead
	l.ahead = nil
	for _, f := range ahead {
		l.frame(f)
	}
}

// identify makes a session.
func (l *link) identify() {
	g := l.server.gateway
	l.server.query(func(*database) error { return nil }, func(err error) {
		if err != nil {
			l.seated(nil, proto.CloseUnknownError)
			return
		}
		g.made++
		c := &held{
			id: fmt.Sprintf("%s-%d-%d", g.p.name, g.p.epoch%1_000_000, g.made), user: l.client.user, number: g.made, conn: l,
			guilds:      map[proto.Snowflake]bool{},
			generations: map[proto.Snowflake]uint64{},
		}
		g.clients.post(func() {
			c.session = session.New(g.p.w.now, &g.config)
			c.session.Connect(g.p.w.now)
			g.sessions[c.id] = c
		})
		var guilds []proto.Snowflake
		l.server.query(func(db *database) error {
			guilds = db.guildsOf(c.user)
			return nil
		}, func(err error) {
			if err != nil {
				g.clients.post(func() { g.cut(l, true) })
				l.seated(c, proto.CloseUnknownError)
				return
			}
			g.clients.post(func() { g.openSession(c, guilds) })
			l.seated(c, 0)
		})
	})
}

// openSession makes a session ready.
func (g *gatewayService) openSession(c *held, guilds []proto.Snowflake) {
	if g.sessions[c.id] != c {
		return
	}
	for _, id := range guilds {
		c.guilds[id] = false
	}
	c.ready = true
	g.say(c, session.Body("READY", encode(proto.ReadyData{SessionID: c.id})))
	for _, id := range guilds {
		g.attach(c, id)
	}
}

// cut is the end of a connection.
func (g *gatewayService) cut(l *link, clean bool) {
	c := l.held
	if c == nil || g.sessions[c.id] != c || (c.conn != l && c.conn != nil) {
		return
	}
	if clean || !c.ready {
		g.end(c)
		return
	}
	if c.conn != nil {
		g.disconnect(c)
	}
}

// resume asks to go on with a session over this connection.
func (l *link) resume(d *proto.ResumeData) {
	g := l.server.gateway
	g.clients.post(func() {
		c := g.sessions[d.SessionID]
		if c == nil || !c.ready {
			l.reply(session.InvalidSession())
			l.seated(nil, 0)
			return
		}
		missed, code, ok := c.session.Resume(g.p.w.now, d.Seq)
		if !ok {
			if code == 0 {
				g.end(c)
				l.reply(session.InvalidSession())
			}
			l.seated(nil, code)
			return
		}
		if c.conn != nil {
			c.conn.shut(proto.CloseUnknownError)
		}
		c.conn = l
		l.seated(c, 0)
		for i, body := range missed {
			l.reply(append(session.AppendHead(nil, d.Seq+1+uint64(i)), body...))
		}
		g.say(c, session.Body("RESUMED", []byte(`{}`)))
	})
}
