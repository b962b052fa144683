package signalling

import (
	"bytes"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

func TestBeatAnswersWhatLibrariesSend(t *testing.T) {
	for _, c := range []struct {
		version      int
		frame, wants string // "" is for the shard
	}{
		{8, `{"op":3,"d":{"t":1501184119561,"seq_ack":10}}`, `{"op":6,"d":{"t":1501184119561}}`},
		{8, `{"op":3,"d":{"t":1501184119561,"seq_ack":-1}}`, `{"op":6,"d":{"t":1501184119561}}`},
		{8, `{"op":3,"d":{"t":0,"seq_ack":null}}`, `{"op":6,"d":{"t":0}}`},
		{9, `{"op":3,"d":{"t":18446744073709551615}}`, `{"op":6,"d":{"t":18446744073709551615}}`},
		{4, `{"op":3,"d":1501184119561}`, `{"op":6,"d":1501184119561}`},
		{1, `{"op":3,"d":7}`, `{"op":3,"d":7}`},
		{8, `{"op":3,"d":{"seq_ack":10,"t":1}}`, ""},
		{8, `{"op":3,"d":{"t":"x"}}`, ""},
		{8, `{"op":3,"d":null}`, ""},
		{8, `{"op":3,"d":07}`, ""},
		{8, `{"op":3,"d":{"t":1}}}`, ""},
		{8, `{"op":5,"d":{"speaking":1}}`, ""},
	} {
		answer, ok := Beat([]byte("<"), c.version, []byte(c.frame))
		if ok != (c.wants != "") || string(answer) != "<"+c.wants {
			t.Errorf("version %d, %s: %s, %v", c.version, c.frame, answer, ok)
		}
	}
}

func TestBeatAllocatesNothing(t *testing.T) {
	frame := []byte(`{"op":3,"d":{"t":1501184119561,"seq_ack":10}}`)
	if n := testing.AllocsPerRun(1000, func() {
		var space [MaxAnswer]byte
		if _, ok := Beat(space[:0], 8, frame); !ok {
			t.Fatal("no heartbeat")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzBeat holds every answer of a reader against the shard's to the same frame.
func FuzzBeat(f *testing.F) {
	for _, s := range []string{
		`{"op":3,"d":{"t":1,"seq_ack":10}}`, `{"op":3,"d":1}`, `{"op":3,"d":{"t":1,"seq_ack":-1}}`, `{"op":3,"d":{"t":1,"seq_ack":null}}`,
		`{"op":3,"d":{"t":01}}`, `{"op":3,"d":{"t":1,"seq_ack":99999999999999999999}}`, `{"op":3,"d":`,
	} {
		f.Add([]byte(s), 8)
	}
	f.Fuzz(func(t *testing.T, frame []byte, version int) {
		answer, ok := Beat(nil, version, frame)
		if !ok {
			return
		}
		in, code := Decode(frame, false)
		if code != 0 || in.Op != proto.VoiceOpHeartbeat {
			t.Fatalf("%q is no heartbeat: %d, %d", frame, in.Op, code)
		}
		if full, ok := answerHeartbeat(version, in.D); !ok || !bytes.Equal(answer, full) || len(answer) > MaxAnswer {
			t.Fatalf("%q: %s, and the shard %s, %v", frame, answer, full, ok)
		}
	})
}

func BenchmarkBeat(b *testing.B) {
	frame := []byte(`{"op":3,"d":{"t":1501184119561,"seq_ack":10}}`)
	b.ReportAllocs()
	for b.Loop() {
		var space [MaxAnswer]byte
		if _, ok := Beat(space[:0], 8, frame); !ok {
			b.Fatal("no heartbeat")
		}
	}
}

func TestHeartbeatsThatTheReaderAnsweredKeepTheConnection(t *testing.T) {
	r := newRoom(t)
	a := r.join(9, 1)
	for range 5 {
		r.pass(19 * time.Second)
		r.heard = map[ConnID]clock.Time{a: r.now}
	}
	r.pass(19 * time.Second)
	if r.closed[a] != 0 {
		t.Fatalf("closed with %d in time", r.closed[a])
	}
	r.pass(2 * time.Second)
	if r.closed[a] != proto.VoiceCloseSessionTimeout {
		t.Errorf("closed with %d", r.closed[a])
	}
}

// Of a native client whose media falls silent the connection is asked for a sign of life,
// whatever it is; one that gives none is cut and can be resumed.
func TestQuietMediaAsksTheConnection(t *testing.T) {
	r := newRoom(t)
	a := r.join(9, 1)
	quiet := func() {
		r.shard.Event(r.now, sfu.Event{Quiet: &sfu.PeerQuiet{Peer: r.session(1).peer}})
		r.drain()
	}
	for name, answer := range map[string]func(){
		"a pong":                          func() { r.shard.Answered(a) },
		"a payload":                       func() { r.frame(a, proto.VoiceOpSpeaking, `{"speaking":0}`) },
		"a heartbeat of the shard's":      func() { r.frame(a, proto.VoiceOpHeartbeat, `1`) },
		"a heartbeat that the reader saw": func() { r.heard = map[ConnID]clock.Time{a: r.now} },
	} {
		r.asked = nil
		r.frame(a, proto.VoiceOpHeartbeat, `1`)
		quiet()
		quiet()
		if len(r.asked) != 1 || r.asked[0] != a {
			t.Fatalf("%s: asked %v", name, r.asked)
		}
		r.pass(answerWithin - time.Second)
		answer()
		r.pass(2 * time.Second)
		if code := r.closed[a]; code != 0 {
			t.Fatalf("after %s: closed with %d", name, code)
		}
	}
	r.frame(a, proto.VoiceOpHeartbeat, `1`)
	quiet()
	r.pass(answerWithin)
	if code := r.closed[a]; code != proto.VoiceCloseSessionTimeout {
		t.Fatalf("without an answer: closed with %d", code)
	}
	r.asked = nil
	if quiet(); len(r.asked) != 0 {
		t.Error("asks a connection that is cut")
	}
	again := r.resume(9, claims(1, 1), 2)
	if r.pass(2 * answerWithin); r.closed[again] != 0 {
		t.Errorf("resumed: closed with %d", r.closed[again])
	}
	r.shard.Answered(a) // late, and of nobody
}
