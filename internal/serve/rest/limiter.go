package rest

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// quota allows count requests in each window of length per.
type quota struct {
	count int
	per   time.Duration
}

// verdict is what a limiter says of one request. after is the time until the
// window ends.
type verdict struct {
	ok        bool
	remaining int
	after     time.Duration
}

// limiter counts requests in fixed windows, one for each key. Time is an
// argument. It holds at most 2×half windows: they live in two generations, and
// when the younger is full the older is forgotten whole, so a flood of keys
// costs neither memory nor a sweep. What is forgotten starts a new window.
type limiter struct {
	half         int
	young, older map[uint64]window
}

type window struct {
	ends clock.Time
	used int
}

func newLimiter(half int) *limiter {
	return &limiter{half: half, young: make(map[uint64]window)}
}

// take counts cost requests of key against q. A request that is refused is not
// counted; a cost of zero only asks whether one more would be let through.
func (l *limiter) take(key uint64, q quota, cost int, now clock.Time) verdict {
	w, known := l.young[key]
	if !known {
		w = l.older[key]
	}
	if !now.Before(w.ends) {
		w = window{ends: now.Add(q.per)}
	}
	v := verdict{ok: w.used+max(cost, 1) <= q.count, after: w.ends.Sub(now)}
	if v.ok && cost > 0 {
		w.used += cost
		l.put(key, w, known)
	}
	v.remaining = max(q.count-w.used, 0)
	return v
}

func (l *limiter) put(key uint64, w window, known bool) {
	if !known && len(l.young) >= l.half {
		l.young, l.older = make(map[uint64]window), l.young
	}
	l.young[key] = w
}
