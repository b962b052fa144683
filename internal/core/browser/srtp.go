package browser

import (
	"encoding/binary"

	"hubbub.dev/hubbub/internal/core/rtp"
)

const (
	// Overhead is the most bytes that sealing adds to a plain packet.
	Overhead = gcmTag + indexSize
	// MaxControlIndex is how many RTCP packets one key can seal (RFC 3711 section 3.2.1).
	MaxControlIndex = 1 << 31
	// maxStreams bounds the sources of one peer, for RTP and for RTCP.
	maxStreams = 8
)

// Inbound opens what a browser sends, under the keys of its direction.
type Inbound struct {
	suite   suite
	media   []stream
	control []stream
	record  *Record // nil: nothing is written down
}

// stream is the replay window over the indexes of one authenticated source.
type stream struct {
	ssrc   uint32
	window rtp.Window
}

// NewInbound takes the master key and salt of the peer's direction. It fails for an
// unknown profile and for keys of the wrong size.
func NewInbound(p Profile, key, salt []byte) (*Inbound, error) {
	s, err := newSuite(p, key, salt)
	if err != nil {
		return nil, err
	}
	return &Inbound{suite: s}, nil
}

// Open decrypts an SRTP packet in place and returns it as a plain RTP packet, which
// is a part of pkt. What is refused may be overwritten and changes nothing here.
func (in *Inbound) Open(pkt []byte) (plain []byte, drop rtp.Drop) {
	head, ok := rtp.HeaderLength(pkt)
	end := len(pkt) - in.suite.overheadRTP()
	if !ok || end < head {
		return nil, rtp.Malformed
	}
	ssrc, seq := binary.BigEndian.Uint32(pkt[8:]), binary.BigEndian.Uint16(pkt[2:])
	s := find(in.media, ssrc)
	// The first packet of a source is taken to have roll-over counter zero.
	index := uint64(seq)
	if s != nil {
		// The index nearest to the highest is that of RFC 3711 section 3.3.1. Before
		// the first cycle it wraps to a huge one, which is older than any window.
		index = s.window.Highest() + uint64(int64(int16(seq-uint16(s.window.Highest()))))
		if index >= 1<<48 || !s.window.Fresh(index) {
			return nil, rtp.Replayed
		}
	} else if len(in.media) == maxStreams {
		return nil, rtp.UnknownSource
	}
	if !in.suite.openRTP(pkt, head, ssrc, index) {
		return nil, rtp.Unauthenticated
	}
	in.media = in.commit(in.media, s, ssrc, index, 0)
	return pkt[:end], rtp.Accepted
}

// OpenRTCP decrypts an SRTCP packet in place and returns it as a plain compound
// packet, which is a part of pkt. Unencrypted SRTCP is refused as malformed.
func (in *Inbound) OpenRTCP(pkt []byte) (plain []byte, drop rtp.Drop) {
	end := len(pkt) - in.suite.overheadRTCP()
	if end < controlHeaderSize || pkt[0]>>6 != 2 {
		return nil, rtp.Malformed
	}
	word := binary.BigEndian.Uint32(pkt[len(pkt)-in.suite.indexEnd()-indexSize:])
	if word&encrypted == 0 {
		return nil, rtp.Malformed
	}
	ssrc, index := binary.BigEndian.Uint32(pkt[4:]), word&^encrypted
	s := find(in.control, ssrc)
	if s != nil {
		if !s.window.Fresh(uint64(index)) {
			return nil, rtp.Replayed
		}
	} else if len(in.control) == maxStreams {
		return nil, rtp.UnknownSource
	}
	if !in.suite.openRTCP(pkt, ssrc, index) {
		return nil, rtp.Unauthenticated
	}
	in.control = in.commit(in.control, s, ssrc, uint64(index), 1)
	return pkt[:end], rtp.Accepted
}

// Highest returns the highest index received from a source: its roll-over counter
// above its sequence number.
func (in *Inbound) Highest(ssrc uint32) (index uint64, ok bool) {
	if s := find(in.media, ssrc); s != nil {
		return s.window.Highest(), true
	}
	return 0, false
}

