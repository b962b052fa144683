package rest

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/clock"
)

func TestLimiterWindow(t *testing.T) {
	l := newLimiter(8)
	q := quota{3, time.Second}
	at := func(ms int) clock.Time { return clock.Time(1).Add(time.Duration(ms) * time.Millisecond) }
	steps := []struct {
		ms, cost  int
		ok        bool
		remaining int
		after     time.Duration
	}{
		{0, 1, true, 2, time.Second},
		{100, 0, true, 2, 900 * time.Millisecond},
		{100, 1, true, 1, 900 * time.Millisecond},
		{400, 1, true, 0, 600 * time.Millisecond},
		{500, 1, false, 0, 500 * time.Millisecond},
		{999, 0, false, 0, time.Millisecond},
		{1000, 1, true, 2, time.Second},
	}
	for i, s := range steps {
		v := l.take(7, q, s.cost, at(s.ms))
		if v != (verdict{s.ok, s.remaining, s.after}) {
			t.Errorf("step %d at %d ms: got %+v, want %+v", i, s.ms, v, verdict{s.ok, s.remaining, s.after})
		}
	}
	if v := l.take(8, q, 1, at(500)); !v.ok || v.remaining != 2 {
		t.Errorf("another key shares the window: %+v", v)
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter(100)
	for i := range uint64(10_000) {
		l.take(i, quota{5, time.Hour}, 1, 1)
	}
	if n := len(l.young) + len(l.older); n > 200 {
		t.Errorf("%d windows are held, want at most 200", n)
	}
	if v := l.take(9_999, quota{5, time.Hour}, 1, 2); v.remaining != 3 {
		t.Errorf("the newest key was forgotten: %+v", v)
	}
}

// TestLimiterNeverOverAdmits checks that no window lets more than its quota
// through, whatever the order of keys and times.
func TestLimiterNeverOverAdmits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := quota{rapid.IntRange(1, 6).Draw(t, "count"), 100}
		l := newLimiter(64)
		now := clock.Time(1)
		ends := map[uint64]clock.Time{}
		used := map[uint64]int{}
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "gap")))
			key := rapid.Uint64Range(0, 4).Draw(t, "key")
			v := l.take(key, q, 1, now)
			if !now.Before(ends[key]) {
				ends[key], used[key] = now.Add(q.per), 0
			}
			if v.ok {
				used[key]++
			}
			if used[key] > q.count {
				t.Fatalf("key %d: %d admitted of %d", key, used[key], q.count)
			}
			if !v.ok && used[key] < q.count {
				t.Fatalf("key %d: refused after %d of %d", key, used[key], q.count)
			}
		}
	})
}

func TestLimiterAllocs(t *testing.T) {
	l := newLimiter(1024)
	now := clock.Time(1)
	for i := range uint64(512) {
		l.take(i, quota{5, time.Second}, 1, now)
	}
	if n := testing.AllocsPerRun(1000, func() {
		now++
		l.take(uint64(now)%512, quota{5, time.Second}, 1, now)
	}); n != 0 {
		t.Errorf("take allocates %v times", n)
	}
}

func BenchmarkLimiterTake(b *testing.B) {
	b.ReportAllocs()
	l := newLimiter(1 << 15)
	now := clock.Time(1)
	for b.Loop() {
		now += 1000
		l.take(uint64(now)%50_000, quota{5, time.Second}, 1, now)
	}
}
