package match

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"hubbub.dev/hubbub/client/audio"
)

func load(t *testing.T, name string) audio.PCM {
	t.Helper()
	f, err := os.Open("../testdata/" + name + ".wav")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	p, err := audio.ReadWAV(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// opus is a voice connection that loses every lossth packet.
func opus(bitrate, loss int) func(*testing.T, audio.PCM) audio.PCM {
	return func(t *testing.T, p audio.PCM) audio.PCM {
		t.Helper()
		rec, err := audio.NewRecording(p, bitrate)
		if err != nil {
			t.Fatal(err)
		}
		dec, err := audio.NewDecoder(1)
		if err != nil {
			t.Fatal(err)
		}
		out := audio.PCM{Rate: audio.Rate, Channels: 1}
		for n := 1; ; n++ {
			frame, err := rec.NextFrame()
			if errors.Is(err, io.EOF) {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			if loss > 0 && n%loss == 0 {
				frame = nil
			}
			pcm, err := dec.Decode(frame)
			if err != nil {
				t.Fatal(err)
			}
			out.Samples = append(out.Samples, pcm...)
		}
	}
}

func perSample(f func(i int, s float64) float64) func(*testing.T, audio.PCM) audio.PCM {
	return func(_ *testing.T, p audio.PCM) audio.PCM {
		out := audio.PCM{Rate: p.Rate, Channels: p.Channels, Samples: make([]float32, len(p.Samples))}
		for i, s := range p.Samples {
			out.Samples[i] = float32(f(i, float64(s)))
		}
		return out
	}
}

func TestOnlyTheRecordingMatches(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	low := 0.0
	// What connections do, one after another at worst.
	ways := map[string]func(*testing.T, audio.PCM) audio.PCM{
		"nothing":    func(_ *testing.T, p audio.PCM) audio.PCM { return p },
		"Opus 64k":   opus(64000, 0),
		"Opus 16k":   opus(16000, 0),
		"5 % loss":   opus(32000, 20),
		"quiet":      perSample(func(_ int, s float64) float64 { return s / 30 }),
		"clipped":    perSample(func(_ int, s float64) float64 { return max(-0.5, min(0.5, 3*s)) }),
		"noise":      perSample(func(_ int, s float64) float64 { return s + 0.01*random.NormFloat64() }),
		"gain moves": perSample(func(i int, s float64) float64 { return s * (0.55 + 0.45*math.Sin(float64(i)/9000)) }),
		"muffled":    perSample(func(_ int, s float64) float64 { low += 0.4 * (s - low); return low }),
		"drift": func(_ *testing.T, p audio.PCM) audio.PCM {
			out := p.Resample(48000)
			out.Rate = 48010
			return out
		},
		// What a starved machine does: every 1.7 s something is missing or late.
		"stutter": func(_ *testing.T, p audio.PCM) audio.PCM {
			out := audio.PCM{Rate: p.Rate, Channels: 1}
			every, gap := p.Rate*17/10, p.Rate/6
			for at, n := 0, 0; at < len(p.Samples); n++ {
				end := min(len(p.Samples), at+every)
				out.Samples = append(out.Samples, p.Samples[at:end]...)
				if n%2 == 0 {
					out.Samples = append(out.Samples, make([]float32, gap)...)
					at = end
				} else {
					at = end + gap
				}
			}
			return out
		},
		"looped from the middle": func(_ *testing.T, p audio.PCM) audio.PCM {
			half := len(p.Samples) / 2
			return audio.PCM{Rate: p.Rate, Channels: 1, Samples: append(append([]float32(nil), p.Samples[half:]...), p.Samples[:half]...)}
		},
		"silence first": func(_ *testing.T, p audio.PCM) audio.PCM {
			return audio.PCM{Rate: p.Rate, Channels: 1, Samples: append(make([]float32, 3*p.Rate), p.Samples...)}
		},
	}
	names := []string{"jfk", "ljspeech"}
	references := map[string]*Reference{}
	for _, name := range names {
		references[name] = NewReference(load(t, name))
	}
	for way, change := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			for _, name := range names {
				got := change(t, load(t, name))
				for _, other := range names {
					score, err := references[other].Score(got)
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("%s as %s: %.3f", name, other, score)
					if same := name == other; same && score < Same || !same && score > Different {
						t.Errorf("%s scores %.3f as %s", name, score, other)
					}
				}
			}
		})
	}
}

func TestSilenceMatchesNothing(t *testing.T) {
	ref := NewReference(load(t, "jfk"))
	for _, p := range []audio.PCM{
		{Rate: 48000, Channels: 1},
		{Rate: 48000, Channels: 1, Samples: make([]float32, 48000*5)},
		{Rate: 48000, Channels: 2, Samples: []float32{1, 1}},
	} {
		if score, err := ref.Score(p); !errors.Is(err, ErrSilent) {
			t.Errorf("%d samples of silence score %.3f, %v", len(p.Samples), score, err)
		}
	}
	noise := audio.PCM{Rate: 48000, Channels: 1, Samples: make([]float32, 48000*5)}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise.Samples {
		noise.Samples[i] = float32(random.NormFloat64() / 10)
	}
	if score, err := ref.Score(noise); err != nil || score > Different {
		t.Errorf("noise scores %.3f, %v", score, err)
	}
}
