package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"

	"hubbub.dev/hubbub/proto"
)

const (
	rtpHeaderSize  = 12
	rtcpHeaderSize = 8
	opusPayload    = 0x78 // payload type 120, no marker: some clients compare the whole byte

	discoverySize = 74
	pingSize      = 8
	pingRequest   = 0x1337CAFE
	pingResponse  = 0x1337F00D

	audioLevelID = 1 // Voice Connections, "Native RTP Header Extensions"
)

var errPacket = errors.New("client: malformed packet")

// Packet is one Opus packet of one speaker.
type Packet struct {
	// UserID is who speaks: zero if the voice server does not say whose SSRC it
	// is.
	UserID    proto.Snowflake
	SSRC      uint32
	Sequence  uint16
	Timestamp uint32 // 48 kHz
	// AudioLevel is the speaker's level as RFC 6464 has it, from 0 (loudest) to
	// 127 (silence), or -1 where the packet does not say.
	AudioLevel int
	Opus       []byte
}

type packetKind uint8

const (
	kindUnknown packetKind = iota
	kindRTP
	kindRTCP
	kindPing
	kindDiscovery
)

// classify says what a datagram from the server is by its first bytes.
func classify(pkt []byte) packetKind {
	switch {
	case len(pkt) == pingSize && binary.BigEndian.Uint32(pkt) == pingResponse:
		return kindPing
	case len(pkt) == discoverySize && pkt[0] == 0 && pkt[1] == 2:
		return kindDiscovery
	case len(pkt) < rtpHeaderSize || pkt[0]>>6 != 2:
		return kindUnknown
	case pkt[1] >= 192 && pkt[1] <= 223: // RFC 5761 section 4
		return kindRTCP
	}
	return kindRTP
}

// clearLength returns how many bytes of an RTP packet an rtpsize mode leaves
// clear: header, CSRCs and the 4 bytes that begin the extensions.
func clearLength(pkt []byte) (int, error) {
	if len(pkt) < rtpHeaderSize {
		return 0, errPacket
	}
	n := rtpHeaderSize + 4*int(pkt[0]&0x0F)
	if pkt[0]&0x10 != 0 {
		n += 4
	}
	if len(pkt) < n {
		return 0, errPacket
	}
	return n, nil
}

// parseRTP reads an opened RTP packet of which clear bytes were in the clear.
// The Opus part of the result points into pkt.
func parseRTP(pkt []byte, clear int) (Packet, error) {
	p := Packet{
		Sequence:   binary.BigEndian.Uint16(pkt[2:]),
		Timestamp:  binary.BigEndian.Uint32(pkt[4:]),
		SSRC:       binary.BigEndian.Uint32(pkt[8:]),
		AudioLevel: -1,
	}
	body := pkt[clear:]
	if pkt[0]&0x10 != 0 {
		profile := binary.BigEndian.Uint16(pkt[clear-4:])
		length := 4 * int(binary.BigEndian.Uint16(pkt[clear-2:]))
		if length > len(body) {
			return Packet{}, errPacket
		}
		if profile == 0xBEDE {
			p.AudioLevel = audioLevel(body[:length])
		}
		body = body[length:]
	}
	if pkt[0]&0x20 != 0 {
		if len(body) == 0 || body[len(body)-1] == 0 || int(body[len(body)-1]) > len(body) {
			return Packet{}, errPacket
		}
		body = body[:len(body)-int(body[len(body)-1])]
	}
	p.Opus = body
	return p, nil
}

// audioLevel finds the audio level among one-byte extension elements
// (RFC 8285 section 4.2), or returns -1.
func audioLevel(elements []byte) int {
	for len(elements) > 0 {
		id, size := elements[0]>>4, int(elements[0]&0x0F)+1
		if id == 0 {
			elements = elements[1:]
			continue
		}
		if id == 15 || len(elements) < 1+size {
			return -1
		}
		if id == audioLevelID {
			return int(elements[1] & 0x7F)
		}
		elements = elements[1+size:]
	}
	return -1
}

// putRTPHeader writes the header of an Opus packet.
func putRTPHeader(dst *[rtpHeaderSize]byte, sequence uint16, timestamp, ssrc uint32) {
	dst[0], dst[1] = 0x80, opusPayload
	binary.BigEndian.PutUint16(dst[2:], sequence)
	binary.BigEndian.PutUint32(dst[4:], timestamp)
	binary.BigEndian.PutUint32(dst[8:], ssrc)
}

// discoveryRequest asks the server from which address our packets come.
func discoveryRequest(ssrc uint32) []byte {
	pkt := make([]byte, discoverySize)
	binary.BigEndian.PutUint16(pkt, 1)
	binary.BigEndian.PutUint16(pkt[2:], discoverySize-4)
	binary.BigEndian.PutUint32(pkt[4:], ssrc)
	return pkt
}

// parseDiscovery reads the answer to a discoveryRequest for ssrc.
func parseDiscovery(pkt []byte, ssrc uint32) (netip.AddrPort, error) {
	if classify(pkt) != kindDiscovery || binary.BigEndian.Uint32(pkt[4:]) != ssrc {
		return netip.AddrPort{}, errPacket
	}
	text, _, ok := bytes.Cut(pkt[8:72], []byte{0})
	if !ok {
		return netip.AddrPort{}, errPacket
	}
	addr, err := netip.ParseAddr(string(text))
	if err != nil {
		return netip.AddrPort{}, errPacket
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(pkt[72:])), nil
}

// opusSamples returns how long an Opus packet is in samples of 48 kHz
// (RFC 6716 section 3.1), or false for what is no Opus packet.
func opusSamples(frame []byte) (uint32, bool) {
	if len(frame) == 0 {
		return 0, false
	}
	config := frame[0] >> 3
	var size uint32
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		size = [4]uint32{480, 960, 1920, 2880}[config%4]
	case config < 16: // hybrid: 10, 20 ms
		size = [2]uint32{480, 960}[config%2]
	default: // CELT: 2.5, 5, 10, 20 ms
		size = 120 << (config % 4)
	}
	count := uint32(1)
	switch frame[0] & 3 {
	case 1, 2:
		count = 2
	case 3:
		if len(frame) < 2 {
			return 0, false
		}
		count = uint32(frame[1] & 0x3F)
	}
	samples := size * count
	return samples, samples > 0 && samples <= 5760
}
