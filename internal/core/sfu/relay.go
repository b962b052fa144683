package sfu

import "hubbub.dev/hubbub/internal/core/clock"

const (
	// maxRemotes bounds the speakers that one relay brings: as many as a browser's
	// table of sources has room for.
	maxRemotes = 4096
	// maxEndings is how many sources are remembered after their end: more than can end
	// while a packet waits in a full receive buffer, which a worker reads in 64 turns
	// with 256 commands between them.
	maxEndings = 1 << 14
)

// relay is what a channel's other half on another worker is known by here.
type relay struct {
	id      PeerID
	remotes []Slot // who it has brought
}

// endings remembers the SSRCs that ended last. A packet that was under way when its
// sender was removed must make no new source: its numbers would start over at browsers
// who hold the sender's keys still.
type endings struct {
	known map[uint32]struct{}
	ring  []uint32
	next  int // to be forgotten, once the ring is full
}

func (e *endings) add(ssrc uint32) {
	if e.has(ssrc) {
		return
	}
	if e.known == nil {
		e.known = make(map[uint32]struct{})
	}
	e.known[ssrc] = struct{}{}
	if len(e.ring) < maxEndings {
		e.ring = append(e.ring, ssrc)
		return
	}
	delete(e.known, e.ring[e.next])
	e.ring[e.next] = ssrc
	e.next = (e.next + 1) % maxEndings
}

func (e *endings) has(ssrc uint32) bool {
	_, ok := e.known[ssrc]
	return ok
}

func (r *Router) addRelay(c *AddRelay) (Slot, bool) {
	slot, ok := r.add(&AddPeer{Peer: c.Peer, Channel: c.Channel, SSRC: c.In.SSRC})
	if !ok {
		return 0, false
	}
	r.peers[slot].relay = &relay{id: c.Peer}
	r.relays++
	r.Connect(slot)
	if r.restoring {
		r.resumeRemotes(slot)
	}
	return slot, true
}

// removeRelay ends whom a relay, which is disconnected, has brought.
func (r *Router) removeRelay(p *peer) {
	r.relays--
	for _, remote := range p.relay.remotes {
		delete(r.remotes, r.peers[remote].ssrc)
		r.release(remote)
	}
	if p.channel.relays == 0 {
		p.channel.ended, p.channel.unheard = endings{}, endings{}
	}
}

// endSource is false for a channel without relays.
func (r *Router) endSource(c *EndSource) (Slot, bool) {
	ch := r.channels[c.Channel]
	if ch == nil || ch.relays == 0 {
		return 0, false
	}
	slot, ok := r.FindRemote(c.Channel, c.SSRC)
	if !ok {
		if !ch.ended.has(c.SSRC) {
			ch.unheard.add(c.SSRC)
		}
		return 0, true
	}
	ch.ended.add(c.SSRC)
	via := r.peers[slot].via
	for i, remote := range via.remotes {
		if remote == slot {
			last := len(via.remotes) - 1
			via.remotes[i] = via.remotes[last]
			via.remotes = via.remotes[:last]
			break
		}
	}
	delete(r.remotes, c.SSRC)
	r.release(slot)
	return slot, true
}

// FindRelay returns the slot of the relay whose packets come under ssrc.
func (r *Router) FindRelay(ssrc uint32) (Slot, bool) {
	slot, ok := r.sources[ssrc]
	return slot, ok && r.peers[slot].relay != nil
}

// FindRemote returns the slot of the speaker that a relay of a channel brings under
// ssrc.
func (r *Router) FindRemote(channel uint64, ssrc uint32) (Slot, bool) {
	slot, ok := r.remotes[ssrc]
	return slot, ok && r.peers[slot].channel.id == channel
}

// Remotes returns the speakers that the relay at a slot has brought, none for a peer.
// The slots are the router's: read them before the next call.
func (r *Router) Remotes(slot Slot) []Slot {
	if link := r.peers[slot].relay; link != nil {
		return link.remotes
	}
	return nil
}

// Relays returns how many relays there are.
func (r *Router) Relays() int { return r.relays }

// ForwardRelayed is Forward for a packet that the relay at a slot has brought. Its
// header is as the speaker's own worker sends it to listeners, so its SSRC says whose
// it is. Whether that one may speak was decided there.
func (r *Router) ForwardRelayed(now clock.Time, via Slot, p *Packet) Verdict {
	slot, ok := r.remote(via, p.Header.SSRC)
	if !ok {
		return Unrelayed
	}
	speaker := &r.peers[slot]
	speaker.flags = 0
	if p.Priority {
		speaker.flags = Priority
	}
	return r.Forward(now, slot, p)
}

// remote returns the slot of a speaker that a relay brings, which its first packet
// makes.
func (r *Router) remote(via Slot, ssrc uint32) (Slot, bool) {
	link, ch := r.peers[via].relay, r.peers[via].channel
	if slot, ok := r.remotes[ssrc]; ok {
		return slot, r.peers[slot].via == link
	}
	_, own := r.sources[ssrc]
	if own || len(link.remotes) >= maxRemotes || ch.ended.has(ssrc) || ch.unheard.has(ssrc) {
		return 0, false
	}
	slot := r.allocate()
	r.peers[slot] = peer{ssrc: ssrc, channel: ch, index: absent, via: link}
	r.remotes[ssrc] = slot
	link.remotes = append(link.remotes, slot)
	if r.restoring {
		r.resume(slot)
	}
	return slot, true
}
