package sfu

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/ledger"
	"hubbub.dev/hubbub/internal/core/rtp"
)

// Slot is a peer's dense index on its worker: what packets and deliveries name
// peers by. A slot is used again after its peer was removed.
type Slot uint32

const (
	// scanInterval is how late the end of speaking, a begin that tells nobody an SSRC, or a
	// report may come.
	scanInterval = 50 * time.Millisecond
	// idleAfter is how long a producer that sends nothing is still looked at.
	idleAfter = 10 * time.Second
)

// Config is what a router is told once.
type Config struct {
	// MaxSpeakers is how many speakers of a channel are heard at once, the loudest of
	// them; 0: DefaultMaxSpeakers.
	MaxSpeakers int
	// Records is where the numbers of streams are kept that must outlive the process,
	// with what an earlier process left in them; nil: nowhere. Then commands are replayed
	// first, and Settle ends that.
	Records *ledger.Table[Record]
}

// Router owns the peers of one worker. Its zero value is not usable: see New. One
// goroutine calls it.
type Router struct {
	maxSpeakers int

	peers    []peer
	free     []Slot
	slots    map[PeerID]Slot
	sources  map[uint32]Slot // peers, and relays by the SSRC of what they bring
	remotes  map[uint32]Slot // speakers that relays bring
	relays   int
	channels map[uint64]*channel

	records   *ledger.Table[Record] // nil: nothing outlives the process
	left      map[uint32]left       // streams of an earlier process, by SSRC
	restoring bool                  // until Settle
	damaged   bool

	queued  []Delivery // what NextFanout is still to return
	touched []*channel // whose they are
	fanned  int        // how many of these NextFanout returned

	shed        float64 // see SetShed
	shedding    bool    // some producers may be marked
	shedWeights [shedBins]int

	// active holds the peers that sent something lately, in no order: all that Tick
	// looks at, so that a silent peer costs nothing.
	active   []Slot
	nextScan clock.Time
	speaking int
	due      []Slot
	events   []Event // since Events returned them
	ripe     bool    // whether it is to return them now
	quality  QualityTotals
	block    [1]rtp.ReportBlock // scratch
}

type peer struct {
	id       PeerID
	ssrc     uint32
	flags    Flags
	browser  bool
	channel  *channel
	index    int       // in channel.members, or absent
	producer *producer // nil until the peer sends
	quality  Quality
	relay    *relay // of what is a relay
	via      *relay // of a speaker that a relay brings, who is nobody's peer here
	broken   bool   // the numbers of its stream are lost
}

// absent is the index of a peer that is not among its channel's members.
const absent = -1

// New returns a router without peers.
func New(cfg Config) *Router {
	if cfg.MaxSpeakers <= 0 {
		cfg.MaxSpeakers = DefaultMaxSpeakers
	}
	r := &Router{
		maxSpeakers: cfg.MaxSpeakers,
		slots:       make(map[PeerID]Slot),
		sources:     make(map[uint32]Slot),
		remotes:     make(map[uint32]Slot),
		channels:    make(map[uint64]*channel),
		records:     cfg.Records,
		left:        make(map[uint32]left),
	}
	if r.records != nil {
		r.readRecords()
	}
	return r
}

// Apply carries out what a command means for forwarding and returns the slot of
// its peer, which for Remove is free from now on. It is false for an unknown
// peer, for a peer or an SSRC added twice, and for a command without a field.
func (r *Router) Apply(c Command) (Slot, bool) {
	switch {
	case c.Add != nil:
		return r.add(c.Add)
	case c.Native != nil:
		return r.setBrowser(c.Native.Peer, false)
	case c.Browser != nil:
		return r.setBrowser(c.Browser.Peer, true)
	case c.Keys != nil:
		return r.Find(c.Keys.Peer)
	case c.Update != nil:
		return r.update(c.Update)
	case c.Remove != nil:
		return r.remove(c.Remove.Peer)
	case c.Relay != nil:
		return r.addRelay(c.Relay)
	case c.End != nil:
		return r.endSource(c.End)
	}
	return 0, false
}

// Find returns the slot of a peer.
func (r *Router) Find(id PeerID) (Slot, bool) {
	slot, ok := r.slots[id]
	return slot, ok
}

// FindSSRC returns the slot of the peer whom others hear under ssrc.
func (r *Router) FindSSRC(ssrc uint32) (Slot, bool) {
	slot, ok := r.sources[ssrc]
	return slot, ok && r.peers[slot].relay == nil
}

// ID returns the peer at a slot, or zero for a free one.
func (r *Router) ID(slot Slot) PeerID { return r.peers[slot].id }

// Len returns how many peers there are.
func (r *Router) Len() int { return len(r.slots) - r.relays }

// Channels returns how many channels have peers.
func (r *Router) Channels() int { return len(r.channels) }

// Speaking returns how many peers speak.
func (r *Router) Speaking() int { return r.speaking }

func (r *Router) add(c *AddPeer) (Slot, bool) {
	_, known := r.slots[c.Peer]
	_, taken := r.sources[c.SSRC]
	if known || taken || c.Peer == 0 {
		return 0, false
	}
	ch := r.channels[c.Channel]
	if ch == nil {
		ch = &channel{id: c.Channel}
		r.channels[c.Channel] = ch
	}
	ch.peers++
	ch.entered++
	slot := r.allocate()
	r.peers[slot] = peer{id: c.Peer, ssrc: c.SSRC, flags: c.Flags, channel: ch, index: absent}
	r.slots[c.Peer] = slot
	r.sources[c.SSRC] = slot
	if r.restoring {
		r.resume(slot)
	}
	return slot, true
}

