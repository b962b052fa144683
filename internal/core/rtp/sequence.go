package rtp

const (
	// maxAhead is MAX_DROPOUT of RFC 3550 appendix A.1: a longer gap is a restart.
	maxAhead = 3000
	// maxBehind is how late a packet may be. RFC 3550 suggests 100, which a video
	// stream of 1,000 packets/s exceeds with 100 ms of reordering.
	maxBehind = 512
)

// Unwrapper extends the 16-bit sequence numbers of one source. When the source
// starts over with unrelated numbers, the extended sequence goes on at the next
// number, so that whoever sends uint16(extended) sends no gap that a receiver
// could take for a roll-over. The zero value is ready.
type Unwrapper struct {
	highest uint64
	shift   uint16 // what to add to uint16(extended) to get the source's number
	started bool
}

// Unwrap returns the extended sequence number of seq. It starts in the second
// cycle, so that packets from before the first do not fall below zero.
func (u *Unwrapper) Unwrap(seq uint16) (extended uint64) {
	if !u.started {
		u.started = true
		u.highest = 1<<16 | uint64(seq)
		return u.highest
	}
	ahead := int16(seq - u.wire())
	if ahead > maxAhead || ahead < -maxBehind {
		u.highest++
		u.shift = seq - uint16(u.highest)
		return u.highest
	}
	extended = u.highest + uint64(int64(ahead))
	u.highest = max(u.highest, extended)
	return extended
}

// Highest returns the highest extended sequence number so far; false before the
// first.
func (u *Unwrapper) Highest() (extended uint64, ok bool) { return u.highest, u.started }

func (u *Unwrapper) wire() uint16 { return uint16(u.highest) + u.shift }

const (
	windowBlocks = 32
	// WindowSize is how far behind the highest index a packet may arrive. One block
	// of the ring is always the one being filled (RFC 6479).
	WindowSize = (windowBlocks - 1) * 64
)

// Window refuses packets that were received before, by their index, which is any
// number that its sender uses once (RFC 6479). The zero value has received none.
type Window struct {
	highest uint64
	blocks  [windowBlocks]uint64
}

// Fresh reports whether index is neither received nor too old to be known.
func (w *Window) Fresh(index uint64) bool {
	if index > w.highest {
		return true
	}
	if w.highest-index >= WindowSize {
		return false
	}
	return w.blocks[index/64%windowBlocks]&(1<<(index%64)) == 0
}

// Commit marks index as received. Call it only for a packet that was authentic
// and whose index was fresh.
func (w *Window) Commit(index uint64) {
	if index > w.highest {
		current, last := w.highest/64, index/64
		for i := range min(last-current, windowBlocks) {
			w.blocks[(last-i)%windowBlocks] = 0
		}
		w.highest = index
	}
	w.blocks[index/64%windowBlocks] |= 1 << (index % 64)
}

// Highest returns the highest index received, or zero.
func (w *Window) Highest() uint64 { return w.highest }

// Exclude refuses every index up to and including index, which goes on where an
// earlier window over the same keys ended.
func (w *Window) Exclude(index uint64) {
	w.highest = index
	for i := range w.blocks {
		w.blocks[i] = ^uint64(0)
	}
	w.blocks[index/64%windowBlocks] >>= 63 - index%64
}
