// Package udp owns datagram sockets that read and write in batches: one over the
// kernel and one in memory for tests. It knows nothing of what datagrams carry,
// and never starts a goroutine, allocates per datagram, or logs an address.
package udp

import "net/netip"

// Batch is how many datagrams one system call moves at most. At 64 a call's own
// 0.2 µs vanishes against the kernel's 4 µs for each datagram.
const Batch = 64

// MaxDatagram is a buffer's size in bytes that holds every datagram of an Ethernet
// path, and the headers and tags that forwarding adds.
const MaxDatagram = 2048

// MaxSegments is how many datagrams one Message may hold: UDP_MAX_SEGMENTS of
// kernels before 6.9. MaxSegmented is the most bytes that they may have together.
const (
	MaxSegments  = 64
	MaxSegmented = 60_000
)

// Message is one datagram of a batch: Buffer[:Size]. Whoever reads gives buffers
// and keeps them; a datagram too long for its buffer is read as an empty one.
type Message struct {
	Buffer []byte
	Size   int
	// Segment makes a written message several datagrams of so many bytes each, the
	// last of which may be shorter: the kernel walks its path once for all of them.
	// Zero, as in messages that were read, means one datagram.
	Segment int
	// Addr is the other side. IPv4 is never in its IPv6-mapped form.
	Addr netip.AddrPort
}

// Datagrams returns how many datagrams a message is.
func (m *Message) Datagrams() int {
	if !m.segmented() {
		return 1
	}
	return (m.Size + m.Segment - 1) / m.Segment
}

func (m *Message) segmented() bool { return m.Segment > 0 && m.Size > m.Segment }

// datagram returns the part of a message that starts at an offset, and where the
// next begins.
func (m *Message) datagram(offset int) (part []byte, next int) {
	next = m.Size
	if m.segmented() {
		next = min(offset+m.Segment, m.Size)
	}
	return m.Buffer[offset:next], next
}

// NewBatch returns Batch messages whose buffers are one slab.
func NewBatch() []Message {
	slab := make([]byte, Batch*MaxDatagram)
	ms := make([]Message, Batch)
	for i := range ms {
		ms[i].Buffer = slab[i*MaxDatagram : (i+1)*MaxDatagram : (i+1)*MaxDatagram]
	}
	return ms
}
