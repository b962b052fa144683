package media

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

const (
	// mostWait bounds how long packets are waited for that would leave with those that
	// came.
	mostWait = 5 * time.Millisecond
	// gatherWindow is how often the wait is set anew.
	gatherWindow = 100 * time.Millisecond
	// gatherFrom is how many packets a second must be delivered for a wait: fewer cost
	// less than a twentieth of a core. A wait once begun ends below gatherUntil.
	gatherFrom  = 8000
	gatherUntil = 6000
	// gatherMore is how many packets for a listener a wait is to bring. The first
	// three save half of the cost of each, the next four a sixth.
	gatherMore = 3
	// gatherLeast is how many it must bring at least.
	gatherLeast = 0.5

	// idleWait is how long a worker sleeps at a time for which nothing but keepalives has
	// come for idleAfter windows, idleFrom or more in each: a wake-up for each of them costs
	// many times what they do. It ends with the first command, or packet that is anything
	// else, which it has delayed by that much at most.
	idleWait  = 10 * time.Millisecond
	idleAfter = 10
	idleFrom  = 20
)

// gatherer decides how long a worker waits for more packets once one has come: not at
// all when there is little to send or when nobody hears several speakers, and else as
// long as a few packets for each listener take to come. And a little when nobody
// speaks and many are there.
type gatherer struct {
	most time.Duration
	wait time.Duration // for more packets, once one has come
	doze time.Duration // between two looks whether any has; 0: each one wakes the worker

	// Of the current window: packets delivered, and peers that they went to. The
	// window's number marks those peers.
	delivered, listeners int
	window               uint32
	began                clock.Time

	// Of the current window too: what there was to do, and how much of it was
	// keepalives. idle counts the windows in a row without anything else.
	done, keepalives int
	idle             int
}

// update sets the wait when a window has passed or idleness has ended, and reports
// whether it did.
func (g *gatherer) update(now clock.Time) bool {
	if g.idle >= idleAfter && g.done > g.keepalives {
		g.wait, g.doze, g.idle = 0, 0, 0
		return true
	}
	elapsed := now.Sub(g.began)
	if elapsed < gatherWindow {
		return false
	}
	if g.idle++; g.done > g.keepalives || g.keepalives < idleFrom {
		g.idle = 0
	}
	g.wait, g.doze = g.choose(elapsed), 0
	if g.idle >= idleAfter {
		g.doze = idleWait
	}
	g.delivered, g.listeners, g.done, g.keepalives, g.began = 0, 0, 0, 0, now
	g.window++
	return true
}

// held returns how long a packet that comes now may lie.
func (g *gatherer) held() time.Duration { return g.wait + g.doze }

func (g *gatherer) choose(elapsed time.Duration) time.Duration {
	least := gatherFrom
	if g.wait > 0 {
		least = gatherUntil
	}
	if float64(g.delivered) < float64(least)*elapsed.Seconds() {
		return 0
	}
	between := elapsed * time.Duration(g.listeners) / time.Duration(g.delivered) // packets for one listener
	if float64(g.most) < gatherLeast*float64(between) {
		return 0
	}
	return min(g.most, gatherMore*between)
}
