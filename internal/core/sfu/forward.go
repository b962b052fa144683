package sfu

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/rtp"
)

// Level is what a packet says of its loudness.
type Level struct {
	Value rtp.AudioLevel
	Known bool
}

// Packet is an RTP packet as a transport opened it.
type Packet struct {
	Header  rtp.Header
	Level   Level
	Payload []byte
}

// Delivery is one packet to many receivers. Each seals it with its own payload
// type, extension and key. The caller keeps one for all packets.
type Delivery struct {
	// Header has the SSRC, sequence number, timestamp and marker of all receivers.
	Header rtp.Header
	// Extended is the sequence number with its roll-overs, and Source the number of
	// the producer within its channel, from zero: what browser.Rollover takes.
	Extended uint64
	Source   int
	Level    Level
	Payload  []byte
	// To are the receivers.
	To []Slot
}

// Verdict says what became of a packet.
type Verdict uint8

// Verdicts.
const (
	Forwarded Verdict = iota
	Unheard           // nobody listens
	Mute              // the peer may not speak
	Quiet             // silence goes on
	Late              // too late, or seen before
	Excess            // too large, or more packets than any encoder makes
	VerdictCount
)

// String returns the verdict as a metric label.
func (v Verdict) String() string {
	names := [VerdictCount]string{"forwarded", "unheard", "muted", "silent", "late", "excess"}
	if v < VerdictCount {
		return names[v]
	}
	return "invalid"
}

// Forward decides who gets a packet of the peer at slot from, and under which
// numbers. It fills d for Forwarded only; d's payload is p's.
func (r *Router) Forward(now clock.Time, from Slot, p *Packet, d *Delivery) Verdict {
	sender := &r.peers[from]
	producer := sender.producer
	if producer == nil {
		producer = r.produce(sender, p.Header.SSRC, now)
	}
	if producer.active == absent {
		r.activate(now, from, producer)
	}
	if !producer.admit(len(p.Payload), now) {
		return Excess
	}
	gap := now.Sub(producer.lastPacket)
	extended, newest := producer.receive(&p.Header, now)
	if sender.flags&Muted != 0 {
		producer.held = producer.held || newest
		producer.paired = false
		return Mute
	}
	begins := false
	if newest {
		var voice bool
		voice, begins = producer.hear(p.Payload, p.Level, gap)
		if voice {
			r.startSpeaking(now, sender)
		}
		if producer.silent == silenceRun {
			r.stopSpeaking(sender)
		}
		if producer.silent > silenceRun || len(p.Payload) == 0 {
			producer.held = true
			return Quiet
		}
	}
	sequence, timestamp, ok := producer.place(extended, newest, &p.Header, now)
	if !ok {
		return Late
	}
	ch := sender.channel
	if ch.listening == 0 || ch.listening == 1 && sender.index == 0 {
		return Unheard
	}
	producer.out.Update(timestamp, len(p.Payload), now)
	d.To = ch.receivers(d.To[:0], sender.index)
	d.Header = rtp.Header{
		Marker:    begins,
		Sequence:  uint16(sequence),
		Timestamp: timestamp,
		SSRC:      sender.ssrc,
	}
	d.Extended, d.Source = sequence, producer.room
	d.Level, d.Payload = p.Level, p.Payload
	return Forwarded
}

// produce makes the producer of a peer that sends for the first time. Reports are
// spread over the interval by SSRC, so that they do not come in bursts.
func (r *Router) produce(sender *peer, source uint32, now clock.Time) *producer {
	spread := reportInterval / 4 * time.Duration(sender.ssrc>>2%4)
	sender.producer = &producer{
		source:     source,
		in:         rtp.NewReceiver(clockRate),
		out:        rtp.NewSender(clockRate),
		lastPacket: now,
		nextReport: now.Add(firstReport + spread),
		room:       sender.channel.takeSource(),
		active:     absent,
	}
	return sender.producer
}
