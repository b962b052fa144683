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
	// Priority says of a relayed packet that it is a priority speaker's.
	Priority bool
}

// Delivery is one packet as its receivers get it. Each seals it with its own payload
// type, extension and key.
type Delivery struct {
	// From is the sender, who does not get the packet.
	From Slot
	// Header has the SSRC, sequence number, timestamp and marker of all receivers.
	Header rtp.Header
	// Extended is the sequence number with its roll-overs, and Source the number of
	// the producer within its channel, from zero: what browser.Rollover takes.
	Extended uint64
	Source   int
	Level    Level
	Payload  []byte
	// Relayed says that a relay brought the packet: it goes to no other relay.
	// Priority says that its sender is a priority speaker.
	Relayed, Priority bool

	next int // the delivery after this one in its channel
}

// Fanout is what the listeners of one channel get of a batch of packets. The caller
// keeps one for all channels.
type Fanout struct {
	// Packets are the channel's, as they came. Payloads are still those of Forward.
	Packets []*Delivery
	// To are all who listen, also those among them who sent, and Relays the relays of
	// the channel. Both are the router's.
	To, Relays []Slot
}

// Verdict says what became of a packet.
type Verdict uint8

// Verdicts.
const (
	Forwarded Verdict = iota
	Unheard           // nobody listens
	Mute              // the peer may not speak
	Quiet             // silence goes on
	Crowded           // enough others speak who are louder
	Shed              // the worker is past its capacity, and others are louder
	Late              // too late, or seen before
	Excess            // too large, or more packets than any encoder makes
	Unrelayed         // of one who is gone, or more speakers than a relay may bring
	VerdictCount
)

// String returns the verdict as a metric label.
func (v Verdict) String() string {
	names := [VerdictCount]string{"forwarded", "unheard", "muted", "silent", "crowded", "shed", "late", "excess", "unrelayed"}
	if v < VerdictCount {
		return names[v]
	}
	return "invalid"
}

// Forward decides whether the listeners get a packet of the peer at slot from, and
// under which numbers. They do by NextFanout, which is to be called until it is false
// before any command and before the payload's buffer is used again.
func (r *Router) Forward(now clock.Time, from Slot, p *Packet) Verdict {
	sender := &r.peers[from]
	producer := sender.producer
	if producer == nil {
		if producer = r.produce(sender, p.Header.SSRC, now); producer == nil {
			return Excess
		}
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
		if newest {
			producer.hold()
		}
		producer.paired = false
		return Mute
	}
	begins := false
	if newest {
		var voice bool
		voice, begins = producer.hear(p.Payload, p.Level, gap)
		if voice && sender.via == nil {
			r.startSpeaking(now, sender)
		}
		if producer.silent == silenceRun {
			r.stopSpeaking(sender)
		}
		if producer.silent > silenceRun || len(p.Payload) == 0 {
			producer.hold()
			r.leaveFloor(from)
			return Quiet
		}
		heard := producer.onFloor
		if !r.takeFloor(now, from) {
			producer.hold()
			return Crowded
		}
		if producer.shed {
			producer.hold()
			return Shed
		}
		// Who comes to be heard in the middle of a talk spurt begins one.
		begins = begins || !heard || sender.via != nil && p.Header.Marker
	}
	sequence, timestamp, ok := producer.place(extended, newest, &p.Header, now)
	if !ok {
		return Late
	}
	if newest {
		producer.save()
	}
	ch := sender.channel
	if ch.audience(sender) == 0 {
		return Unheard
	}
	producer.out.Update(timestamp, len(p.Payload), now)
	r.queue(ch, Delivery{
		From: from,
		Header: rtp.Header{
			Marker:    begins,
			Sequence:  uint16(sequence),
			Timestamp: timestamp,
			SSRC:      sender.ssrc,
		},
		Extended: sequence,
		Source:   producer.room,
		Level:    p.Level,
		Payload:  p.Payload,
		Relayed:  sender.via != nil,
		Priority: sender.flags&Priority != 0,
	})
	return Forwarded
}

func (r *Router) queue(ch *channel, d Delivery) {
	i := len(r.queued)
	r.queued = append(r.queued, d)
	if ch.queued == 0 {
		ch.first = i
		r.touched = append(r.touched, ch)
	} else {
		r.queued[ch.last].next = i
	}
	ch.last = i
	ch.queued++
}

// NextFanout fills f with the packets that Forward let through in one channel.
func (r *Router) NextFanout(f *Fanout) bool {
	if r.fanned == len(r.touched) {
		clear(r.touched)
		r.queued, r.touched, r.fanned = r.queued[:0], r.touched[:0], 0
		return false
	}
	ch := r.touched[r.fanned]
	r.fanned++
	f.Packets = f.Packets[:0]
	for i := ch.first; len(f.Packets) < ch.queued; i = r.queued[i].next {
		f.Packets = append(f.Packets, &r.queued[i])
	}
	f.Relays, f.To = ch.members[:ch.relays], ch.members[ch.relays:ch.listening]
	ch.queued = 0
	return true
}

// produce makes the producer of a peer that sends for the first time. Reports are
// spread over the interval by SSRC, so that they do not come in bursts. It returns nil
// when the ledger has no room.
func (r *Router) produce(sender *peer, source uint32, now clock.Time) *producer {
	var record *Record
	index := 0
	if r.records != nil {
		var ok bool
		if index, record, ok = r.records.Take(); !ok {
			return nil
		}
	}
	spread := reportInterval / 4 * time.Duration(sender.ssrc>>2%4)
	p := &producer{
		source:     source,
		in:         rtp.NewReceiver(clockRate),
		out:        rtp.NewSender(clockRate),
		lastPacket: now,
		nextReport: now.Add(firstReport + spread),
		room:       sender.channel.takeSource(),
		active:     absent,
	}
	if record != nil {
		via := PeerID(0)
		if sender.via != nil {
			via = sender.via.id
		}
		p.begin(record, index, sender.ssrc, via)
	}
	sender.producer = p
	return p
}
