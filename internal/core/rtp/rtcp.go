package rtp

import "encoding/binary"

// RTCP packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
const (
	TypeSenderReport      = 200
	TypeReceiverReport    = 201
	TypeSourceDescription = 202
	TypeBye               = 203
	TypeTransportFeedback = 205
	TypePayloadFeedback   = 206
)

const (
	controlHeader  = 4
	senderInfoSize = 20
	blockSize      = 24
	// MaxBlocks is how many report blocks, or sources of a BYE, one packet holds.
	MaxBlocks = 31
	cnameItem = 1
)

// Control is one packet of an RTCP compound packet. Its body is a part of the
// buffer it was read from.
type Control struct {
	Type uint8
	// Count is the number of blocks or sources, or the format of a feedback message.
	Count uint8
	// Body is all that follows the first four bytes, without padding.
	Body []byte
}

// NextControl reads the first packet of a plain RTCP compound packet and returns
// what follows it. It is false at the end and at the first malformed packet.
func NextControl(compound []byte) (c Control, rest []byte, ok bool) {
	if len(compound) < controlHeader || compound[0]>>6 != 2 {
		return Control{}, nil, false
	}
	size := controlHeader + 4*int(binary.BigEndian.Uint16(compound[2:]))
	if size > len(compound) {
		return Control{}, nil, false
	}
	body := compound[controlHeader:size]
	if compound[0]&0x20 != 0 {
		if len(body) == 0 {
			return Control{}, nil, false
		}
		padding := int(body[len(body)-1])
		if padding == 0 || padding > len(body) {
			return Control{}, nil, false
		}
		body = body[:len(body)-padding]
	}
	return Control{Type: compound[1], Count: compound[0] & 0x1F, Body: body}, compound[size:], true
}

// SSRC returns the source that sent the packet; false for one too short to say.
func (c Control) SSRC() (uint32, bool) {
	if len(c.Body) < 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(c.Body), true
}

// SenderInfo returns what a sender report says of its sender.
func (c Control) SenderInfo() (SenderInfo, bool) {
	if c.Type != TypeSenderReport || len(c.Body) < 4+senderInfoSize {
		return SenderInfo{}, false
	}
	b := c.Body[4:]
	return SenderInfo{
		NTP:       binary.BigEndian.Uint64(b),
		Timestamp: binary.BigEndian.Uint32(b[8:]),
		Packets:   binary.BigEndian.Uint32(b[12:]),
		Octets:    binary.BigEndian.Uint32(b[16:]),
	}, true
}

// Block returns report block i of a sender or receiver report; false past the last.
func (c Control) Block(i int) (ReportBlock, bool) {
	offset := 4 + blockSize*i
	switch c.Type {
	case TypeSenderReport:
		offset += senderInfoSize
	case TypeReceiverReport:
	default:
		return ReportBlock{}, false
	}
	if i < 0 || i >= int(c.Count) || len(c.Body) < offset+blockSize {
		return ReportBlock{}, false
	}
	b := c.Body[offset:]
	loss := binary.BigEndian.Uint32(b[4:])
	return ReportBlock{
		SSRC:         binary.BigEndian.Uint32(b),
		FractionLost: uint8(loss >> 24),
		Lost:         int32(loss<<8) >> 8,
		Highest:      binary.BigEndian.Uint32(b[8:]),
		Jitter:       binary.BigEndian.Uint32(b[12:]),
		LastReport:   binary.BigEndian.Uint32(b[16:]),
		Delay:        binary.BigEndian.Uint32(b[20:]),
	}, true
}

// AppendSenderReport appends a sender report with at most MaxBlocks blocks. Every
// compound packet starts with this or a receiver report and goes on with a source
// description (RFC 3550 section 6.1).
func AppendSenderReport(dst []byte, ssrc uint32, info SenderInfo, blocks []ReportBlock) []byte {
	blocks = blocks[:min(len(blocks), MaxBlocks)]
	dst = appendControl(dst, TypeSenderReport, len(blocks), 4+senderInfoSize+blockSize*len(blocks))
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = binary.BigEndian.AppendUint64(dst, info.NTP)
	dst = binary.BigEndian.AppendUint32(dst, info.Timestamp)
	dst = binary.BigEndian.AppendUint32(dst, info.Packets)
	dst = binary.BigEndian.AppendUint32(dst, info.Octets)
	return appendBlocks(dst, blocks)
}

// AppendReceiverReport appends a receiver report with at most MaxBlocks blocks.
func AppendReceiverReport(dst []byte, ssrc uint32, blocks []ReportBlock) []byte {
	blocks = blocks[:min(len(blocks), MaxBlocks)]
	dst = appendControl(dst, TypeReceiverReport, len(blocks), 4+blockSize*len(blocks))
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	return appendBlocks(dst, blocks)
}

// AppendSourceDescription appends a source description with one CNAME of at most
// 255 bytes.
func AppendSourceDescription(dst []byte, ssrc uint32, cname string) []byte {
	cname = cname[:min(len(cname), 255)]
	// The chunk ends with one to four zero bytes, up to the next 32-bit boundary.
	zeros := 4 - (2+len(cname))%4
	dst = appendControl(dst, TypeSourceDescription, 1, 4+2+len(cname)+zeros)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = append(dst, cnameItem, byte(len(cname)))
	dst = append(dst, cname...)
	return append(dst, "\x00\x00\x00\x00"[:zeros]...)
}

func appendControl(dst []byte, kind uint8, count, body int) []byte {
	dst = append(dst, 0x80|uint8(count), kind)
	return binary.BigEndian.AppendUint16(dst, uint16(body/4))
}

func appendBlocks(dst []byte, blocks []ReportBlock) []byte {
	for i := range blocks {
		b := &blocks[i]
		dst = binary.BigEndian.AppendUint32(dst, b.SSRC)
		dst = binary.BigEndian.AppendUint32(dst, uint32(b.FractionLost)<<24|uint32(b.Lost)&0xFFFFFF)
		dst = binary.BigEndian.AppendUint32(dst, b.Highest)
		dst = binary.BigEndian.AppendUint32(dst, b.Jitter)
		dst = binary.BigEndian.AppendUint32(dst, b.LastReport)
		dst = binary.BigEndian.AppendUint32(dst, b.Delay)
	}
	return dst
}
