package media

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

const (
	// overloadWindow is how often the worker looks whether it keeps up.
	overloadWindow = 100 * time.Millisecond
	// turnBudget is how long a turn may take: as long as a jitter buffer bridges.
	turnBudget = 100 * time.Millisecond
	// shedStep is the part of what is still delivered that is shed for each window but
	// the first in which the worker falls behind; shedMost is the most.
	shedStep = 0.2
	shedMost = 0.9
	// shedRecovery is what is taken back of it in a second of keeping up.
	shedRecovery = 0.25
)

// overload decides how much of the deliveries a worker gives up. It falls behind when
// each of its reads for a window is a full batch, so that its queue in the kernel never
// empties; when that queue overflowed; or when one turn takes longer than a budget.
// Drops alone are no sign, for the socket's filter counts among them; nor is a single
// window, for the host may have stopped the process.
type overload struct {
	shed   float64
	behind bool       // in the last window
	began  clock.Time // of this one

	reads, full int
	longest     time.Duration
	dropped     uint64 // until the last window
}

// observe notes a turn that read something: whether a whole batch, and how long it took.
func (o *overload) observe(full bool, took time.Duration) {
	o.reads++
	if full {
		o.full++
	}
	o.longest = max(o.longest, took)
}

// due reports whether a window has passed.
func (o *overload) due(now clock.Time) bool { return now.Sub(o.began) >= overloadWindow }

// update ends a window; dropped is how many datagrams the kernel has dropped so far.
func (o *overload) update(now clock.Time, dropped uint64) {
	behind := o.full > 0 && (o.full == o.reads || dropped > o.dropped) || o.longest > turnBudget
	switch {
	case behind && o.behind:
		o.shed = min(o.shed+(1-o.shed)*shedStep, shedMost)
	case !behind:
		o.shed = max(o.shed-shedRecovery*now.Sub(o.began).Seconds(), 0)
	}
	*o = overload{shed: o.shed, behind: behind, began: now, dropped: dropped}
}
