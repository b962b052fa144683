package sim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/proto"
)

const (
	voiceHeartbeat = 2 * time.Second
	voiceResume    = 8 * time.Second
)

// voiceService mirrors serve/voice with one worker. What a worker would do with its
// commands is not simulated.
type voiceService struct {
	p       *process
	core    *signalling.Shard
	clients map[signalling.ConnID]*voiceConn
	mail    mailbox // guilds' commands
	inbox   mailbox // clients
	last    signalling.ConnID
	view    *fleet.View
}

func newVoiceService(p *process) *voiceService {
	s := &voiceService{p: p, clients: map[signalling.ConnID]*voiceConn{}, mail: mailbox{p: p}, inbox: mailbox{p: p}}
	s.core = signalling.NewShard(signalling.Config{
		Node: p.name, Workers: []signalling.Worker{{Port: 5000}}, Modes: []string{proto.ModeAES256GCM}, Version: "sim",
		Heartbeat: voiceHeartbeat, ResumeWindow: voiceResume,
		Random: func(b []byte) { _, _ = noise{p.w}.Read(b) },
	})
	p.subs[guild.VoiceSubject(p.name)] = func(m any) {
		c := m.(guild.VoiceCommand)
		s.mail.post(func() {
			if c.Verify {
				s.verify(&c)
				return
			}
			s.core.Command(p.w.now, c)
			s.flush(false)
		})
	}
	p.subs[guild.SubjectClaimed] = func(m any) { s.claimed(m.(guild.Claimed)) }
	p.w.after(p.w.between(0, time.Second), func() {
		p.every(time.Second, func() {
			s.core.Tick(p.w.now)
			s.flush(true)
		})
	})
	return s
}

func (s *voiceService) verify(c *guild.VoiceCommand) {
	if !s.core.Has(c.Guild, c.User, c.Join) {
		s.request(guild.OwnerSubject(s.p.discovery.view.GuildOwner(uint64(c.Guild))), guild.Request{
			Guild: c.Guild, Report: &guild.VoiceReport{User: c.User, Join: c.Join, Node: s.p.name},
		})
	}
}

func (s *voiceService) claimed(c guild.Claimed) {
	s.mail.post(func() {
		reports := s.core.RollCall(s.p.w.now, c.Guild)
		slices.SortFunc(reports, func(a, b signalling.Report) int {
			return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Join, b.Join))
		})
		for _, r := range reports {
			s.request(guild.OwnerSubject(c.Node), guild.Request{Guild: r.Guild, Claim: c.Generation, Report: &r.VoiceReport})
		}
		if !s.p.w.bug("voice forgets Present") {
			s.request(guild.OwnerSubject(c.Node), guild.Request{
				Guild: c.Guild, Claim: c.Generation, Present: &guild.Present{Node: s.p.name, Role: guild.RoleVoice},
			})
		}
	})
}

// returned takes in that the bus was away: the guilds are told of every connection.
func (s *voiceService) returned() { s.reportAll(func(proto.Snowflake) bool { return true }) }

func (s *voiceService) reportAll(of func(proto.Snowflake) bool) {
	s.mail.post(func() {
		s.core.ReportAll(of)
		s.flush(true)
	})
}

// fleet takes in who is there: the guilds of new owners are told.
func (s *voiceService) fleet(v *fleet.View) {
	was := s.view
	s.view = v
	s.reportAll(func(g proto.Snowflake) bool { return v.OwnerChanged(was, uint64(g)) })
}

func (s *voiceService) request(subject string, r guild.Request) {
	s.p.publish(subject, delivery{request: r})
}

// frame takes what a client sent, as the reader of its connection does.
func (s *voiceService) frame(c *voiceConn, data []byte) {
	f, code := signalling.Decode(data, false)
	if code != 0 {
		s.p.w.violate("%s: voice frame %s refused with %d", s.p.name, data, code)
		return
	}
	if c.admitted {
		s.inbox.post(func() {
			s.core.Frame(s.p.w.now, c.id, f)
			s.flush(false)
		})
		return
	}
	step := signalling.Greet(tokenKey, s.p.wall(), 8, f)
	switch {
	case step.Close != 0:
		c.shut(step.Close)
	case step.Reply != nil:
		c.reply(step.Reply)
	default:
		step.Admit.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		c.admitted = true
		s.inbox.post(func() {
			s.p.w.trace("%s admits %d by join %d", s.p.name, step.Admit.Claims.User, step.Admit.Claims.Join)
			s.clients[c.id] = c
			s.core.Admit(s.p.w.now, c.id, *step.Admit)
			s.flush(false)
		})
	}
}

