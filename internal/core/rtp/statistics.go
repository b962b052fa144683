package rtp

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// ReportBlock is what a receiver says of one source (RFC 3550 section 6.4.1).
type ReportBlock struct {
	SSRC uint32
	// FractionLost is the part lost since the previous report, in 1/256.
	FractionLost uint8
	// Lost counts all packets lost; duplicates may make it negative. 24 bits.
	Lost int32
	// Highest is the highest sequence number, with its cycles in the upper half.
	Highest uint32
	// Jitter is the interarrival jitter in timestamp units.
	Jitter uint32
	// LastReport is the middle of the NTP time in the last sender report, or zero.
	LastReport uint32
	// Delay since that report arrived, in 1/65536 s.
	Delay uint32
}

// RoundTrip returns the round-trip time that a report block about one's own source
// shows, and false when its receiver has had no sender report yet. middle is the
// MiddleNTP of the block's arrival, on the clock that wrote the sender reports.
func (b ReportBlock) RoundTrip(middle uint32) (time.Duration, bool) {
	if b.LastReport == 0 {
		return 0, false
	}
	// A peer's clock may run fast enough to make the difference negative.
	ticks := max(int32(middle-b.LastReport-b.Delay), 0)
	return time.Duration(ticks) * time.Second >> 16, true
}

// maxTransit is the longest silence or delay over which jitter is measured.
const maxTransit = 5 * time.Second

// Receiver keeps the reception statistics of one source (RFC 3550 section 6.4.1
// and appendices A.1, A.3 and A.8).
type Receiver struct {
	unwrapper     Unwrapper
	base          uint64
	received      uint64
	expectedPrior uint64
	receivedPrior uint64

	rate          uint32
	jitter        uint32 // in 1/16 of a timestamp unit
	lastTimestamp uint32
	lastArrival   clock.Time

	senderReport        uint32
	senderReportArrival clock.Time
}

// NewReceiver returns the statistics of a source whose timestamps count rate
// units per second: 48,000 for Opus, 90,000 for video.
func NewReceiver(rate uint32) Receiver { return Receiver{rate: rate} }

// Position returns the highest extended sequence number, and what to add to the lower
// 16 bits of one to get the source's own.
func (r *Receiver) Position() (highest uint64, shift uint16) {
	return r.unwrapper.highest, r.unwrapper.shift
}

// Resume goes on at the Position of an earlier receiver, and counts from there.
func (r *Receiver) Resume(highest uint64, shift uint16) {
	r.unwrapper = Unwrapper{highest: highest, shift: shift, started: true}
}

// Update counts a packet and returns its extended sequence number.
func (r *Receiver) Update(seq uint16, timestamp uint32, arrival clock.Time) (extended uint64) {
	extended = r.unwrapper.Unwrap(seq)
	if r.received == 0 {
		r.base = extended
	} else {
		r.updateJitter(timestamp, arrival)
	}
	r.received++
	r.lastTimestamp, r.lastArrival = timestamp, arrival
	return extended
}

func (r *Receiver) updateJitter(timestamp uint32, arrival clock.Time) {
	elapsed := arrival.Sub(r.lastArrival)
	if elapsed > maxTransit {
		return
	}
	arrived := int64(elapsed) * int64(r.rate) / int64(time.Second)
	transit := arrived - int64(int32(timestamp-r.lastTimestamp))
	if transit < 0 {
		transit = -transit
	}
	if transit > int64(maxTransit/time.Second)*int64(r.rate) {
		return
	}
	r.jitter += uint32(transit) - (r.jitter+8)>>4
}

// SenderReport notes the NTP time in a sender report from the source, from which
// the sender will compute the round trip.
func (r *Receiver) SenderReport(ntp uint64, arrival clock.Time) {
	r.senderReport, r.senderReportArrival = MiddleNTP(ntp), arrival
}

// Report returns the block to send about the source, and starts the next interval
// of its fraction lost. It is false before the first packet.
func (r *Receiver) Report(ssrc uint32, now clock.Time) (ReportBlock, bool) {
	if r.received == 0 {
		return ReportBlock{}, false
	}
	highest, _ := r.unwrapper.Highest()
	expected := highest - r.base + 1
	lost := int64(expected) - int64(r.received)
	block := ReportBlock{
		SSRC:    ssrc,
		Lost:    int32(min(max(lost, -1<<23), 1<<23-1)),
		Highest: uint32(highest) - 1<<16 + uint32(r.unwrapper.shift),
		Jitter:  r.jitter >> 4,
	}
	expectedNow := int64(expected - r.expectedPrior)
	lostNow := expectedNow - int64(r.received-r.receivedPrior)
	if expectedNow > 0 && lostNow > 0 {
		block.FractionLost = uint8(min(lostNow<<8/expectedNow, 255))
	}
	r.expectedPrior, r.receivedPrior = expected, r.received
	if r.senderReportArrival != 0 {
		block.LastReport = r.senderReport
		block.Delay = uint32(now.Sub(r.senderReportArrival) << 16 / time.Second)
	}
	return block, true
}

// SenderInfo is what a sender says of its own stream (RFC 3550 section 6.4.1).
type SenderInfo struct {
	NTP       uint64
	Timestamp uint32
	Packets   uint32
	Octets    uint32 // of payload
}

// Sender keeps what a sender report says of one stream.
type Sender struct {
	packets, octets uint32
	rate            uint32
	lastTimestamp   uint32
	lastSent        clock.Time
}

// NewSender returns the statistics of a stream whose timestamps count rate units
// per second.
func NewSender(rate uint32) Sender { return Sender{rate: rate} }

// Update counts a packet sent, with its payload's size in bytes.
func (s *Sender) Update(timestamp uint32, payload int, now clock.Time) {
	s.packets++
	s.octets += uint32(payload)
	s.lastTimestamp, s.lastSent = timestamp, now
}

// Report returns what to send now, wall being the wall-clock time of now. It is
// false before the first packet.
func (s *Sender) Report(now clock.Time, wall time.Time) (SenderInfo, bool) {
	if s.packets == 0 {
		return SenderInfo{}, false
	}
	elapsed := now.Sub(s.lastSent)
	ticks := int64(elapsed/time.Millisecond) * int64(s.rate) / 1000
	return SenderInfo{
		NTP:       NTP(wall),
		Timestamp: s.lastTimestamp + uint32(ticks),
		Packets:   s.packets,
		Octets:    s.octets,
	}, true
}

// ntpEpoch is the seconds from 1900 to 1970.
const ntpEpoch = 2208988800

// NTP returns a wall-clock time as seconds since 1900 with 32 bits of fraction.
func NTP(wall time.Time) uint64 {
	return uint64(wall.Unix()+ntpEpoch)<<32 | uint64(wall.Nanosecond())<<32/uint64(time.Second)
}

// MiddleNTP returns the 32 bits of an NTP time that report blocks carry: 16 of
// seconds, 16 of fraction.
func MiddleNTP(ntp uint64) uint32 { return uint32(ntp >> 16) }
