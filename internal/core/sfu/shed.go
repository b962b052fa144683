package sfu

import "hubbub.dev/hubbub/internal/core/clock"

// shedBins is one for each decibel of those who speak, and then of priority speakers.
const shedBins = 256

// SetShed tells how much of the deliveries to save, from 0 to 1. From the next Tick on
// the quietest streams of the worker are dropped that amount to no more than that, and
// priority speakers last. Control packets are not touched.
func (r *Router) SetShed(part float64) {
	r.shed = part
	r.shedding = r.shedding || part > 0
}

// chooseShed marks the streams to drop. Among those that are equally loud it keeps to
// its choice.
func (r *Router) chooseShed(now clock.Time) {
	if !r.shedding {
		return
	}
	r.shedding = r.shed > 0
	clear(r.shedWeights[:])
	total := 0
	for _, slot := range r.active {
		if bin, weight := r.shedBin(now, slot); weight > 0 {
			r.shedWeights[bin] += weight
			total += weight
		}
	}
	left := int(r.shed * float64(total))
	last := 0 // the bin of which some are dropped
	for ; last < shedBins-1 && r.shedWeights[last] <= left; last++ {
		left -= r.shedWeights[last]
	}
	for _, chosen := range []bool{true, false} {
		for _, slot := range r.active {
			producer := r.peers[slot].producer
			bin, weight := r.shedBin(now, slot)
			switch {
			case bin != last || weight == 0:
				producer.shed = bin < last && weight > 0
			case producer.shed == chosen:
				producer.shed = weight <= left
				if producer.shed {
					left -= weight
				}
			}
		}
	}
}

// shedBin returns where a stream stands among those to shed, and how many it is
// delivered to: zero when it is not.
func (r *Router) shedBin(now clock.Time, slot Slot) (bin, weight int) {
	p := &r.peers[slot]
	rank := p.rank(now)
	if !p.producer.onFloor || rank == staleRank {
		return 0, 0
	}
	if rank >= priorityRank {
		rank += shedBins/2*decibel - priorityRank
	}
	weight = p.channel.listening
	if p.via != nil {
		weight -= p.channel.relays
	}
	return int(rank / decibel), weight
}
