package signalling

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	limit "hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

// ErrState is returned for the state of a shard that cannot be.
var ErrState = errors.New("signalling: a shard's state is not consistent")

// State is a shard whose connections are all closed, for the next program of its process
// to go on with. Times in it count from when it was made.
type State struct {
	Peer     sfu.PeerID     `cbor:"1,keyasint"` // given out last
	Count    uint32         `cbor:"2,keyasint"` // and so of SSRCs
	Step     uint32         `cbor:"3,keyasint"`
	Channels []ChannelState `cbor:"4,keyasint,omitempty"`
	Notices  []NoticeState  `cbor:"5,keyasint,omitempty"`
	Unposted []PostingState `cbor:"6,keyasint,omitempty"`
}

// ChannelState is a channel with its sessions, those present first and in their places.
type ChannelState struct {
	ID        proto.Snowflake `cbor:"1,keyasint"`
	Last      uint64          `cbor:"2,keyasint"`
	Dropped   uint64          `cbor:"3,keyasint"`
	Entrances uint64          `cbor:"4,keyasint"`
	History   []EntryState    `cbor:"5,keyasint,omitempty"`
	Links     []LinkState     `cbor:"6,keyasint,omitempty"`
	Sessions  []SessionState  `cbor:"7,keyasint"`
}

// EntryState is one numbered payload of a channel.
type EntryState struct {
	Sequence uint64     `cbor:"1,keyasint"`
	Only     sfu.PeerID `cbor:"2,keyasint,omitempty"`
	Except   sfu.PeerID `cbor:"3,keyasint,omitempty"`
	Before   uint64     `cbor:"4,keyasint,omitempty"`
	Gone     bool       `cbor:"5,keyasint,omitempty"`
	Frame    []byte     `cbor:"6,keyasint"`
	Repeats  bool       `cbor:"7,keyasint,omitempty"`
}

// LinkState is a relay between two workers.
type LinkState struct {
	A    int        `cbor:"1,keyasint"`
	B    int        `cbor:"2,keyasint"`
	Peer sfu.PeerID `cbor:"3,keyasint"`
}

// SessionState is one session.
type SessionState struct {
	Guild     proto.Snowflake     `cbor:"1,keyasint"`
	User      proto.Snowflake     `cbor:"2,keyasint"`
	Flags     guild.VoiceFlags    `cbor:"3,keyasint"`
	Join      uint64              `cbor:"4,keyasint"`
	Token     string              `cbor:"5,keyasint"`
	Gateway   string              `cbor:"6,keyasint"`
	Version   int                 `cbor:"7,keyasint"`
	Worker    int                 `cbor:"8,keyasint"`
	Peer      sfu.PeerID          `cbor:"9,keyasint"`
	SSRC      uint32              `cbor:"10,keyasint"`
	Posted    sfu.Flags           `cbor:"11,keyasint"`
	Transport string              `cbor:"12,keyasint,omitempty"`
	From      netip.Addr          `cbor:"13,keyasint"`
	Present   bool                `cbor:"14,keyasint,omitempty"`
	Begun     uint64              `cbor:"15,keyasint"`
	Snapshot  uint64              `cbor:"16,keyasint"`
	Entrance  uint64              `cbor:"17,keyasint"`
	Known     uint64              `cbor:"18,keyasint"`
	Declared  proto.SpeakingFlags `cbor:"19,keyasint"`
	OnAir     bool                `cbor:"20,keyasint,omitempty"`
	Hushed    bool                `cbor:"21,keyasint,omitempty"`
	Announced proto.SpeakingFlags `cbor:"22,keyasint"`
	Mapped    bool                `cbor:"23,keyasint,omitempty"`
	About     *int                `cbor:"24,keyasint,omitempty"` // Client Flags
	Platform  *int                `cbor:"25,keyasint,omitempty"`
	SelectIn  time.Duration       `cbor:"26,keyasint,omitempty"`
	Named     string              `cbor:"27,keyasint"` // session of the token
	Kind      proto.SpeakingFlags `cbor:"28,keyasint,omitempty"`
	Asks      bool                `cbor:"29,keyasint,omitempty"` // for speaking events
}

