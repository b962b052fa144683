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

// Message is one datagram of a batch: Buffer[:Size]. Whoever reads gives buffers
// and keeps them; a datagram too long for its buffer is read as an empty one.
type Message struct {
	Buffer []byte
	Size   int
	// Addr is the other side. IPv4 is never in its IPv6-mapped form.
	Addr netip.AddrPort
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
