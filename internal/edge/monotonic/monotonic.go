// Package monotonic reads the process's monotonic clock as a clock.Time. It is
// the only place where internal code turns real time into core time.
package monotonic

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

var origin = time.Now()

// Now returns nanoseconds of monotonic time since the process started, plus one
// so that it is never the zero clock.Time, which means "never".
func Now() clock.Time { return clock.Time(time.Since(origin)) + 1 }

// At returns the wall-clock time of t, for kernel deadlines.
func At(t clock.Time) time.Time { return origin.Add(time.Duration(t - 1)) }
