package shield

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// Turnstile spreads those who come at once over time: each is told how long to wait for
// its turn, or that too many are waiting. Who has a session to go on with comes first:
// others wait behind all of those who wait already. It is as large for ten thousand as
// for none.
//
// Each kind has its own row of slots, 1/rate apart (a virtual schedule, ITU-T I.371's
// GCRA): at most rate a second of each kind come through, after a burst.
type Turnstile struct {
	every, burst, most time.Duration
	resumes, others    clock.Time // the first free slot of each
}

// NewTurnstile returns a turnstile for so many a second of each kind, after a burst of
// as many as come in the time burst. Nobody waits longer than most.
func NewTurnstile(rate float64, burst, most time.Duration) Turnstile {
	return Turnstile{every: time.Duration(float64(time.Second) / rate), burst: burst, most: most}
}

// Ask gives one who comes now a turn and returns how long it is until then. Without ok
// there is none: too many are waiting.
func (t *Turnstile) Ask(now clock.Time, resume bool) (wait time.Duration, ok bool) {
	row := &t.others
	slot := max(now.Add(-t.burst), t.resumes, t.others)
	if resume {
		row = &t.resumes
		slot = max(now.Add(-t.burst), t.resumes)
	}
	if wait = max(slot.Sub(now), 0); wait > t.most {
		return 0, false
	}
	*row = slot.Add(t.every)
	return wait, true
}

// Full reports whether nobody at all would get a turn now.
func (t *Turnstile) Full(now clock.Time) bool { return t.resumes.Sub(now) > t.most }
