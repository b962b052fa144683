package sfu

import (
	"hubbub.dev/hubbub/internal/core/ledger"
	"hubbub.dev/hubbub/internal/core/rtp"
)

// Record is what must outlive the process that forwards a speaker's stream, in memory
// that another reads: under which numbers it was sent. Zero is that of no stream.
type Record struct {
	who     ledger.Word // the SSRC that others hear, and above it whether a relay brings it
	room    ledger.Word
	via     uint64      // the relay
	source  ledger.Word // the SSRC that it comes under, and above it the unwrapper's shift
	newest  ledger.Word // extended sequence number of the newest packet forwarded
	shift   ledger.Word // what to subtract from that; blank: packets were dropped since
	highest ledger.Word // what it was sent as
	clock   ledger.Word // the timestamp that it was sent with
	offset  ledger.Word // what to add to the client's timestamps
}

const relayed = 1 << 32 // in Record.who

// left is a record of an earlier process that no command has named yet.
type left struct {
	index int
	via   PeerID // zero: a peer's own stream
}

// readRecords looks for what an earlier process left.
func (r *Router) readRecords() {
	r.damaged = r.records.Damaged()
	for i := range r.records.Left() {
		rec := &r.records.Left()[i]
		who, ok := rec.who.Get()
		switch {
		case ok && who&relayed != 0:
			r.left[uint32(who)] = left{i, PeerID(rec.via)}
		case ok:
			r.left[uint32(who)] = left{index: i}
		case !rec.who.Blank():
			r.damaged = true // whose it is nobody can tell
		}
	}
	r.restoring = true
}

// Damaged reports that some stream's numbers are lost, it is unknown whose. Who was
// sent streams under keys that are used with these numbers must get other keys.
func (r *Router) Damaged() bool { return r.damaged }

// Broken reports that the numbers of the stream of the peer at a slot are lost. Its
// SSRC must not be sent under the keys that listeners have: the peer must go.
func (r *Router) Broken(slot Slot) bool { return r.peers[slot].broken }

// Settle ends the replay of commands to a router whose ledger has streams of an earlier
// process: what of them is nobody's is forgotten. No packet may come before it.
func (r *Router) Settle() {
	if r.records == nil {
		return
	}
	kept := make(map[int]bool)
	rooms := make(map[*channel]map[int]bool)
	for i := range r.peers {
		if p := r.peers[i].producer; p != nil {
			kept[p.index] = true
			ch := r.peers[i].channel
			if rooms[ch] == nil {
				rooms[ch] = make(map[int]bool)
			}
			rooms[ch][p.room] = true
		}
	}
	for ch, taken := range rooms {
		for room := range ch.sources {
			if !taken[room] {
				ch.releaseSource(room)
			}
		}
	}
	r.records.Keep(func(i int) bool { return kept[i] })
	r.left, r.restoring = nil, false
}

// HasSource reports whether a number is that of a source of the channel that the peer
// at a slot is in. It serves once, between Settle and the first packet.
func (r *Router) HasSource(slot Slot) func(source int) bool {
	ch := r.peers[slot].channel
	taken := make([]bool, ch.sources)
	for i := range taken {
		taken[i] = true
	}
	for _, free := range ch.freeSources {
		taken[free] = false
	}
	return func(source int) bool { return source < len(taken) && taken[source] }
}

// resume gives a peer that was just added the stream that it had in an earlier process.
func (r *Router) resume(slot Slot) {
	p := &r.peers[slot]
	l, ok := r.left[p.ssrc]
	if !ok || (l.via != 0) != (p.via != nil) {
		return
	}
	delete(r.left, p.ssrc)
	producer, ok := resumeProducer(&r.records.Left()[l.index])
	if !ok {
		p.broken = true
		return
	}
	producer.index = l.index
	p.producer = producer
	p.channel.sources = max(p.channel.sources, producer.room+1)
}

// resumeRemotes makes the speakers anew that a relay has brought to an earlier process.
func (r *Router) resumeRemotes(slot Slot) {
	id := r.peers[slot].id
	for ssrc, l := range r.left {
		if l.via != id {
			continue
		}
		remote, ok := r.remote(slot, ssrc)
		if ok && r.peers[remote].producer == nil {
			// Its numbers are lost, and so it must not be heard again.
			r.endSource(&EndSource{Channel: r.peers[slot].channel.id, SSRC: ssrc})
		}
	}
}

func resumeProducer(rec *Record) (*producer, bool) {
	room, ok1 := rec.room.Get()
	source, ok2 := rec.source.Get()
	newest, ok3 := rec.newest.Get()
	highest, ok4 := rec.highest.Get()
	clock, ok5 := rec.clock.Get()
	offset, ok6 := rec.offset.Get()
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || room > maxSources {
		return nil, false
	}
	p := &producer{
		source: uint32(source),
		in:     rtp.NewReceiver(clockRate),
		out:    rtp.NewSender(clockRate),
		room:   int(room),
		active: absent,
		record: rec,
	}
	if highest == 0 {
		return p, true // nothing of it was sent
	}
	p.in.Resume(newest, uint16(source>>32))
	p.newest, p.forwarded, p.highest = newest, newest, highest
	p.timestamp, p.current.timestamp = uint32(clock), uint32(offset)
	p.sent.Exclude(highest)
	// A record that was being written when its process ended may be of two packets.
	// Then the next one opens a span, which no receiver notices.
	shift, ok := rec.shift.Signed()
	p.current.sequence = uint64(shift)
	p.held = !ok || newest-uint64(shift) != highest
	p.current.first = newest + 1
	return p, true
}

// begin makes a blank record the producer's.
func (p *producer) begin(rec *Record, index int, ssrc uint32, via PeerID) {
	p.record, p.index = rec, index
	rec.room.Set(uint64(p.room))
	rec.source.Set(uint64(p.source))
	for _, w := range []*ledger.Word{&rec.newest, &rec.highest, &rec.clock, &rec.offset} {
		w.Set(0)
	}
	rec.via = uint64(via)
	who := uint64(ssrc)
	if via != 0 {
		who |= relayed
	}
	rec.who.Set(who)
}

// save writes down under which numbers the newest packet is about to be sent.
func (p *producer) save() {
	rec := p.record
	if rec == nil {
		return
	}
	rec.highest.Set(p.highest)
	rec.newest.Set(p.newest)
	rec.clock.Set(uint64(p.timestamp))
	if !p.saved {
		_, shift := p.in.Position()
		rec.source.Set(uint64(p.source) | uint64(shift)<<32)
		rec.offset.Set(uint64(p.current.timestamp))
		rec.shift.SetSigned(int64(p.current.sequence))
		p.saved = true
	}
}

// hold notes that a packet was dropped: the next one opens a span.
func (p *producer) hold() {
	if p.held {
		return
	}
	p.held = true
	if p.record != nil {
		p.record.shift.Clear()
		p.saved = false
	}
}
