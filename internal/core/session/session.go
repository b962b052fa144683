package session

import (
	"encoding/json"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/proto"
)

// Config is what the sessions of one gateway have in common.
type Config struct {
	Heartbeat    time.Duration // how often a client must be heard
	ResumeWindow time.Duration // how long a session outlives its connection
	ReplayFrames int           // bounds of the resume buffer
	ReplayBytes  int
	// ReplayFrame is the longest dispatch that a resume replays. Longer ones are
	// a guild for one session alone: kept for each of thousands that join a big
	// guild, they are what fills the memory. A client that was cut before it got
	// one identifies anew, which costs as much.
	ReplayFrame int
}

// A client that is late with its heartbeat by a quarter of the interval is asked
// for one, and by a half is taken for gone.
func (c *Config) askAfter() time.Duration  { return c.Heartbeat + c.Heartbeat/4 }
func (c *Config) goneAfter() time.Duration { return c.Heartbeat + c.Heartbeat/2 }

// Session is one client's gateway session, connected or waiting to be resumed.
//
//	            Connect                 Disconnect
//	(new) ───────────────▶ connected ──────────────▶ waiting ───▶ (over, by Timeout)
//	                           ▲         Resume         │
//	                           └────────────────────────┘
type Session struct {
	config    *Config
	seq       uint64
	buffer    Buffer
	connected bool
	asked     bool       // for a heartbeat, since the last one
	since     clock.Time // last heard when connected, else when it was cut
}

// New returns a session that is not connected yet.
func New(now clock.Time, c *Config) Session {
	return Session{config: c, buffer: NewBuffer(c.ReplayFrames, c.ReplayBytes, c.ReplayFrame), since: now}
}

// Connect gives the session a connection.
func (s *Session) Connect(now clock.Time) {
	s.connected, s.asked, s.since = true, false, now
}

// Disconnect takes the connection away; the resume window begins.
func (s *Session) Disconnect(now clock.Time) {
	if s.connected {
		s.connected, s.since = false, now
	}
}

// Connected reports whether the session has a connection.
func (s *Session) Connected() bool { return s.connected }

// Seq returns the sequence number of the newest dispatch.
func (s *Session) Seq() uint64 { return s.seq }

// Resume goes on with the session over a new connection, whose client has seen
// everything up to seq. It returns the bodies of the dispatches after seq, the
// first numbered seq+1. A seq from the future is refused with CloseInvalidSeq; one
// that the buffer no longer reaches with ok false: the session is lost. A refusal
// leaves the session as it was.
func (s *Session) Resume(now clock.Time, seq uint64) (missed [][]byte, code proto.CloseCode, ok bool) {
	if seq > s.seq {
		return nil, proto.CloseInvalidSeq, false
	}
	missed, ok = s.buffer.Since(seq)
	if ok {
		s.buffer.Ack(seq)
		s.Connect(now)
	}
	return missed, 0, ok
}

// Export returns what another gateway needs to go on with the session for a client that
// has seen everything up to seq: the newest number, and the bodies of the dispatches after
// seq. It is false when the buffer does not reach that far.
func (s *Session) Export(seq uint64) (last uint64, missed [][]byte, ok bool) {
	missed, ok = s.buffer.Since(min(seq, s.seq))
	return s.seq, missed, ok
}

// Oldest returns the lowest number from which the session can be resumed.
func (s *Session) Oldest() uint64 {
	frames, _ := s.buffer.Len()
	return s.seq - uint64(frames)
}

// Restore returns the session that was exported, which waits to be resumed.
func Restore(now clock.Time, c *Config, last uint64, missed [][]byte) Session {
	s := New(now, c)
	s.seq = last
	s.buffer.last = last
	for i, body := range missed {
		s.buffer.Append(last-uint64(len(missed)-1-i), &Payload{body})
	}
	return s
}

// Dispatch numbers a dispatch and keeps its body for a resume. It reports whether
// there is a connection to send it on.
func (s *Session) Dispatch(body *Payload) (seq uint64, send bool) {
	s.seq++
	s.buffer.Append(s.seq, body)
	return s.seq, s.connected
}

// Timeout acts on the time that has passed: it asks for a heartbeat, closes a
// connection that is silent, or says that the session is over.
func (s *Session) Timeout(now clock.Time) (step Step, over bool) {
	quiet := now.Sub(s.since)
	switch {
	case !s.connected:
		return Step{}, quiet >= s.config.ResumeWindow
	case quiet >= s.config.goneAfter():
		return Step{Close: proto.CloseSessionTimedOut}, false
	case quiet >= s.config.askAfter() && !s.asked:
		s.asked = true
		return Step{Send: heartbeatRequest}, false
	}
	return Step{}, false
}

// Handle takes one frame of the client, which the connection's Gate has admitted.
func (s *Session) Handle(now clock.Time, frame []byte) Step {
	op, d, ok := parse(frame)
	if !ok {
		return Step{Close: proto.CloseDecodeError}
	}
	if h, ok := sessionHandlers[op]; ok {
		return h(s, now, d)
	}
	if _, ok := gateHandlers[op]; ok {
		return Step{Close: proto.CloseAlreadyAuthenticated}
	}
	return Step{Close: proto.CloseUnknownOpcode}
}

var sessionHandlers = map[proto.GatewayOpcode]func(s *Session, now clock.Time, d json.RawMessage) Step{
	proto.OpHeartbeat:           (*Session).handleHeartbeat,
	proto.OpPresenceUpdate:      (*Session).handlePresence,
	proto.OpVoiceStateUpdate:    (*Session).handleVoice,
	proto.OpRequestGuildMembers: (*Session).handleMembers,
}

// handleHeartbeat takes the newest sequence number the client has, or null.
func (s *Session) handleHeartbeat(now clock.Time, d json.RawMessage) Step {
	var seq *uint64
	if len(d) > 0 && json.Unmarshal(d, &seq) != nil {
		return Step{Close: proto.CloseDecodeError}
	}
	if seq != nil {
		s.buffer.Ack(*seq)
	}
	s.Beaten(now)
	return Step{Send: heartbeatACK}
}

// Beaten takes in a heartbeat that the connection's reader has answered.
func (s *Session) Beaten(at clock.Time) {
	if s.connected && at >= s.since {
		s.since, s.asked = at, false
	}
}

// Ack takes in the newest sequence number that the client says it has.
func (s *Session) Ack(seq uint64) { s.buffer.Ack(seq) }

func (s *Session) handlePresence(_ clock.Time, d json.RawMessage) Step {
	data, ok := decode[proto.PresenceData](d)
	if !ok || !validPresence(data) {
		return Step{Close: proto.CloseDecodeError}
	}
	return Step{Presence: data}
}

// maxSessionID bounds what a client may say a session's id is, in bytes.
const maxSessionID = 64

func (s *Session) handleVoice(_ clock.Time, d json.RawMessage) Step {
	data, ok := decode[proto.VoiceStateUpdateData](d)
	if !ok {
		return Step{Close: proto.CloseDecodeError}
	}
	if data.ChannelID != nil && *data.ChannelID == 0 {
		data.ChannelID = nil
	}
	if len(data.ConnectedAs) > maxSessionID {
		data.ConnectedAs = "" // it is kept, and nobody has such a session
	}
	return Step{Voice: data}
}

func (s *Session) handleMembers(_ clock.Time, d json.RawMessage) Step {
	data, ok := decode[proto.RequestGuildMembersData](d)
	if !ok {
		return Step{Close: proto.CloseDecodeError}
	}
	return Step{Members: data}
}
