package media

import (
	"net/netip"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/relay"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
)

// setRelay makes this end of a relay. Its address is not among the peers': one other
// worker has one address for the relays of all its channels.
func (w *worker) setRelay(slot sfu.Slot, c *sfu.AddRelay) {
	link, err := relay.New(c)
	if err != nil || !c.Addr.IsValid() {
		w.log.Warn("relay refused", "worker", w.index, "error", err)
		w.router.Apply(sfu.Command{Remove: &sfu.RemovePeer{Peer: c.Peer}})
		return
	}
	*w.room(slot) = peer{id: c.Peer, ssrc: c.In.SSRC, addr: c.Addr, link: link}
}

// receiveRelayed opens what another worker sent and forwards it. From elsewhere than
// that worker's address it is taken for a stranger's until it has decrypted, and
// changes nothing of where the relay goes.
func (w *worker) receiveRelayed(now clock.Time, slot sfu.Slot, addr netip.AddrPort, pkt []byte) {
	p := &w.peers[slot]
	known := addr == p.addr
	if !known && (w.barred(now, addr) || !w.attempt(now, addr)) {
		return
	}
	if drop := p.link.Open(pkt, &w.packet); drop != rtp.Accepted {
		w.invalid(now, addr, known, drop)
		return
	}
	w.relayedIn++
	w.verdicts[w.router.ForwardRelayed(now, slot, &w.packet)]++
}

// sendRelayed sends a relay what the channel's own peers said.
func (w *worker) sendRelayed(to sfu.Slot, packets []*sfu.Delivery) {
	p := &w.peers[to]
	for _, d := range packets {
		if d.Relayed {
			continue
		}
		size := p.link.Seal(w.next(), d)
		w.queue(size, p.addr)
		if size > 0 {
			w.relayedOut++
		}
	}
}
