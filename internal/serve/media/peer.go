package media

import (
	"net/netip"
	"time"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/relay"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/shield"
	"hubbub.dev/hubbub/proto"
)

const (
	// opusPayloadType and levelID are what native clients use (Discord, "Voice
	// Connections", "Native RTP Header Extensions").
	opusPayloadType = 120
	levelID         = 1

	// consentTimeout is RFC 7675's section 5.1.
	consentTimeout = 30 * time.Second
	// quietAfter is how long a native peer that had been sending keepalives may send
	// nothing before signalling is told, and asks: four of what libraries send every 5 s.
	quietAfter = 20 * time.Second
	// regularFrom is from how many keepalives on, none of them later than that, a peer is
	// one that sends them.
	regularFrom = 3
	// addressHold is how long after its last packet an address can not be taken over:
	// so nobody takes a talking peer's place by forging its address.
	addressHold = 5 * time.Second
	// paths is how many addresses of one browser are known at once: its candidate
	// pairs on a host with a few interfaces.
	paths = 4
)

// peer is the transport of one client, at the slot that the router gave it.
type peer struct {
	// What sending to a peer takes comes first and is together: where a worker has
	// thousands in many rooms, each line of it is fetched from memory.

	// addr is where the peer is, and invalid while unknown. It is latched once a packet
	// of the peer has come from there that only it could make. Before, it is believed
	// if it is in the network that the peer's signalling came from, which from names
	// when that says anything. To another the peer's channel is not sent.
	addr    netip.AddrPort
	native  *native.Transport
	browser *browserPeer
	window  uint32 // the gatherer's window in which it was last sent to
	levelID uint8
	opus    uint8 // payload type

	latched   bool
	believed  bool
	connected bool       // said so
	heard     clock.Time // last authentic packet
	pinged    clock.Time // last keepalive of a native peer, which proves nothing
	asked     clock.Time // when signalling was told last that it is quiet
	pings     uint8      // keepalives in time, up to regularFrom
	ssrc      uint32
	id        sfu.PeerID

	link        *relay.Link // of what is no peer but a relay
	record      *record     // nil: nothing of it outlives the process
	recordIndex int

	from   netip.Addr
	secret sfu.SetNative // the native transport's, while there is one

}

// browserPeer is what only browsers need.
type browserPeer struct {
	ufrag       string
	ice         *browser.ICE
	fingerprint browser.Fingerprint
	in          *browser.Inbound // nil until DTLS ended
	out         *browser.Outbound
	rollover    browser.Rollover
	handshake   *handshake // nil before DTLS and when it is over
	resumed     bool       // an earlier process may have begun the handshake

	// others are addresses from which checks came, besides the peer's own: a browser
	// may use any of them.
	others  [paths - 1]netip.AddrPort
	oldest  int
	checked clock.Time // last valid check
	chosen  clock.Time // last valid check on the peer's own address
	lost    bool
}

// setNative gives a peer the native transport. The same key again changes nothing:
// its nonces would start over.
func (w *worker) setNative(slot sfu.Slot, c *sfu.SetNative) {
	p := &w.peers[slot]
	if p.native != nil && p.secret == *c {
		w.ready(slot)
		return
	}
	if c.Mode == proto.ModeXSalsa20 && !w.legacy {
		w.log.Warn("native transport refused: legacy mode is off", "worker", w.index)
		return
	}
	transport, err := native.New(native.Mode(c.Mode), c.Key)
	if err != nil {
		w.log.Warn("native transport refused", "worker", w.index, "error", err)
		return
	}
	w.clearBrowser(slot)
	if !w.keepNative(p, transport, c) {
		p.native = nil
		w.giveUp(slot)
		return
	}
	p.native, p.secret = transport, *c
	p.opus, p.levelID = opusPayloadType, levelID
	if c.Mode == proto.ModeXSalsa20 {
		p.levelID = 0 // clients of that age take the extension for audio
	}
	p.latched, p.believed = false, p.latched || p.believed
	w.note(p)
	w.ready(slot)
}

// setBrowser gives a peer the browser transport, whose keys DTLS will bring.
func (w *worker) setBrowser(now clock.Time, slot sfu.Slot, c *sfu.SetBrowser) {
	if holder, taken := w.byUfrag[c.LocalUfrag]; taken {
		if holder == slot {
			w.ready(slot)
			return
		}
		w.log.Warn("browser transport refused: ufrag in use", "worker", w.index)
		return
	}
	w.clearBrowser(slot)
	w.clearAddress(slot)
	p := &w.peers[slot]
	p.native, p.secret = nil, sfu.SetNative{}
	p.opus, p.levelID = c.OpusPT, c.AudioLevelID
	// One that cannot be read matches no certificate.
	fingerprint, _ := browser.ParseFingerprint(c.Fingerprint)
	p.browser = &browserPeer{
		ufrag:       c.LocalUfrag,
		ice:         browser.NewICE(c.LocalPwd),
		fingerprint: fingerprint,
		checked:     now,
	}
	w.byUfrag[c.LocalUfrag] = slot
	w.keepBrowser(slot, c)
}

// setKeys makes SRTP of what DTLS exported. Keys in use are kept: their packet
// numbers would start over.
func (w *worker) setKeys(slot sfu.Slot, c *sfu.SetSRTPKeys) bool {
	p := &w.peers[slot]
	if p.browser == nil || p.browser.in != nil {
		return false
	}
	profile := browser.Profile(c.Profile)
	clientKey, clientSalt, serverKey, serverSalt, err := browser.KeysFromExporter(c.Keying, profile)
	if err == nil {
		p.browser.in, err = browser.NewInbound(profile, clientKey, clientSalt)
	}
	if err == nil {
		p.browser.out, err = browser.NewOutbound(profile, serverKey, serverSalt)
	}
	if err == nil && p.record != nil {
		r := &p.record.browser
		if !w.restoring() {
			r.SetKeys(profile, c.Keying)
		}
		p.browser.rollover.Keep(w.store.rollover(p.recordIndex), r)
		err = r.Keep(p.browser.in, p.browser.out)
	}
	if err != nil {
		p.browser.in = nil
		w.log.Warn("SRTP keys refused", "worker", w.index, "error", err)
		return false
	}
	w.ready(slot)
	return true
}