// NoticeState is what a guild said of a join without a session.
type NoticeState struct {
	Guild     proto.Snowflake   `cbor:"1,keyasint"`
	User      proto.Snowflake   `cbor:"2,keyasint"`
	Join      uint64            `cbor:"3,keyasint"`
	Ended     bool              `cbor:"4,keyasint,omitempty"`
	Flags     *guild.VoiceFlags `cbor:"5,keyasint,omitempty"`
	ExpiresIn time.Duration     `cbor:"6,keyasint"`
}

// PostingState is a command that a worker has not taken.
type PostingState struct {
	Worker  int         `cbor:"1,keyasint"`
	Command sfu.Command `cbor:"2,keyasint"`
}

// State closes every connection with a code from which clients resume, and returns the
// shard as it is then. The shard is of no more use once its outputs are drained.
func (s *Shard) State(now clock.Time, code proto.CloseCode) State {
	for _, ch := range s.channels {
		s.round(ch)
	}
	s.CloseAll(now, code)
	st := State{Peer: s.lastPeer, Count: s.ssrcs.count, Step: s.ssrcs.step}
	at := make(map[*channel]int, len(s.channels))
	for _, ch := range s.channels {
		at[ch] = len(st.Channels)
		st.Channels = append(st.Channels, ch.state(now))
	}
	for _, x := range s.members {
		if !x.present {
			ch := &st.Channels[at[x.channel]]
			ch.Sessions = append(ch.Sessions, x.state(now))
		}
	}
	for m, n := range s.notices {
		st.Notices = append(st.Notices, NoticeState{m.guild, m.user, n.join, n.ended, n.flags, n.expires.Sub(now)})
	}
	for _, p := range s.unposted {
		st.Unposted = append(st.Unposted, PostingState{p.worker, p.command})
	}
	return st
}

func (ch *channel) state(now clock.Time) ChannelState {
	h := &ch.history
	st := ChannelState{ID: ch.id, Last: h.last, Dropped: h.dropped, Entrances: ch.entrances}
	h.since(0, func(e *entry) {
		st.History = append(st.History, EntryState{e.sequence, e.only, e.except, e.before, e.gone, e.frame, e.repeats != 0})
	})
	for _, l := range ch.relays {
		st.Links = append(st.Links, LinkState{l.a, l.b, l.peer})
	}
	for _, x := range ch.present {
		st.Sessions = append(st.Sessions, x.state(now))
	}
	return st
}

func (x *session) state(now clock.Time) SessionState {
	st := SessionState{
		Guild: x.guild, User: x.user, Flags: x.VoiceFlags, Join: x.join, Token: x.token, Gateway: x.gateway, Named: x.named, Version: x.version,
		Worker: x.worker, Peer: x.peer, SSRC: x.ssrc, Posted: x.posted, Transport: x.transport, From: x.from, Present: x.present,
		Begun: x.begun, Snapshot: x.snapshot, Entrance: x.entrance, Known: x.known, Declared: x.declared, OnAir: x.onAir,
		Hushed: x.hushed, Announced: x.announced, Kind: x.kind, Mapped: x.mapped, Asks: x.asksSpeaking, About: x.flags, Platform: x.platform,
	}
	if x.selectBy != 0 {
		st.SelectIn = max(x.selectBy.Sub(now), 1)
	}
	return st
}

// Restore returns the shard that a State is of. All of its sessions wait to be resumed.
// It returns ErrState for one that cannot be.
func Restore(now clock.Time, cfg Config, st *State) (*Shard, error) {
	s := NewShard(cfg)
	if HomeOf(st.Peer) != cfg.Home || st.Step&1 == 0 {
		return nil, ErrState
	}
	s.lastPeer, s.ssrcs.count, s.ssrcs.step = st.Peer, st.Count, st.Step
	for i := range st.Channels {
		if !s.restoreChannel(now, &st.Channels[i]) {
			return nil, ErrState
		}
	}
	if len(st.Notices) > maxNotices || len(st.Unposted) > 2*maxUnposted {
		return nil, ErrState
	}
	for _, n := range st.Notices {
		expires := now.Add(min(max(n.ExpiresIn, 0), token.VoiceLifetime))
		s.notices[member{n.Guild, n.User}] = notice{join: n.Join, ended: n.Ended, flags: n.Flags, expires: expires}
	}
	for _, p := range st.Unposted {
		if !s.isWorker(p.Worker) {
			return nil, ErrState
		}
		s.unposted = append(s.unposted, posting{p.Worker, p.Command})
	}
	return s, nil
}