// Resume goes on where another Inbound with the same keys had received the given
// index from a source. Everything up to it counts as received.
func (in *Inbound) Resume(ssrc uint32, index uint64) {
	s := find(in.media, ssrc)
	if s == nil {
		if len(in.media) == maxStreams {
			return
		}
		in.media = append(in.media, stream{ssrc: ssrc})
		s = &in.media[len(in.media)-1]
	}
	s.window.Exclude(index)
}

func find(streams []stream, ssrc uint32) *stream {
	for i := range streams {
		if streams[i].ssrc == ssrc {
			return &streams[i]
		}
	}
	return nil
}

// commit notes an authentic index of s, or of a source heard for the first time, in
// the list of this kind.
func (in *Inbound) commit(streams []stream, s *stream, ssrc uint32, index uint64, kind int) []stream {
	if s == nil {
		streams = append(streams, stream{ssrc: ssrc})
		s = &streams[len(streams)-1]
	}
	s.window.Commit(index)
	if in.record != nil {
		for i := range streams {
			if &streams[i] == s {
				in.record.note(kind, i, s)
			}
		}
	}
	return streams
}

// Outbound seals what a browser is sent, under the keys of its direction.
type Outbound struct {
	suite    suite
	control  uint32
	reserved uint32  // indexes below are written down as used
	record   *Record // nil: they need not be
}

// NewOutbound takes the master key and salt of the server's direction. It fails for
// an unknown profile and for keys of the wrong size.
func NewOutbound(p Profile, key, salt []byte) (*Outbound, error) {
	s, err := newSuite(p, key, salt)
	if err != nil {
		return nil, err
	}
	return &Outbound{suite: s}, nil
}

// Touch reads ahead what Seal takes (package warm).
func (out *Outbound) Touch() byte { return out.suite.touch() }

// Seal writes into dst the SRTP packet with this header, audio level and payload,
// and returns its size, or 0 when dst is shorter than the header, the payload and
// Overhead. The payload must not overlap dst. The SSRC, roc and sequence number must
// name one packet only: see Rollover.
func (out *Outbound) Seal(dst []byte, h rtp.Header, ext rtp.LevelExtension, payload []byte, roc uint32) int {
	return out.SealPadded(dst, h, ext, payload, 0, roc)
}

// SealPadded is Seal with so many bytes of padding after the payload (RFC 3550
// section 5.1), and counts them among what dst must have room for.
func (out *Outbound) SealPadded(dst []byte, h rtp.Header, ext rtp.LevelExtension, payload []byte, padding uint8, roc uint32) int {
	head := ext.HeaderSize()
	plain := head + len(payload) + int(padding)
	if len(dst) < plain+Overhead {
		return 0
	}
	rtp.PutHeader(dst, h, ext)
	copy(dst[head:], payload)
	if padding > 0 {
		dst[0] |= 0x20
		clear(dst[head+len(payload) : plain])
		dst[plain-1] = padding
	}
	out.suite.sealRTP(dst, head, plain, h.SSRC, uint64(roc)<<16|uint64(h.Sequence))
	return plain + out.suite.overheadRTP()
}

// SealRTCP writes into dst a plain RTCP compound packet, sealed, and returns its
// size. It returns 0 when dst is shorter than the packet and Overhead, and when the
// key's indexes are used up.
func (out *Outbound) SealRTCP(dst, compound []byte) int {
	plain := len(compound)
	if plain < controlHeaderSize || len(dst) < plain+Overhead || out.control >= MaxControlIndex {
		return 0
	}
	if out.record != nil && out.control >= out.reserved {
		out.reserved = min(out.control+reservation, MaxControlIndex)
		out.record.control.Set(uint64(out.reserved))
	}
	copy(dst, compound)
	out.suite.sealRTCP(dst, plain, binary.BigEndian.Uint32(compound[4:]), out.control)
	out.control++
	return plain + out.suite.overheadRTCP()
}

// Index returns the SRTCP index of the next RTCP packet.
func (out *Outbound) Index() uint32 { return out.control }

// SetIndex sets the SRTCP index of the next RTCP packet. Whoever restores an
// Outbound sets it past every index that may have been used.
func (out *Outbound) SetIndex(index uint32) {
	out.control = min(index, MaxControlIndex)
	out.reserved = out.control
}