// ready lets a peer hear its channel as soon as it has keys and an address.
func (w *worker) ready(slot sfu.Slot) {
	p := &w.peers[slot]
	keys := p.native != nil || p.browser != nil && p.browser.out != nil && !p.browser.lost
	if keys && p.addr.IsValid() && (p.latched || p.believed) {
		w.router.Connect(slot)
	}
}

// announce says once that a peer proved to be there.
func (w *worker) announce(p *peer) {
	if !p.connected {
		p.connected = true
		w.note(p)
		w.sink(w.index, sfu.Event{Connected: &sfu.PeerConnected{Peer: p.id}})
	}
}

// ping takes note of a native peer's keepalive.
func (p *peer) ping(now clock.Time) {
	if p.pinged == 0 || now.Sub(p.pinged) >= quietAfter {
		p.pings = 0
	}
	p.pinged, p.pings = now, min(p.pings+1, regularFrom)
}

// quiet reports whether a native peer that had been sending keepalives has not shown a
// sign of life for too long, and not been asked about lately.
func (p *peer) quiet(now clock.Time) bool {
	return p.native != nil && p.pings == regularFrom && now.Sub(max(p.pinged, p.heard, p.asked)) >= quietAfter
}

// claim gives an address to a slot. It is false while the address belongs to a peer
// that was heard lately.
func (w *worker) claim(now clock.Time, slot sfu.Slot, addr netip.AddrPort) bool {
	holder, taken := w.byAddr[addr]
	if taken && holder != slot {
		h := &w.peers[holder]
		if h.latched && now.Sub(h.heard) < addressHold {
			w.strays[strayAddressTaken]++
			return false
		}
		if h.addr == addr {
			h.addr, h.latched, h.believed = netip.AddrPort{}, false, false
			w.note(h)
			w.router.Disconnect(holder)
		}
	}
	w.byAddr[addr] = slot
	return true
}

// moveTo makes a claimed address the one that a peer is sent to.
func (w *worker) moveTo(slot sfu.Slot, addr netip.AddrPort) {
	p := &w.peers[slot]
	if p.addr != addr {
		w.release(slot, p.addr)
		p.addr = addr
	}
	w.note(p)
	w.ready(slot)
}

// believe takes for a native peer's an address from which somebody did discovery under
// its SSRC. That proves nothing, and goes for nothing once something was proved. Most
// clients send discovery before their keys are set, and some nothing that is sealed,
// ever: they only listen.
func (w *worker) believe(now clock.Time, slot sfu.Slot, addr netip.AddrPort) {
	p := &w.peers[slot]
	likely := !p.from.IsValid() || shield.SameNetwork(p.from, addr.Addr())
	if p.latched || !likely && (p.believed || w.belongs(addr, slot)) || !w.claim(now, slot, addr) {
		return
	}
	p.believed = likely
	w.moveTo(slot, addr)
}

// belongs reports whether an address belongs to another peer.
func (w *worker) belongs(addr netip.AddrPort, but sfu.Slot) bool {
	holder, taken := w.byAddr[addr]
	return taken && holder != but
}

func (w *worker) release(slot sfu.Slot, addr netip.AddrPort) {
	if holder, ok := w.byAddr[addr]; ok && holder == slot {
		delete(w.byAddr, addr)
	}
}

func (w *worker) clearAddress(slot sfu.Slot) {
	p := &w.peers[slot]
	w.release(slot, p.addr)
	p.addr, p.latched, p.believed = netip.AddrPort{}, false, false
	w.note(p)
}

func (w *worker) clearBrowser(slot sfu.Slot) {
	p := &w.peers[slot]
	if p.browser == nil {
		return
	}
	for _, addr := range p.browser.others {
		w.release(slot, addr)
	}
	w.clearAddress(slot)
	p.browser.endHandshake()
	delete(w.byUfrag, p.browser.ufrag)
	if p.record != nil {
		w.store.wipe(p.recordIndex)
	}
	p.browser = nil
}

// releaseSource frees a speaker's number in the tables of those who heard it.
func (w *worker) releaseSource(slot sfu.Slot) {
	source, members, ok := w.router.Audience(slot)
	if !ok {
		return
	}
	for _, member := range members {
		if b := w.peers[member].browser; b != nil {
			b.rollover.Release(source)
		}
	}
}

// removePeer forgets all that the worker holds of a peer or a relay, and frees the
// numbers of those who were heard by it.
func (w *worker) removePeer(slot sfu.Slot) {
	w.releaseSource(slot)
	for _, remote := range w.router.Remotes(slot) {
		w.releaseSource(remote)
	}
	w.clearBrowser(slot)
	w.clearAddress(slot)
	if w.store != nil {
		w.store.close(&w.peers[slot])
	}
	w.peers[slot] = peer{}
}

// lose says once that a browser's transport is gone.
func (w *worker) lose(slot sfu.Slot, reason sfu.LostReason) {
	p := &w.peers[slot]
	if p.browser.lost {
		return
	}
	p.browser.lost = true
	p.browser.endHandshake()
	w.router.Disconnect(slot)
	w.sink(w.index, sfu.Event{Lost: &sfu.PeerLost{Peer: p.id, Reason: reason}})
}
