package sfu

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/rtp"
)

const (
	origin = clock.Time(time.Hour)
	tick   = 20 * time.Millisecond
)

var (
	voice   = []byte("voice of about the usual size")
	silence = []byte{0xF8, 0xFF, 0xFE}
	loud    = Level{Value: rtp.MakeAudioLevel(20, true), Known: true}
	noise   = Level{Value: rtp.MakeAudioLevel(75, false), Known: true}
	digital = Level{Value: rtp.Silent, Known: true}
)

// room is a router with connected peers 1 to n in one channel; peer i has slot i-1
// and SSRC 16*i.
type room struct {
	*Router
	t   testing.TB
	now clock.Time
	f   Fanout
	d   Delivery // the last that was forwarded
	to  []Slot   // its receivers
}

func newRoom(t testing.TB, n int) *room { return newRoomOf(t, n, Config{}) }

func newRoomOf(t testing.TB, n int, cfg Config) *room {
	r := &room{Router: New(cfg), t: t, now: origin}
	for i := 1; i <= n; i++ {
		r.join(PeerID(i), 1, 0)
	}
	return r
}

func (r *room) join(id PeerID, channel uint64, flags Flags) Slot {
	r.t.Helper()
	slot, ok := r.Apply(Command{Add: &AddPeer{Peer: id, Channel: channel, SSRC: uint32(id) * 16, Flags: flags}})
	if !ok {
		r.t.Fatalf("peer %d was not added", id)
	}
	r.Connect(slot)
	return slot
}

// send lets a packet of slot 0 through, numbered seq with a timestamp to match.
func (r *room) send(seq int, payload []byte, level Level) Verdict {
	return r.sendFrom(0, seq, payload, level)
}

func (r *room) sendFrom(slot Slot, seq int, payload []byte, level Level) Verdict {
	p := Packet{
		Header:  rtp.Header{Sequence: uint16(seq), Timestamp: uint32(seq) * frame, SSRC: 4711, PayloadType: 120},
		Level:   level,
		Payload: payload,
	}
	return r.forward(slot, &p)
}

// forward lets a packet through and keeps what its receivers get.
func (r *room) forward(slot Slot, p *Packet) Verdict {
	r.t.Helper()
	verdict := r.Forward(r.now, slot, p)
	fanouts := 0
	for r.NextFanout(&r.f) {
		fanouts++
		if len(r.f.Packets) != 1 {
			r.t.Fatalf("%d packets for one", len(r.f.Packets))
		}
		r.d, r.to = *r.f.Packets[0], r.f.To
	}
	if (verdict == Forwarded) != (fanouts == 1) {
		r.t.Fatalf("%v in %d channels", verdict, fanouts)
	}
	return verdict
}

// advance moves time on in ticks and returns the events on the way.
func (r *room) advance(d time.Duration) (events []Event) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(min(tick, end.Sub(r.now)))
		r.Tick(r.now)
		for rep := (Report{}); r.NextReport(r.now, time.Unix(0, int64(r.now)), &rep); {
		}
		events = r.Events(events)
	}
	return events
}

func (r *room) expect(v Verdict, want Verdict) {
	r.t.Helper()
	if v != want {
		r.t.Fatalf("got %v, want %v", v, want)
	}
}

// speaks drains the events and returns the last speaking state among them.
func (r *room) speaks(events []Event) (on, changed bool) {
	for _, ev := range r.Events(events) {
		if ev.Speaking != nil {
			on, changed = ev.Speaking.On, true
		}
	}
	return on, changed
}

func TestEveryoneElseHears(t *testing.T) {
	r := newRoom(t, 4)
	r.join(5, 2, 0)
	r.join(6, 1, Deafened)
	for from := range Slot(4) {
		r.expect(r.sendFrom(from, 1, voice, loud), Forwarded)
		to := slices.Sorted(slices.Values(r.to))
		if !slices.Equal(to, []Slot{0, 1, 2, 3}) || r.d.From != from {
			t.Errorf("from %d: from %d to %v", from, r.d.From, to)
		}
		if r.d.Header.SSRC != uint32(from+1)*16 {
			t.Errorf("SSRC %d", r.d.Header.SSRC)
		}
	}
}

func TestDeafenedSpeakerIsHeard(t *testing.T) {
	r := newRoom(t, 2)
	r.Apply(Command{Update: &UpdatePeer{Peer: 1, Flags: Deafened}})
	r.expect(r.send(1, voice, loud), Forwarded)
	r.expect(r.sendFrom(1, 1, voice, loud), Unheard)
	r.Apply(Command{Update: &UpdatePeer{Peer: 1}})
	r.expect(r.sendFrom(1, 2, voice, loud), Forwarded)
}

