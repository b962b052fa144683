package run

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// TestStormPassesInTurns sends 5,000 resumes and 1,000 identifies at once to a turnstile
// of 400 a second. Who is refused comes back after one to five seconds.
func TestStormPassesInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, most = 400, 5 * time.Second
		begin := time.Now()
		now := func() clock.Time { return clock.Time(time.Hour + time.Since(begin)) }
		s := NewTurnstile(rate, most)
		group := NewGroup(t.Context(), slog.New(slog.DiscardHandler))
		var passed, longest atomic.Int64
		client := func(resume bool) func(context.Context) {
			return func(ctx context.Context) {
				for !s.Pass(ctx, now(), resume) {
					<-time.After(time.Second + rand.N(4*time.Second))
				}
				passed.Add(1)
				if w := s.Waiting(); w > longest.Load() {
					longest.Store(w)
				}
			}
		}
		for i := range 6000 {
			group.Go("client", client(i%6 != 0))
		}
		group.Wait()
		took := time.Since(begin)
		t.Logf("%d passed in %v, at most %d waited, %d refusals", passed.Load(), took, longest.Load(), s.Refused())
		if passed.Load() != 6000 || took > 6000*time.Second/rate+10*time.Second || longest.Load() > 2*rate*int64(most/time.Second)+2 {
			t.Error("out of bounds")
		}
		if s.Waiting() != 0 {
			t.Errorf("%d still wait", s.Waiting())
		}
	})
}

func TestTurnstileEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewTurnstile(1, 5*time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		for s.Waiting() == 0 {
			group := NewGroup(ctx, slog.New(slog.DiscardHandler))
			group.Go("client", func(ctx context.Context) { s.Pass(ctx, clock.Time(time.Hour), true) })
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		if s.Waiting() != 0 {
			t.Error("one waits on")
		}
	})
}

func TestFullTurnstileRefusesAtOnce(t *testing.T) {
	s := NewTurnstile(0, 0)
	now, passed := clock.Time(time.Hour), 0
	for s.Pass(t.Context(), now, true) {
		passed++
	}
	if passed < 2*turnsPerCore || s.Refused() != 1 {
		t.Errorf("%d passed, %d refused", passed, s.Refused())
	}
	if s.Full(now); s.Refused() < 1 {
		t.Error("not counted")
	}
}

func TestTurnedAwayComeBackApart(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		w := httptest.NewRecorder()
		TurnAway(w, http.StatusServiceUnavailable)
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("status %d", w.Code)
		}
		seen[w.Header().Get("Retry-After")] = true
	}
	if want := map[string]bool{"1": true, "2": true, "3": true, "4": true, "5": true}; !maps.Equal(seen, want) {
		t.Errorf("Retry-After is one of %v", slices.Sorted(maps.Keys(seen)))
	}
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		n := 0
		Every(ctx, time.Second, func() { n++ })
		if n != 3 {
			t.Errorf("%d calls in 3.5 s", n)
		}
	})
}
