package load

import (
	"encoding/binary"
	"hash/crc32"
)

// The layout of a measuring payload. Its first byte is that of a 20 ms Opus frame
// that is neither silence nor DTX, so servers take it for speech.
const (
	opusVoice = 0x78

	offsetMagic  = 1
	offsetSender = 4
	offsetRound  = 8
	offsetIndex  = 12
	offsetSent   = 16
	offsetSum    = 24
	offsetFiller = 28

	// MinSize and MaxSize bound a measuring payload in bytes: its fields, and the
	// largest Opus frame (RFC 6716 section 3.4).
	MinSize = 32
	MaxSize = 1275
)

var (
	magic      = [3]byte{'H', 'B', 'L'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// silence is what clients send five times at the end of a talk spurt (Discord,
	// "Voice Data Interpolation").
	silence = []byte{0xF8, 0xFF, 0xFE}
)

// stamp is what a measuring payload says of itself.
type stamp struct {
	sender uint32
	round  uint32 // which measurement it belongs to
	index  uint32 // of the packet among those of its sender in this round
	sent   int64  // Unix time in ns
}

// put fills payload, at least MinSize bytes, with the stamp, a filler that depends
// on it, and a checksum over both.
func (s stamp) put(payload []byte) {
	payload[0] = opusVoice
	copy(payload[offsetMagic:], magic[:])
	binary.BigEndian.PutUint32(payload[offsetSender:], s.sender)
	binary.BigEndian.PutUint32(payload[offsetRound:], s.round)
	binary.BigEndian.PutUint32(payload[offsetIndex:], s.index)
	binary.BigEndian.PutUint64(payload[offsetSent:], uint64(s.sent))
	x := uint64(s.sender)<<32 | uint64(s.index) | 1
	for rest := payload[offsetFiller:]; len(rest) > 0; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], x)
		rest = rest[copy(rest, word[:]):]
	}
	binary.BigEndian.PutUint32(payload[offsetSum:], checksum(payload))
}

// parseStamp is false for a payload that is not whole.
func parseStamp(payload []byte) (s stamp, ok bool) {
	if len(payload) < MinSize || payload[0] != opusVoice || [3]byte(payload[offsetMagic:]) != magic ||
		binary.BigEndian.Uint32(payload[offsetSum:]) != checksum(payload) {
		return stamp{}, false
	}
	return stamp{
		sender: binary.BigEndian.Uint32(payload[offsetSender:]),
		round:  binary.BigEndian.Uint32(payload[offsetRound:]),
		index:  binary.BigEndian.Uint32(payload[offsetIndex:]),
		sent:   int64(binary.BigEndian.Uint64(payload[offsetSent:])),
	}, true
}

// checksum covers everything but its own place.
func checksum(payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(payload[:offsetSum], castagnoli), castagnoli, payload[offsetFiller:])
}
