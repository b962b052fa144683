package sfu

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/rtp"
)

const (
	relayPeer  PeerID = 1 << 20
	remoteSSRC        = 0x9000
)

// relay adds relay number i to a channel and returns its slot.
func (r *room) relay(i int, channel uint64) Slot {
	r.t.Helper()
	slot, ok := r.Apply(Command{Relay: &AddRelay{
		Peer: relayPeer + PeerID(i), Channel: channel, In: RelayKey{SSRC: 0xFF0000 + uint32(i)*16},
	}})
	if !ok {
		r.t.Fatalf("relay %d was not added", i)
	}
	return slot
}

// bring lets a packet of a relayed speaker through and keeps what listeners get.
func (r *room) bring(via Slot, ssrc uint32, seq int, level Level) Verdict {
	r.t.Helper()
	return r.bringPacket(via, &Packet{
		Header: rtp.Header{Sequence: uint16(seq), Timestamp: uint32(seq) * frame, SSRC: ssrc}, Level: level, Payload: voice,
	})
}

func (r *room) bringPacket(via Slot, p *Packet) Verdict {
	r.t.Helper()
	verdict := r.ForwardRelayed(r.now, via, p)
	for r.NextFanout(&r.f) {
		r.d, r.to = *r.f.Packets[0], r.f.To
	}
	return verdict
}

func (r *room) end(ssrc uint32) bool {
	_, ok := r.Apply(Command{End: &EndSource{Channel: 1, SSRC: ssrc}})
	return ok
}

func TestRelaysHearOwnPeersAlone(t *testing.T) {
	r := newRoom(t, 1)
	r.expect(r.send(1, voice, loud), Unheard)
	a, b := r.relay(1, 1), r.relay(2, 1)
	r.expect(r.send(2, voice, loud), Forwarded)
	if !slices.Equal(slices.Sorted(slices.Values(r.f.Relays)), []Slot{a, b}) || !slices.Equal(r.to, []Slot{0}) || r.d.Relayed {
		t.Errorf("to relays %v and peers %v, %+v", r.f.Relays, r.to, r.d)
	}
	r.expect(r.bring(a, remoteSSRC, 1, loud), Forwarded)
	if !r.d.Relayed || r.d.Header.SSRC != remoteSSRC || !r.d.Header.Marker || !slices.Equal(r.to, []Slot{0}) {
		t.Errorf("got %+v to %v", r.d, r.to)
	}
	r.Apply(Command{Update: &UpdatePeer{Peer: 1, Flags: Deafened}})
	r.expect(r.bring(a, remoteSSRC, 2, loud), Unheard)
	if r.Len() != 1 || r.Relays() != 2 || r.Channels() != 1 || r.Speaking() != 1 {
		t.Errorf("%d peers, %d relays, %d channels, %d speaking", r.Len(), r.Relays(), r.Channels(), r.Speaking())
	}
	for _, ev := range r.Events(nil) {
		if ev.Peer() != 1 {
			t.Errorf("an event of %d", ev.Peer())
		}
	}
}

func TestRelayedTalkSpurtsBeginWhereTheyDid(t *testing.T) {
	r := newRoom(t, 1)
	via := r.relay(1, 1)
	for seq, marker := range []bool{false, false, true, false} {
		r.expect(r.bringPacket(via, &Packet{
			Header: rtp.Header{Sequence: uint16(seq), Timestamp: uint32(seq) * frame, SSRC: remoteSSRC, Marker: marker},
			Level:  loud, Payload: voice,
		}), Forwarded)
		if want := marker || seq == 0; r.d.Header.Marker != want {
			t.Errorf("packet %d begins a spurt: %t, want %t", seq, r.d.Header.Marker, want)
		}
		r.advance(tick)
	}
}

func TestRelayedSpeakersCompete(t *testing.T) {
	r := newRoomOf(t, 3, Config{MaxSpeakers: 2})
	via := r.relay(1, 1)
	var quiet, louder, remote Verdict
	for seq := range 50 {
		quiet, louder = r.sendFrom(0, seq, voice, at(60)), r.sendFrom(1, seq, voice, at(40))
		remote = r.bring(via, remoteSSRC, seq, at(20))
		r.advance(tick)
	}
	if quiet != Crowded || louder != Forwarded || remote != Forwarded {
		t.Errorf("%v, %v, relayed %v", quiet, louder, remote)
	}
	p := Packet{Header: rtp.Header{Sequence: 1, SSRC: remoteSSRC + 16}, Level: at(90), Payload: voice, Priority: true}
	r.expect(r.bringPacket(via, &p), Forwarded)
	if !r.d.Priority {
		t.Error("a priority speaker is none for the transport")
	}
	r.expect(r.sendFrom(1, 60, voice, at(40)), Crowded)
	r.end(remoteSSRC + 16)
	r.expect(r.sendFrom(1, 61, voice, at(40)), Forwarded)
}

