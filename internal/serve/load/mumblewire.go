package load

import (
	"crypto/aes"
	"encoding/binary"
	"errors"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// Types of Mumble's control messages (Mumble.proto, protocol of 1.3).
const (
	mumbleVersion      = 0
	mumbleAuthenticate = 2
	mumblePing         = 3
	mumbleReject       = 4
	mumbleServerSync   = 5
	mumbleCryptSetup   = 15
)

const (
	mumbleHeader   = 4 // of a voice datagram: a byte of the nonce and three of the tag
	mumbleOpus     = 4 << 5
	mumbleUDPPing  = 1 << 5
	opusLengthMask = 0x1FFF // above it is the mark of a talk spurt's end
)

// appendField appends a varint field of a protobuf message.
func appendField(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3), v)
}

// appendBytes appends a length-delimited field.
func appendBytes(b []byte, field int, v string) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

var errProtobuf = errors.New("mumble: a message that is no protobuf")

// bytesFields returns the length-delimited fields of a message, the last of each.
func bytesFields(b []byte) (map[int][]byte, error) {
	out := map[int][]byte{}
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errProtobuf
		}
		b = b[n:]
		size := uint64(0)
		switch key & 7 {
		case 0:
			if _, n = binary.Uvarint(b); n <= 0 {
				return nil, errProtobuf
			}
			size = uint64(n)
		case 1:
			size = 8
		case 2:
			if size, n = binary.Uvarint(b); n <= 0 {
				return nil, errProtobuf
			}
			b = b[n:]
		case 5:
			size = 4
		default:
			return nil, errProtobuf
		}
		if size > uint64(len(b)) {
			return nil, errProtobuf
		}
		if key&7 == 2 {
			out[int(key>>3)] = b[:size]
		}
		b = b[size:]
	}
	return out, nil
}

// appendVarint appends a number of up to 28 bits in the form of Mumble's datagrams,
// which is not protobuf's.
func appendVarint(b []byte, v uint32) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v < 0x4000:
		return append(b, 0x80|byte(v>>8), byte(v))
	case v < 0x200000:
		return append(b, 0xC0|byte(v>>16), byte(v>>8), byte(v))
	default:
		return append(b, 0xE0|byte(v>>24)&0x0F, byte(v>>16), byte(v>>8), byte(v))
	}
}

// cutVarint reads such a number, of up to 32 bits.
func cutVarint(b []byte) (v uint32, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	first, size := b[0], 0
	switch {
	case first&0x80 == 0:
		v = uint32(first)
	case first&0xC0 == 0x80:
		v, size = uint32(first&0x3F), 1
	case first&0xE0 == 0xC0:
		v, size = uint32(first&0x1F), 2
	case first&0xF0 == 0xE0:
		v, size = uint32(first&0x0F), 3
	case first&0xFC == 0xF0:
		size = 4
	default:
		return 0, nil, false // negative, or of 64 bits: no voice has those
	}
	if len(b) < 1+size {
		return 0, nil, false
	}
	for _, next := range b[1 : 1+size] {
		v = v<<8 | uint32(next)
	}
	return v, b[1+size:], true
}

// mumbleLink is the voice of one Mumble client.
type mumbleLink struct {
	cipher  ocb2
	out, in ocbBlock // the last nonce of each direction
	// Scratch: as locals they would escape.
	nonce, tag ocbBlock
	sequence   uint32
}

// newMumbleLink takes what CryptSetup says.
func newMumbleLink(key, clientNonce, serverNonce []byte) (*mumbleLink, error) {
	if len(key) != aes.BlockSize || len(clientNonce) != aes.BlockSize || len(serverNonce) != aes.BlockSize {
		return nil, errors.New("mumble: CryptSetup without key and nonces")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &mumbleLink{cipher: ocb2{block: block}, out: ocbBlock(clientNonce), in: ocbBlock(serverNonce)}, nil
}

// protect encrypts the plain bytes after the header of a datagram of n bytes.
func (l *mumbleLink) protect(datagram []byte) int {
	for i := range l.out {
		if l.out[i]++; l.out[i] != 0 {
			break
		}
	}
	l.cipher.seal(datagram[mumbleHeader:], &l.out, &l.tag)
	datagram[0] = l.out[0]
	copy(datagram[1:mumbleHeader], l.tag[:])
	return len(datagram)
}

// nonceOf returns the nonce that a datagram with this lowest byte has: the nearest
// to the last one.
func (l *mumbleLink) nonceOf(lowest byte) ocbBlock {
	low := binary.LittleEndian.Uint64(l.in[:8])
	next := low + uint64(int64(int8(lowest-byte(low))))
	nonce := l.in
	binary.LittleEndian.PutUint64(nonce[:8], next)
	switch high := binary.LittleEndian.Uint64(nonce[8:]); {
	case next < low && int8(lowest-byte(low)) > 0:
		binary.LittleEndian.PutUint64(nonce[8:], high+1)
	case next > low && int8(lowest-byte(low)) < 0:
		binary.LittleEndian.PutUint64(nonce[8:], high-1)
	}
	return nonce
}

func (l *mumbleLink) open(datagram []byte) (payload []byte, ok bool) {
	if len(datagram) <= mumbleHeader {
		return nil, false
	}
	l.nonce = l.nonceOf(datagram[0])
	plain := datagram[mumbleHeader:]
	l.cipher.open(plain, &l.nonce, &l.tag)
	if [3]byte(l.tag[:3]) != [3]byte(datagram[1:mumbleHeader]) {
		return nil, false
	}
	if int8(l.nonce[0]-l.in[0]) > 0 {
		l.in = l.nonce
	}
	if plain[0] != mumbleOpus {
		return nil, true
	}
	_, rest, ok1 := cutVarint(plain[1:]) // who speaks
	_, rest, ok2 := cutVarint(rest)      // sequence
	size, rest, ok3 := cutVarint(rest)
	size &= opusLengthMask
	if !ok1 || !ok2 || !ok3 || int(size) > len(rest) {
		return nil, false
	}
	return rest[:size], true
}

func (l *mumbleLink) seal(dst, payload []byte, _ rtp.Header, _ bool) int {
	b := append(dst[:mumbleHeader], mumbleOpus)
	b = appendVarint(b, l.sequence)
	l.sequence++
	b = appendVarint(b, uint32(len(payload)))
	return l.protect(append(b, payload...))
}

func (l *mumbleLink) alive(dst []byte) int {
	return l.protect(append(dst[:mumbleHeader], mumbleUDPPing, 1))
}
