package sfu

import (
	"testing"

	"pgregory.net/rapid"
)

// verdicts has peers speak for a few rounds and returns what became of the last.
func (r *room) verdicts(seq *int, rounds int, levels ...int) []Verdict {
	out := make([]Verdict, len(levels))
	for range rounds {
		*seq++
		for slot, level := range levels {
			out[slot] = r.sendFrom(Slot(slot), *seq, voice, at(level))
		}
		r.advance(tick)
	}
	return out
}

func shedOf(verdicts []Verdict) (shed []int) {
	for i, v := range verdicts {
		if v == Shed {
			shed = append(shed, i)
		}
	}
	return shed
}

func TestTheQuietestAreShed(t *testing.T) {
	r, seq := newRoom(t, 5), 0
	r.Apply(Command{Update: &UpdatePeer{Peer: 5, Flags: Priority}})
	levels := []int{20, 50, 30, 40, 90}
	for _, c := range []struct {
		part float64
		want []Verdict
	}{
		{0.1, []Verdict{Forwarded, Forwarded, Forwarded, Forwarded, Forwarded}},
		{0.25, []Verdict{Forwarded, Shed, Forwarded, Forwarded, Forwarded}},
		{0.5, []Verdict{Forwarded, Shed, Forwarded, Shed, Forwarded}},
		{0.9, []Verdict{Shed, Shed, Shed, Shed, Forwarded}},
		{0, []Verdict{Forwarded, Forwarded, Forwarded, Forwarded, Forwarded}},
	} {
		r.SetShed(c.part)
		got := r.verdicts(&seq, 10, levels...)
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("shedding %v: %v, want %v", c.part, got, c.want)
				break
			}
		}
	}
}

func TestShedStreamsCloseTheGap(t *testing.T) {
	r, seq := newRoom(t, 3), 0
	r.verdicts(&seq, 10, 20, 60)
	r.sendFrom(1, seq+1, voice, at(60))
	last := r.d.Extended
	r.SetShed(0.5)
	r.verdicts(&seq, 20, 20, 60)
	r.SetShed(0)
	r.advance(scanInterval)
	r.expect(r.sendFrom(1, seq+1, voice, at(60)), Forwarded)
	if r.d.Extended < last+1 || r.d.Extended > last+1+uint64(scanInterval/tick)+1 {
		t.Errorf("number %d after %d", r.d.Extended, last)
	}
}

// TestShedProperties has streams of any loudness and part: no more is dropped than
// asked for, none that is louder than one that is kept, and the choice stays the same
// while the levels do.
func TestShedProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(rt, "streams")
		r, seq := newRoom(t, n+1), 0
		levels := make([]int, n)
		for i := range levels {
			levels[i] = rapid.SampledFrom([]int{10, 10, 30, 30, 50, 70}).Draw(rt, "level")
		}
		part := rapid.Float64Range(0, 1).Draw(rt, "part")
		r.SetShed(part)
		r.verdicts(&seq, 20, levels...)
		first := shedOf(r.verdicts(&seq, 1, levels...))
		if float64(len(first)) > part*float64(n) || float64(len(first))+1 < part*float64(n) {
			rt.Fatalf("%d of %d are shed for %v", len(first), n, part)
		}
		kept := map[int]bool{}
		for i := range n {
			kept[i] = true
		}
		for _, i := range first {
			delete(kept, i)
		}
		for _, i := range first {
			for other := range kept {
				if levels[other] > levels[i] {
					rt.Fatalf("a level of %d was shed and one of %d kept", levels[i], levels[other])
				}
			}
		}
		again := shedOf(r.verdicts(&seq, 7, levels...))
		if len(again) != len(first) {
			rt.Fatalf("shed %v, then %v", first, again)
		}
		for i := range again {
			if again[i] != first[i] {
				rt.Fatalf("shed %v, then %v", first, again)
			}
		}
	})
}
