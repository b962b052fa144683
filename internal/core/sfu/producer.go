package sfu

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/rtp"
)

const (
	// clockRate is the RTP clock of Opus, whatever it samples at (RFC 7587 section 4.1).
	clockRate = 48_000
	// frame is the usual 20 ms of Opus, in timestamp units.
	frame = 960
	// leastFrame is the shortest frame of Opus: nobody needs to send more often. Up to
	// maxBurst of packets may come at once, after a pause of the client's network.
	leastFrame = 2500 * time.Microsecond
	maxBurst   = 500 * time.Millisecond
	// maxPayload is above the 1,275 bytes of the largest Opus frame (RFC 6716 section
	// 3.4) with end-to-end encryption, and leaves room for headers and tags.
	maxPayload = 1400
	// maxElapsed keeps timestamps from leaping by what looks like a step back.
	maxElapsed = 6 * time.Hour
	// maxLeap is how far a timestamp may run ahead of the time that passed.
	maxLeap = 10 * clockRate

	// silenceRun is how many silent packets in a row end a talk spurt. Clients send
	// five after the last voice (Discord, "Voice Data Interpolation").
	silenceRun = 5
	// speakingHold bridges the gaps between words.
	speakingHold = 300 * time.Millisecond
	// voiceLevel in -dBov is louder than a room and quieter than a whisper into a
	// microphone (RFC 6464 levels count downwards).
	voiceLevel = 60
	// pairGap is the most time between two packets of one talk spurt. It is far less
	// than the 400 ms between the refreshing frames of Opus DTX.
	pairGap = 100 * time.Millisecond
)

// producer is the stream that a peer sends. What others get has gaps where packets
// were lost on the way here, and none where the router dropped them.
type producer struct {
	source uint32 // the SSRC that the client sends under
	in     rtp.Receiver
	out    rtp.Sender
	sent   rtp.Window

	newest    uint64 // extended sequence number of the newest packet received
	forwarded uint64 // and of the newest forwarded; zero: none of this source
	current   span
	previous  span
	highest   uint64 // extended sequence number of the newest packet sent
	timestamp uint32 // its timestamp
	sentAt    clock.Time
	held      bool // packets were dropped since: the next one opens a span

	silent   uint8 // silent packets in a row
	paired   bool  // the packet before was not silent and close
	speaking bool
	onFloor  bool  // among those of the channel who are heard
	shed     bool  // dropped to save work
	loudness int32 // smoothed; zero is silence
	told     int   // channel.entered when its begin was told at once

	paidUntil  clock.Time // when the packets so far would end at leastFrame each
	lastPacket clock.Time
	lastVoice  clock.Time
	nextReport clock.Time
	reporting  bool // the client sends sender reports

	room   int // the producer's number among the sources of its channel
	active int // index in Router.active, or absent

	record *Record // nil: the numbers need not outlive the process
	index  int     // of record
	saved  bool    // the span in record is the current one
}

// span maps the client's numbers between first and last to those sent.
type span struct {
	first, last uint64
	sequence    uint64 // what to subtract from the client's
	timestamp   uint32 // what to add to the client's
}

// admit reports whether a packet comes no faster than any encoder makes them: what
// one member sends costs as often as there are listeners.
func (p *producer) admit(payload int, now clock.Time) bool {
	if payload > maxPayload || p.paidUntil.Sub(now) > maxBurst {
		return false
	}
	p.paidUntil = max(p.paidUntil, now).Add(leastFrame)
	return true
}

// receive counts a packet and returns its extended sequence number, and whether it
// is newer than all before. A client that starts over under another SSRC goes on
// where the old one ended.
func (p *producer) receive(h *rtp.Header, now clock.Time) (extended uint64, newest bool) {
	if h.SSRC != p.source {
		p.source = h.SSRC
		p.in = rtp.NewReceiver(clockRate)
		p.newest, p.forwarded = 0, 0
		p.hold()
	}
	extended = p.in.Update(h.Sequence, h.Timestamp, now)
	p.lastPacket = now
	if extended <= p.newest {
		return extended, false
	}
	p.newest = extended
	return extended, true
}

// place returns the numbers under which a packet is sent: false for one that came
// so late that its numbers are no longer known, and for one sent before.
func (p *producer) place(extended uint64, newest bool, h *rtp.Header, now clock.Time) (sequence uint64, timestamp uint32, ok bool) {
	s := &p.current
	switch {
	case newest:
		p.advance(extended, h.Timestamp, now)
	case extended > p.forwarded:
		return 0, 0, false
	case extended < p.current.first:
		s = &p.previous
		if extended < s.first || extended > s.last {
			return 0, 0, false
		}
	}
	sequence = extended - s.sequence
	// Two packets under one number would share a nonce at each browser.
	if !p.sent.Fresh(sequence) {
		return 0, 0, false
	}
	p.sent.Commit(sequence)
	return sequence, h.Timestamp + s.timestamp, true
}

// advance makes the current span reach to the newest packet, or opens another span
// when packets were dropped or the client's clock leapt.
func (p *producer) advance(extended uint64, timestamp uint32, now clock.Time) {
	elapsed := uint32(min(now.Sub(p.sentAt), maxElapsed) / time.Millisecond * (clockRate / 1000))
	next := timestamp + p.current.timestamp
	leap := int32(next - p.timestamp)
	leapt := p.highest != 0 && (leap <= 0 || int64(leap) > int64(elapsed)+maxLeap)
	if p.held || leapt {
		p.open(extended)
		if leapt {
			next = p.timestamp + max(elapsed, frame)
			p.current.timestamp = next - timestamp
		}
	}
	p.held = false
	p.forwarded = extended
	p.highest = extended - p.current.sequence
	p.timestamp = next
	p.sentAt = now
}

// open begins a span at the number after the highest sent.
func (p *producer) open(extended uint64) {
	if p.highest == 0 {
		return
	}
	p.previous = span{first: 1}
	if p.forwarded != 0 {
		p.previous = p.current
		p.previous.last = p.forwarded
	}
	p.current.first = extended
	p.current.sequence = extended - (p.highest + 1)
	p.saved = false
}

// hear follows voice and silence of a newest packet. It reports whether it holds
// voice, and whether it begins a talk spurt for the receivers' jitter buffers.
func (p *producer) hear(payload []byte, level Level, gap time.Duration) (voice, begins bool) {
	if rtp.IsSilence(payload) || level.Known && level.Value == rtp.Silent {
		p.silent = min(p.silent+1, silenceRun+1)
		p.paired = false
		return false, false
	}
	begins = p.silent > 0 || gap >= speakingHold || p.highest == 0
	p.silent = 0
	p.listen(len(payload), level, begins)
	if level.Known {
		voice = level.Value.Voice() || level.Value.Level() < voiceLevel
	} else {
		// A lone packet may be the refreshing frame of DTX.
		voice = p.paired && gap < pairGap
	}
	p.paired = true
	return voice, begins
}