func (r *Router) allocate() Slot {
	if n := len(r.free); n > 0 {
		slot := r.free[n-1]
		r.free = r.free[:n-1]
		return slot
	}
	r.peers = append(r.peers, peer{})
	return Slot(len(r.peers) - 1)
}

// setBrowser notes the kind of a peer's new transport, which has not connected.
func (r *Router) setBrowser(id PeerID, browser bool) (Slot, bool) {
	slot, ok := r.slots[id]
	if !ok || r.peers[slot].relay != nil {
		return 0, false
	}
	r.Disconnect(slot)
	r.peers[slot].browser = browser
	return slot, true
}

func (r *Router) update(c *UpdatePeer) (Slot, bool) {
	slot, ok := r.slots[c.Peer]
	if !ok || r.peers[slot].relay != nil {
		return 0, false
	}
	p := &r.peers[slot]
	connected := p.index != absent
	r.Disconnect(slot)
	p.flags = c.Flags
	if connected {
		r.Connect(slot)
	}
	if c.Flags&Muted != 0 && p.producer != nil {
		r.stopSpeaking(p)
		r.leaveFloor(slot)
	}
	return slot, true
}

func (r *Router) remove(id PeerID) (Slot, bool) {
	slot, ok := r.slots[id]
	if !ok {
		return 0, false
	}
	r.Disconnect(slot)
	p := &r.peers[slot]
	if p.relay != nil {
		r.removeRelay(p)
	}
	if p.channel.peers--; p.channel.peers == 0 {
		delete(r.channels, p.channel.id)
	}
	delete(r.slots, id)
	delete(r.sources, p.ssrc)
	r.release(slot)
	return slot, true
}

// release ends the stream of a peer, if it has one, and frees its slot.
func (r *Router) release(slot Slot) {
	r.leaveFloor(slot)
	p := &r.peers[slot]
	if p.producer != nil {
		if p.producer.speaking {
			r.speaking--
		}
		r.deactivate(p.producer)
		p.channel.releaseSource(p.producer.room)
		if p.producer.record != nil {
			r.records.Release(p.producer.index)
		}
	}
	*p = peer{}
	r.free = append(r.free, slot)
}

// Connect says that a peer's transport can be sent to: from now on the peer hears
// its channel.
func (r *Router) Connect(slot Slot) {
	if p := &r.peers[slot]; p.index == absent {
		p.channel.join(r.peers, slot)
	}
}

// Disconnect says that a peer's transport can not be sent to.
func (r *Router) Disconnect(slot Slot) {
	if p := &r.peers[slot]; p.index != absent {
		p.channel.leave(r.peers, slot)
	}
}

// Audience returns the number that a peer is known by as a source in its channel,
// and all who may have heard it. It is false for a peer that sent nothing. The
// slots are the router's: read them before the next call.
func (r *Router) Audience(slot Slot) (source int, members []Slot, ok bool) {
	p := &r.peers[slot]
	if p.producer == nil {
		return 0, nil, false
	}
	return p.producer.room, p.channel.members, true
}

// NextTimeout returns when Tick is to be called next, or never.
func (r *Router) NextTimeout() clock.Time { return r.nextScan }

// Tick ends speaking of those who fell silent, finds who is due for reports, which
// NextReport then returns, and chooses whom to shed.
func (r *Router) Tick(now clock.Time) {
	if r.nextScan == 0 || now.Before(r.nextScan) {
		return
	}
	for i := len(r.active) - 1; i >= 0; i-- {
		p := &r.peers[r.active[i]]
		producer := p.producer
		if producer.speaking && now.Sub(producer.lastVoice) >= speakingHold {
			r.stopSpeaking(p)
		}
		if !now.Before(producer.nextReport) {
			producer.nextReport = now.Add(reportInterval)
			r.due = append(r.due, r.active[i])
		}
		if now.Sub(producer.lastPacket) >= idleAfter {
			r.leaveFloor(r.active[i])
			producer.shed = false
			r.deactivate(producer)
		}
	}
	r.chooseShed(now)
	r.ripe = true
	r.nextScan = 0
	if len(r.active) > 0 {
		r.nextScan = now.Add(scanInterval)
	}
}

func (r *Router) activate(now clock.Time, slot Slot, p *producer) {
	p.active = len(r.active)
	r.active = append(r.active, slot)
	if r.nextScan == 0 {
		r.nextScan = now.Add(scanInterval)
	}
}

func (r *Router) deactivate(p *producer) {
	if p.active == absent {
		return
	}
	last := len(r.active) - 1
	moved := r.active[last]
	r.active[p.active] = moved
	r.peers[moved].producer.active = p.active
	r.active = r.active[:last]
	p.active = absent
}

func (r *Router) startSpeaking(now clock.Time, p *peer) {
	p.producer.lastVoice = now
	if !p.producer.speaking {
		p.producer.speaking = true
		r.speaking++
		r.events = append(r.events, Event{Speaking: &PeerSpeaking{Peer: p.id, On: true}})
		if p.producer.told != p.channel.entered || p.channel.relays > 0 {
			p.producer.told = p.channel.entered
			r.ripe = true
		}
	}
}

func (r *Router) stopSpeaking(p *peer) {
	if p.producer.speaking {
		p.producer.speaking = false
		r.speaking--
		r.events = append(r.events, Event{Speaking: &PeerSpeaking{Peer: p.id}})
	}
}

// Events appends to dst what happened since it did so last. That may wait for the next
// Tick, since who hears of it is woken each time, unless somebody who does not know the
// SSRC hears a peer begin.
func (r *Router) Events(dst []Event) []Event {
	if !r.ripe {
		return dst
	}
	dst = append(dst, r.events...)
	clear(r.events)
	r.events, r.ripe = r.events[:0], false
	return dst
}
