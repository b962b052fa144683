package audio

// JitterBuffer puts the packets of one stream in order. It knows no time: it
// declares a packet lost once Depth later ones have come, or when the caller,
// who plays one frame every 20 ms, pops it while it is missing.
type JitterBuffer struct {
	depth   int
	started bool
	next    uint16 // sequence number that Pop returns
	waiting map[uint16]Frame
	newest  uint16
}

// Frame is one packet in a JitterBuffer.
type Frame struct {
	Opus      []byte
	Timestamp uint32 // 48 kHz
}

// resetDistance is how far a sequence number may be from the expected one before
// it counts as the start of another stream.
const resetDistance = 1 << 10

// NewJitterBuffer returns a buffer that waits for a late packet until depth later
// ones have come: 3 to 10 are usual.
func NewJitterBuffer(depth int) *JitterBuffer {
	return &JitterBuffer{depth: max(1, depth), waiting: make(map[uint16]Frame)}
}

// Push takes in a packet in whatever order it came. Packets that came before, or
// too late, are dropped.
func (b *JitterBuffer) Push(sequence uint16, f Frame) {
	ahead := int16(sequence - b.next)
	if !b.started || ahead >= resetDistance || ahead < -resetDistance {
		b.started = true
		b.next, b.newest = sequence, sequence
		clear(b.waiting)
		ahead = 0
	}
	if ahead < 0 {
		return
	}
	b.waiting[sequence] = f
	if int16(sequence-b.newest) > 0 {
		b.newest = sequence
	}
}

// Ready reports whether the next frame is there, or is lost beyond doubt.
func (b *JitterBuffer) Ready() bool {
	if len(b.waiting) == 0 {
		return false
	}
	_, there := b.waiting[b.next]
	return there || int(b.newest-b.next) >= b.depth
}

// Pop returns the next frame in order; there is false when it is missing, and it
// is then lost for good. On an empty buffer Pop changes nothing.
func (b *JitterBuffer) Pop() (f Frame, there bool) {
	if len(b.waiting) == 0 {
		return Frame{}, false
	}
	f, there = b.waiting[b.next]
	delete(b.waiting, b.next)
	b.next++
	return f, there
}

// Len returns how many packets wait.
func (b *JitterBuffer) Len() int { return len(b.waiting) }
