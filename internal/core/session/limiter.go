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
	if !now.Before(l.ends) {
		l.ends, l.used = now.Add(l.window), 0
	}
	if l.used >= l.limit {
		return false
	}
	l.used++
	return true
}
