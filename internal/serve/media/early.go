package media

import (
	"net/netip"
	"time"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/clock"
)

const (
	// earlyQuestions and earlyChecks are remembered by a worker, and earlyLife is for how
	// long. A check longer than earlySize is not: those of browsers have about 120 bytes.
	earlyQuestions = 64
	earlyChecks    = 16
	earlySize      = 256
	earlyLife      = time.Second
)

// question is an IP discovery.
type question struct {
	ssrc uint32
	addr netip.AddrPort
	at   clock.Time
}

// check is a browser's connectivity check.
type check struct {
	packet [earlySize]byte
	size   int
	addr   netip.AddrPort
	at     clock.Time
}

// early are the last questions and checks that came before their peer: a client asks the
// moment that signalling tells it where to, which may be before the command that adds it
// has come through to the worker's process. Many libraries ask only once, and browsers
// check again after 50 ms at the soonest. Strangers can push all others out.
type early struct {
	kept [earlyQuestions]question
	next int

	checks    [earlyChecks]check
	nextCheck int
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

func (e *early) keepCheck(now clock.Time, addr netip.AddrPort, packet []byte) {
	if len(packet) > earlySize {
		return
	}
	c := &e.checks[e.nextCheck]
	e.nextCheck = (e.nextCheck + 1) % len(e.checks)
	c.size, c.addr, c.at = copy(c.packet[:], packet), addr, now
}

// takeCheck returns the last check for a transport, not too long ago, and forgets all of
// them. The packet is there until the next is kept.
func (e *early) takeCheck(now clock.Time, ufrag string) (packet []byte, addr netip.AddrPort, ok bool) {
	var last clock.Time
	for i := range e.checks {
		c := &e.checks[i]
		if !c.addr.IsValid() {
			continue
		}
		if asked, _ := browser.BindingUsername(c.packet[:c.size]); string(asked) != ufrag {
			continue
		}
		if now.Sub(c.at) < earlyLife && !c.at.Before(last) {
			packet, addr, last, ok = c.packet[:c.size], c.addr, c.at, true
		}
		c.addr = netip.AddrPort{}
	}
	return packet, addr, ok
}
