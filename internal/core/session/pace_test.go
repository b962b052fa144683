package session

import (
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

func TestPaceGrowsWithTheCrowd(t *testing.T) {
	for receivers, wait := range map[int]time.Duration{
		0: 0, 1: 0, 99: 0, 100: 25 * time.Millisecond, 2000: 500 * time.Millisecond,
		4000: time.Second, 8000: 2 * time.Second, 1_000_000: 2 * time.Second,
	} {
		var p Pace
		now := clock.Time(1)
		if !p.Round(now, receivers) {
			t.Errorf("%d: the first round waits", receivers)
		}
		if got := p.Next().Sub(now); got != wait {
			t.Errorf("%d: the next round waits %v, want %v", receivers, got, wait)
		}
		if wait == 0 {
			continue
		}
		if p.Round(now.Add(wait-1), receivers) {
			t.Errorf("%d: the next round is early", receivers)
		}
		if !p.Round(now.Add(wait), receivers) {
			t.Errorf("%d: the next round never comes", receivers)
		}
	}
}
