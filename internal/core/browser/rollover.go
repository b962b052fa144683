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
type Rollover struct{ slots []numbering }

type numbering struct {
	shift uint32 // what to subtract from the source's number
	next  uint32 // one more than the highest number given; zero before the first
}

// Place returns the sequence number and roll-over counter under which the receiver
// gets the packet with this extended sequence number of its source. It is false for
// a packet too late to forward, for a slot past MaxSlots, and when 2^32 numbers are
// used up.
func (r *Rollover) Place(slot int, extended uint64) (seq uint16, roc uint32, ok bool) {
	if uint(slot) >= MaxSlots {
		return 0, 0, false
	}
	if slot >= len(r.slots) || r.slots[slot].next == 0 {
		r.Resume(slot, extended, 0)
	}
	n := &r.slots[slot]
	if n.next > 1<<32-1-2*maxGap {
		return 0, 0, false
	}
	number := uint32(extended) - n.shift
	switch ahead := int32(number - n.next); {
	case ahead < -maxLate:
		return 0, 0, false
	case ahead >= maxGap:
		n.restart(extended, n.next)
		number = n.next
	}
	n.next = max(n.next, number+1)
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
		r.slots = append(r.slots, numbering{})
	}
	r.slots[slot].restart(extended, next)
}

// restart leaves room below the run's first number for packets that come late: so
// they never get a number from before.
func (n *numbering) restart(extended uint64, next uint32) {
	n.next = next + maxLate
	n.shift = uint32(extended) - n.next
}

// Next returns a number greater than every one given to the slot, for Resume.
func (r *Rollover) Next(slot int) uint32 {
	if uint(slot) >= uint(len(r.slots)) {
		return 0
	}
	return r.slots[slot].next
}

// Release frees a slot for another source. The old source's SSRC must not come back
// to the receiver under the same keys unless Resume goes on after its Next.
func (r *Rollover) Release(slot int) {
	if uint(slot) < uint(len(r.slots)) {
		r.slots[slot] = numbering{}
	}
}