func TestLoneSpeakerIsUnheard(t *testing.T) {
	r := newRoom(t, 1)
	r.expect(r.send(1, voice, loud), Unheard)
	if on, _ := r.speaks(nil); !on {
		t.Error("a lone speaker speaks all the same")
	}
}

func TestApplyRefuses(t *testing.T) {
	r := newRoom(t, 1)
	for name, c := range map[string]Command{
		"known peer":   {Add: &AddPeer{Peer: 1, Channel: 1, SSRC: 99}},
		"taken SSRC":   {Add: &AddPeer{Peer: 9, Channel: 1, SSRC: 16}},
		"peer zero":    {Add: &AddPeer{Channel: 1, SSRC: 99}},
		"empty":        {},
		"unknown peer": {Update: &UpdatePeer{Peer: 9}},
		"not there":    {Remove: &RemovePeer{Peer: 9}},
		"no native":    {Native: &SetNative{Peer: 9}},
		"no keys":      {Keys: &SetSRTPKeys{Peer: 9}},
	} {
		if _, ok := r.Apply(c); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	if r.Len() != 1 || r.Channels() != 1 {
		t.Errorf("%d peers in %d channels", r.Len(), r.Channels())
	}
}

func TestRemovedPeersLeaveNothing(t *testing.T) {
	r := newRoom(t, 50)
	for slot := range Slot(50) {
		r.sendFrom(slot, 1, voice, loud)
	}
	for id := PeerID(1); id <= 50; id++ {
		r.Apply(Command{Remove: &RemovePeer{Peer: id}})
	}
	if r.Len() != 0 || r.Channels() != 0 || r.Speaking() != 0 || len(r.sources) != 0 || len(r.active) != 0 {
		t.Errorf("%d peers, %d channels, %d speaking, %d sources, %d active are left",
			r.Len(), r.Channels(), r.Speaking(), len(r.sources), len(r.active))
	}
	for id := PeerID(51); id <= 100; id++ {
		r.join(id, 3, 0)
	}
	if len(r.peers) != 50 {
		t.Errorf("%d slots for 50 peers", len(r.peers))
	}
}

func TestMuteClosesTheGap(t *testing.T) {
	r := newRoom(t, 2)
	r.send(1, voice, loud)
	last := r.d.Extended
	if on, _ := r.speaks(nil); !on {
		t.Fatal("not speaking")
	}
	r.Apply(Command{Update: &UpdatePeer{Peer: 1, Flags: Muted}})
	if on, changed := r.speaks(r.advance(scanInterval)); on || !changed {
		t.Error("a muted peer still speaks")
	}
	for seq := 2; seq < 100; seq++ {
		r.expect(r.send(seq, voice, loud), Mute)
	}
	if _, changed := r.speaks(nil); changed {
		t.Error("a muted peer began to speak")
	}
	r.Apply(Command{Update: &UpdatePeer{Peer: 1}})
	r.expect(r.send(100, voice, loud), Forwarded)
	if r.d.Extended != last+1 {
		t.Errorf("number %d after %d", r.d.Extended, last)
	}
	r.expect(r.send(50, voice, loud), Late)
	r.expect(r.send(103, voice, loud), Forwarded)
	if r.d.Extended != last+4 {
		t.Errorf("a lost packet left no gap: %d after %d", r.d.Extended, last+1)
	}
	r.expect(r.send(101, voice, loud), Forwarded)
	if r.d.Extended != last+2 {
		t.Errorf("a late packet got number %d, want %d", r.d.Extended, last+2)
	}
	r.expect(r.send(101, voice, loud), Late)
	r.expect(r.send(103, voice, loud), Late)
}

func TestLateFromBeforeTheMute(t *testing.T) {
	r := newRoom(t, 2)
	r.send(10, voice, loud)
	first := r.d.Extended
	r.send(12, voice, loud)
	r.Apply(Command{Update: &UpdatePeer{Peer: 1, Flags: Muted}})
	r.send(13, voice, loud)
	r.Apply(Command{Update: &UpdatePeer{Peer: 1}})
	r.send(14, voice, loud)
	if r.d.Extended != first+3 {
		t.Fatalf("number %d, want %d", r.d.Extended, first+3)
	}
	r.expect(r.send(11, voice, loud), Forwarded)
	if r.d.Extended != first+1 {
		t.Errorf("number %d, want %d", r.d.Extended, first+1)
	}
	r.expect(r.send(13, voice, loud), Late)
}

func TestSilenceIsNotForwarded(t *testing.T) {
	for name, quiet := range map[string]struct {
		payload []byte
		level   Level
	}{
		"silence frames": {silence, Level{}}, "DTX": {[]byte{0x78}, Level{}}, "digital silence": {voice, digital},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, 2)
			r.send(1, voice, loud)
			last := r.d.Extended
			for i := range silenceRun {
				r.expect(r.send(2+i, quiet.payload, quiet.level), Forwarded)
			}
			if on, changed := r.speaks(nil); on || !changed {
				t.Error("still speaking after the silence frames")
			}
			for i := range 50 {
				r.expect(r.send(7+i, quiet.payload, quiet.level), Quiet)
			}
			r.expect(r.send(57, voice, loud), Forwarded)
			if r.d.Extended != last+silenceRun+1 || !r.d.Header.Marker {
				t.Errorf("number %d after %d, marker %v", r.d.Extended, last, r.d.Header.Marker)
			}
			r.expect(r.send(58, voice, loud), Forwarded)
			if r.d.Header.Marker {
				t.Error("marker inside a talk spurt")
			}
		})
	}
}

