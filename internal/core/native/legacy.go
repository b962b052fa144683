package native

import (
	"encoding/binary"

	"golang.org/x/crypto/nacl/secretbox"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// maxLegacy is the longest packet that the legacy mode takes, in bytes.
const maxLegacy = 1500

// legacy is xsalsa20_poly1305: everything after the 12-byte RTP header is a NaCl
// secretbox, CSRCs and extensions too, and the header padded with zeros is its
// nonce. A secretbox may not be opened in place, hence the scratch space.
//
// The nonce lacks a roll-over counter, so a packet recorded 2^15 packets ago cannot
// be told from a new one: one reason why the mode is off by default.
type legacy struct {
	key     [32]byte
	nonce   [24]byte // scratch; the last twelve bytes stay zero
	window  rtp.Window
	ssrc    uint32
	scratch [maxLegacy]byte
	record  *Record // nil: nothing is written down
}

func (l *legacy) open(pkt []byte) (plain []byte, drop rtp.Drop) {
	if len(pkt) > maxLegacy {
		return nil, rtp.Malformed
	}
	// One window serves one source. Native clients of this age have no second.
	ssrc := binary.BigEndian.Uint32(pkt[8:])
	highest := l.window.Highest()
	if highest != 0 && ssrc != l.ssrc {
		return nil, rtp.UnknownSource
	}
	seq := binary.BigEndian.Uint16(pkt[2:])
	index := 1<<16 | uint64(seq)
	if highest != 0 {
		index = highest + uint64(int64(int16(seq-uint16(highest))))
	}
	if !l.window.Fresh(index) {
		return nil, rtp.Replayed
	}
	copy(l.nonce[:], pkt[:rtp.HeaderSize])
	body, ok := secretbox.Open(l.scratch[:0], pkt[rtp.HeaderSize:], &l.nonce, &l.key)
	if !ok {
		return nil, rtp.Unauthenticated
	}
	l.ssrc = ssrc
	l.window.Commit(index)
	l.save()
	return pkt[:rtp.HeaderSize+copy(pkt[rtp.HeaderSize:], body)], rtp.Accepted
}

// seal encrypts the plain packet at the start of dst in place.
func (l *legacy) seal(dst []byte, plain int) int {
	if plain+tagSize > maxLegacy {
		return 0
	}
	copy(l.nonce[:], dst[:rtp.HeaderSize])
	body := l.scratch[:copy(l.scratch[:], dst[rtp.HeaderSize:plain])]
	secretbox.Seal(dst[rtp.HeaderSize:rtp.HeaderSize], body, &l.nonce, &l.key)
	return plain + tagSize
}
