package sfu

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/rtp"
)

const (
	// reportInterval is between two reports about one stream: Discord's clients use
	// about five seconds, RFC 3550 section 6.2 asks for five or less with jitter.
	reportInterval = 4 * time.Second
	// firstReport lets receivers synchronise soon (RFC 3550 section 6.2: half of the
	// least interval at first).
	firstReport = time.Second
	// reporter is the SSRC that the server sends receiver reports under. No peer has
	// it: those have zero in their low bits.
	reporter = 1
	cname    = "hubbub"
)

// Quality is what a peer last reported of the streams that it hears.
type Quality struct {
	FractionLost uint8         // in 1/256, of the stream with the most loss
	Jitter       time.Duration // of the stream with the most
	RoundTrip    time.Duration // zero until known
}

// QualityTotals sums what all peers reported, for means over any interval.
type QualityTotals struct {
	Blocks       uint64
	FractionLost uint64        // in 1/256
	Jitter       time.Duration // sum over Blocks
	RoundTrips   uint64
	RoundTrip    time.Duration // sum over RoundTrips
}

// Quality returns what the peer at a slot last reported.
func (r *Router) Quality(slot Slot) Quality { return r.peers[slot].quality }

// QualityTotals returns what all peers reported since the start.
func (r *Router) QualityTotals() QualityTotals { return r.quality }

// Report is one plain RTCP compound packet and the peers to seal it for. The
// caller keeps one for all reports.
type Report struct {
	Packet []byte
	To     []Slot
}

// NextReport fills rep with the next packet that Tick found due; wall is the
// wall-clock time of now. Call it until it is false.
func (r *Router) NextReport(now clock.Time, wall time.Time, rep *Report) bool {
	for len(r.due) > 0 {
		// A slot is listed once for its receiver report, with the top bit clear, and
		// then once for its sender report.
		last := len(r.due) - 1
		slot := r.due[last]
		rep.Packet, rep.To = rep.Packet[:0], rep.To[:0]
		if slot&senderReport == 0 {
			r.due[last] = slot | senderReport
			if r.receiverReport(now, slot, rep) {
				return true
			}
			continue
		}
		r.due = r.due[:last]
		if r.senderReport(now, wall, slot&^senderReport, rep) {
			return true
		}
	}
	return false
}

const senderReport Slot = 1 << 31

// receiverReport tells a peer how its stream arrives. Native clients that send no
// sender reports do not know what to do with it.
func (r *Router) receiverReport(now clock.Time, slot Slot, rep *Report) bool {
	p := &r.peers[slot]
	if p.producer == nil || p.index == absent || !p.browser && !p.producer.reporting {
		return false
	}
	block, ok := p.producer.in.Report(p.producer.source, now)
	if !ok {
		return false
	}
	r.block[0] = block
	rep.Packet = rtp.AppendReceiverReport(rep.Packet, reporter, r.block[:])
	rep.Packet = rtp.AppendSourceDescription(rep.Packet, reporter, cname)
	rep.To = append(rep.To, slot)
	return true
}

// senderReport tells the browsers that hear a peer how its clock runs. One that
// sent nothing since its last report is left out.
func (r *Router) senderReport(now clock.Time, wall time.Time, slot Slot, rep *Report) bool {
	p := &r.peers[slot]
	if p.producer == nil || now.Sub(p.producer.sentAt) > reportInterval {
		return false
	}
	info, ok := p.producer.out.Report(now, wall)
	if !ok {
		return false
	}
	for i, listener := range p.channel.members[:p.channel.listening] {
		if i != p.index && r.peers[listener].browser {
			rep.To = append(rep.To, listener)
		}
	}
	rep.Packet = rtp.AppendSenderReport(rep.Packet, p.ssrc, info, nil)
	rep.Packet = rtp.AppendSourceDescription(rep.Packet, p.ssrc, cname)
	return len(rep.To) > 0
}

// Control takes a plain RTCP compound packet of the peer at slot from; wall is the
// wall-clock time of now. What it does not know or can not read, it ignores.
func (r *Router) Control(now clock.Time, wall time.Time, from Slot, compound []byte) {
	p := &r.peers[from]
	quality, blocks := Quality{RoundTrip: p.quality.RoundTrip}, 0
	for {
		c, rest, ok := rtp.NextControl(compound)
		if !ok {
			break
		}
		compound = rest
		ssrc, _ := c.SSRC()
		own := p.producer != nil && ssrc == p.producer.source
		if info, ok := c.SenderInfo(); ok && own {
			p.producer.reporting = true
			p.producer.in.SenderReport(info.NTP, now)
		}
		if c.Type == rtp.TypeBye && own {
			r.stopSpeaking(p)
		}
		for i := range rtp.MaxBlocks {
			block, ok := c.Block(i)
			if !ok {
				break
			}
			if r.hears(p, block.SSRC) {
				r.reported(&quality, block, rtp.MiddleNTP(rtp.NTP(wall)))
				blocks++
			}
		}
	}
	if blocks > 0 {
		p.quality = quality
	}
}

func (r *Router) hears(p *peer, ssrc uint32) bool {
	slot, ok := r.FindSSRC(ssrc)
	if !ok {
		slot, ok = r.remotes[ssrc]
	}
	return ok && r.peers[slot].channel == p.channel
}

func (r *Router) reported(q *Quality, block rtp.ReportBlock, middle uint32) {
	// An hour of jitter is nonsense, and would overflow the sum.
	jitter := time.Duration(min(block.Jitter, 3600*clockRate)) * time.Second / clockRate
	q.FractionLost = max(q.FractionLost, block.FractionLost)
	q.Jitter = max(q.Jitter, jitter)
	r.quality.Blocks++
	r.quality.FractionLost += uint64(block.FractionLost)
	r.quality.Jitter += jitter
	if trip, ok := block.RoundTrip(middle); ok && trip < time.Minute {
		q.RoundTrip = trip
		r.quality.RoundTrips++
		r.quality.RoundTrip += trip
	}
}