func TestRelaysCountAsOneToShed(t *testing.T) {
	r := newRoom(t, 2)
	via := r.relay(1, 1)
	r.send(1, voice, loud)
	r.bring(via, remoteSSRC, 1, loud)
	remote, _ := r.FindRemote(1, remoteSSRC)
	if _, weight := r.shedBin(r.now, 0); weight != 3 {
		t.Errorf("an own stream weighs %d", weight)
	}
	if _, weight := r.shedBin(r.now, remote); weight != 2 {
		t.Errorf("a relayed stream weighs %d", weight)
	}
}

func TestRelayedSpeakersAreReported(t *testing.T) {
	r := newRoom(t, 2)
	r.browser(1)
	via := r.relay(1, 1)
	r.bring(via, remoteSSRC, 1, loud)
	all := r.reports(3 * time.Second)
	if len(all) != 1 || !slices.Equal(all[0].To, []Slot{0}) {
		t.Fatalf("reports %+v", all)
	}
	c, _, _ := rtp.NextControl(all[0].Packet)
	if ssrc, _ := c.SSRC(); ssrc != remoteSSRC || c.Type != rtp.TypeSenderReport {
		t.Errorf("a report of %#x", ssrc)
	}
	r.Control(r.now, r.wall(), 0, rtp.AppendReceiverReport(nil, 1, []rtp.ReportBlock{
		{SSRC: remoteSSRC, FractionLost: 64}, {SSRC: 0xFF0010, FractionLost: 255}, // of a relay itself
	}))
	if q := r.Quality(0); q.FractionLost != 64 {
		t.Errorf("got %+v", q)
	}
}

func TestSilentRelayedSpeakersCostNothingAndComeBack(t *testing.T) {
	r := newRoom(t, 1)
	via := r.relay(1, 1)
	r.bring(via, remoteSSRC, 1, loud)
	last, source := r.d.Extended, r.d.Source
	r.advance(time.Hour)
	if len(r.active) != 0 || r.NextTimeout() != 0 || len(r.channels[1].floor) != 0 {
		t.Errorf("%d are looked at", len(r.active))
	}
	r.expect(r.bring(via, remoteSSRC, 2, loud), Forwarded)
	if r.d.Extended != last+1 || r.d.Source != source || !r.d.Header.Marker {
		t.Errorf("goes on with %+v after %d", r.d, last)
	}
}

func TestEndedSourcesFreeTheirPlace(t *testing.T) {
	r := newRoomOf(t, 2, Config{MaxSpeakers: 1})
	via := r.relay(1, 1)
	r.expect(r.bring(via, remoteSSRC, 1, loud), Forwarded)
	r.join(9, 2, 0)
	r.relay(2, 2)
	r.Apply(Command{End: &EndSource{Channel: 2, SSRC: remoteSSRC}})
	slot, _ := r.FindRemote(1, remoteSSRC)
	if source, members, ok := r.Audience(slot); source != 0 || len(members) != 3 || !ok {
		t.Errorf("source %d among %v, %t", source, members, ok)
	}
	if !r.end(remoteSSRC) || !r.end(0x8000) {
		t.Error("not told of it")
	}
	if _, ok := r.FindRemote(1, remoteSSRC); ok || len(r.Remotes(via)) != 0 || len(r.active) != 0 {
		t.Error("still there")
	}
	r.expect(r.bring(via, remoteSSRC, 2, loud), Unrelayed)
	r.expect(r.bring(via, 0x8000, 1, loud), Unrelayed) // its first packet was under way
	r.expect(r.send(1, voice, at(90)), Forwarded)
	if r.d.Source != 0 {
		t.Errorf("source %d, want the free 0", r.d.Source)
	}
	if r.end(1); len(r.peers) != 6 || len(r.free) != 1 {
		t.Errorf("%d slots, %d free", len(r.peers), len(r.free))
	}
}

