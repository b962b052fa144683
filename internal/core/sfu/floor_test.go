package sfu

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/rtp"
)

func at(level int) Level {
	return Level{Value: rtp.MakeAudioLevel(uint8(level), true), Known: true}
}

// talk has peers speak for a while, each at its level, and returns who was heard in the
// last round.
func (r *room) talk(seq *int, rounds int, levels ...int) (heard []Slot) {
	r.t.Helper()
	for range rounds {
		*seq++
		heard = heard[:0]
		for slot, level := range levels {
			if level >= 0 && r.sendFrom(Slot(slot), *seq, voice, at(level)) == Forwarded {
				heard = append(heard, Slot(slot))
			}
		}
		r.advance(tick)
	}
	return heard
}

func TestTheLoudestAreHeard(t *testing.T) {
	r, seq := newRoomOf(t, 6, Config{MaxSpeakers: 3}), 0
	if heard := r.talk(&seq, 50, 60, 50, 40, 30, 20, 10); !slices.Equal(heard, []Slot{3, 4, 5}) {
		t.Errorf("%v are heard", heard)
	}
	// One who becomes loud is heard within 200 ms.
	if heard := r.talk(&seq, 10, 0, 50, 40, 30, 20, 10); !slices.Equal(heard, []Slot{0, 4, 5}) {
		t.Errorf("%v are heard", heard)
	}
}

func TestDefaultMaxSpeakers(t *testing.T) {
	r, seq := newRoom(t, 40), 0
	if heard := r.talk(&seq, 50, slices.Repeat([]int{30}, 40)...); len(heard) != DefaultMaxSpeakers {
		t.Errorf("%d are heard", len(heard))
	}
}

func TestFloorDoesNotFlicker(t *testing.T) {
	r, seq := newRoomOf(t, 3, Config{MaxSpeakers: 2}), 0
	for i := range 100 {
		if heard := r.talk(&seq, 1, 30, 30, 27+i%2*4); !slices.Equal(heard, []Slot{0, 1}) {
			t.Fatalf("%v are heard in round %d", heard, i)
		}
	}
}

func TestPrioritySpeakersComeFirst(t *testing.T) {
	r, seq := newRoomOf(t, 4, Config{MaxSpeakers: 2}), 0
	r.talk(&seq, 10, 5, 5, 70, -1)
	r.Apply(Command{Update: &UpdatePeer{Peer: 3, Flags: Priority}})
	if heard := r.talk(&seq, 1, 5, 5, 70, -1); !slices.Contains(heard, 2) {
		t.Errorf("only %v are heard at once", heard)
	}
	if heard := r.talk(&seq, 50, 0, 0, 100, 0); !slices.Contains(heard, 2) || len(heard) != 2 {
		t.Errorf("%v are heard", heard)
	}
}

func TestPlacesAreFreedBySilence(t *testing.T) {
	for name, leave := range map[string]func(*room){
		"mute":    func(r *room) { r.Apply(Command{Update: &UpdatePeer{Peer: 1, Flags: Muted}}) },
		"removal": func(r *room) { r.Apply(Command{Remove: &RemovePeer{Peer: 1}}) },
		"silence": func(r *room) {
			for i := range silenceRun + 1 {
				r.send(100+i, silence, Level{})
			}
		},
		"a pause": func(r *room) { r.advance(speakingHold) },
		"leaving": func(r *room) { r.advance(idleAfter + time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoomOf(t, 3, Config{MaxSpeakers: 1})
			r.expect(r.sendFrom(0, 1, voice, at(10)), Forwarded)
			r.expect(r.sendFrom(1, 1, voice, at(10)), Crowded)
			leave(r)
			r.expect(r.sendFrom(1, 2, voice, at(10)), Forwarded)
			if !r.d.Header.Marker {
				t.Error("no marker on the first packet that is heard")
			}
			r.expect(r.sendFrom(2, 1, voice, at(10)), Crowded)
		})
	}
}

func TestWithoutLevelsTheFullerAreHeard(t *testing.T) {
	r := newRoomOf(t, 2, Config{MaxSpeakers: 1})
	for seq := range 100 {
		a := r.sendFrom(0, seq, make([]byte, 20), Level{})
		b := r.sendFrom(1, seq, make([]byte, 150), Level{})
		if seq > 10 && (a != Crowded || b != Forwarded) {
			t.Fatalf("packet %d: %v and %v", seq, a, b)
		}
		r.advance(tick)
	}
}

// TestFloorProperties has peers speak at any level, be muted, made priority speakers
// and fall silent. Never are more heard than may be; nobody is crowded out by one who
// is quieter or less important; and what one says has no gaps where it was not heard.
func TestFloorProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const n = 6
		limit := rapid.IntRange(1, 4).Draw(rt, "limit")
		r := newRoomOf(t, n, Config{MaxSpeakers: limit})
		r.join(99, 1, 0)
		var seq [n]int
		var last [n]uint64
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			slot := Slot(rapid.IntRange(0, n-1).Draw(rt, "peer"))
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				flags := rapid.SampledFrom([]Flags{0, Muted, Priority, Deafened}).Draw(rt, "flags")
				r.Apply(Command{Update: &UpdatePeer{Peer: PeerID(slot + 1), Flags: flags}})
			case 1:
				r.advance(time.Duration(rapid.IntRange(0, 500).Draw(rt, "pause")) * time.Millisecond)
			default:
				seq[slot]++
				payload, level := voice, at(rapid.IntRange(0, 127).Draw(rt, "level"))
				if rapid.IntRange(0, 5).Draw(rt, "silent") == 0 {
					payload, level = silence, Level{}
				}
				switch r.sendFrom(slot, seq[slot], payload, level) {
				case Forwarded:
					if !r.peers[slot].producer.onFloor {
						rt.Fatal("forwarded without the floor")
					}
					if last[slot] != 0 && r.d.Extended != last[slot]+1 {
						rt.Fatalf("number %d after %d", r.d.Extended, last[slot])
					}
					last[slot] = r.d.Extended
				case Crowded:
					own := r.peers[slot].rank(r.now)
					for _, other := range r.channels[1].floor {
						if rank := r.peers[other].rank(r.now); rank+floorMargin <= own {
							rt.Fatalf("rank %d crowded out by %d", own, rank)
						}
					}
				}
			}
			floor := r.channels[1].floor
			for slot := range Slot(n) {
				p := r.peers[slot].producer
				if held := p != nil && p.onFloor; held != slices.Contains(floor, slot) || held && r.peers[slot].flags&Muted != 0 {
					rt.Fatalf("floor %v, and peer at %d: %v", floor, slot, held)
				}
			}
			if len(floor) > limit {
				rt.Fatalf("%d on the floor, at most %d", len(floor), limit)
			}
		}
	})
}

func TestCrowdAllocatesNothing(t *testing.T) {
	r, seq := newRoom(t, 100), 0
	p := Packet{Level: at(30), Payload: voice}
	round := func() {
		seq++
		r.now = r.now.Add(tick)
		for slot := range Slot(100) {
			p.Header = rtp.Header{Sequence: uint16(seq), Timestamp: uint32(seq) * frame, SSRC: 1}
			p.Level = at((int(slot)*7 + seq*13) % 100)
			r.Forward(r.now, slot, &p)
		}
		for r.NextFanout(&r.f) {
		}
		r.Tick(r.now)
		r.events = r.events[:0]
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
