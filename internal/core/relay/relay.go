// Package relay owns what passes between the two halves of a channel that is spread
// over two workers: the speakers' packets as listeners get them, each whole in a packet
// of the native transport. It never does I/O, never allocates per packet, and does not
// know who hears what it carries.
//
// A relay packet is an RTP packet of the native transport's aead_aes256_gcm_rtpsize.
// Its SSRC names the direction of one relay, its sequence number counts, and its
// payload is a plain RTP packet: the header that the speaker's worker gave it, with its
// audio level, if it has one, as extension 1, and as payload type 1 for a priority
// speaker and 0 for all others.
package relay

import (
	"fmt"

	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
)

const (
	levelID = 1
	// Payload types of the packet within.
	usual    = 0
	priority = 1
	// maxInner is above the longest payload that a router forwards, with its header.
	maxInner = 1500
)

// Overhead is the most bytes that a relay adds to a payload.
const Overhead = rtp.HeaderSize + rtp.LevelHeaderSize + native.Overhead

// Link is one end of a relay. One goroutine uses it.
type Link struct {
	in, out  *native.Transport
	ssrc     uint32 // of what goes out
	sequence uint16
	inner    [maxInner]byte // scratch
}

// New returns this end of the relay that a command describes.
func New(c *sfu.AddRelay) (*Link, error) {
	in, err := native.New(native.AES256GCM, c.In.Key)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	out, err := native.New(native.AES256GCM, c.Out.Key)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return &Link{in: in, out: out, ssrc: c.Out.SSRC}, nil
}

// Seal writes into dst the relay packet that carries a delivery, and returns its size.
// It returns 0 when dst is shorter than the payload and Overhead, when the payload is
// longer than any that a router forwards, or when the nonces are used up (2^30 packets).
func (l *Link) Seal(dst []byte, d *sfu.Delivery) int {
	header, level := d.Header, rtp.LevelExtension{}
	header.PayloadType = usual
	if d.Priority {
		header.PayloadType = priority
	}
	if d.Level.Known {
		level = rtp.LevelExtension{ID: levelID, Level: d.Level.Value}
	}
	n := level.HeaderSize() + len(d.Payload)
	if n > maxInner {
		return 0
	}
	rtp.PutHeader(l.inner[:], header, level)
	copy(l.inner[level.HeaderSize():], d.Payload)
	l.sequence++
	outer := rtp.Header{Sequence: l.sequence, Timestamp: header.Timestamp, SSRC: l.ssrc}
	return l.out.Seal(dst, outer, rtp.LevelExtension{}, l.inner[:n])
}

// Open decrypts a relay packet in place and fills p with what it carries, whose payload
// is a part of pkt.
func (l *Link) Open(pkt []byte, p *sfu.Packet) rtp.Drop {
	plain, drop := l.in.Open(pkt)
	if drop != rtp.Accepted {
		return drop
	}
	outer, _, ok := rtp.Parse(plain)
	if !ok || !parse(outer.Payload(plain), p) {
		return rtp.Malformed
	}
	return rtp.Accepted
}

// parse reads the packet within. It is false for what no worker sends.
func parse(inner []byte, p *sfu.Packet) bool {
	h, _, ok := rtp.Parse(inner)
	if !ok || h.PayloadType > priority {
		return false
	}
	p.Header, p.Payload, p.Priority = h, h.Payload(inner), h.PayloadType == priority
	p.Level.Value, p.Level.Known = h.AudioLevel(inner, levelID)
	return true
}
