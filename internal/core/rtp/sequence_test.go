package rtp

import (
	"testing"

	"pgregory.net/rapid"
)

func TestUnwrapper(t *testing.T) {
	const first = 1<<16 | 65534
	var u Unwrapper
	if _, ok := u.Highest(); ok {
		t.Error("a highest number before the first")
	}
	for _, c := range []struct {
		seq  uint16
		want uint64
	}{
		{65534, first}, {65535, first + 1}, {0, first + 2}, // a wrap
		{65533, first - 1}, {65535, first + 1}, // late and repeated
		{maxAhead, first + 2 + maxAhead},    // the longest gap
		{40000, first + 3 + maxAhead},       // a restart goes on at the next number
		{40001, first + 4 + maxAhead},       // and counts from there
		{39999, first + 2 + maxAhead},       // late again
		{40001 - 513, first + 5 + maxAhead}, // too far back to be late: a restart
	} {
		if got := u.Unwrap(c.seq); got != c.want {
			t.Fatalf("%d became %d, want %d", c.seq, got, c.want)
		}
	}
}

// TestUnwrapperFollows checks that any way through the numbers with gaps and
// reordering within the limits is extended to what a wider counter would say.
func TestUnwrapperFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var u Unwrapper
		truth := uint64(1<<16) | uint64(rapid.Uint16().Draw(t, "first"))
		u.Unwrap(uint16(truth))
		highest := truth
		for _, step := range rapid.SliceOf(rapid.IntRange(-maxBehind, maxAhead)).Draw(t, "steps") {
			truth = highest + uint64(step)
			highest = max(highest, truth)
			if got := u.Unwrap(uint16(truth)); got != truth {
				t.Fatalf("%d became %d", truth, got)
			}
		}
	})
}

// TestWindow compares the ring of bits with a set of all that was received.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w Window
		received := map[uint64]bool{}
		base := rapid.SampledFrom([]uint64{0, 63, 1 << 32, 1<<48 - 1}).Draw(t, "base")
		highest := base
		near := rapid.IntRange(-WindowSize-70, WindowSize+70)
		for _, step := range rapid.SliceOfN(near, 1, 200).Draw(t, "steps") {
			if step < 0 && uint64(-step) > highest {
				continue
			}
			index := highest + uint64(step)
			tooOld := highest > index && len(received) > 0 && highest-index >= WindowSize
			if fresh := w.Fresh(index); len(received) > 0 && fresh != (!received[index] && !tooOld) {
				t.Fatalf("index %d below %d: fresh %v, received %v", index, highest, fresh, received[index])
			}
			if !tooOld {
				w.Commit(index)
				received[index] = true
				highest = w.Highest()
			}
		}
	})
}

func TestWindowExclude(t *testing.T) {
	for _, end := range []uint64{0, 63, 64, 1000} {
		var w Window
		w.Exclude(end)
		for index := range end + 1 {
			if w.Fresh(index) {
				t.Fatalf("%d is fresh after excluding up to %d", index, end)
			}
		}
		w.Commit(end + 2)
		if !w.Fresh(end+1) || w.Fresh(end+2) || w.Fresh(end) {
			t.Errorf("past %d: the next ones are not kept apart", end)
		}
	}
}

func BenchmarkWindow(b *testing.B) {
	var w Window
	index := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		index++
		if w.Fresh(index) {
			w.Commit(index)
		}
	}
}
