package load

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestStampSurvivesAndDamageShows(t *testing.T) {
	for _, size := range []int{MinSize, 33, 140, MaxSize} {
		payload := make([]byte, size)
		want := stamp{sender: 7, round: 3, index: 1 << 20, sent: time.Now().UnixNano()}
		want.put(payload)
		if got, ok := parseStamp(payload); !ok || got != want {
			t.Fatalf("%d bytes: %+v, %v", size, got, ok)
		}
		for i := range payload {
			broken := bytes.Clone(payload)
			broken[i] ^= 0x10
			if _, ok := parseStamp(broken); ok {
				t.Errorf("%d bytes: byte %d is not covered", size, i)
			}
		}
		if _, ok := parseStamp(payload[:size-1]); ok {
			t.Errorf("%d bytes: the last one is not missed", size)
		}
	}
}

func FuzzParseStamp(f *testing.F) {
	payload := make([]byte, 140)
	stamp{sender: 1, round: 2, index: 3, sent: 4}.put(payload)
	f.Add(payload)
	f.Add(payload[:MinSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, ok := parseStamp(payload)
		if !ok {
			return
		}
		again := make([]byte, len(payload))
		s.put(again)
		if back, ok := parseStamp(again); !ok || back != s {
			t.Errorf("%+v became %+v", s, back)
		}
	})
}

func TestStreamTellsOrder(t *testing.T) {
	var s stream
	for _, c := range []struct {
		index uint32
		want  order
	}{
		{0, inOrder}, {1, inOrder}, {1, duplicate}, {5, inOrder}, {3, overtaken}, {3, duplicate}, {2, overtaken}, {0, duplicate},
		{69, inOrder}, {5, overtaken}, {6, overtaken}, {6, duplicate}, {1000, inOrder}, {999, overtaken}, {69, overtaken},
	} {
		if got := s.take(c.index); got != c.want {
			t.Errorf("%d: %d, want %d", c.index, got, c.want)
		}
	}
}

func TestHistogramIsNearTheTruth(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h, other histogram
	var all []time.Duration
	for i := range 20_000 {
		d := time.Duration(1) << r.IntN(34)
		d += time.Duration(r.Int64N(int64(d)))
		all = append(all, d)
		if i%2 == 0 {
			h.add(d)
		} else {
			other.add(d)
		}
	}
	h.merge(&other)
	for _, q := range []float64{0, 0.01, 0.5, 0.95, 0.99, 0.999, 1} {
		want, got := quantileOf(all, q), h.quantile(q)
		if diff := (got - want).Abs(); diff > want/32+1 {
			t.Errorf("quantile %v: %v, not %v", q, got, want)
		}
	}
	if h.max != slices.Max(all) || h.total != uint64(len(all)) {
		t.Errorf("max %v, total %d", h.max, h.total)
	}
	h.add(-time.Second)
	h.add(1 << 62)
	if got := (&histogram{}).quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("%v: %v", c.values, got)
		}
	}
}

func TestMediansPairRuns(t *testing.T) {
	// The host slows down from run to run: the ratio within each run stays.
	windows := []Window{
		{Target: "a", User: 1, System: 1}, {Target: "b", System: 1},
		{Target: "a", User: 2, System: 2}, {Target: "b", System: 2},
		{Target: "a", User: 3, System: 6}, {Target: "b", System: 3},
	}
	got := medians(windows, []string{"a", "b"})
	if got[0].Cost != 4 || got[0].Ratio != 0 || got[1].Cost != 2 || got[1].Ratio != 2 {
		t.Errorf("%+v", got)
	}
}

func TestSpeechTalksItsShare(t *testing.T) {
	const talk, rate, ticks = 0.3, 50, 200_000
	s := newSpeech(1)
	s.begin(talk, rate)
	voice, run := 0, 0
	sequence := s.sequence
	for range ticks {
		what, h := s.tick(talk, rate)
		switch what {
		case frameVoice:
			voice++
			if run > 0 && run < silenceFrames {
				t.Fatalf("%d frames of silence after a spurt", run)
			}
			run = 0
		case frameSilence:
			run++
		}
		if what != frameNone {
			if sequence++; h.Sequence != sequence {
				t.Fatalf("sequence %d, want %d", h.Sequence, sequence)
			}
		}
	}
	if share := float64(voice) / ticks; share < talk-0.03 || share > talk+0.03 {
		t.Errorf("talks %.3f of the time", share)
	}
}

func TestClimbFindsTheMost(t *testing.T) {
	bears := func(most float64) func(float64) (Window, error) {
		return func(rate float64) (Window, error) {
			// What it cannot bear it delivers late, but all of it.
			return Window{Rate: rate, Seconds: 1, Expected: uint64(rate * 100), PerSecond: min(rate, most) * 100, Delivery: 1, System: 1}, nil
		}
	}
	r, err := climb(50, bears(200))
	if err != nil || r.Most < 18_000 || r.Most > 20_500 || len(r.Steps) > 24 {
		t.Errorf("%v: most %v in %d steps", err, r.Most, len(r.Steps))
	}
	if r, _ := climb(50, bears(1e6)); r.Most != rampRate*100 || r.End == "" {
		t.Errorf("unlimited: %v, %q", r.Most, r.End)
	}
	if r, _ := climb(50, bears(10)); r.Most != 0 || len(r.Steps) != 2 {
		t.Errorf("overloaded from the start: %v in %d steps", r.Most, len(r.Steps))
	}
	stalled := false
	stall := func(rate float64) (Window, error) {
		w, err := bears(1e6)(rate)
		if rate > 100 && !stalled {
			stalled, w.Delivery = true, 0.5
		}
		return w, err
	}
	if r, _ := climb(50, stall); r.Most != rampRate*100 {
		t.Errorf("stalled once: %v", r.Most)
	}
	broken := errors.New("broken")
	if _, err := climb(50, func(float64) (Window, error) { return Window{}, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Speakers: 5, Listeners: 100, Talk: 1, Rate: 50, Size: 140, Duration: time.Second}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for flag, spoil := range map[string]func(*Config){
		"--mode": func(c *Config) { c.Mode = "rot13" }, "--phase": func(c *Config) { c.Phase = "moon" },
		"--speakers": func(c *Config) { c.Speakers = -1 }, "--listeners": func(c *Config) { c.Listeners = 1e6 },
		"--guilds": func(c *Config) { c.Guilds = 2 }, "--talk": func(c *Config) { c.Talk = 0 }, "--rate": func(c *Config) { c.Rate = 1000 },
		"--size": func(c *Config) { c.Size = 5 }, "--duration": func(c *Config) { c.Duration = 0 },
		"--ramp": func(c *Config) { c.Ramp, c.Speakers = true, 0 }, "--floor-wait": func(c *Config) { c.Floor, c.FloorWait = true, time.Second },
		"--joins": func(c *Config) { c.Joins = 1000 },
	} {
		c := good
		spoil(&c)
		if err := c.check(); err == nil || !bytes.Contains([]byte(err.Error()), []byte(flag)) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
