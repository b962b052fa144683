package media

import (
	"math/rand/v2"
	"net/netip"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/shield"
)

// guard is what a worker knows of those who are nobody's: its shield, and what it has
// told it of the kernel's drops.
type guard struct {
	*shield.Shield
	junk uint64                               // packets of nobody among those read
	told struct{ junk, read, dropped uint64 } // at the last Observe
}

func newGuard(attackRate int) guard {
	return guard{Shield: shield.New(rand.Uint64(), shield.Config{AttackRate: attackRate})}
}

// barred reports whether a packet that may cost cryptography is dropped instead: it
// comes from a network that floods, and from no peer's address.
func (w *worker) barred(now clock.Time, addr netip.AddrPort) bool {
	if !w.guard.Blocked(now, addr.Addr()) {
		return false
	}
	if _, known := w.byAddr[addr]; known {
		return false
	}
	w.strays[strayBlocked]++
	w.guard.junk++
	return true
}

// stranger counts a packet that is dropped for it is nobody's.
func (w *worker) stranger(now clock.Time, addr netip.AddrPort, known bool, why stray) {
	w.strays[why]++
	w.junk(now, addr, known)
}

// invalid counts a packet that claimed a peer and was not of it.
func (w *worker) invalid(now clock.Time, addr netip.AddrPort, known bool, drop rtp.Drop) {
	w.refused[drop]++
	w.junk(now, addr, known)
}

// junk tells the shield of a packet. From the address of a peer it is held against
// nobody.
func (w *worker) junk(now clock.Time, addr netip.AddrPort, known bool) {
	w.guard.junk++
	if known {
		w.guard.CountPeer()
	} else {
		w.guard.Count(now, addr.Addr())
	}
}

// judge tells the shield what passed since the last time. Of what the kernel dropped, all
// is nobody's while the worker keeps up, for then it was the socket's filter; else the
// same part as of what was read.
func (w *worker) judge(now clock.Time) {
	g := &w.guard
	dropped := w.socket.Dropped()
	unseen, read := max(dropped, g.told.dropped)-g.told.dropped, w.packetsIn-g.told.read
	if w.overload.behind && read > 0 {
		unseen = uint64(float64(unseen) * float64(g.junk-g.told.junk) / float64(read))
	}
	before := g.Attacked()
	g.Observe(now, unseen)
	g.told.junk, g.told.read, g.told.dropped = g.junk, w.packetsIn, dropped
	if attacked := g.Attacked(); attacked != before {
		if attacked {
			w.log.Warn("a media worker is attacked", "worker", w.index)
		} else {
			w.log.Info("the attack on a media worker is over", "worker", w.index)
		}
	}
}
