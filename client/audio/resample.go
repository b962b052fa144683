package audio

import "math"

// taps is half the length of the resampling filter, in periods of the lower of
// the two rates: with a Kaiser window of beta 8 images and aliases stay about
// 80 dB down.
const (
	taps       = 16
	kaiserBeta = 8
)

// Resample returns p at another rate, low-passed below half the lower rate. It
// is a windowed-sinc filter, evaluated once for every phase that occurs.
func (p PCM) Resample(rate int) PCM {
	if p.Rate == rate || p.Rate <= 0 || rate <= 0 {
		return p
	}
	g := gcd(p.Rate, rate)
	up, down := rate/g, p.Rate/g
	// cutoff is relative to the input's Nyquist frequency, a little below the
	// edge to leave the filter room to fall.
	cutoff := 0.95 * math.Min(1, float64(up)/float64(down))
	half := int(math.Ceil(taps / cutoff))
	phases := make([][]float32, up)
	frames := len(p.Samples) / p.Channels
	n := int(int64(frames) * int64(up) / int64(down))
	out := make([]float32, n*p.Channels)
	for i := range n {
		position := int64(i) * int64(down)
		center, phase := int(position/int64(up)), int(position%int64(up))
		if phases[phase] == nil {
			phases[phase] = kernel(float64(phase)/float64(up), cutoff, half)
		}
		from := center - half + 1
		for c := range p.Channels {
			var sum float32
			for k, w := range phases[phase] {
				if j := from + k; j >= 0 && j < frames {
					sum += w * p.Samples[j*p.Channels+c]
				}
			}
			out[i*p.Channels+c] = sum
		}
	}
	return PCM{Rate: rate, Channels: p.Channels, Samples: out}
}

// kernel returns the weights of the 2*half samples around a point that lies
// offset after the sample in the middle.
func kernel(offset, cutoff float64, half int) []float32 {
	weights := make([]float64, 2*half)
	var sum float64
	for k := range weights {
		x := float64(k-half+1) - offset
		weights[k] = cutoff * sinc(cutoff*x) * kaiser(x/float64(half))
		sum += weights[k]
	}
	out := make([]float32, len(weights))
	for k, w := range weights {
		out[k] = float32(w / sum)
	}
	return out
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is the window of that name at x of -1 to 1.
func kaiser(x float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return bessel(kaiserBeta*math.Sqrt(1-x*x)) / bessel(kaiserBeta)
}

// bessel is the modified Bessel function of the first kind and order zero.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= x / (2 * k) * x / (2 * k)
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
