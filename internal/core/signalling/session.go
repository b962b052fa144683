package signalling

import (
	"net/netip"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	limit "hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

// session is one member's voice session.
type session struct {
	member
	guild.VoiceFlags
	join    uint64
	token   string
	gateway string // session that it is of: the one of the token, or one that took it over
	named   string // session of the token
	version int
	conn    ConnID // zero while cut
	channel *channel
	worker  int // where its peer is
	peer    sfu.PeerID
	ssrc    uint32
	posted  sfu.Flags // what the worker was told last

	transport string
	addresses []netip.Addr
	from      netip.Addr
	present   bool // has had a Session Description: the others know of it
	place     int  // index in channel.present
	ended     bool // removed; its connection awaits its close

	begun    uint64 // number given out last before the session began
	snapshot uint64 // number of the last payload that introduced the others

	entrance uint64 // into the channel, counted from 1
	known    uint64 // entrance of the last that an introduction has told it of

	declared  proto.SpeakingFlags // by the client
	onAir     bool                // by the worker
	hushed    bool                // the client said that it ended before the worker noticed
	announced proto.SpeakingFlags
	kind      proto.SpeakingFlags // announced last that was not zero
	mapped    bool                // the others know its SSRC, or will with its entrance

	begunAt clock.Time // to speak, as the others were told last

	entered      clock.Time
	reminders    uint8 // of reminders, how many it has had
	asksSpeaking bool  // for an event whenever somebody begins or ends to speak

	comebacks limit.Limiter // Resumes, and Identifies of the same join

	flags, platform *int // Client Flags and Client Platform, when announced

	identified  clock.Time
	heartbeatBy clock.Time
	answerBy    clock.Time // while its connection is asked for a sign of life
	resumeBy    clock.Time // while cut
	selectBy    clock.Time // while without a transport
	closeBy     clock.Time // while moved
	lingerBy    clock.Time // while its channel moves to another voice server
	closeCode   proto.CloseCode
}

// peerFlags returns what the worker must know of the session.
func (x *session) peerFlags() sfu.Flags {
	var f sfu.Flags
	if x.Mute {
		f |= sfu.Muted
	}
	if x.Deaf || x.SelfDeaf {
		f |= sfu.Deafened
	}
	if x.speakingMask()&x.declared&proto.SpeakingPriority != 0 {
		f |= sfu.Priority
	}
	return f
}

// speakingMask returns the speaking flags that the member may use.
func (x *session) speakingMask() proto.SpeakingFlags {
	mask := proto.SpeakingVoice | proto.SpeakingSoundshare
	if x.Permissions.Has(proto.PermPrioritySpeaker) {
		mask |= proto.SpeakingPriority
	}
	return mask
}

// speaking returns the state that the others are to see: the worker says when
// there is voice, the client says of what kind.
func (x *session) speaking() proto.SpeakingFlags {
	if !x.onAir || x.hushed || x.Mute {
		return 0
	}
	if flags := x.declared & x.speakingMask(); flags != 0 {
		return flags
	}
	return proto.SpeakingVoice
}

// refresh tells the worker and the others what has changed of a session.
func (s *Shard) refresh(now clock.Time, x *session) {
	if flags := x.peerFlags(); flags != x.posted {
		x.posted = flags
		s.post(x.worker, sfu.Command{Update: &sfu.UpdatePeer{Peer: x.peer, Flags: flags}})
	}
	flags := x.speaking()
	if flags == x.announced && (x.mapped || x.declared == 0) {
		return
	}
	e := entry{except: x.peer}
	switch {
	case flags == 0 && x.mapped:
		e.repeats = now
	case flags == x.kind:
		e.repeats = x.begunAt
	}
	x.announced, x.mapped = flags, true
	if flags != 0 {
		x.kind, x.begunAt = flags, now
	}
	switch {
	case !x.present:
	case !x.isNewcomer():
		s.tellSpeaking(x, e)
	case flags != 0:
		s.round(x.channel) // for whom its packets are about to come
	}
}

func (s *Shard) tellSpeaking(x *session, e entry) {
	s.tellThose(x.channel, e, func(version int) []byte { return encodeSpeaking(version, x.announced, x.ssrc, x.user) })
}

// settleIn is how long a native client is told of everybody who begins or ends to speak,
// as those are always who follow it: many bots look at what they are told only some time after
// they have joined (discordgo returns from its join up to a second later).
const settleIn = 10 * time.Second

// reminders is when, after it entered, a native client is told again of those who speak on
// and on: of them nothing else would tell it before their next pause, and a bot that did not
// look yet would hear them without knowing whom. Tick, each second, looks which are due.
var reminders = [...]time.Duration{1250 * time.Millisecond, 5 * time.Second, settleIn}

// remind repeats to a session that has just entered the SSRCs of those who speak. These
// payloads have no number: a resume needs none of them.
func (s *Shard) remind(now clock.Time, x *session) {
	left := reminders[x.reminders:]
	if len(left) == 0 || !x.present || x.conn == 0 || now.Sub(x.entered) < left[0] {
		return
	}
	x.reminders++
	if x.followsSpeaking() {
		return
	}
	for _, other := range x.channel.present {
		if other != x && other.mapped && other.announced != 0 && !other.isNewcomer() {
			s.emit(Output{Conn: x.conn, Frame: seal(encodeSpeaking(x.version, other.announced, other.ssrc, other.user), 0)})
		}
	}
}

// followsSpeaking reports whether a session is told of everybody who begins or ends
// to speak. Discord tells browsers, which see no packets, and no native client.
func (x *session) followsSpeaking() bool {
	return x.asksSpeaking || x.transport == proto.ProtocolWebRTC
}

// channel is the sessions of one voice channel.
type channel struct {
	id       proto.Snowflake
	sessions int        // present or not
	present  []*session // in no order
	history  history
	halves   []half // the workers that have peers of it
	relays   []link // one for each two of them

	entrances uint64     // so far
	newcomers []*session // present, whom the others have yet to be told of
	leavers   []leaver   // gone, the same
	pace      limit.Pace // of the rounds in which they are
	gathering bool       // is in Shard.gathering
}

// send gives one session a payload that a resume replays.
func (s *Shard) send(x *session, body []byte) {
	var sequence uint64
	if x.version >= versionSequence {
		x.channel.history.last++
		sequence = x.channel.history.last
	}
	frame := seal(body, sequence)
	if sequence != 0 {
		x.channel.history.add(entry{sequence: sequence, only: x.peer, frame: frame})
	}
	s.emit(Output{Conn: x.conn, Frame: frame})
}

// tell gives a payload to everybody present in a session's channel but itself.
func (s *Shard) tell(from *session, encode func(version int) []byte) {
	s.tellThose(from.channel, entry{except: from.peer}, encode)
}

// tellThose gives a payload to all those present in a channel that an entry is
// for. It is encoded once for each of the three families of versions that are
// there.
func (s *Shard) tellThose(ch *channel, e entry, encode func(version int) []byte) {
	var plain, boolean []byte
	for _, x := range ch.present {
		if !e.isFor(x) {
			continue
		}
		if h := &ch.history; e.frame == nil {
			h.last++
			e.sequence, e.frame = h.last, seal(encode(newest), h.last)
			h.add(e)
		}
		if x.conn == 0 {
			continue
		}
		frame := e.frame
		switch {
		case x.version < versionSpeakingBits:
			if boolean == nil {
				boolean = seal(encode(Legacy), 0)
			}
			frame = boolean
		case x.version < versionSequence:
			if plain == nil {
				plain = seal(encode(versionSpeakingBits), 0)
			}
			frame = plain
		}
		s.emit(Output{Conn: x.conn, Frame: frame})
	}
}

// tellAbout passes on what a client announced of itself.
func (s *Shard) tellAbout(x *session) {
	if x.flags != nil {
		s.tell(x, func(int) []byte { return encodeFlags(x) })
	}
	if x.platform != nil {
		s.tell(x, func(int) []byte { return encodePlatform(x) })
	}
}

func encodeFlags(x *session) []byte {
	return encodeObject(proto.VoiceOpClientFlags, proto.VoiceClientFlags{UserID: x.user, Flags: x.flags})
}

func encodePlatform(x *session) []byte {
	return encodeObject(proto.VoiceOpClientPlatform, proto.VoiceClientPlatform{UserID: x.user, Platform: x.platform})
}

// introduce tells a session of everybody present, and of the SSRCs of those who
// have something to say. Only the last of these payloads is numbered: until it is
// acknowledged a resume starts over with what is true by then.
func (s *Shard) introduce(x *session) {
	users := make([]proto.Snowflake, 0, len(x.channel.present))
	var bodies [][]byte
	for _, other := range x.channel.present {
		if other == x {
			continue
		}
		users = append(users, other.user)
		if other.mapped {
			flags := other.announced
			if !x.followsSpeaking() {
				flags = other.kind // of which it is told once
			}
			bodies = append(bodies, encodeSpeaking(x.version, flags, other.ssrc, other.user))
		}
		if other.flags != nil {
			bodies = append(bodies, encodeFlags(other))
		}
		if other.platform != nil {
			bodies = append(bodies, encodePlatform(other))
		}
	}
	h := &x.channel.history
	x.snapshot, x.known = h.last, x.channel.entrances
	if len(users) == 0 {
		return
	}
	last := encodeConnect(users...)
	if len(bodies) > 0 {
		s.emit(Output{Conn: x.conn, Frame: seal(last, 0)})
		for _, body := range bodies[:len(bodies)-1] {
			s.emit(Output{Conn: x.conn, Frame: seal(body, 0)})
		}
		last = bodies[len(bodies)-1]
	}
	var sequence uint64
	if x.version >= versionSequence {
		h.last++
		x.snapshot, sequence = h.last, h.last
	}
	s.emit(Output{Conn: x.conn, Frame: seal(last, sequence)})
}

// replay sends what a resumed session has missed after the number acknowledged. A
// client without numbers, or one that has not been told of all the others, is told
// anew who is present, after who is not.
func (s *Shard) replay(x *session, acknowledged uint64, numbered bool) {
	anew := x.present && (!numbered || acknowledged < x.snapshot)
	if numbered {
		x.channel.history.since(acknowledged, func(e *entry) {
			private := e.only == x.peer
			shared := e.isFor(x) && x.present && (anew && e.gone || !anew && e.sequence > x.snapshot)
			if private || shared {
				s.emit(Output{Conn: x.conn, Frame: e.frame})
			}
		})
	}
	if anew {
		s.introduce(x)
	}
}
