package client

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/proto"
)

// handoverLimit is how long a session is kept beside the one that follows it. The server
// ends it before, once the whole channel has gone over.
const handoverLimit = 15 * time.Second

// handover is what a Voice keeps while its channel goes over to another voice server and
// not everybody in it is there yet: the session before. What we say goes to both servers,
// and each of the others is heard at the old one until it is heard at the new one.
type handover struct {
	former atomic.Pointer[voiceSession] // written under Voice.mu
	tasks  sync.WaitGroup

	mu   sync.Mutex
	ears map[proto.Snowflake]*ear // by speaker, of the last handover
}

// recent frames of the old server are told from those of the new one, which may be that
// far behind: more than may wait there for their speaker's name.
const recent = 2 * waitingLimit

// ear is what was heard of one speaker.
type ear struct {
	over  bool           // it is heard at the new server
	since int            // so many packets ago
	last  [recent][]byte // that were heard at the old one before, nil: or at both
	n     int
}

// handOver keeps a session while another takes its place, if they are of one channel.
// Otherwise it is false.
func (v *Voice) handOver(s *voiceSession) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.transport == nil || s.socket == nil || v.target.channel != s.target.channel {
		return false
	}
	var ctx context.Context
	ctx, s.end = context.WithTimeout(v.ctx, handoverLimit)
	v.handover.mu.Lock()
	v.handover.ears = make(map[proto.Snowflake]*ear)
	v.handover.mu.Unlock()
	s.following.Store(true)
	if before := v.handover.former.Swap(s); before != nil {
		before.end()
	}
	v.handover.tasks.Go(func() { s.linger(ctx) })
	return true
}

// linger serves a session that is kept, until the server or its time ends it.
func (s *voiceSession) linger(ctx context.Context) {
	defer s.end()
	err := s.socket.serve(ctx, s.interval, nil, nil, s)
	s.v.gw.c.log.Debug("voice session left behind", "guild", s.v.guild, "reason", err)
	s.hangUp(1000)
	v := s.v
	v.mu.Lock()
	v.handover.former.CompareAndSwap(s, nil)
	replaced := v.transport.Load() != s.transport
	v.mu.Unlock()
	if replaced { // else it serves on until it is
		s.transport.close()
	}
}

// carry makes a new session's transport the one that we speak by.
func (v *Voice) carry(media *transport) {
	v.mu.Lock()
	old := v.transport.Swap(media)
	former := v.handover.former.Load()
	v.mu.Unlock()
	if old != nil && (former == nil || former.transport != old) {
		old.close()
	}
}

// hear delivers what a session received, unless another session delivers it. One whose
// time is over has nothing more to say, except while nothing has taken its place.
func (s *voiceSession) hear(p Packet) {
	h := &s.v.handover
	former := h.former.Load()
	news := false
	switch {
	case s == former:
		news = h.atFormer(p)
	case s.following.Load():
		news = former == nil && s.v.transport.Load() == s.transport
	default:
		news = h.atNew(p, former != nil)
	}
	if news {
		s.v.deliver(p)
	}
}

// atFormer reports whether a packet of the former session is news.
func (h *handover) atFormer(p Packet) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.ear(p.UserID)
	if e.over {
		return false
	}
	e.last[e.n%recent], e.n = p.Opus, e.n+1
	return true
}

// atNew reports whether a packet of the session that follows, or has followed, the former
// one is news. It may come when the former has gone, and have been heard there; and what
// was not heard there may be followed by what was.
func (h *handover) atNew(p Packet, goesOn bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !goesOn && h.ears[p.UserID] == nil {
		return true
	}
	e := h.ear(p.UserID)
	e.over = true
	if e.since++; e.since > recent {
		if !goesOn {
			delete(h.ears, p.UserID)
		}
		return true
	}
	again := func(said []byte) bool { return said != nil && bytes.Equal(said, p.Opus) }
	i := slices.IndexFunc(e.last[:], again)
	if i < 0 {
		return true
	}
	e.last[i] = nil // who says it once more says it anew
	return false
}

// ear returns what is known of a speaker. The caller has locked.
func (h *handover) ear(speaker proto.Snowflake) *ear {
	e := h.ears[speaker]
	if e == nil {
		e = &ear{}
		h.ears[speaker] = e
	}
	return e
}
