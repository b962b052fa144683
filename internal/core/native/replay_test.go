package native

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// TestReplay sends counters in both byte orders from any start, over a network that
// loses, delays and repeats, and checks that nothing passes twice and that nothing
// inside the window is refused.
func TestReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		little := rapid.Bool().Draw(t, "little")
		start := rapid.OneOf(
			rapid.SampledFrom([]uint32{0, 1, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFF8, 0xFEFFFFFF, 0x7FFFFFFF}),
			rapid.Uint32(),
		).Draw(t, "start")
		var r replay
		received := map[int]bool{}
		newest := 0
		for i, step := range rapid.SliceOfN(rapid.IntRange(-20, 20), 1, 300).Draw(t, "steps") {
			if i > undecided && step == 20 {
				step = 500 // a burst of loss, once the order is settled
			}
			n := max(newest+step, 0)
			nonce := start + uint32(n)
			if little {
				nonce = bits.ReverseBytes32(nonce)
			}
			tooOld := newest-n >= rtp.WindowSize
			if fresh := r.fresh(nonce); fresh != (!received[n] && !tooOld) {
				t.Fatalf("packet %d (nonce %08x) below %d: fresh %v, received %v", n, nonce, newest, fresh, received[n])
			} else if fresh {
				r.commit(nonce)
				received[n] = true
			}
			newest = max(newest, n)
		}
		if len(received) > undecided && r.little != little {
			t.Fatal("settled on the wrong byte order")
		}
	})
}

// TestReplayOfLongAgo checks that the settled order holds where a counter of the
// other order would have come round to values that look new.
func TestReplayOfLongAgo(t *testing.T) {
	for _, little := range []bool{false, true} {
		nonce := func(n uint32) uint32 {
			if little {
				return bits.ReverseBytes32(n)
			}
			return n
		}
		var r replay
		for n := range uint32(100_000) {
			if !r.fresh(nonce(n)) {
				t.Fatalf("little %v: packet %d refused", little, n)
			}
			r.commit(nonce(n))
		}
		for n := range uint32(100_000) {
			if r.fresh(nonce(n)) {
				t.Fatalf("little %v: a replay of packet %d passes", little, n)
			}
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	var r replay
	n := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		if r.fresh(n) {
			r.commit(n)
		}
	}
}
