package session

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/clock"
)

func TestBufferReplaysWhatWasMissed(t *testing.T) {
	b := NewBuffer(3, 100, 100)
	for seq := uint64(1); seq <= 5; seq++ {
		b.Append(seq, &Payload{fmt.Append(nil, seq)})
	}
	for _, c := range []struct {
		since uint64
		want  []string
		ok    bool
	}{
		{5, nil, true}, {4, []string{"5"}, true}, {2, []string{"3", "4", "5"}, true}, {1, nil, false}, {0, nil, false}, {6, nil, false},
	} {
		frames, ok := b.Since(c.since)
		if ok != c.ok || len(frames) != len(c.want) {
			t.Fatalf("Since(%d) = %q, %v", c.since, frames, ok)
		}
		for i, f := range frames {
			if string(f) != c.want[i] {
				t.Errorf("Since(%d)[%d] = %q, want %q", c.since, i, f, c.want[i])
			}
		}
	}
}

func TestBufferDropsAFrameOverItsBoundAndAllBefore(t *testing.T) {
	b := NewBuffer(10, 10, 10)
	b.Append(1, &Payload{make([]byte, 4)})
	b.Append(2, &Payload{make([]byte, 11)})
	if _, ok := b.Since(1); ok {
		t.Error("an oversize frame is said to be replayable")
	}
	if _, ok := b.Since(2); !ok {
		t.Error("a client that has everything cannot resume")
	}
}

// A model that keeps everything says what the ring must hold.
func TestBufferAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxFrames, maxBytes := rapid.IntRange(1, 20).Draw(t, "frames"), rapid.IntRange(1, 200).Draw(t, "bytes")
		b := NewBuffer(maxFrames, maxBytes, maxBytes)
		var all [][]byte // frame seq is all[seq-1]
		held := 0        // how many of the newest are held
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				all = append(all, make([]byte, rapid.IntRange(0, 60).Draw(t, "size")))
				b.Append(uint64(len(all)), &Payload{all[len(all)-1]})
				held++
				for size := total(all[len(all)-held:]); held > maxFrames || size > maxBytes; held-- {
					size -= len(all[len(all)-held])
				}
			},
			"ack": func(t *rapid.T) {
				seq := rapid.IntRange(0, len(all)+2).Draw(t, "seq")
				b.Ack(uint64(seq))
				if seq <= len(all) {
					held = min(held, len(all)-seq)
				}
			},
			"": func(t *rapid.T) {
				frames, bytes := b.Len()
				if frames != held || bytes != total(all[len(all)-held:]) {
					t.Fatalf("holds %d frames of %d bytes, want %d", frames, bytes, held)
				}
				for seq := range len(all) + 2 {
					got, ok := b.Since(uint64(seq))
					if want := seq <= len(all) && len(all)-seq <= held; ok != want {
						t.Fatalf("Since(%d) ok = %v, want %v", seq, ok, want)
					}
					for i, f := range got {
						if len(f) != len(all[seq+i]) {
							t.Fatalf("Since(%d)[%d] is another frame", seq, i)
						}
					}
				}
			},
		})
	})
}

func total(frames [][]byte) (n int) {
	for _, f := range frames {
		n += len(f)
	}
	return n
}

func TestBufferAppendDoesNotAllocateInSteadyState(t *testing.T) {
	b, frame, seq := NewBuffer(64, 1<<20, 1<<20), &Payload{make([]byte, 100)}, uint64(0)
	add := func() { seq++; b.Append(seq, frame) }
	for range 100 {
		add()
	}
	if n := testing.AllocsPerRun(1000, add); n != 0 {
		t.Errorf("%v allocations per Append", n)
	}
}

func BenchmarkBufferAppend(bench *testing.B) {
	b, frame, seq := NewBuffer(64, 1<<20, 1<<20), &Payload{make([]byte, 100)}, uint64(0)
	bench.ReportAllocs()
	for bench.Loop() {
		seq++
		b.Append(seq, frame)
	}
}

func TestLimiterCountsPerWindow(t *testing.T) {
	l := NewLimiter(3, time.Minute)
	now := clock.Time(1)
	for i := range 3 {
		if !l.Allow(now.Add(time.Duration(i) * time.Second)) {
			t.Fatalf("event %d refused", i)
		}
	}
	if l.Allow(now.Add(59 * time.Second)) {
		t.Error("a fourth event in the window is allowed")
	}
	if !l.Allow(now.Add(time.Minute)) {
		t.Error("the next window does not begin")
	}
}

func TestBufferHoldsNoLongFrame(t *testing.T) {
	b := NewBuffer(10, 1000, 100)
	b.Append(1, &Payload{make([]byte, 100)})
	b.Append(2, &Payload{make([]byte, 101)})
	b.Append(3, &Payload{make([]byte, 5)})
	if _, ok := b.Since(1); ok {
		t.Error("replays without a frame")
	}
	if frames, ok := b.Since(2); !ok || len(frames) != 1 {
		t.Errorf("%d frames after the long one, %v", len(frames), ok)
	}
	if frames, ok := b.Since(3); !ok || len(frames) != 0 {
		t.Errorf("%d frames after the last, %v", len(frames), ok)
	}
	b.Append(4, &Payload{make([]byte, 101)})
	if frames, bytes := b.Len(); frames != 0 || bytes != 0 {
		t.Errorf("holds %d frames, %d bytes", frames, bytes)
	}
	if _, ok := b.Since(4); !ok {
		t.Error("a client that has everything cannot resume")
	}
}
