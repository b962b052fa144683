package media

import (
	"net/netip"

	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
)

const (
	// outboxSize holds a full batch of messages of ten voice packets each.
	outboxSize = 128 << 10
	// maxPadding is what is added to a browser's packet at most, in bytes, so that it
	// is as long as its neighbours and leaves with them: about a sixth of a voice
	// packet for half or more of its way through the kernel.
	maxPadding = 32
	// touchAhead is for how many listeners what sealing takes is read ahead: 12 lines each,
	// a fourth of the nearest cache together.
	touchAhead = 16
)

// outbox gathers sealed packets in one slab. Packets to one address that are put in
// one after the other leave as one message, as far as their sizes allow: all alike,
// save for a shorter last one.
type outbox struct {
	slab    []byte
	used    int
	batch   []udp.Message
	packets int // in batch
}

func newOutbox() outbox {
	return outbox{slab: make([]byte, outboxSize), batch: make([]udp.Message, 0, udp.Batch)}
}

// next returns room for a packet, nil when there is none left.
func (o *outbox) next() []byte {
	if len(o.slab)-o.used < udp.MaxDatagram || len(o.batch) == cap(o.batch) {
		return nil
	}
	return o.slab[o.used : o.used+udp.MaxDatagram]
}

// put adds the packet of size bytes that is where next pointed to.
func (o *outbox) put(addr netip.AddrPort, size int) {
	start := o.used
	o.used += size
	o.packets++
	if n := len(o.batch); n > 0 {
		m := &o.batch[n-1]
		if m.Addr == addr && size <= m.Segment && m.Size%m.Segment == 0 &&
			m.Size < udp.MaxSegments*m.Segment && m.Size+size <= udp.MaxSegmented {
			m.Size += size
			m.Buffer = m.Buffer[:m.Size]
			return
		}
	}
	o.batch = append(o.batch, udp.Message{Buffer: o.slab[start:o.used], Size: size, Segment: size, Addr: addr})
}

func (o *outbox) reset() { o.used, o.packets, o.batch = 0, 0, o.batch[:0] }

// deliver seals the packets of a fan-out. All of one receiver's come next to each
// other, for the kernel's sake and for that of the key schedule's place in the cache.
func (w *worker) deliver(f *sfu.Fanout) {
	for _, to := range f.Relays {
		w.sendRelayed(to, f.Packets)
	}
	w.padLikeNeighbours(f.Packets)
	w.gather.delivered += len(f.Packets) * len(f.To)
	for i, to := range f.To {
		if i%touchAhead == 0 {
			w.touch(f.To[i:min(i+touchAhead, len(f.To))])
		}
		p := &w.peers[to]
		if p.window != w.gather.window {
			p.window = w.gather.window
			w.gather.listeners++
		}
		for i, d := range f.Packets {
			if d.From == to {
				continue
			}
			out := w.next()
			header, level := d.Header, rtp.LevelExtension{Level: d.Level.Value}
			header.PayloadType = p.opus
			if d.Level.Known {
				level.ID = p.levelID
			}
			size := 0
			if p.native != nil {
				// Libraries compare the whole second byte with the payload type.
				header.Marker = false
				size = p.native.Seal(out, header, level, d.Payload)
			} else if seq, roc, ok := p.browser.rollover.Place(d.Source, d.Extended); ok {
				header.Sequence = seq
				size = p.browser.out.SealPadded(out, header, level, d.Payload, w.padding[i], roc)
			}
			w.queue(size, p.addr)
		}
	}
}

// touch reads ahead what sealing for some peers takes.
func (w *worker) touch(peers []sfu.Slot) {
	for _, slot := range peers {
		switch p := &w.peers[slot]; {
		case p.native != nil:
			w.touched ^= p.native.Touch()
		case p.browser != nil && p.browser.out != nil:
			w.touched ^= p.browser.out.Touch()
		}
	}
}

// padLikeNeighbours finds how much padding makes runs of packets equally long. The
// last of a run needs none, if it is not the longest. Native clients get none:
// libraries take it for audio.
func (w *worker) padLikeNeighbours(packets []*sfu.Delivery) {
	w.padding = w.padding[:0]
	for len(packets) > 0 {
		shortest, longest, run := plainSize(packets[0]), plainSize(packets[0]), 1
		for ; run < len(packets); run++ {
			size := plainSize(packets[run])
			if max(longest, size)-min(shortest, size) > maxPadding {
				break
			}
			shortest, longest = min(shortest, size), max(longest, size)
		}
		for _, d := range packets[:run-1] {
			w.padding = append(w.padding, uint8(longest-plainSize(d)))
		}
		w.padding = append(w.padding, 0)
		packets = packets[run:]
	}
}

// plainSize is a packet's size for browsers that negotiated audio levels.
func plainSize(d *sfu.Delivery) int {
	if d.Level.Known {
		return rtp.LevelHeaderSize + len(d.Payload)
	}
	return rtp.HeaderSize + len(d.Payload)
}

func (w *worker) sendReport() {
	for _, to := range w.report.To {
		p := &w.peers[to]
		if p.native != nil {
			w.queue(p.native.SealRTCP(w.next(), w.report.Packet), p.addr)
		} else {
			w.queue(p.browser.out.SealRTCP(w.next(), w.report.Packet), p.addr)
		}
	}
}

// next returns room for one packet. It is sent once it was queued.
func (w *worker) next() []byte {
	room := w.outbox.next()
	if room == nil {
		w.flush()
		room = w.outbox.next()
	}
	return room
}

// queue sends the packet of size bytes that was written where next said, at the
// latest at the end of the turn. One of size zero could not be sealed.
func (w *worker) queue(size int, addr netip.AddrPort) {
	if size == 0 {
		w.strays[strayUnsealed]++
		return
	}
	w.outbox.put(addr, size)
	w.packetsOut++
	w.bytesOut += uint64(size)
}

func (w *worker) flush() {
	if w.outbox.packets == 0 {
		return
	}
	w.sends += uint64(len(w.outbox.batch))
	w.sendDrops += uint64(w.outbox.packets - w.socket.WriteBatch(w.outbox.batch))
	w.outbox.reset()
}
