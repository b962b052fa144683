package signalling

import (
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	limit "hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

const (
	// moveGrace is how long a moved client's old connection stays open, in which
	// the client itself goes over to its new voice server.
	moveGrace = 5 * time.Second
	// lingerFor is how long a session goes on whose channel moves to another voice
	// server, and lingerLast how long once all of the channel are connected there: a
	// browser that is far away sets its media up in that time.
	lingerFor  = 10 * time.Second
	lingerLast = 2 * time.Second
	// selectTimeout is how long a session may stay without a transport, be it that
	// its client never selected one, and reselectTimeout how long after its
	// browser closed the transport that it had.
	selectTimeout   = time.Minute
	reselectTimeout = 15 * time.Second
	// heartbeatsMissed intervals without a heartbeat are a lost client.
	heartbeatsMissed = 2
	// answerWithin is how long a connection has to answer a ping, once its media has shown
	// no sign of life for a while.
	answerWithin = 5 * time.Second
	// maxComebacks a minute are taken for one session: each costs a replay, or an
	// exit and an entrance that all others are told of.
	maxComebacks = 20
	// maxNotices bounds what is remembered of joins that have no session here.
	maxNotices = 1 << 16
)

// ConnID names one client connection. The service never reuses it and never uses
// zero.
type ConnID uint64

// Config is what a shard knows of its node. A node has a shard for each worker, which
// owns the channels that are at home there.
type Config struct {
	Node         string
	Home         int      // the shard's own worker
	Workers      []Worker // all of the node's
	Fingerprint  browser.Fingerprint
	Modes        []string // of encryption, best first
	Version      string   // of the server, for op 16
	Heartbeat    time.Duration
	ResumeWindow time.Duration
	// Random fills its argument with secret random bytes.
	Random func([]byte)
}

// Worker is one media worker of the node.
type Worker struct {
	Port uint16         // of its UDP socket, for clients
	Addr netip.AddrPort // where the node's other workers reach it
}

// Output is one effect of an input. Conn goes with Frame, a text payload that is
// shared and must not be changed, with Frames, several of them, with Close, or with Ping. Worker goes with Command and
// with Released. Each of the others stands alone.
type Output struct {
	Conn     ConnID
	Frame    []byte
	Frames   [][]byte
	Close    proto.CloseCode
	Ping     bool // the WebSocket's own; Answered says that it was answered
	Worker   int
	Command  *sfu.Command // for Worker; Refused says that it could not be posted
	Report   *Report
	Joined   *Joined
	Released proto.Snowflake // a channel that has one Identify or session less on Worker
}

// Report is what a guild is told of one of its joins.
type Report struct {
	Guild proto.Snowflake
	guild.VoiceReport
}

// Joined says that a session has got its first Session Description.
type Joined struct {
	Conn      ConnID
	Transport string
	After     time.Duration // since Identify
}

// Info is one session as the operator sees it.
type Info struct {
	Worker               int
	Guild, Channel, User proto.Snowflake
	Transport            string // proto.ProtocolUDP, proto.ProtocolWebRTC, or "" while connecting
	Connected            bool   // false while its connection is cut
}

// member names a user in a guild, who has at most one session.
type member struct{ guild, user proto.Snowflake }

// notice is what a guild said of a join that has no session here: it has ended,
// or what is forwarded has changed since its token was signed.
// endedLately is how long a guild's new owner is told that a join has ended.
const endedLately = 10 * time.Second

type notice struct {
	join    uint64
	ended   bool
	flags   *guild.VoiceFlags
	expires clock.Time
}

// Shard owns the sessions of the channels that are at home on one worker. Its inputs are methods that
// take the time; their effects are drained with Drain.
type Shard struct {
	cfg      Config
	conns    map[ConnID]*session
	members  map[member]*session
	peers    map[sfu.PeerID]*session
	channels map[proto.Snowflake]*channel
	notices  map[member]notice

	lastPeer  sfu.PeerID
	ssrcs     ssrcs
	purgeAt   clock.Time
	unposted  []posting  // what a worker has not taken yet
	gathering []*channel // where news waits for a round

	outputs, drained []Output
}

// NewShard returns a shard without sessions.
func NewShard(cfg Config) *Shard {
	var seed [8]byte
	cfg.Random(seed[:])
	return &Shard{
		cfg:      cfg,
		conns:    make(map[ConnID]*session),
		members:  make(map[member]*session),
		peers:    make(map[sfu.PeerID]*session),
		channels: make(map[proto.Snowflake]*channel),
		notices:  make(map[member]notice),
		lastPeer: sfu.PeerID(cfg.Home) << homeShift,
		ssrcs:    newSSRCs(binary.BigEndian.Uint64(seed[:]), cfg.Home, len(cfg.Workers)),
	}
}

// Drain returns the effects of the inputs since the last Drain, in order. They
// are valid until the next Drain.
func (s *Shard) Drain() []Output {
	out := s.outputs
	clear(s.drained)
	s.outputs, s.drained = s.drained[:0], out
	return out
}

func (s *Shard) emit(o Output) { s.outputs = append(s.outputs, o) }

func (s *Shard) post(worker int, c sfu.Command) { s.emit(Output{Worker: worker, Command: &c}) }

// Sessions returns how many sessions there are.
func (s *Shard) Sessions() int { return len(s.members) }

// List returns every session.
func (s *Shard) List() []Info {
	out := make([]Info, 0, len(s.members))
	for _, x := range s.members {
		out = append(out, Info{
			Worker: x.worker, Guild: x.guild, Channel: x.channel.id, User: x.user,
			Transport: x.transport, Connected: x.conn != 0,
		})
	}
	return out
}

// Admit takes a connection that has proved what it says: it gets a session, or
// its session back, or is closed.
func (s *Shard) Admit(now clock.Time, conn ConnID, a Admission) {
	code := proto.CloseCode(0)
	if a.Resume {
		code = s.resume(now, conn, a)
	} else if code = s.identify(now, conn, a); code != 0 {
		s.emit(Output{Released: a.Claims.Channel, Worker: a.Worker})
	}
	if code != 0 {
		s.emit(Output{Conn: conn, Close: code})
	}
}

func (s *Shard) identify(now clock.Time, conn ConnID, a Admission) proto.CloseCode {
	m := member{a.Claims.Guild, a.Claims.User}
	old, said := s.members[m], s.notices[m]
	switch {
	case a.Expired && (old == nil || !old.began(a.Token)):
		return proto.VoiceCloseAuthenticationFailed
	case old != nil && a.Claims.Join < old.join,
		a.Claims.Join < said.join,
		a.Claims.Join == said.join && said.ended:
		return proto.VoiceCloseSessionInvalid
	case old != nil && old.join == a.Claims.Join && !old.comebacks.Allow(now):
		return proto.VoiceCloseRateLimited
	}
	x := &session{
		member: m, join: a.Claims.Join, token: a.Token, gateway: a.Claims.Session, named: a.Claims.Session, worker: a.Worker,
		version: a.Version, conn: conn, addresses: a.Addresses, from: a.From, identified: now,
		asksSpeaking: a.SpeakingEvents, heartbeatBy: s.nextHeartbeat(now), selectBy: now.Add(selectTimeout),
		comebacks: limit.NewLimiter(maxComebacks, time.Minute),
	}
	switch {
	case old != nil && old.join == x.join:
		x.VoiceFlags, x.gateway, x.comebacks = old.VoiceFlags, old.gateway, old.comebacks
	case said.join == x.join && said.flags != nil:
		x.VoiceFlags = *said.flags
	default:
		x.VoiceFlags = flagsOf(a.Claims)
	}
	if old != nil {
		s.closeConn(now, old, proto.VoiceCloseDisconnected)
		s.remove(now, old)
	}
	delete(s.notices, m)
	s.add(x, a.Claims.Channel)
	return 0
}

func flagsOf(v token.Voice) guild.VoiceFlags {
	return guild.VoiceFlags{Mute: v.Mute, Deaf: v.Deaf, SelfDeaf: v.SelfDeaf, Permissions: v.Permissions}
}

// add gives a new session its peer on its worker and answers with Ready.
func (s *Shard) add(x *session, id proto.Snowflake) {
	ch := s.channels[id]
	if ch == nil {
		ch = &channel{id: id}
		s.channels[id] = ch
	}
	ch.sessions++
	x.channel, x.begun = ch, ch.history.last
	s.occupy(ch, x.worker)
	x.peer, x.ssrc = s.nextPeer(), s.ssrcs.next()
	s.conns[x.conn], s.members[x.member], s.peers[x.peer] = x, x, x
	x.posted = x.peerFlags()
	s.post(x.worker, sfu.Command{Add: &sfu.AddPeer{Peer: x.peer, Channel: uint64(id), SSRC: x.ssrc, Flags: x.posted, From: x.from}})

	ready := proto.VoiceReady{
		SSRC: x.ssrc, IP: x.addresses[0].String(), Port: int(s.cfg.Workers[x.worker].Port), Modes: s.cfg.Modes,
		Experiments: []string{}, Streams: []proto.VoiceStream{},
	}
	if x.version < versionSpeakingBits {
		ready.HeartbeatInterval = int(s.cfg.Heartbeat.Milliseconds())
	}
	s.send(x, encodeObject(proto.VoiceOpReady, ready))
}

func (s *Shard) resume(now clock.Time, conn ConnID, a Admission) proto.CloseCode {
	x := s.members[member{a.Claims.Guild, a.Claims.User}]
	if x == nil || !x.began(a.Token) {
		return proto.VoiceCloseSessionInvalid
	}
	acknowledged := x.begun
	if a.SeqAck >= 0 {
		acknowledged = uint64(a.SeqAck)
	}
	numbered := a.Version >= versionSequence
	if h := &x.channel.history; numbered && (acknowledged < h.dropped || acknowledged > h.last) {
		return proto.VoiceCloseSessionInvalid
	}
	if !x.comebacks.Allow(now) {
		return proto.VoiceCloseRateLimited
	}
	s.closeConn(now, x, proto.VoiceCloseDisconnected)
	x.conn, x.version, x.addresses = conn, a.Version, a.Addresses
	x.resumeBy, x.heartbeatBy, x.answerBy = 0, s.nextHeartbeat(now), 0
	s.conns[conn] = x
	s.emit(Output{Conn: conn, Frame: []byte(`{"op":9,"d":null}`)})
	s.replay(x, acknowledged, numbered)
	return 0
}

func (s *Shard) nextHeartbeat(now clock.Time) clock.Time {
	return now.Add(heartbeatsMissed * s.cfg.Heartbeat)
}

// Frame takes a payload of an admitted connection.
func (s *Shard) Frame(now clock.Time, conn ConnID, f Frame) {
	x := s.conns[conn]
	if x == nil {
		return
	}
	x.answerBy = 0
	handle := handlers[f.Op]
	switch {
	case handle == nil:
		s.closeConn(now, x, proto.VoiceCloseUnknownOpcode)
	case x.ended && f.Op != proto.VoiceOpHeartbeat:
		// It goes over to another voice server in its own time.
	default:
		if code := handle(s, now, x, f.D); code != 0 {
			s.closeConn(now, x, code)
		}
	}
}

// Closed says that a connection is gone. Code is what its client closed it with;
// anything but 1000 and 1001 is a cut that can be resumed from.
func (s *Shard) Closed(now clock.Time, conn ConnID, code proto.CloseCode) {
	x := s.conns[conn]
	if x == nil {
		return
	}
	delete(s.conns, conn)
	x.conn = 0
	if code == 1000 || code == 1001 {
		s.end(now, x)
		return
	}
	x.resumeBy = now.Add(s.cfg.ResumeWindow)
}

// closeConn closes a session's connection, if it has one. The session, unless it
// has ended, can be resumed.
func (s *Shard) closeConn(now clock.Time, x *session, code proto.CloseCode) {
	if x.conn == 0 {
		return
	}
	s.emit(Output{Conn: x.conn, Close: code})
	delete(s.conns, x.conn)
	x.conn = 0
	x.resumeBy = now.Add(s.cfg.ResumeWindow)
}

// remove takes a session out of its channel and its worker. Its connection, if it
// has one, stays.
func (s *Shard) remove(now clock.Time, x *session) {
	if x.ended {
		return
	}
	x.ended = true
	delete(s.members, x.member)
	delete(s.peers, x.peer)
	s.post(x.worker, sfu.Command{Remove: &sfu.RemovePeer{Peer: x.peer}})
	s.vacate(x)
	s.leave(now, x)
	if x.channel.sessions--; x.channel.sessions == 0 {
		delete(s.channels, x.channel.id)
	}
	s.emit(Output{Released: x.channel.id, Worker: x.worker})
}

// end removes a session that its client, or the lack of it, has ended, and says so
// to the guild. Its token is worth nothing from then on.
func (s *Shard) end(now clock.Time, x *session) {
	if x.ended {
		return
	}
	s.remove(now, x)
	s.note(now, x.member, notice{join: x.join, ended: true})
	s.report(x, false)
}

func (s *Shard) report(x *session, connected bool) {
	r := s.reportOn(x)
	r.Connected = connected
	s.emit(Output{Report: &r})
}

func (s *Shard) reportOn(x *session) Report {
	return Report{Guild: x.guild, VoiceReport: guild.VoiceReport{
		User: x.user, Join: x.join, Node: s.cfg.Node,
		Connected: true, Worker: x.worker, Transport: x.transport,
		Channel: x.channel.id, Session: x.gateway, Flags: x.VoiceFlags, Identified: x.named,
	}}
}

// Has reports whether a join is here and stays.
func (s *Shard) Has(g, user proto.Snowflake, join uint64) bool {
	x := s.members[member{g, user}]
	return x != nil && x.join == join && x.lingerBy == 0
}

// RollCall returns a report of every session of a guild that has a transport and stays, and of
// every join of it that ended in the last 10 s.
func (s *Shard) RollCall(now clock.Time, g proto.Snowflake) []Report {
	var reports []Report
	for m, x := range s.members {
		if m.guild == g && x.transport != "" && x.lingerBy == 0 {
			reports = append(reports, s.reportOn(x))
		}
	}
	for m, n := range s.notices {
		if m.guild == g && n.ended && s.members[m] == nil && n.expires.Sub(now) > token.VoiceLifetime-endedLately {
			reports = append(reports, s.ended(m, n.join))
		}
	}
	return reports
}

// ended is what is said of a join that is over, of which only its number is known.
func (s *Shard) ended(m member, join uint64) Report {
	return Report{Guild: m.guild, VoiceReport: guild.VoiceReport{User: m.user, Join: join, Node: s.cfg.Node}}
}

// ReportAll reports every session that has a transport and stays, and every join that has
// ended lately, of the guilds of which is true: the guilds answer with what is to be enforced,
// or end it.
func (s *Shard) ReportAll(of func(guild proto.Snowflake) bool) {
	for m, x := range s.members {
		if x.transport != "" && x.lingerBy == 0 && of(m.guild) {
			s.report(x, true)
		}
	}
	for m, n := range s.notices {
		if n.ended && of(m.guild) {
			r := s.ended(m, n.join)
			s.emit(Output{Report: &r})
		}
	}
}

// began reports whether the session began with this token.
func (x *session) began(token string) bool {
	return subtle.ConstantTimeCompare([]byte(x.token), []byte(token)) == 1
}
