package media

import (
	"net/netip"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

// restoring reports whether commands are replayed to the worker.
func (w *worker) restoring() bool { return w.store != nil && w.store.replay }

// known reports whether an earlier process may have begun the present command.
func (w *worker) known() bool { return w.store != nil && w.store.known(w.begun) }

// note writes down where a peer is.
func (w *worker) note(p *peer) {
	if p.record == nil || w.store.replay {
		return
	}
	state := uint64(0)
	if p.latched {
		state |= stateLatched
	}
	if p.believed {
		state |= stateBelieved
	}
	if p.connected {
		state |= stateConnected
	}
	p.record.state.Set(state)
	p.record.paths[0].set(p.addr)
	if p.browser != nil {
		for i, other := range p.browser.others {
			p.record.paths[1+i].set(other)
		}
	}
}

// keepNative has a transport go on where an earlier process ended. It is false when
// nobody knows where that is.
func (w *worker) keepNative(p *peer, t *native.Transport, c *sfu.SetNative) bool {
	if p.record == nil {
		return !w.known()
	}
	if !w.restoring() {
		p.record.browser.Forget()
	}
	return t.Keep(&p.record.native, native.Mode(c.Mode), c.Key, w.known()) != native.Lost
}

// keepBrowser has a browser go on where an earlier process ended.
func (w *worker) keepBrowser(slot sfu.Slot, c *sfu.SetBrowser) {
	p := &w.peers[slot]
	if p.record == nil {
		if w.known() {
			w.giveUp(slot)
		}
		return
	}
	if !w.restoring() {
		p.record.native.Forget()
	}
	r := &p.record.browser
	if !r.Begin(c.LocalUfrag, c.LocalPwd, w.known()) {
		w.giveUp(slot)
		return
	}
	profile, keying, err := r.Keys()
	switch {
	case err != nil:
		w.giveUp(slot)
	case keying == nil:
		p.browser.resumed = w.known()
	case !w.setKeys(slot, &sfu.SetSRTPKeys{Peer: p.id, Profile: uint16(profile), Keying: keying}):
		w.giveUp(slot)
	}
}

// giveUp ends a peer whose keys may not be used any more.
func (w *worker) giveUp(slot sfu.Slot) {
	p := &w.peers[slot]
	if p.browser != nil {
		w.lose(slot, sfu.LostState)
		return
	}
	w.router.Disconnect(slot)
	p.native, p.secret = nil, sfu.SetNative{}
	w.sink(w.index, sfu.Event{Lost: &sfu.PeerLost{Peer: p.id, Reason: sfu.LostState}})
}

// settle ends the replay, in which number was the last command's. Peers are then as if
// nothing had been, and what was left of others is forgotten.
func (w *worker) settle(now clock.Time, number uint64) {
	s := w.store
	for slot := range w.peers {
		p := &w.peers[slot]
		if p.record == nil || p.native == nil && p.browser == nil {
			continue
		}
		// A legacy transport makes its nonces of the packets' numbers, as SRTP does.
		numbered := p.browser != nil || p.secret.Mode == proto.ModeXSalsa20
		if w.router.Broken(sfu.Slot(slot)) || numbered && w.router.Damaged() {
			w.giveUp(sfu.Slot(slot))
			continue
		}
		w.recall(now, sfu.Slot(slot))
	}
	for _, i := range s.left {
		s.wipe(i)
	}
	kept := make(map[int]bool, len(w.peers))
	for slot := range w.peers {
		if p := &w.peers[slot]; p.record != nil {
			kept[p.recordIndex] = true
		}
	}
	s.table.Keep(func(i int) bool { return kept[i] })
	w.router.Settle()
	for slot := range w.peers {
		if b := w.peers[slot].browser; b != nil && b.out != nil {
			b.rollover.Retain(w.router.HasSource(sfu.Slot(slot)))
		}
	}
	s.left, s.replay = nil, false
	s.heading.applied.Set(number)
}

// recall finds a peer where it was.
func (w *worker) recall(now clock.Time, slot sfu.Slot) {
	p := &w.peers[slot]
	state, ok := p.record.state.Get()
	if !ok {
		return
	}
	p.connected = state&stateConnected != 0
	where := func(i int) netip.AddrPort {
		addr := p.record.paths[i].get()
		if _, taken := w.byAddr[addr]; taken || !addr.IsValid() {
			return netip.AddrPort{}
		}
		w.byAddr[addr] = slot
		return addr
	}
	if p.addr = where(0); p.addr.IsValid() {
		p.latched, p.believed, p.heard = state&stateLatched != 0, state&stateBelieved != 0, now
	}
	if b := p.browser; b != nil {
		b.chosen = now
		for i := range b.others {
			b.others[i] = where(1 + i)
		}
	}
	w.ready(slot)
}