func (s *Shard) isWorker(worker int) bool { return worker >= 0 && worker < len(s.cfg.Workers) }

func (s *Shard) made(peer sfu.PeerID) bool { return HomeOf(peer) == s.cfg.Home && peer <= s.lastPeer }

func (s *Shard) restoreChannel(now clock.Time, st *ChannelState) bool {
	if st.ID == 0 || s.channels[st.ID] != nil || len(st.Sessions) == 0 || len(st.History) > historyFrames {
		return false
	}
	ch := &channel{id: st.ID, entrances: st.Entrances}
	s.channels[st.ID] = ch
	ch.history.dropped = st.Dropped
	for _, e := range st.History {
		if e.Sequence <= max(ch.history.last, st.Dropped) || e.Sequence > st.Last {
			return false
		}
		ch.history.last = e.Sequence
		restored := entry{sequence: e.Sequence, only: e.Only, except: e.Except, before: e.Before, gone: e.Gone, frame: e.Frame}
		if e.Repeats {
			restored.repeats = now
		}
		ch.history.add(restored)
	}
	ch.history.last = st.Last
	for i := range st.Sessions {
		if !s.restoreSession(now, ch, &st.Sessions[i]) {
			return false
		}
	}
	for _, l := range st.Links {
		if !s.isWorker(l.A) || !s.isWorker(l.B) || l.A == l.B || !s.made(l.Peer) {
			return false
		}
		ch.relays = append(ch.relays, link{l.A, l.B, l.Peer})
	}
	return true
}

func (s *Shard) restoreSession(now clock.Time, ch *channel, st *SessionState) bool {
	m := member{st.Guild, st.User}
	switch {
	case s.members[m] != nil, !s.made(st.Peer), s.peers[st.Peer] != nil, !s.isWorker(st.Worker):
		return false
	case st.Token == "", st.SSRC == 0, st.Version < oldest, st.Version > newest, st.Entrance > ch.entrances, st.Begun > ch.history.last:
		return false
	}
	x := &session{
		member: m, VoiceFlags: st.Flags, join: st.Join, token: st.Token, gateway: st.Gateway, named: st.Named, version: st.Version, channel: ch,
		worker: st.Worker, peer: st.Peer, ssrc: st.SSRC, posted: st.Posted, transport: st.Transport, from: st.From, present: st.Present,
		begun: st.Begun, snapshot: st.Snapshot, entrance: st.Entrance, known: st.Known, declared: st.Declared, onAir: st.OnAir,
		hushed: st.Hushed, announced: st.Announced, kind: st.Kind, mapped: st.Mapped, asksSpeaking: st.Asks, flags: st.About, platform: st.Platform,
		reminders: uint8(len(reminders)), comebacks: limit.NewLimiter(maxComebacks, time.Minute), identified: now, resumeBy: now.Add(s.cfg.ResumeWindow),
	}
	if st.SelectIn > 0 {
		x.selectBy = now.Add(min(st.SelectIn, selectTimeout))
	}
	if x.present {
		x.place = len(ch.present)
		ch.present = append(ch.present, x)
	}
	ch.sessions++
	at := slices.IndexFunc(ch.halves, func(h half) bool { return h.worker == x.worker })
	if at < 0 {
		at, ch.halves = len(ch.halves), append(ch.halves, half{worker: x.worker})
	}
	ch.halves[at].sessions++
	s.members[m], s.peers[x.peer] = x, x
	return true
}

// Restore counts the sessions of a shard's state as Acquire does. It is false when a
// channel is at home elsewhere already.
func (p *Placement) Restore(home int, st *State) bool {
	for _, ch := range st.Channels {
		if p.channels[ch.ID] != nil {
			return false
		}
		at := &pin{home: home}
		p.channels[ch.ID] = at
		for _, x := range ch.Sessions {
			at.sessions++
			if x.Worker == home {
				at.atHome++
			}
			p.peers[x.Worker]++
		}
	}
	return true
}
