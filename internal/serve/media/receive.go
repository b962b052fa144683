package media

import (
	"encoding/binary"
	"net/netip"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/udp"
)

// receive tells by the first bytes what a datagram is, and by its address whose.
func (w *worker) receive(now clock.Time, m *udp.Message) {
	pkt := m.Buffer[:m.Size]
	w.packetsIn++
	w.bytesIn += uint64(len(pkt))
	switch rtp.Kind(pkt) {
	case rtp.RTP:
		w.receiveMedia(now, m.Addr, pkt, binary.BigEndian.Uint32(pkt[8:]), (*worker).media)
	case rtp.RTCP:
		w.receiveMedia(now, m.Addr, pkt, binary.BigEndian.Uint32(pkt[4:]), (*worker).control)
	case rtp.STUN:
		w.receiveCheck(now, m.Addr, pkt)
	case rtp.DTLS:
		w.receiveDTLS(now, m.Addr, pkt)
	default:
		w.receiveOther(now, m.Addr, pkt)
	}
}

// receiveMedia finds the peer of an RTP or RTCP packet: by address, or, when that is
// not known or another's, by the SSRC that the voice gateway gave a native client.
func (w *worker) receiveMedia(now clock.Time, addr netip.AddrPort, pkt []byte, ssrc uint32,
	open func(*worker, clock.Time, sfu.Slot, []byte) rtp.Drop,
) {
	slot, known := w.byAddr[addr]
	if known {
		p := &w.peers[slot]
		known = p.browser != nil || p.ssrc == ssrc
	}
	if !known {
		if link, ok := w.router.FindRelay(ssrc); ok {
			w.receiveRelayed(now, link, addr, pkt)
			return
		}
		if w.barred(now, addr) {
			return
		}
		var ok bool
		if slot, ok = w.router.FindSSRC(ssrc); !ok || w.peers[slot].native == nil {
			w.stranger(now, addr, false, strayUnknown)
			return
		}
		if !w.attempt(now, addr) {
			return
		}
	}
	p := &w.peers[slot]
	if p.native == nil && (p.browser == nil || p.browser.in == nil) {
		w.strays[strayNotReady]++
		return
	}
	if drop := open(w, now, slot, pkt); drop != rtp.Accepted {
		w.invalid(now, addr, known, drop)
		return
	}
	p.heard = now
	switch {
	case p.browser != nil:
		p.browser.endHandshake()
	case !p.latched || p.addr != addr:
		// Only the peer could make this packet, and it is no replay: it is there now.
		if w.claim(now, slot, addr) {
			p.latched = true
			w.moveTo(slot, addr)
		}
	}
	w.announce(p)
}

// media opens an RTP packet and forwards it.
func (w *worker) media(now clock.Time, slot sfu.Slot, pkt []byte) (drop rtp.Drop) {
	p := &w.peers[slot]
	var plain []byte
	if p.native != nil {
		plain, drop = p.native.Open(pkt)
	} else {
		plain, drop = p.browser.in.Open(pkt)
	}
	if drop != rtp.Accepted {
		return drop
	}
	header, _, ok := rtp.Parse(plain)
	if !ok || header.PayloadType != p.opus {
		// It is the peer's, but nothing that anyone could play.
		w.strays[strayPayload]++
		return rtp.Accepted
	}
	id := p.levelID
	if p.native != nil {
		id = levelID
	}
	w.packet.Header = header
	w.packet.Level.Value, w.packet.Level.Known = header.AudioLevel(plain, id)
	w.packet.Payload = header.Payload(plain)
	w.verdicts[w.router.Forward(now, slot, &w.packet)]++
	return rtp.Accepted
}

// control opens an RTCP packet and lets the router read it.
func (w *worker) control(now clock.Time, slot sfu.Slot, pkt []byte) (drop rtp.Drop) {
	p := &w.peers[slot]
	var plain []byte
	if p.native != nil {
		plain, drop = p.native.OpenRTCP(pkt)
	} else {
		plain, drop = p.browser.in.OpenRTCP(pkt)
	}
	if drop == rtp.Accepted {
		w.router.Control(now, monotonic.At(now), slot, plain)
	}
	return drop
}

