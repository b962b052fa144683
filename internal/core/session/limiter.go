package session

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// Limiter allows so many events in each window of time; a window begins with the
// first event after the last one ended.
type Limiter struct {
	limit  int32
	used   int32
	window time.Duration
	ends   clock.Time
}

// NewLimiter returns a limiter of limit events per window.
func NewLimiter(limit int, window time.Duration) Limiter {
	return Limiter{limit: int32(limit), window: window}
}

// Allow counts one event and reports whether it is within the limit.
func (l *Limiter) Allow(now clock.Time) bool {
	if l.Over(now) {
		l.ends, l.used = now.Add(l.window), 0
	}
	if l.used >= l.limit {
		return false
	}
	l.used++
	return true
}

// Spent reports whether the window's events are used up.
func (l *Limiter) Spent(now clock.Time) bool { return !l.Over(now) && l.used >= l.limit }

// Over reports whether the window is over, so that nothing is counted.
func (l *Limiter) Over(now clock.Time) bool { return !now.Before(l.ends) }