// closed says that a connection has ended, as its reader does.
func (s *voiceService) closed(c *voiceConn, code proto.CloseCode) {
	if !c.admitted {
		return
	}
	s.inbox.post(func() {
		delete(s.clients, c.id)
		s.core.Closed(s.p.w.now, c.id, code)
		s.flush(false)
	})
}

// flush does what the core asks for. What came from going through a map is put in an
// order of its own first, session by session.
func (s *voiceService) flush(mapped bool) {
	for outputs := s.core.Drain(); len(outputs) > 0; outputs = s.core.Drain() {
		if mapped {
			outputs = slices.Clone(outputs)
			slices.SortStableFunc(outputs, func(a, b signalling.Output) int {
				return cmp.Or(cmp.Compare(a.Conn, b.Conn), cmp.Compare(reported(&a), reported(&b)), cmp.Compare(joinOf(&a), joinOf(&b)))
			})
		}
		for i := range outputs {
			s.do(&outputs[i])
		}
	}
}

var ready = []byte(`{"op":2,`)

func joinOf(o *signalling.Output) uint64 {
	if o.Report == nil {
		return 0
	}
	return o.Report.Join
}

func reported(o *signalling.Output) proto.Snowflake {
	if o.Report == nil {
		return 0
	}
	return o.Report.User
}

func (s *voiceService) do(o *signalling.Output) {
	switch {
	case o.Frame != nil:
		if c := s.clients[o.Conn]; c != nil {
			if bytes.HasPrefix(o.Frame, ready) {
				s.p.w.checks.joined(s.p, c)
			}
			c.reply(o.Frame)
		}
	case o.Frames != nil:
		if c := s.clients[o.Conn]; c != nil {
			for _, frame := range o.Frames {
				c.reply(frame)
			}
		}
	case o.Close != 0:
		if c := s.clients[o.Conn]; c != nil {
			c.shut(o.Close)
			delete(s.clients, o.Conn)
		}
	case o.Report != nil:
		s.p.w.trace("%s reports %d of join %d: %v", s.p.name, o.Report.User, o.Report.Join, o.Report.Connected)
		s.request(guild.OwnerSubject(s.p.discovery.view.GuildOwner(uint64(o.Report.Guild))), guild.Request{Guild: o.Report.Guild, Report: &o.Report.VoiceReport})
	}
}

// voiceConn is one voice WebSocket of a client, both ends of it.
type voiceConn struct {
	client   *client
	server   *process
	id       signalling.ConnID
	up, down pipe
	admitted bool
	open     bool // as the client sees it
	shutBy   proto.CloseCode
	session  string // of the gateway, that the token names
	token    string
	ready    bool // has a Session Description
}

// send is what the client writes.
func (c *voiceConn) send(op proto.VoiceOpcode, d any) {
	data, err := json.Marshal(map[string]any{"op": op, "d": d})
	if err != nil {
		panic(err) // what is sent is written out above each call
	}
	c.up.carry(func() {
		c.server.do(aMessage, func() {
			if c.shutBy == 0 {
				c.server.voice.frame(c, data)
			}
		})
	})
}

// reply is what the server writes.
func (c *voiceConn) reply(frame []byte) {
	c.down.carry(func() {
		if c.open {
			c.client.voiceFrame(c, frame)
		}
	})
}

// shut is the server's close.
func (c *voiceConn) shut(code proto.CloseCode) {
	if c.shutBy != 0 {
		return
	}
	c.shutBy = code
	c.down.carry(func() { c.client.voiceClosed(c, code) })
}

// hangUp is the client's close: with 1000 it ends its session, with 1006 it is a cut.
func (c *voiceConn) hangUp(code proto.CloseCode) {
	if !c.open {
		return
	}
	c.open = false
	c.up.carry(func() {
		c.server.do(aMessage, func() {
			if c.shutBy == 0 {
				c.shutBy = code
				c.server.voice.closed(c, code)
			}
		})
	})
}
