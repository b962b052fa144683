package media

import (
	"net/netip"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

const (
	// earlyQuestions are remembered by a worker, and earlyLife is for how long.
	earlyQuestions = 64
	earlyLife      = time.Second
)

// question is an IP discovery.
type question struct {
	ssrc uint32
	addr netip.AddrPort
	at   clock.Time
}

// early are the last questions that came before their peer: a client asks the moment
// that signalling tells it where to, which may be before the command that adds it has
// come through to the worker's process, and many libraries ask only once. Strangers can
// push all others out.
type early struct {
	kept [earlyQuestions]question
	next int
}

func (e *early) keep(q question) {
	e.kept[e.next] = q
	e.next = (e.next + 1) % len(e.kept)
}

// take returns the address that asked last for an SSRC, not too long ago, and forgets
// whoever did.
func (e *early) take(now clock.Time, ssrc uint32) (addr netip.AddrPort, ok bool) {
	var last clock.Time
	for i := range e.kept {
		q := &e.kept[i]
		if q.ssrc != ssrc || !q.addr.IsValid() {
			continue
		}
		if now.Sub(q.at) < earlyLife && !q.at.Before(last) {
			addr, last, ok = q.addr, q.at, true
		}
		*q = question{}
	}
	return addr, ok
}
