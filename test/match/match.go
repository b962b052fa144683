// Package match tells whether a captured sound is a given recording, after
// whatever a voice connection does to it: Opus, gain control, noise, delay, lost
// packets and drifting clocks. It compares how the energy of the voice band moves
// over time, never samples. It captures nothing itself.
package match

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"hubbub.dev/hubbub/client/audio"
)

const (
	rate    = 16000
	fftSize = 512 // 32 ms
	hop     = 320 // 20 ms
	bands   = 16
	lowest  = 200.0 // Hz: below is hum, and what high-pass filters take
	highest = 3600.0
	// window is how many frames are compared at once. It takes a second and a half
	// of speech to tell voices apart; gaps and drift spoil longer stretches.
	window = 80
	step   = 40
	// floor is the energy, relative to the loudest, that counts as silence.
	floor = 3e-4
	// quietest is the share of the loudest window's movement below which a window
	// says nothing.
	quietest = 0.15
)

// Same and Different are the bounds of a verdict: a score above Same is the
// recording, one below Different is another voice.
const (
	Same      = 0.6
	Different = 0.5
)

// ErrSilent means that there is not enough sound to compare.
var ErrSilent = errors.New("match: the capture is too short or too quiet")

// spectrogram is one row of band energies every 20 ms: logarithms, less each
// band's own mean of the last moments, so that neither gain nor tone colour nor
// steady noise matters.
type spectrogram [][bands]float64

// Reference is a recording to compare captures with. It may be looped.
type Reference struct {
	frames spectrogram
	norms  []float64 // of the window that begins at each frame
}

// NewReference prepares a recording.
func NewReference(p audio.PCM) *Reference {
	frames := analyse(p)
	// A capture of a looped recording may run over its end.
	r := &Reference{frames: append(frames, frames[:min(window, len(frames))]...)}
	for at := 0; at+window <= len(r.frames); at++ {
		r.norms = append(r.norms, norm(r.frames[at:at+window]))
	}
	return r
}

// Score returns how well a capture of at least 1.6 s matches: about 1 for the
// recording itself, above Same after a voice connection, below Different for
// another voice. The better half of the capture decides: on a starved machine the
// rest is full of gaps, and no part of another voice matches.
func (r *Reference) Score(p audio.PCM) (float64, error) {
	capture := analyse(p)
	type part struct{ best, weight float64 }
	var parts []part
	var loudest float64
	for from := 0; from+window <= len(capture); from += step {
		piece := capture[from : from+window]
		weight := norm(piece)
		loudest = max(loudest, weight)
		parts = append(parts, part{r.best(piece, weight), weight})
	}
	parts = slices.DeleteFunc(parts, func(p part) bool { return p.weight <= quietest*loudest })
	if len(parts) == 0 {
		return 0, ErrSilent
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(b.best, a.best) })
	var sum, total float64
	for _, p := range parts[:(len(parts)+1)/2] {
		sum += p.best * p.weight
		total += p.weight
	}
	return sum / total, nil
}

// best is the highest correlation of piece with any part of the recording.
func (r *Reference) best(piece spectrogram, weight float64) float64 {
	best := 0.0
	for at, n := range r.norms {
		if n == 0 || weight == 0 {
			continue
		}
		part := r.frames[at : at+window]
		var dot float64
		for i := range piece {
			for b, v := range piece[i] {
				dot += v * part[i][b]
			}
		}
		best = max(best, dot/(n*weight))
	}
	return best
}

func norm(s spectrogram) float64 {
	var sum float64
	for i := range s {
		for _, v := range s[i] {
			sum += v * v
		}
	}
	return math.Sqrt(sum)
}

// analyse returns the spectrogram of p, scaled to a common loudness first.
func analyse(p audio.PCM) spectrogram {
	p = p.Mono().Resample(rate)
	var peak float64
	energies := make(spectrogram, 0, len(p.Samples)/hop)
	bins := bandBins()
	var re, im [fftSize]float64
	for at := 0; at+fftSize <= len(p.Samples); at += hop {
		for i, s := range p.Samples[at : at+fftSize] {
			re[i], im[i] = float64(s)*hann[i], 0
		}
		fft(&re, &im)
		var row [bands]float64
		for b := range bands {
			for k := bins[b]; k < bins[b+1]; k++ {
				row[b] += re[k]*re[k] + im[k]*im[k]
			}
			row[b] /= float64(bins[b+1]-bins[b]) * fftSize
			peak = max(peak, row[b])
		}
		energies = append(energies, row)
	}
	if peak == 0 {
		return nil
	}
	for i := range energies {
		for b := range bands {
			energies[i][b] = math.Log(energies[i][b]/peak + floor)
		}
	}
	return whiten(energies)
}

// whiten subtracts from each band its mean over the second around, which takes
// slow gain changes with it.
func whiten(s spectrogram) spectrogram {
	const reach = 25
	out := make(spectrogram, len(s))
	for b := range bands {
		var sum float64
		from, to := 0, 0
		for i := range s {
			for ; to < min(len(s), i+reach); to++ {
				sum += s[to][b]
			}
			for ; from < i-reach; from++ {
				sum -= s[from][b]
			}
			out[i][b] = s[i][b] - sum/float64(to-from)
		}
	}
	return out
}

// bandBins returns the first bin of each band, and of the one after the last:
// equal steps in pitch.
func bandBins() [bands + 1]int {
	var bins [bands + 1]int
	for b := range bins {
		hz := lowest * math.Pow(highest/lowest, float64(b)/bands)
		bins[b] = int(math.Round(hz * fftSize / rate))
		if b > 0 {
			bins[b] = max(bins[b], bins[b-1]+1)
		}
	}
	return bins
}

// hann is the window of a transform, turns the parts of a circle as cosine and sine.
var (
	hann  [fftSize]float64
	turns [fftSize / 2][2]float64
)

func init() {
	for i := range hann {
		hann[i] = 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/fftSize)
	}
	for i := range turns {
		turns[i][1], turns[i][0] = math.Sincos(-2 * math.Pi * float64(i) / fftSize)
	}
}

// fft is an in-place radix-2 transform.
func fft(re, im *[fftSize]float64) {
	for i, j := 1, 0; i < fftSize; i++ {
		bit := fftSize >> 1
		for ; j&bit != 0; bit >>= 1 {
			j ^= bit
		}
		j ^= bit
		if i < j {
			re[i], re[j] = re[j], re[i]
			im[i], im[j] = im[j], im[i]
		}
	}
	for size := 2; size <= fftSize; size <<= 1 {
		for k := range size / 2 {
			wr, wi := turns[k*fftSize/size][0], turns[k*fftSize/size][1]
			for i := k; i < fftSize; i += size {
				j := i + size/2
				xr, xi := re[j]*wr-im[j]*wi, re[j]*wi+im[j]*wr
				re[j], im[j] = re[i]-xr, im[i]-xi
				re[i], im[i] = re[i]+xr, im[i]+xi
			}
		}
	}
}
