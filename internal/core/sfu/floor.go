package sfu

import "hubbub.dev/hubbub/internal/core/clock"

const (
	// DefaultMaxSpeakers is how many speakers of a channel are heard at once.
	DefaultMaxSpeakers = 16

	// decibel is the unit of loudness: levels are smoothed in sixteenths.
	decibel = 16
	// floorMargin is how much louder than the quietest on the floor one must be to
	// take its place: less than that comes and goes between syllables.
	floorMargin = 6 * decibel
	// Loudness rises within 80 ms and falls within 320 ms at 20 ms a packet, so that a
	// pause for breath costs nobody the floor.
	attack = 4
	decay  = 16

	// What of a packet's size stands for its level when it has none: frames of Opus at
	// the least and at the usual rates count as -70 to -30 dBov.
	leastLoudness = 57 * decibel
	mostSize      = 160
	sizePerLevel  = 4

	// priorityRank lifts priority speakers above all others, and staleRank is that of
	// one who holds the floor and sends nothing.
	priorityRank = 1 << 20
	staleRank    = -1 << 20
)

// listen follows the loudness of a newest packet that is not silence.
func (p *producer) listen(payload int, level Level, begins bool) {
	loudness := int32(leastLoudness + min(payload, mostSize)*decibel/sizePerLevel)
	if level.Known {
		loudness = int32(127-level.Value.Level()) * decibel
	}
	switch {
	case begins:
		p.loudness = loudness
	case loudness > p.loudness:
		p.loudness += (loudness - p.loudness + attack - 1) / attack
	default:
		p.loudness -= (p.loudness - loudness) / decay
	}
}

// rank orders those who want to be heard.
func (p *peer) rank(now clock.Time) int32 {
	switch {
	case now.Sub(p.producer.lastPacket) >= speakingHold:
		return staleRank
	case p.flags&Priority != 0:
		return priorityRank + p.producer.loudness
	}
	return p.producer.loudness
}

// takeFloor reports whether the peer at a slot is among those of its channel who are
// heard: the first MaxSpeakers to speak, until one who is louder by floorMargin, or a
// priority speaker, takes the place of the quietest.
func (r *Router) takeFloor(now clock.Time, slot Slot) bool {
	p := &r.peers[slot]
	if p.producer.onFloor {
		return true
	}
	ch := p.channel
	if len(ch.floor) < r.maxSpeakers {
		ch.floor = append(ch.floor, slot)
		p.producer.onFloor = true
		return true
	}
	quietest, least := 0, r.peers[ch.floor[0]].rank(now)
	for i, other := range ch.floor[1:] {
		if rank := r.peers[other].rank(now); rank < least {
			quietest, least = i+1, rank
		}
	}
	if p.rank(now) < least+floorMargin {
		return false
	}
	r.peers[ch.floor[quietest]].producer.onFloor = false
	ch.floor[quietest] = slot
	p.producer.onFloor = true
	return true
}

// leaveFloor makes room for another speaker.
func (r *Router) leaveFloor(slot Slot) {
	p := &r.peers[slot]
	if p.producer == nil || !p.producer.onFloor {
		return
	}
	p.producer.onFloor = false
	floor := p.channel.floor
	last := len(floor) - 1
	for i, other := range floor {
		if other == slot {
			floor[i] = floor[last]
			break
		}
	}
	p.channel.floor = floor[:last]
}