func TestRemovedRelaysLeaveNothing(t *testing.T) {
	r := newRoom(t, 1)
	a, b := r.relay(1, 1), r.relay(2, 1)
	for i := range 40 {
		r.bring([]Slot{a, b}[i%2], remoteSSRC+uint32(i)*16, 1, loud)
	}
	r.Apply(Command{Remove: &RemovePeer{Peer: relayPeer + 1}})
	if len(r.remotes) != 20 || len(r.Remotes(b)) != 20 {
		t.Errorf("%d are left of the other relay's 20", len(r.remotes))
	}
	r.Apply(Command{Remove: &RemovePeer{Peer: 1}})
	r.end(remoteSSRC)
	r.Apply(Command{Remove: &RemovePeer{Peer: relayPeer + 2}})
	if r.Len() != 0 || r.Relays() != 0 || r.Channels() != 0 || len(r.sources) != 0 || len(r.remotes) != 0 || len(r.active) != 0 ||
		len(r.free) != len(r.peers) {
		t.Errorf("left over: %d peers, %d relays, %d channels, %d sources, %d remotes, %d active, %d slots",
			r.Len(), r.Relays(), r.Channels(), len(r.sources), len(r.remotes), len(r.active), len(r.peers)-len(r.free))
	}
	if r.end(remoteSSRC) {
		t.Error("a channel that is gone was told")
	}
}

func TestRelaysAreBounded(t *testing.T) {
	r := newRoom(t, 1)
	a, b := r.relay(1, 1), r.relay(2, 1)
	for i := range maxRemotes {
		r.expect(r.bring(a, remoteSSRC+uint32(i)*16, 1, loud), []Verdict{Forwarded, Crowded}[min(i/DefaultMaxSpeakers, 1)])
	}
	r.expect(r.bring(a, 16, 1, loud), Unrelayed)         // a peer's own
	r.expect(r.bring(b, remoteSSRC, 2, loud), Unrelayed) // another relay's
	r.expect(r.bring(a, remoteSSRC-16, 1, loud), Unrelayed)
	r.end(remoteSSRC)
	for i := range uint32(maxEndings + 1000) {
		r.end(0x800000 + i*16)
	}
	r.expect(r.bring(a, remoteSSRC, 2, loud), Unrelayed)
	e := &r.channels[1].unheard
	if len(e.ring) != maxEndings || len(e.known) != maxEndings || e.has(0x800000) || !e.has(0x800000+(maxEndings+999)*16) {
		t.Errorf("%d endings are remembered, of %d", len(e.known), len(e.ring))
	}
}

// TestMembersStayInOrder has relays and peers come, go and change: fan-outs go to the
// relays, and to those who listen.
func TestMembersStayInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRoom(t, 0)
		relays, peers := map[Slot]bool{}, map[Slot]bool{} // peers: whether they listen
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			i := rapid.IntRange(0, 4).Draw(rt, "who")
			relay, isRelay := r.Find(relayPeer + PeerID(i))
			peer, isPeer := r.Find(PeerID(i + 1))
			switch what := rapid.IntRange(0, 3).Draw(rt, "what"); {
			case what == 0 && isRelay:
				r.Apply(Command{Remove: &RemovePeer{Peer: relayPeer + PeerID(i)}})
				delete(relays, relay)
			case what == 0:
				relays[r.relay(i, 1)] = true
			case what == 1 && isPeer:
				r.Apply(Command{Remove: &RemovePeer{Peer: PeerID(i + 1)}})
				delete(peers, peer)
			case what == 1:
				peers[r.join(PeerID(i+1), 1, 0)] = true
			case isPeer:
				flags := rapid.SampledFrom([]Flags{0, Deafened}).Draw(rt, "flags")
				r.Apply(Command{Update: &UpdatePeer{Peer: PeerID(i + 1), Flags: flags}})
				peers[peer] = flags == 0
			}
			ch := r.channels[1]
			if ch == nil {
				if len(relays)+len(peers) > 0 {
					rt.Fatal("the channel is gone")
				}
				continue
			}
			if len(ch.members) != len(relays)+len(peers) || ch.relays != len(relays) {
				rt.Fatalf("%d members and %d relays of %d and %d", len(ch.members), ch.relays, len(peers), len(relays))
			}
			for i, slot := range ch.members {
				if r.peers[slot].index != i || relays[slot] != (i < ch.relays) || (relays[slot] || peers[slot]) != (i < ch.listening) {
					rt.Fatalf("slot %d is at %d of %v (%d relays, %d listening)", slot, i, ch.members, ch.relays, ch.listening)
				}
			}
		}
	})
}

func TestForwardRelayedAllocatesNothing(t *testing.T) {
	r := newRoom(t, 100)
	via, seq := r.relay(1, 1), 0
	if n := testing.AllocsPerRun(1000, func() {
		seq++
		r.now = r.now.Add(tick)
		r.bring(via, remoteSSRC, seq, loud)
		r.send(seq, voice, loud)
		r.Tick(r.now)
	}); n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
}
