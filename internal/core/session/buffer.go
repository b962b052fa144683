package session

// Buffer holds the newest frames of a session so that a resume can replay those
// that the client missed. It is bounded in frames and in bytes; the oldest go
// first. The zero Buffer holds nothing.
type Buffer struct {
	maxFrames, maxBytes, maxFrame int

	ring  []*Payload // frames last-count+1 … last, from head on
	head  int
	count int
	bytes int
	last  uint64
}

// NewBuffer returns a buffer of at most so many frames and bytes, that holds no
// frame of more than maxFrame bytes.
func NewBuffer(maxFrames, maxBytes, maxFrame int) Buffer {
	return Buffer{maxFrames: maxFrames, maxBytes: maxBytes, maxFrame: maxFrame}
}

// Append keeps a frame under its sequence number. Numbers follow each other; after a jump only the new frame is
// held. They begin at 1, so that 0 can say "none". A frame that is too long is not
// held, nor anything before it.
func (b *Buffer) Append(seq uint64, frame *Payload) {
	if b.count > 0 && seq != b.last+1 {
		b.clear()
	}
	b.last = seq
	if len(frame.bytes) > b.maxFrame {
		b.clear()
		return
	}
	b.bytes += len(frame.bytes)
	b.push(frame)
	for b.count > 0 && (b.count > b.maxFrames || b.bytes > b.maxBytes) {
		b.pop()
	}
}

// Since returns the frames after seq, oldest first, and whether they are all
// there. It is false too for a seq that was never appended.
func (b *Buffer) Since(seq uint64) (frames [][]byte, ok bool) {
	if seq > b.last || b.last-seq > uint64(b.count) {
		return nil, false
	}
	missed := int(b.last - seq)
	frames = make([][]byte, 0, missed)
	for i := b.count - missed; i < b.count; i++ {
		frames = append(frames, b.ring[(b.head+i)%len(b.ring)].bytes)
	}
	return frames, true
}

// Ack forgets the frames up to seq, which the client says it has.
func (b *Buffer) Ack(seq uint64) {
	if seq > b.last {
		return
	}
	for b.count > 0 && b.last-uint64(b.count) < seq {
		b.pop()
	}
}

// Last returns the newest sequence number, 0 before the first Append.
func (b *Buffer) Last() uint64 { return b.last }

// Len returns how many frames and bytes are held.
func (b *Buffer) Len() (frames, bytes int) { return b.count, b.bytes }

func (b *Buffer) push(frame *Payload) {
	if b.count == len(b.ring) {
		grown := make([]*Payload, max(4, 2*len(b.ring)))
		for i := range b.count {
			grown[i] = b.ring[(b.head+i)%len(b.ring)]
		}
		b.ring, b.head = grown, 0
	}
	b.ring[(b.head+b.count)%len(b.ring)] = frame
	b.count++
}

func (b *Buffer) pop() {
	b.bytes -= len(b.ring[b.head].bytes)
	b.ring[b.head] = nil
	b.head = (b.head + 1) % len(b.ring)
	b.count--
	if b.count == 0 && len(b.ring) > 8 {
		b.ring, b.head = nil, 0 // a quiet session gives a burst's space back
	}
}

func (b *Buffer) clear() {
	b.ring, b.head, b.count, b.bytes = nil, 0, 0, 0
}
