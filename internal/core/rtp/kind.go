package rtp

import "encoding/binary"

// Protocol is what a datagram on a media port carries.
type Protocol uint8

// The protocols that share a media port.
const (
	Unknown Protocol = iota // none of the others: keepalives, pings, IP discovery, junk
	STUN
	DTLS
	RTP
	RTCP
)

const stunCookie = 0x2112A442

// Kind tells protocols apart by the first byte (RFC 7983), and RTP from RTCP by
// the second (RFC 5761 section 4). STUN must also have its cookie and its length,
// because Discord's IP discovery starts with the same two bytes. Nothing shorter
// than an RTP header is anything: 8-byte keepalives may start with any byte.
func Kind(pkt []byte) Protocol {
	if len(pkt) < HeaderSize {
		return Unknown
	}
	switch first := pkt[0]; {
	case first < 4:
		if len(pkt) >= 20 && binary.BigEndian.Uint32(pkt[4:]) == stunCookie &&
			int(binary.BigEndian.Uint16(pkt[2:])) == len(pkt)-20 {
			return STUN
		}
	case first >= 20 && first < 64:
		return DTLS
	case first >= 128 && first < 192:
		if pkt[1] >= 192 && pkt[1] <= 223 {
			return RTCP
		}
		return RTP
	}
	return Unknown
}

// Drop says why a packet was refused. Drops are counted, never logged.
type Drop uint8

// The reasons for which a transport refuses a packet, cheapest check first.
const (
	Accepted        Drop = iota
	Malformed            // too short, or lengths that contradict one another
	UnknownSource        // an SSRC beyond those that the peer may use
	Replayed             // seen before, or older than the replay window
	Unauthenticated      // the tag does not fit
	DropCount            // how many reasons there are
)

// String returns the reason as a metric label.
func (d Drop) String() string {
	names := [DropCount]string{"accepted", "malformed", "unknown_source", "replayed", "unauthenticated"}
	if d < DropCount {
		return names[d]
	}
	return "invalid"
}
