package sfu

import (
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/ledger"
	"hubbub.dev/hubbub/internal/core/rtp"
)

// mortal is a router that dies and goes on, with what it is told in between.
type mortal struct {
	t       rapid.TB
	records []Record
	used    ledger.Word
	router  *Router
	now     clock.Time

	peers  []PeerID // in the order in which they were added
	muted  map[PeerID]bool
	relay  bool
	sent   map[uint32]*wire // by SSRC
	fanout Fanout
}

// wire is what a listener has got of one speaker.
type wire struct {
	highest   uint64
	timestamp uint32
	room      int
}

const relayID = PeerID(1 << 50)

func (m *mortal) live() {
	m.router = New(Config{Records: ledger.NewTable(m.records, &m.used)})
	listener := m.add(1000)
	if m.relay {
		slot, ok := m.router.Apply(Command{Relay: &AddRelay{Peer: relayID, Channel: 1, In: RelayKey{SSRC: 4}, Out: RelayKey{SSRC: 8}}})
		if !ok || m.router.relays != 1 {
			m.t.Fatalf("no relay at %d", slot)
		}
	}
	for _, id := range m.peers {
		m.add(id)
		if m.muted[id] {
			m.router.Apply(Command{Update: &UpdatePeer{Peer: id, Flags: Muted}})
		}
	}
	m.router.Connect(listener)
	m.router.Settle()
}

func (m *mortal) add(id PeerID) Slot {
	slot, ok := m.router.Apply(Command{Add: &AddPeer{Peer: id, Channel: 1, SSRC: uint32(id) << 4}})
	if !ok {
		m.t.Fatalf("peer %d is refused", id)
	}
	return slot
}

// forward has someone's packet forwarded and checks the numbers that it leaves with.
func (m *mortal) forward(slot Slot, remote bool, h rtp.Header) {
	p := &Packet{Header: h, Level: Level{Value: 0x80 | 20, Known: true}, Payload: []byte("voice")}
	if remote {
		m.router.ForwardRelayed(m.now, slot, p)
	} else {
		m.router.Forward(m.now, slot, p)
	}
	for m.router.NextFanout(&m.fanout) {
		for _, d := range m.fanout.Packets {
			w := m.sent[d.Header.SSRC]
			if w == nil {
				for ssrc, other := range m.sent {
					if other.room == d.Source {
						m.t.Fatalf("%#x and %#x are both source %d", ssrc, d.Header.SSRC, d.Source)
					}
				}
				m.sent[d.Header.SSRC] = &wire{d.Extended, d.Header.Timestamp, d.Source}
				continue
			}
			switch {
			case d.Source != w.room:
				m.t.Fatalf("%#x was source %d and is %d", d.Header.SSRC, w.room, d.Source)
			case d.Extended <= w.highest:
				m.t.Fatalf("%#x: number %d after %d", d.Header.SSRC, d.Extended, w.highest)
			case d.Extended-w.highest > 20:
				m.t.Fatalf("%#x: number %d after %d looks like loss", d.Header.SSRC, d.Extended, w.highest)
			case int32(d.Header.Timestamp-w.timestamp) <= 0:
				m.t.Fatalf("%#x: timestamp %d after %d", d.Header.SSRC, d.Header.Timestamp, w.timestamp)
			}
			w.highest, w.timestamp = d.Extended, d.Header.Timestamp
		}
	}
}

