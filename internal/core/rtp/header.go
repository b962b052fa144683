// Package rtp owns the wire format and the arithmetic of RTP and RTCP: headers,
// header extensions, demultiplexing, sequence numbers, replay windows, reception
// statistics and reports. It never encrypts, never does I/O and never reads a
// clock: instants are arguments.
package rtp

import "encoding/binary"

const (
	// HeaderSize is the size in bytes of an RTP header without CSRCs and extensions.
	HeaderSize = 12
	// LevelHeaderSize is HeaderSize plus an extension block with one audio level.
	LevelHeaderSize = HeaderSize + 8

	profileOneByte = 0xBEDE
	profileTwoByte = 0x1000
)

// Header is what an RTP header says (RFC 3550 section 5.1). Headers that Parse
// filled also know where the packet's extensions and payload are; for writing,
// the exported fields are enough.
type Header struct {
	Marker      bool
	PayloadType uint8
	Sequence    uint16
	Timestamp   uint32
	SSRC        uint32

	profile         uint16
	extensionLength uint16
	length          uint16
	padding         uint8
}

// HeaderLength returns the bytes that the header of pkt takes with its CSRCs and
// extensions. It reads only what SRTP leaves in the clear, and is false for what
// is no RTP packet.
func HeaderLength(pkt []byte) (int, bool) {
	if len(pkt) < HeaderSize || pkt[0]>>6 != 2 {
		return 0, false
	}
	n := HeaderSize + 4*int(pkt[0]&0x0F)
	if pkt[0]&0x10 != 0 {
		if len(pkt) < n+4 {
			return 0, false
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(pkt[n+2:]))
	}
	return n, n <= len(pkt)
}

// Parse reads the header of a plain RTP packet. It returns the header's length in
// bytes, and false when the header or the padding does not fit the packet.
func Parse(pkt []byte) (h Header, headerLength int, ok bool) {
	n, ok := HeaderLength(pkt)
	if !ok || n > 0xFFFF {
		return Header{}, 0, false
	}
	h = Header{
		Marker:      pkt[1]&0x80 != 0,
		PayloadType: pkt[1] & 0x7F,
		Sequence:    binary.BigEndian.Uint16(pkt[2:]),
		Timestamp:   binary.BigEndian.Uint32(pkt[4:]),
		SSRC:        binary.BigEndian.Uint32(pkt[8:]),
		length:      uint16(n),
	}
	if pkt[0]&0x10 != 0 {
		preamble := HeaderSize + 4*int(pkt[0]&0x0F)
		h.profile = binary.BigEndian.Uint16(pkt[preamble:])
		h.extensionLength = uint16(n - preamble - 4)
	}
	if pkt[0]&0x20 != 0 {
		h.padding = pkt[len(pkt)-1]
		if h.padding == 0 || int(h.padding) > len(pkt)-n {
			return Header{}, 0, false
		}
	}
	return h, n, true
}

// Payload returns the payload of pkt, from which h was parsed, without padding.
func (h *Header) Payload(pkt []byte) []byte {
	return pkt[h.length : len(pkt)-int(h.padding)]
}

// Extension returns the value of the extension element with the given id in pkt,
// from which h was parsed, in the one-byte or the two-byte form of RFC 8285. The
// value is a part of pkt; in the two-byte form it may be empty.
func (h *Header) Extension(pkt []byte, id uint8) ([]byte, bool) {
	if id == 0 {
		return nil, false
	}
	body := pkt[h.length-h.extensionLength : h.length]
	switch {
	case h.profile == profileOneByte:
		return oneByteElement(body, id)
	case h.profile&0xFFF0 == profileTwoByte:
		return twoByteElement(body, id)
	}
	return nil, false
}

// oneByteElement follows RFC 8285 section 4.2: id 0 is a padding byte, and id 15
// ends the block whatever comes after it.
func oneByteElement(body []byte, id uint8) ([]byte, bool) {
	for len(body) > 0 {
		found, size := body[0]>>4, int(body[0]&0x0F)+1
		if found == 0 {
			body = body[1:]
			continue
		}
		if found == 15 || len(body) < 1+size {
			return nil, false
		}
		if found == id {
			return body[1 : 1+size], true
		}
		body = body[1+size:]
	}
	return nil, false
}

// twoByteElement follows RFC 8285 section 4.3.
func twoByteElement(body []byte, id uint8) ([]byte, bool) {
	for len(body) > 0 {
		if body[0] == 0 {
			body = body[1:]
			continue
		}
		if len(body) < 2 || len(body) < 2+int(body[1]) {
			return nil, false
		}
		size := int(body[1])
		if body[0] == id {
			return body[2 : 2+size], true
		}
		body = body[2+size:]
	}
	return nil, false
}

// AudioLevel is the byte of RFC 6464: the voice activity bit above a level from
// 0 (loudest) to 127 (silence), in -dBov.
type AudioLevel uint8

// Silent is the audio level of silence without voice.
const Silent AudioLevel = 127

// MakeAudioLevel packs a level of 0 to 127 -dBov and the voice activity bit.
func MakeAudioLevel(level uint8, voice bool) AudioLevel {
	l := AudioLevel(min(level, 127))
	if voice {
		l |= 0x80
	}
	return l
}

// Level returns 0 (loudest) to 127 (silence), in -dBov.
func (l AudioLevel) Level() uint8 { return uint8(l & 0x7F) }

// Voice reports whether the sender takes the packet to hold speech.
func (l AudioLevel) Voice() bool { return l&0x80 != 0 }

// AudioLevel returns the audio level that pkt, from which h was parsed, carries
// under the extension id that the transport negotiated.
func (h *Header) AudioLevel(pkt []byte, id uint8) (AudioLevel, bool) {
	value, ok := h.Extension(pkt, id)
	if !ok || len(value) == 0 {
		return 0, false
	}
	return AudioLevel(value[0]), true
}

// LevelExtension is the audio level to write into a header. The zero value, and
// any ID that the one-byte form has no room for, writes no extension.
type LevelExtension struct {
	ID    uint8
	Level AudioLevel
}

// Present reports whether the extension will be written.
func (e LevelExtension) Present() bool { return e.ID-1 < 14 }

// HeaderSize returns the size in bytes of a header with this extension.
func (e LevelExtension) HeaderSize() int {
	if e.Present() {
		return LevelHeaderSize
	}
	return HeaderSize
}

// PutHeader writes the header of a packet without padding or CSRCs, and returns
// its size, which is ext.HeaderSize(). It panics when dst is shorter.
func PutHeader(dst []byte, h Header, ext LevelExtension) int {
	_ = dst[HeaderSize-1]
	dst[0] = 0x80
	dst[1] = h.PayloadType & 0x7F
	if h.Marker {
		dst[1] |= 0x80
	}
	binary.BigEndian.PutUint16(dst[2:], h.Sequence)
	binary.BigEndian.PutUint32(dst[4:], h.Timestamp)
	binary.BigEndian.PutUint32(dst[8:], h.SSRC)
	if !ext.Present() {
		return HeaderSize
	}
	dst[0] |= 0x10
	binary.BigEndian.PutUint32(dst[12:], profileOneByte<<16|1)
	binary.BigEndian.PutUint32(dst[16:], uint32(ext.ID)<<28|uint32(ext.Level)<<16)
	return LevelHeaderSize
}