func TestSpeakingFollowsVoice(t *testing.T) {
	r := newRoom(t, 2)
	r.send(1, voice, loud)
	if on, _ := r.speaks(nil); !on {
		t.Fatal("not speaking with the first voice packet")
	}
	if on, changed := r.speaks(r.advance(speakingHold - tick)); changed {
		t.Errorf("speaking %v too early", on)
	}
	if on, changed := r.speaks(r.advance(tick + scanInterval)); on || !changed {
		t.Error("still speaking after the hold")
	}
	if r.Speaking() != 0 {
		t.Errorf("%d speak", r.Speaking())
	}
}

func TestOnlyNewcomersHaveABeginToldAtOnce(t *testing.T) {
	r := newRoom(t, 3)
	seq := 0
	begin := func() {
		seq++
		r.send(seq, voice, loud)
		r.sendFrom(1, seq, voice, loud)
	}
	pause := func() { r.Events(r.advance(2 * speakingHold)) }
	at := func(at string, want ...Event) {
		t.Helper()
		events := r.Events(nil)
		if len(events) != len(want) {
			t.Errorf("%s: %d events, want %d", at, len(events), len(want))
			return
		}
		for i := range want {
			if *events[i].Speaking != *want[i].Speaking {
				t.Errorf("%s: %+v, want %+v", at, events[i].Speaking, want[i].Speaking)
			}
		}
	}
	says := func(id PeerID, on bool) Event { return Event{Speaking: &PeerSpeaking{Peer: id, On: on}} }

	begin()
	at("the first", says(1, true), says(2, true))
	pause()
	begin()
	r.Apply(Command{Update: &UpdatePeer{Peer: 1, Flags: Muted}})
	at("again")
	r.now = r.now.Add(scanInterval)
	r.Tick(r.now)
	at("with the next tick", says(1, true), says(2, true), says(1, false))
	r.Apply(Command{Update: &UpdatePeer{Peer: 1}})
	pause()
	r.join(5, 1, 0)
	begin()
	at("with a newcomer", says(1, true), says(2, true))
	pause()
	r.relay(1, 1)
	begin()
	at("with others on another worker", says(1, true), says(2, true))
}

func TestNoLevelNeedsTwoPackets(t *testing.T) {
	r := newRoom(t, 2)
	r.expect(r.send(1, voice, Level{}), Forwarded)
	if _, changed := r.speaks(nil); changed {
		t.Error("one packet without a level is no voice yet")
	}
	r.advance(tick)
	r.send(2, voice, Level{})
	if on, _ := r.speaks(nil); !on {
		t.Error("not speaking 20 ms after the first packet")
	}
}

func TestDTXDoesNotFlicker(t *testing.T) {
	for name, level := range map[string]Level{"with level": noise, "without": {}} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, 2)
			for i := range 50 {
				r.send(i, voice, level) // the frame that refreshes comfort noise
				if _, changed := r.speaks(r.advance(400 * time.Millisecond)); changed {
					t.Fatal("speaking changed")
				}
			}
		})
	}
}

