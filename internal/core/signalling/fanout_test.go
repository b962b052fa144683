package signalling

import (
	"testing"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

// crowd returns a channel of n and the events of its first member.
func crowd(tb testing.TB, n int) (r *room, on, off sfu.Event) {
	r = newRoom(tb)
	versions := []int{Legacy, 4, 8, 9}
	for user := range n {
		r.join(versions[user%4], proto.Snowflake(user+1))
	}
	peer := r.session(1).peer
	on = sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: peer, On: true}}
	off = sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: peer}}
	return r, on, off
}

// A speaking event is encoded once per family of versions, however many hear of it.
func TestSpeakingFanOutAllocations(t *testing.T) {
	measure := func(n int) float64 {
		r, on, off := crowd(t, n)
		r.shard.Event(r.now, on)
		r.shard.Drain()
		r.shard.Event(r.now, off)
		return testing.AllocsPerRun(100, func() {
			r.shard.Event(r.now, on)
			r.shard.Drain()
			r.shard.Event(r.now, off)
			if out := r.shard.Drain(); len(out) != n-1 {
				t.Fatalf("%d were told", len(out))
			}
		})
	}
	few, many := measure(8), measure(400)
	// Twice three encodings, and what history grows by now and then.
	if many > few+1 || many > 10 {
		t.Errorf("%v allocations for 8 members, %v for 400", few, many)
	}
}

func BenchmarkSpeakingFanOut(b *testing.B) {
	r, on, off := crowd(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		r.shard.Event(r.now, on)
		r.shard.Drain()
		r.shard.Event(r.now, off)
		r.shard.Drain()
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	r := newRoom(b)
	a := r.join(9, 1)
	f := Frame{Op: proto.VoiceOpHeartbeat, D: []byte(`{"t":1501184119561,"seq_ack":10}`)}
	b.ReportAllocs()
	for b.Loop() {
		r.shard.Frame(r.now, a, f)
		r.shard.Drain()
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	for range 3 * historyFrames {
		h.last++
		h.add(entry{sequence: h.last, frame: make([]byte, 100)})
	}
	if h.n != historyFrames || h.dropped != h.last-historyFrames || h.bytes != 100*historyFrames {
		t.Errorf("%d frames, %d bytes, dropped to %d of %d", h.n, h.bytes, h.dropped, h.last)
	}
	h.last++
	h.add(entry{sequence: h.last, frame: make([]byte, historyBytes-100)})
	if h.n != 2 || h.bytes != historyBytes {
		t.Errorf("after a long frame %d frames, %d bytes", h.n, h.bytes)
	}
	var got []uint64
	h.since(h.last-1, func(e *entry) { got = append(got, e.sequence) })
	if len(got) != 1 || got[0] != h.last {
		t.Errorf("since: %v", got)
	}
}