// TestNumbersOutliveRouter has peers and relayed speakers send, drop, mute, start over
// and leave while the router dies now and then.
func TestNumbersOutliveRouter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &mortal{
			t: t, records: make([]Record, 32), now: clock.Time(time.Second), peers: []PeerID{1, 2, 3},
			muted: map[PeerID]bool{}, relay: true, sent: map[uint32]*wire{},
		}
		m.live()
		type source struct {
			ssrc      uint32
			sequence  uint16
			timestamp uint32
		}
		sources := map[uint32]*source{}
		next := PeerID(4)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			m.now = m.now.Add(20 * time.Millisecond)
			step := rapid.SampledFrom([]string{"peer", "peer", "peer", "remote", "remote", "mute", "restart", "leave", "end", "die"}).Draw(t, "step")
			if step == "die" {
				m.live()
				continue
			}
			who := rapid.SampledFrom(m.peers).Draw(t, "who")
			ssrc := uint32(who) << 4
			if step == "remote" || step == "end" {
				ssrc = 0x8000 + rapid.Uint32Range(0, 3).Draw(t, "remote")<<4
			}
			if sources[ssrc] == nil {
				sources[ssrc] = &source{ssrc, uint16(rapid.Uint32Range(0, 1<<16-1).Draw(t, "sequence")), rapid.Uint32().Draw(t, "timestamp")}
			}
			s := sources[ssrc]
			slot, _ := m.router.Find(who)
			switch step {
			case "peer", "remote":
				lost := uint16(rapid.SampledFrom([]int{0, 0, 0, 1, 5}).Draw(t, "lost"))
				s.sequence += 1 + lost
				s.timestamp += 960 * uint32(1+lost)
				h := rtp.Header{Sequence: s.sequence, Timestamp: s.timestamp, SSRC: s.ssrc}
				if step == "remote" {
					slot, _ = m.router.Find(relayID)
				}
				m.forward(slot, step == "remote", h)
			case "mute":
				m.muted[who] = !m.muted[who]
				flags := Flags(0)
				if m.muted[who] {
					flags = Muted
				}
				m.router.Apply(Command{Update: &UpdatePeer{Peer: who, Flags: flags}})
			case "restart":
				s.ssrc, s.sequence, s.timestamp = s.ssrc+1, uint16(rapid.Uint32Range(0, 1<<16-1).Draw(t, "new sequence")), rapid.Uint32().Draw(t, "new timestamp")
			case "leave":
				m.router.Apply(Command{Remove: &RemovePeer{Peer: who}})
				for i, id := range m.peers {
					if id == who {
						m.peers = append(m.peers[:i:i], m.peers[i+1:]...)
					}
				}
				delete(m.sent, ssrc)
				m.peers = append(m.peers, next)
				m.add(next)
				next++
			case "end":
				m.router.Apply(Command{End: &EndSource{Channel: 1, SSRC: ssrc}})
				delete(m.sent, ssrc)
				if m.router.channels[1].ended.has(ssrc) || m.router.channels[1].unheard.has(ssrc) {
					// Nobody comes back under an SSRC that ended: as long as this router lives.
					m.live()
				}
			}
		}
	})
}

// TestDamagedRecords has any byte of the records change: it is noticed, or does not
// matter, but never are numbers given again.
func TestDamagedRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &mortal{
			t: t, records: make([]Record, 8), now: clock.Time(time.Second), peers: []PeerID{1},
			muted: map[PeerID]bool{}, relay: true, sent: map[uint32]*wire{},
		}
		m.live()
		send := func(from int) {
			for i := range 5 {
				h := rtp.Header{Sequence: uint16(from + i), Timestamp: uint32(from+i) * 960, SSRC: 7}
				slot, _ := m.router.Find(1)
				m.forward(slot, false, h)
				relay, _ := m.router.Find(relayID)
				h.SSRC = 0x8000
				m.forward(relay, true, h)
			}
		}
		send(1)
		raw := unsafe.Slice((*byte)(unsafe.Pointer(&m.records[0])), 2*unsafe.Sizeof(Record{}))
		at := rapid.IntRange(0, len(raw)-1).Draw(t, "at")
		raw[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		m.live()
		slot, _ := m.router.Find(1)
		if m.router.Damaged() || m.router.Broken(slot) {
			return
		}
		send(6)
	})
}

func TestFullLedgerRefusesSpeakers(t *testing.T) {
	var used ledger.Word
	r := New(Config{Records: ledger.NewTable(make([]Record, 1), &used)})
	r.Settle()
	for i, want := range []Verdict{Unheard, Excess} {
		slot, _ := r.Apply(Command{Add: &AddPeer{Peer: PeerID(i + 1), Channel: 1, SSRC: uint32(i+1) << 4}})
		if got := r.Forward(1, slot, &Packet{Header: rtp.Header{SSRC: 1}, Payload: []byte("voice")}); got != want {
			t.Errorf("speaker %d: %v, want %v", i, got, want)
		}
	}
}
