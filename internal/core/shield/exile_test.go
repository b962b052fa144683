package shield

import (
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// awayAfter attacks a node for two seconds and returns how long it is away then.
func awayAfter(e *Exile, now *clock.Time) time.Duration {
	for range 2 {
		*now = now.Add(time.Second)
		if !e.Away(*now, true) {
			return -1
		}
	}
	for end := *now; ; *now = now.Add(time.Second) {
		if !e.Away(*now, false) {
			return now.Sub(end)
		}
	}
}

func TestWhoIsAttackedAgainAndAgainStaysAwayForLonger(t *testing.T) {
	now := clock.Time(1)
	var e Exile
	if e.Away(now, false) {
		t.Fatal("away without an attack")
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 16} {
		if got := awayAfter(&e, &now); got != want*time.Minute {
			t.Errorf("after attack %d away for %v", i+1, got)
		}
	}
	now = now.Add(time.Hour)
	if got := awayAfter(&e, &now); got != time.Minute {
		t.Errorf("after a quiet hour away for %v", got)
	}
}
