package browser

const (
	// MaxSlots bounds the sources that one receiver's table has room for.
	MaxSlots = 4096
	// maxLate is how far behind the newest a packet may be forwarded.
	maxLate = 512
	// maxGap is the longest jump in a receiver's numbers. RFC 3711 section 3.3.1
	// follows the roll-over counter over jumps of less than 2^15.
	maxGap = 1 << 14
)

// Rollover numbers what one receiver is sent of each source, at 8 bytes a source.
//
// An SRTP receiver takes the first packet that it gets of a source to have roll-over
// counter zero, and finds later counters only if it misses less than 2^15 packets.
// A source may have sent any number before a receiver starts to hear it, or while
// the receiver is deafened. So each receiver has numbers of its own, which start
// low and jump by less than maxGap; within a run they keep the source's spacing, so
// that loss and reordering stay visible. No number is given to two packets.
//
// Sources are known by slot, a small number that the room gives them.
type Rollover struct {
	slots  []Numbering
	used   int     // slots at and above it were never used; kept with record only
	record *Record // nil: the numbers are no other process's concern
}

// Numbering is what a receiver knows of one source, in one word, so that it is whole
// whenever its process ends: in the upper half what to subtract from the source's
// number, in the lower one more than the highest number given, zero before the first.
type Numbering uint64

func numbering(shift, next uint32) Numbering { return Numbering(shift)<<32 | Numbering(next) }

func (n Numbering) shift() uint32 { return uint32(n >> 32) }
func (n Numbering) next() uint32  { return uint32(n) }

// Place returns the sequence number and roll-over counter under which the receiver
// gets the packet with this extended sequence number of its source. It is false for
// a packet too late to forward, for a slot past MaxSlots, and when 2^32 numbers are
// used up.
func (r *Rollover) Place(slot int, extended uint64) (seq uint16, roc uint32, ok bool) {
	if uint(slot) >= MaxSlots {
		return 0, 0, false
	}
	if slot >= len(r.slots) || r.slots[slot].next() == 0 {
		r.Resume(slot, extended, 0)
	}
	n := r.slots[slot]
	if n.next() > 1<<32-1-2*maxGap {
		return 0, 0, false
	}
	number := uint32(extended) - n.shift()
	switch ahead := int32(number - n.next()); {
	case ahead < -maxLate:
		return 0, 0, false
	case ahead >= maxGap:
		n = restart(extended, n.next())
		number = n.next()
	}
	r.slots[slot] = numbering(n.shift(), max(n.next(), number+1))
	return uint16(number), number >> 16, true
}

// Resume makes the packet with this extended sequence number the first of a new run
// whose numbers are all greater than or equal to next: every number below may have
// been used under the receiver's keys. It does nothing for a slot past MaxSlots.
func (r *Rollover) Resume(slot int, extended uint64, next uint32) {
	if uint(slot) >= MaxSlots {
		return
	}
	for slot >= len(r.slots) {
		r.slots = append(r.slots, 0)
	}
	if r.record != nil && slot >= r.used {
		r.used = slot + 1
		r.record.sources.Set(uint64(r.used))
	}
	r.slots[slot] = restart(extended, next)
}

// restart leaves room below the run's first number for packets that come late: so
// they never get a number from before.
func restart(extended uint64, next uint32) Numbering {
	return numbering(uint32(extended)-(next+maxLate), next+maxLate)
}

// Next returns a number greater than every one given to the slot, for Resume.
func (r *Rollover) Next(slot int) uint32 {
	if uint(slot) >= uint(len(r.slots)) {
		return 0
	}
	return r.slots[slot].next()
}

// Release frees a slot for another source. The old source's SSRC must not come back
// to the receiver under the same keys unless Resume goes on after its Next.
func (r *Rollover) Release(slot int) {
	if uint(slot) < uint(len(r.slots)) && r.slots[slot] != 0 {
		r.slots[slot] = 0
	}
}
