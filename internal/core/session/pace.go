package session

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// A frame that is written alone costs about 25 µs, nearly all of it the system
// call and the wake-up of its writer; in a burst it costs a tenth of that. With ten
// times as long between the rounds of a crowd, writing them takes a tenth of a
// core, however much happens there.
const (
	paceEach = 250 * time.Microsecond // for each receiver
	paceMost = 2 * time.Second
	paceFrom = 100 // receivers; fewer are told everything at once
)

// Pace says when a crowd is told what has gathered for all of it. The first piece
// of news after a quiet time goes at once, and a small crowd never waits. The zero
// Pace is ready for use.
type Pace struct{ next clock.Time }

// Round reports whether a round of writes to so many receivers may begin now. It
// is to be called for each piece of news, and again at Next while any waits.
func (p *Pace) Round(now clock.Time, receivers int) bool {
	if now.Before(p.next) {
		return false
	}
	p.next = now
	if receivers >= paceFrom {
		p.next = now.Add(min(time.Duration(receivers)*paceEach, paceMost))
	}
	return true
}

// Next returns when the next round may begin.
func (p *Pace) Next() clock.Time { return p.next }
