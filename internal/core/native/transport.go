// Package native owns Discord's native UDP transport on the server's side: RTP and
// RTCP sealed with the session's secret key, IP discovery, the UDP ping and
// keepalives. It works in place on buffers of its caller, from one goroutine; it
// never does I/O, never allocates per packet, and does not know who may speak.
//
// Wire formats are from Discord's documentation, topic "Voice Connections".
package native

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/warm"
)

// Mode is a transport encryption mode by its name on the voice gateway.
type Mode string

// The modes, best first. XSalsa20Poly1305 is for clients from before 2023 only.
const (
	AES256GCM         Mode = "aead_aes256_gcm_rtpsize"
	XChaCha20Poly1305 Mode = "aead_xchacha20_poly1305_rtpsize"
	XSalsa20Poly1305  Mode = "xsalsa20_poly1305"
)

const (
	tagSize   = 16
	nonceSize = 4
	// Overhead is the most bytes that sealing adds to a plain packet.
	Overhead = tagSize + nonceSize

	preambleSize      = 4 // of an RTP extension block: profile and length
	controlHeaderSize = 8 // of an RTCP packet, with its sender's SSRC
)

// MaxNonce is how many packets one key can seal. Seal refuses any more; the peer
// then needs a new session.
//
// Client and server share one key, and both count their nonces, which are the
// first four bytes of the AEAD's nonce. A nonce used by both would betray the two
// packets, so the server sets the top bits of the first and of the last byte and
// counts in the other 30: no client that counts from zero in either byte order gets
// there within 2^31 packets.
const MaxNonce = 1 << 30

// Transport opens what one peer sends and seals what it is sent.
type Transport struct {
	aead   cipher.AEAD // nil in a legacy transport
	legacy *legacy
	nonce  [chacha20poly1305.NonceSizeX]byte // scratch; all but the first four bytes stay zero
	width  uint8                             // the AEAD's nonce size
	sent   uint32

	reserved uint32 // nonces below are written down as used

	keys   warm.Object // the AEAD's
	replay replay
	record *Record // nil: they need not be
}

// New returns the transport of a peer under the secret key of its Session
// Description. It fails for an unknown mode only.
func New(mode Mode, key [32]byte) (*Transport, error) {
	t := &Transport{}
	var err error
	switch mode {
	case AES256GCM:
		var block cipher.Block
		if block, err = aes.NewCipher(key[:]); err == nil {
			t.aead, err = cipher.NewGCM(block)
		}
	case XChaCha20Poly1305:
		t.aead, err = chacha20poly1305.NewX(key[:])
	case XSalsa20Poly1305:
		t.legacy = &legacy{key: key}
		return t, nil
	default:
		return nil, fmt.Errorf("native: unknown encryption mode %q", mode)
	}
	if err != nil {
		return nil, fmt.Errorf("native: mode %s: %w", mode, err)
	}
	t.width, t.keys = uint8(t.aead.NonceSize()), warm.Of(t.aead)
	return t, nil
}

// Touch reads ahead what Seal and Open take (package warm).
func (t *Transport) Touch() byte { return t.keys.Touch() }

// Nonce returns the number that the next packet will be sealed under.
func (t *Transport) Nonce() uint32 { return t.sent }

// SetNonce sets the number that the next packet will be sealed under. Whoever
// restores a transport sets it past every number that may have been used.
func (t *Transport) SetNonce(n uint32) {
	t.sent = min(n, MaxNonce)
	t.reserved = t.sent
}

// Open decrypts an RTP packet in place and returns it as a plain RTP packet, which
// is a part of pkt. Authenticated are the header, the CSRCs and, of an extension
// block, the first four bytes; the rest is encrypted. What is refused may be
// overwritten and changes nothing in the transport.
func (t *Transport) Open(pkt []byte) (plain []byte, drop rtp.Drop) {
	if len(pkt) < rtp.HeaderSize+tagSize || pkt[0]>>6 != 2 {
		return nil, rtp.Malformed
	}
	if t.legacy != nil {
		return t.legacy.open(pkt)
	}
	clear, extension := rtp.HeaderSize+4*int(pkt[0]&0x0F), 0
	if pkt[0]&0x10 != 0 {
		clear += preambleSize
		if len(pkt) < clear {
			return nil, rtp.Malformed
		}
		extension = 4 * int(binary.BigEndian.Uint16(pkt[clear-2:]))
	}
	if len(pkt) < clear+extension+Overhead {
		return nil, rtp.Malformed
	}
	return t.open(pkt, clear)
}

// OpenRTCP decrypts an RTCP compound packet in place and returns it as a plain one,
// which is a part of pkt. Authenticated are its first eight bytes; the rest is
// encrypted. The legacy mode has no RTCP.
func (t *Transport) OpenRTCP(pkt []byte) (plain []byte, drop rtp.Drop) {
	if len(pkt) < controlHeaderSize+Overhead || pkt[0]>>6 != 2 || t.legacy != nil {
		return nil, rtp.Malformed
	}
	return t.open(pkt, controlHeaderSize)
}

func (t *Transport) open(pkt []byte, clear int) (plain []byte, drop rtp.Drop) {
	end := len(pkt) - nonceSize
	nonce := binary.BigEndian.Uint32(pkt[end:])
	if !t.replay.fresh(nonce) {
		return nil, rtp.Replayed
	}
	binary.BigEndian.PutUint32(t.nonce[:], nonce)
	if _, err := t.aead.Open(pkt[clear:clear], t.nonce[:t.width], pkt[clear:end], pkt[:clear]); err != nil {
		return nil, rtp.Unauthenticated
	}
	t.replay.commit(nonce)
	return pkt[:end-tagSize], rtp.Accepted
}

// Seal writes into dst the sealed packet with this header, audio level and payload,
// and returns its size. It returns 0, and sends no nonce twice, when dst is shorter
// than the header, the payload and Overhead, or when the nonces are used up. The
// payload must not overlap dst.
func (t *Transport) Seal(dst []byte, h rtp.Header, ext rtp.LevelExtension, payload []byte) int {
	head := ext.HeaderSize()
	plain := head + len(payload)
	if len(dst) < plain+Overhead {
		return 0
	}
	rtp.PutHeader(dst, h, ext)
	copy(dst[head:], payload)
	if t.legacy != nil {
		return t.legacy.seal(dst, plain)
	}
	clear := rtp.HeaderSize
	if ext.Present() {
		clear += preambleSize
	}
	return t.seal(dst, clear, plain)
}

// SealRTCP writes into dst a plain RTCP compound packet, sealed, and returns its
// size. It returns 0 under the same conditions as Seal and in the legacy mode.
func (t *Transport) SealRTCP(dst, compound []byte) int {
	if len(compound) < controlHeaderSize || len(dst) < len(compound)+Overhead || t.legacy != nil {
		return 0
	}
	copy(dst, compound)
	return t.seal(dst, controlHeaderSize, len(compound))
}

// seal encrypts the plain packet at the start of dst in place.
func (t *Transport) seal(dst []byte, clear, plain int) int {
	if t.sent >= MaxNonce {
		return 0
	}
	if t.sent >= t.reserved {
		t.reserve()
	}
	n := t.sent
	t.sent++
	nonce := 1<<31 | n>>7<<8 | 1<<7 | n&0x7F
	binary.BigEndian.PutUint32(t.nonce[:], nonce)
	t.aead.Seal(dst[clear:clear], t.nonce[:t.width], dst[clear:plain], dst[:clear])
	binary.BigEndian.PutUint32(dst[plain+tagSize:], nonce)
	return plain + Overhead
}
