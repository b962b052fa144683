// Package relay owns what passes between the two halves of a channel that is spread
// over two workers: the speakers' packets as listeners get them, each whole in a packet
// of the native transport. It never does I/O, never allocates per packet, and does not
// know who hears what it carries.
//
// A relay packet is an RTP packet of the native transport's aead_aes256_gcm_rtpsize.
// Its SSRC names the direction of one relay, its sequence number counts, its payload type
// is the number of its key (0 for the one that the relay began with, 127 and then 0 again),
// and its payload is a plain RTP packet: the header that the speaker's worker gave it, with
// its audio level, if it has one, as extension 1, and as payload type 1 for a priority
// speaker and 0 for all others.
package relay

import (
	"crypto/hkdf"
	"crypto/sha256"
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
	// rekeyAfter is how many packets one key seals: half of those that it could.
	rekeyAfter = native.MaxNonce / 2
	// keyNumbers is how many numbers there are for keys.
	keyNumbers = 128
)

// Overhead is the most bytes that a relay adds to a payload.
const Overhead = rtp.HeaderSize + rtp.LevelHeaderSize + native.Overhead

// Link is one end of a relay. One goroutine uses it.
type Link struct {
	in, out  epoch
	next     epoch  // what comes after in, once a packet asked for it
	ssrc     uint32 // of what goes out
	sequence uint16
	inner    [maxInner]byte // scratch
}

// epoch is the life of one key.
type epoch struct {
	*native.Transport
	number uint8
	key    [32]byte
}

func newEpoch(number uint8, key [32]byte) (epoch, error) {
	t, err := native.New(native.AES256GCM, key)
	if err != nil {
		return epoch{}, fmt.Errorf("relay: %w", err)
	}
	return epoch{Transport: t, number: number, key: key}, nil
}

// following returns the epoch after e, whose key both ends make from e's.
func (e *epoch) following() (epoch, error) {
	made, err := hkdf.Expand(sha256.New, e.key[:], "hubbub relay: next key", len(e.key))
	if err != nil {
		return epoch{}, fmt.Errorf("relay: %w", err)
	}
	return newEpoch((e.number+1)%keyNumbers, [32]byte(made))
}

// New returns this end of the relay that a command describes.
func New(c *sfu.AddRelay) (*Link, error) {
	in, err := newEpoch(0, c.In.Key)
	if err != nil {
		return nil, err
	}
	out, err := newEpoch(0, c.Out.Key)
	if err != nil {
		return nil, err
	}
	return &Link{in: in, out: out, ssrc: c.Out.SSRC}, nil
}

// Seal writes into dst the relay packet that carries a delivery, and returns its size.
// It returns 0 when dst is shorter than the payload and Overhead, and when the payload is
// longer than any that a router forwards.
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
	if l.out.Nonce() >= rekeyAfter {
		// It fails for no key, and if it did, this one has as many nonces again.
		if following, err := l.out.following(); err == nil {
			l.out = following
		}
	}
	rtp.PutHeader(l.inner[:], header, level)
	copy(l.inner[level.HeaderSize():], d.Payload)
	l.sequence++
	outer := rtp.Header{PayloadType: l.out.number, Sequence: l.sequence, Timestamp: header.Timestamp, SSRC: l.ssrc}
	return l.out.Seal(dst, outer, rtp.LevelExtension{}, l.inner[:n])
}

// Open decrypts a relay packet in place and fills p with what it carries, whose payload
// is a part of pkt.
func (l *Link) Open(pkt []byte, p *sfu.Packet) rtp.Drop {
	if len(pkt) < rtp.HeaderSize {
		return rtp.Malformed
	}
	in := &l.in
	if number := pkt[1] & (keyNumbers - 1); number != in.number {
		var ok bool
		if in, ok = l.ahead(number); !ok {
			return rtp.Unauthenticated
		}
	}
	plain, drop := in.Open(pkt)
	if drop != rtp.Accepted {
		return drop
	}
	if in == &l.next {
		// What was sealed before and comes after is lost: both go one way in order.
		l.in, l.next = l.next, epoch{}
	}
	outer, _, ok := rtp.Parse(plain)
	if !ok || !parse(outer.Payload(plain), p) {
		return rtp.Malformed
	}
	return rtp.Accepted
}

// ahead returns the epoch after the present one, if that has this number. Anybody can ask
// for it, so it is made once.
func (l *Link) ahead(number uint8) (*epoch, bool) {
	if number != (l.in.number+1)%keyNumbers {
		return nil, false
	}
	if l.next.Transport == nil {
		following, err := l.in.following()
		if err != nil {
			return nil, false
		}
		l.next = following
	}
	return &l.next, true
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
