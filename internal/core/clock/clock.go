// Package clock owns the time type that every sans-IO state machine takes as an
// argument. It never reads a clock: internal/serve does, once per batch of input.
package clock

import "time"

// Time is a monotonic instant in nanoseconds since an arbitrary origin of the
// process. The zero Time means "never" wherever a deadline is expected.
type Time int64

// Add returns the instant d after t.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the time that passed from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Before reports whether t is earlier than u.
func (t Time) Before(u Time) bool { return t < u }

// Earliest returns the earlier of two deadlines, ignoring those that are never.
func Earliest(a, b Time) Time {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
