package signalling

import (
	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/sfu"
)

// What a channel keeps for clients that resume. The limits hold about a minute of
// a busy channel of a hundred, or of a channel of a thousand that fills up at
// once.
const (
	historyFrames = 2048
	historyBytes  = 256 << 10
)

// entry is one numbered payload, for one session only or for all others present
// that isFor names; zero is no session.
type entry struct {
	sequence uint64
	only     sfu.PeerID
	except   sfu.PeerID
	before   uint64 // not for who knows of this entrance already; zero is for all
	gone     bool   // tells of a leave
	// repeats is when those who had settled in by then were told the same of somebody who
	// speaks: it is only for others, and for those who follow speaking; zero is for all.
	repeats clock.Time
	frame   []byte
}

// isFor reports whether a payload that is not for one session only is for x.
func (e *entry) isFor(x *session) bool {
	return e.only == 0 && e.except != x.peer && (e.before == 0 || x.known < e.before) && (e.repeats == 0 || x.followsSpeaking() || e.repeats.Sub(x.entered) < settleIn)
}

// history is the numbered payloads of a channel, oldest first, bounded in number
// and bytes. The zero value is empty.
type history struct {
	ring    []entry
	head, n int
	bytes   int
	last    uint64 // number given out last
	dropped uint64 // highest number that is no longer kept
}

func (h *history) at(i int) *entry { return &h.ring[(h.head+i)%len(h.ring)] }

// add keeps a payload that took the number h.last.
func (h *history) add(e entry) {
	for h.n > 0 && (h.n == historyFrames || h.bytes+len(e.frame) > historyBytes) {
		h.drop()
	}
	if h.n == len(h.ring) {
		grown := make([]entry, max(16, 2*len(h.ring)))
		for i := range h.n {
			grown[i] = *h.at(i)
		}
		h.ring, h.head = grown, 0
	}
	*h.at(h.n) = e
	h.n++
	h.bytes += len(e.frame)
}

func (h *history) drop() {
	oldest := h.at(0)
	h.dropped = oldest.sequence
	h.bytes -= len(oldest.frame)
	*oldest = entry{}
	h.head = (h.head + 1) % len(h.ring)
	h.n--
}

// since calls f for each entry after the number acknowledged, oldest first.
func (h *history) since(acknowledged uint64, f func(*entry)) {
	for i := range h.n {
		if e := h.at(i); e.sequence > acknowledged {
			f(e)
		}
	}
}
