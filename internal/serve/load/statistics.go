package load

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// stream follows the numbers that one listener hears from one sender in a round.
// The zero stream awaits number 0.
type stream struct {
	next uint32 // after the highest heard
	seen uint64 // bit i: next-1-i was heard

	// Of a sender in another process: its round, 0 before any, and the first number heard.
	round, first uint32
}

// order is what a number says of the way that its packet came.
type order uint8

const (
	inOrder order = iota
	overtaken
	duplicate
)

// take notes a number. One that comes more than 64 behind the highest counts as
// overtaken: whether it came before is no longer known.
func (s *stream) take(index uint32) order {
	if index >= s.next {
		s.seen = s.seen<<(index-s.next+1) | 1
		s.next = index + 1
		return inOrder
	}
	behind := s.next - 1 - index
	if behind >= 64 {
		return overtaken
	}
	if s.seen>>behind&1 == 1 {
		return duplicate
	}
	s.seen |= 1 << behind
	return overtaken
}

// histogram counts durations in buckets of 1/32 of a power of two, so a quantile is
// off by 3 % at most, from 32 ns to hours.
type histogram struct {
	counts [subBuckets * 40]uint64
	total  uint64
	max    time.Duration
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
)

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < subBuckets {
		return int(n)
	}
	shift := bits.Len64(n) - subBits - 1
	return min((shift+1)*subBuckets+int(n>>shift)-subBuckets, subBuckets*40-1)
}

// bucketValue returns the middle of a bucket.
func bucketValue(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	low := uint64(subBuckets+i%subBuckets) << shift
	return time.Duration(low + (1<<shift)/2)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile returns the duration that a share q of all does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.total)))
	sum := uint64(0)
	for i, n := range h.counts {
		if sum += n; sum >= max(rank, 1) {
			return min(bucketValue(i), h.max)
		}
	}
	return 0
}

// counters are what a loop saw of one measurement.
type counters struct {
	sent, expected          uint64 // packets of speakers, and the deliveries they should make
	received                uint64 // whole, once each
	overtaken, duplicates   uint64
	corrupt, foreign, stale uint64 // not whole; of another channel; of an earlier measurement
	slipped                 uint64 // packets that were not sent because the loop was behind
	delay                   histogram
}

func (c *counters) merge(other *counters) {
	c.sent += other.sent
	c.expected += other.expected
	c.received += other.received
	c.overtaken += other.overtaken
	c.duplicates += other.duplicates
	c.corrupt += other.corrupt
	c.foreign += other.foreign
	c.stale += other.stale
	c.slipped += other.slipped
	c.delay.merge(&other.delay)
}

// quantileOf returns the q-quantile of values, zero of none.
func quantileOf(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(max(int(math.Ceil(q*float64(len(sorted))))-1, 0), len(sorted)-1)]
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}