func TestSilentPeersAreNotLookedAt(t *testing.T) {
	r := newRoom(t, 100)
	if r.NextTimeout() != 0 {
		t.Error("a timeout with nobody active")
	}
	r.send(1, voice, loud)
	if r.NextTimeout() == 0 {
		t.Error("no timeout for a speaker")
	}
	r.advance(idleAfter + time.Second)
	if r.NextTimeout() != 0 || len(r.active) != 0 {
		t.Error("still active after the idle time")
	}
	r.expect(r.send(2, voice, loud), Forwarded)
	if r.NextTimeout() == 0 {
		t.Error("not active again")
	}
}

func TestRestartedClientGoesOn(t *testing.T) {
	r := newRoom(t, 2)
	forward := func(ssrc uint32, seq uint16, timestamp uint32) {
		t.Helper()
		p := Packet{Header: rtp.Header{Sequence: seq, Timestamp: timestamp, SSRC: ssrc}, Level: loud, Payload: voice}
		before, at := r.d.Extended, r.d.Header.Timestamp
		r.now = r.now.Add(tick)
		r.expect(r.forward(0, &p), Forwarded)
		if before != 0 && (r.d.Extended != before+1 || r.d.Header.Timestamp-at != frame) {
			t.Fatalf("number %d after %d, timestamp %d after %d", r.d.Extended, before, r.d.Header.Timestamp, at)
		}
	}
	forward(1, 100, 960_000)
	forward(1, 101, 960_960)
	forward(2, 40_000, 12) // another SSRC
	forward(2, 40_001, 972)
	forward(2, 9, 3_000_000_000) // the same, with new numbers
	forward(2, 10, 3_000_000_960)
}

func TestTimestampsPassThrough(t *testing.T) {
	r := newRoom(t, 2)
	r.send(1, voice, loud)
	r.advance(5 * time.Second)
	p := Packet{Header: rtp.Header{Sequence: 2, Timestamp: 251 * frame, SSRC: 4711}, Level: loud, Payload: voice}
	r.expect(r.forward(0, &p), Forwarded)
	if r.d.Header.Timestamp != 251*frame || !r.d.Header.Marker {
		t.Errorf("timestamp %d, want %d; marker %v", r.d.Header.Timestamp, 251*frame, r.d.Header.Marker)
	}
}

func TestExcessIsDropped(t *testing.T) {
	r := newRoom(t, 2)
	r.expect(r.send(0, make([]byte, maxPayload+1), loud), Excess)
	forwarded := 0
	for seq := 1; seq <= 1000; seq++ {
		if r.send(seq, voice, loud) == Forwarded {
			forwarded++
		}
	}
	if most := int(maxBurst/leastFrame) + 1; forwarded != most {
		t.Errorf("%d forwarded of a burst of 1000, want %d", forwarded, most)
	}
	r.advance(time.Second)
	for seq := 1001; seq <= 1100; seq++ {
		r.expect(r.send(seq, voice, loud), Forwarded)
		r.now = r.now.Add(leastFrame)
	}
}

func TestSourcesAreNumberedPerChannel(t *testing.T) {
	r := newRoom(t, 3)
	r.send(1, voice, loud)
	r.sendFrom(2, 1, voice, loud)
	if source, members, ok := r.Audience(2); source != 1 || len(members) != 3 || !ok {
		t.Errorf("source %d among %v, %v", source, members, ok)
	}
	if _, _, ok := r.Audience(1); ok {
		t.Error("a source that sent nothing")
	}
	r.Apply(Command{Remove: &RemovePeer{Peer: 1}})
	r.sendFrom(1, 1, voice, loud)
	if r.d.Source != 0 {
		t.Errorf("source %d, want the free 0", r.d.Source)
	}
}

func TestForwardAllocatesNothing(t *testing.T) {
	r := newRoom(t, 100)
	seq := 0
	r.send(seq, voice, loud)
	if n := testing.AllocsPerRun(1000, func() {
		seq++
		r.now = r.now.Add(tick)
		r.send(seq, voice, loud)
		r.Tick(r.now)
	}); n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
}

func BenchmarkForward(b *testing.B) {
	for _, listeners := range []int{1, 10, 100, 1000} {
		b.Run(strconv.Itoa(listeners), func(b *testing.B) {
			r := newRoom(b, listeners+1)
			b.ReportAllocs()
			for seq := 0; b.Loop(); seq++ {
				r.now = r.now.Add(tick)
				r.send(seq, voice, loud)
			}
		})
	}
}
