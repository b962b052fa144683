package sfu

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// TestNumbersKeepLossAndHideDrops sends a stream with loss, reordering, duplicates,
// silence and mutes. Among packets between which the router dropped nothing, numbers
// keep their distances; across its drops the numbers go on by one; no number comes
// twice; and timestamps never run backwards along the numbers.
func TestNumbersKeepLossAndHideDrops(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRoom(t, 2)
		type forwarded struct {
			in, out   uint64
			timestamp uint32
			span      int
		}
		var (
			seq   = rapid.Uint64Range(0, 1<<16).Draw(rt, "first")
			start = seq
			got   []forwarded
			byOut = map[uint64]forwarded{}
			last  forwarded // the newest forwarded
			span  int
			held  bool
			muted bool

			offered bool
			highest uint64
		)
		offer := func(number uint64, payload []byte) {
			newest := !offered || number > highest
			if newest {
				offered, highest = true, number
			}
			verdict := r.send(int(number), payload, loudUnlessSilent(payload))
			if verdict != Forwarded {
				held = held || newest
				return
			}
			f := forwarded{in: number, out: r.d.Extended, timestamp: r.d.Header.Timestamp}
			if other, twice := byOut[f.out]; twice {
				rt.Fatalf("number %d for packets %d and %d", f.out, other.in, f.in)
			}
			byOut[f.out] = f
			if newest {
				switch {
				case len(got) == 0:
				case held && f.out != last.out+1:
					rt.Fatalf("after drops: number %d after %d", f.out, last.out)
				case !held && f.out-last.out != f.in-last.in:
					rt.Fatalf("packets %d, %d got numbers %d, %d", last.in, f.in, last.out, f.out)
				}
				if len(got) > 0 && int32(f.timestamp-last.timestamp) <= 0 {
					rt.Fatalf("timestamp %d after %d", f.timestamp, last.timestamp)
				}
				if held {
					span++
				}
				f.span, held, last = span, false, f
			} else {
				f.span = -1
				for _, g := range got {
					if g.span >= 0 && g.out-f.out == g.in-f.in {
						f.span = g.span
					}
				}
				if f.span < 0 {
					rt.Fatalf("late packet %d got number %d, of no span", f.in, f.out)
				}
			}
			got = append(got, f)
		}
		for range rapid.IntRange(1, 300).Draw(rt, "packets") {
			r.now = r.now.Add(tick)
			switch rapid.IntRange(0, 12).Draw(rt, "what") {
			case 0:
				seq += rapid.Uint64Range(1, 30).Draw(rt, "lost")
			case 1:
				muted = !muted
				flags := Flags(0)
				if muted {
					flags = Muted
				}
				r.Apply(Command{Update: &UpdatePeer{Peer: 1, Flags: flags}})
			case 2:
				late := rapid.Uint64Range(0, 40).Draw(rt, "late")
				if seq > start+late {
					offer(seq-1-late, voice)
				}
			case 3:
				for range rapid.IntRange(1, 12).Draw(rt, "silent") {
					offer(seq, silence)
					seq++
					r.now = r.now.Add(tick)
				}
			default:
				offer(seq, voice)
				seq++
			}
		}
	})
}

func loudUnlessSilent(payload []byte) Level {
	if rtp.IsSilence(payload) {
		return Level{}
	}
	return loud
}

// FuzzForward takes any stream of headers: no number may be given to two packets.
func FuzzForward(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 3, 0, 0, 1, 0, 2, 0, 0, 6, 0, 0, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := newRoom(t, 2)
		seen := map[uint64]bool{}
		for ; len(stream) >= 8; stream = stream[8:] {
			p := Packet{
				Header: rtp.Header{
					Sequence:  binary.BigEndian.Uint16(stream),
					Timestamp: binary.BigEndian.Uint32(stream[2:]),
					SSRC:      uint32(stream[6] & 3),
				},
				Level:   Level{Value: rtp.AudioLevel(stream[7]), Known: stream[6]&4 != 0},
				Payload: voice[:stream[6]>>3&7],
			}
			r.now = r.now.Add(tick)
			if r.forward(0, &p) == Forwarded {
				if seen[r.d.Extended] {
					t.Fatalf("number %d twice", r.d.Extended)
				}
				seen[r.d.Extended] = true
			}
			r.Tick(r.now)
		}
	})
}
