package browser

import (
	"testing"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// TestReceiverFollowsRollover lets a receiver listen, go deaf and lose packets while
// a source sends, and checks that pion opens every packet that gets there, and that
// no number is used twice.
func TestReceiverFollowsRollover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, salt := make([]byte, 16), make([]byte, 12)
		out, err := NewOutbound(AEADAES128GCM, key, salt)
		if err != nil {
			t.Fatal(err)
		}
		in, err := NewInbound(AEADAES128GCM, key, salt)
		if err != nil {
			t.Fatal(err)
		}
		var r Rollover
		dst := make([]byte, 100)
		used := map[uint64]uint64{}
		extended := rapid.Uint64Range(1<<16, 1<<33).Draw(t, "first")
		highest := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "packets") {
			extended += rapid.SampledFrom([]uint64{1, 1, 1, 1, 2, 50, maxGap - 1, maxGap, 1<<15 - 1, 1 << 15, 1 << 16, 100_000}).Draw(t, "gap")
			late := rapid.SampledFrom([]uint64{0, 0, 0, 1, 100, maxLate, 1000}).Draw(t, "late")
			seq, roc, ok := r.Place(3, extended-late)
			if !ok {
				if late == 0 {
					t.Fatalf("packet %d has no place", extended)
				}
				continue
			}
			number := uint64(roc)<<16 | uint64(seq)
			if before, seen := used[number]; seen {
				if before != extended-late {
					t.Fatalf("number %d is given to packets %d and %d", number, before, extended-late)
				}
				continue
			}
			used[number] = extended - late
			if uint64(r.Next(3)) <= number {
				t.Fatalf("next is %d after %d", r.Next(3), number)
			}
			n := out.Seal(dst, rtp.Header{Sequence: seq, SSRC: 1}, rtp.LevelExtension{}, nil, roc)
			if _, drop := in.Open(dst[:n]); drop != rtp.Accepted {
				t.Fatalf("packet %d, number %d after %d: %v", extended-late, number, highest, drop)
			}
			highest = max(highest, number)
		}
	})
}

func TestRolloverSlots(t *testing.T) {
	var r Rollover
	if r.Next(9) != 0 {
		t.Error("a slot that was never heard has a next number")
	}
	seq, roc, ok := r.Place(0, 7<<16|60000)
	if !ok || roc != 0 || seq >= 1<<15 {
		t.Errorf("the first packet is %d, roll-over %d", seq, roc)
	}
	if next, _, _ := r.Place(0, 7<<16|60001); next != seq+1 {
		t.Errorf("%d follows %d", next, seq)
	}
	if _, _, ok := r.Place(5, 1<<16); !ok || r.Next(4) != 0 {
		t.Error("a later slot touches those before it")
	}
	for _, slot := range []int{-1, MaxSlots} {
		r.Resume(slot, 1, 1)
		r.Release(slot)
		if _, _, ok := r.Place(slot, 1); ok {
			t.Errorf("slot %d has a place", slot)
		}
	}
	r.Release(0)
	if again, roc, ok := r.Place(0, 9<<16); !ok || again != seq || roc != 0 {
		t.Errorf("after its release a slot starts at %d, roll-over %d", again, roc)
	}
	// A worker that restarts goes on past all that may have been used.
	r.Resume(0, 100<<16, 65000)
	if _, _, ok := r.Place(0, 100<<16-maxLate-1); ok {
		t.Error("a packet too late has a place")
	}
	if seq, roc, ok := r.Place(0, 100<<16); !ok || uint64(roc)<<16|uint64(seq) < 65000 {
		t.Errorf("resumed at %d, roll-over %d", seq, roc)
	}
	r.Resume(0, 100<<16, 1<<32-maxGap)
	if _, _, ok := r.Place(0, 100<<16); ok {
		t.Error("the numbers never end")
	}
}

func TestPlaceAllocatesNothing(t *testing.T) {
	var r Rollover
	r.Place(20, 1<<16)
	extended := uint64(1 << 16)
	if n := testing.AllocsPerRun(100, func() {
		extended++
		r.Place(20, extended)
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkPlace(b *testing.B) {
	var r Rollover
	extended := uint64(1 << 16)
	b.ReportAllocs()
	for b.Loop() {
		extended++
		r.Place(20, extended)
	}
}