// receiveCheck answers a STUN connectivity check and follows what it says of the
// browser's address.
func (w *worker) receiveCheck(now clock.Time, addr netip.AddrPort, pkt []byte) {
	if w.barred(now, addr) {
		return
	}
	ufrag, ok := browser.BindingUsername(pkt)
	if !ok {
		w.stranger(now, addr, false, strayUnknown)
		return
	}
	slot, ok := w.byUfrag[string(ufrag)]
	if !ok {
		w.early.keepCheck(now, addr, pkt)
		w.stranger(now, addr, false, strayUnknown)
		return
	}
	p := &w.peers[slot]
	b := p.browser
	if b.lost {
		w.strays[strayNotReady]++
		return
	}
	binding, ok := b.ice.ParseBinding(pkt)
	if !ok {
		_, known := w.byAddr[addr]
		w.invalid(now, addr, known, rtp.Unauthenticated)
		return
	}
	if !w.claim(now, slot, addr) {
		return
	}
	b.checked, p.heard = now, now
	switch {
	case p.addr == addr:
		if b.in != nil {
			w.gather.keepalives++ // a check of consent
		}
	case !p.addr.IsValid(), binding.Nominated, now.Sub(b.chosen) >= addressHold:
		b.keep(w, slot, p.addr)
		p.addr = addr
	default:
		b.keep(w, slot, addr)
	}
	p.latched = true
	if p.addr == addr {
		b.chosen = now
	}
	w.note(p)
	w.ready(slot)
	if size := b.ice.PutBindingSuccess(w.next(), binding.Transaction, addr); size <= len(pkt) {
		w.queue(size, addr)
	} else {
		w.strays[strayAmplified]++
	}
}

// keep remembers an address from which a browser may send too, in place of the
// oldest of its kind.
func (b *browserPeer) keep(w *worker, slot sfu.Slot, addr netip.AddrPort) {
	if !addr.IsValid() {
		return
	}
	for _, other := range b.others {
		if other == addr {
			return
		}
	}
	if old := b.others[b.oldest]; old != w.peers[slot].addr {
		w.release(slot, old)
	}
	b.others[b.oldest] = addr
	b.oldest = (b.oldest + 1) % len(b.others)
}

// receiveDTLS gives a datagram to the peer's handshake, and starts that with the
// first one. Only who has passed a check gets so far.
func (w *worker) receiveDTLS(now clock.Time, addr netip.AddrPort, pkt []byte) {
	slot, known := w.byAddr[addr]
	if !known || w.peers[slot].browser == nil {
		w.stranger(now, addr, known, strayUnknown)
		return
	}
	b := w.peers[slot].browser
	if b.lost || b.handshake == nil && b.in != nil {
		w.strays[strayNotReady]++
		return
	}
	if b.resumed && b.handshake == nil && !clientHello(pkt) {
		// The client is in the middle of a handshake with a process that has ended.
		w.lose(slot, sfu.LostHandshake)
		return
	}
	if b.handshake == nil && !w.startHandshake(slot) {
		w.strays[strayHandshakes]++
		return
	}
	b.handshake.pipe.deliver(pkt)
}

// clientHello reports whether a DTLS record begins with the message that begins a
// handshake (RFC 6347 section 4.2.2).
func clientHello(pkt []byte) bool {
	const handshake, hello = 22, 1
	return len(pkt) > leastHandshake && pkt[0] == handshake && pkt[leastHandshake] == hello
}

// receiveOther answers the small datagrams of Discord's native clients. Strangers
// get an answer to IP discovery alone, if they know an SSRC.
func (w *worker) receiveOther(now clock.Time, addr netip.AddrPort, pkt []byte) {
	if ssrc, ok := native.ParseDiscovery(pkt); ok {
		w.discover(now, addr, ssrc)
		return
	}
	slot, known := w.byAddr[addr]
	if !known || len(pkt) != native.PingSize || w.peers[slot].browser != nil {
		w.stranger(now, addr, known, strayUnknown)
		return
	}
	if w.apart {
		w.gather.done-- // no reason to doze, nor to stay awake
	} else {
		w.gather.keepalives++
	}
	w.peers[slot].ping(now)
	if sequence, ok := native.ParsePing(pkt); ok {
		w.queue(native.PutPong(w.next(), sequence), addr)
	} else {
		// Some libraries measure the round trip by the echo of their counter.
		w.queue(copy(w.next(), pkt), addr)
	}
}

// discover answers IP discovery, which is also what a client that only listens is
// believed to be where it came from by.
func (w *worker) discover(now clock.Time, addr netip.AddrPort, ssrc uint32) {
	slot, ok := w.router.FindSSRC(ssrc)
	if !ok || w.peers[slot].browser != nil {
		if !ok && !w.guard.Blocked(now, addr.Addr()) {
			w.early.keep(question{ssrc: ssrc, addr: addr, at: now})
		}
		w.stranger(now, addr, false, strayUnknown)
		return
	}
	w.believe(now, slot, addr)
	w.queue(native.PutDiscoveryResponse(w.next(), ssrc, addr), addr)
}
