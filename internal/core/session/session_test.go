package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/proto"
)

var testConfig = &Config{Heartbeat: 40 * time.Second, ResumeWindow: time.Minute, ReplayFrames: 8, ReplayBytes: 1 << 10, ReplayFrame: 1 << 9}

const begin = clock.Time(1)

func connected() *Session {
	s := New(begin, testConfig)
	s.Connect(begin)
	return &s
}

func body(n int) *Payload { return Body("E", fmt.Append(nil, n)) }

func TestDispatchIsOneObject(t *testing.T) {
	whole := append(AppendHead(nil, 1<<64-1), Body("GUILD_CREATE", []byte(`{"id":"1"}`)).Bytes()...)
	var f proto.GatewayFrame
	if err := json.Unmarshal(whole, &f); err != nil {
		t.Fatal(err)
	}
	if f.Op != proto.OpDispatch || *f.S != 1<<64-1 || *f.T != "GUILD_CREATE" || string(f.D) != `{"id":"1"}` {
		t.Errorf("%s", whole)
	}
	if n := len(AppendHead(nil, 1<<64-1)); n > 33 {
		t.Errorf("a head of %d bytes", n)
	}
}

func TestHeartbeatKeepsTheSessionAndSilenceEndsTheConnection(t *testing.T) {
	s := connected()
	now := begin
	for range 10 {
		now = now.Add(testConfig.Heartbeat)
		if step, over := s.Timeout(now); step.Send != nil || step.Close != 0 || over {
			t.Fatalf("on time: %+v, %v", step, over)
		}
		if step := s.Handle(now, []byte(`{"op":1,"d":null}`)); !bytes.Equal(step.Send, heartbeatACK) {
			t.Fatalf("heartbeat: %+v", step)
		}
	}
	late := now.Add(testConfig.Heartbeat + testConfig.Heartbeat/4)
	if step, _ := s.Timeout(late); !bytes.Equal(step.Send, heartbeatRequest) {
		t.Fatalf("late: %+v", step)
	}
	if step, _ := s.Timeout(late.Add(time.Second)); step.Send != nil || step.Close != 0 {
		t.Fatalf("asked twice: %+v", step)
	}
	step, over := s.Timeout(now.Add(testConfig.Heartbeat + testConfig.Heartbeat/2))
	if step.Close != proto.CloseSessionTimedOut || over {
		t.Fatalf("silent: %+v, %v", step, over)
	}
}

func TestWindowBeginsWithTheCut(t *testing.T) {
	s := connected()
	cutAt := begin.Add(10 * time.Second)
	s.Disconnect(cutAt)
	s.Disconnect(cutAt.Add(30 * time.Second)) // told again: the window does not grow
	if _, over := s.Timeout(cutAt.Add(testConfig.ResumeWindow - 1)); over {
		t.Error("over before the window is")
	}
	if _, over := s.Timeout(cutAt.Add(testConfig.ResumeWindow)); !over {
		t.Error("not over after the window")
	}
}

func TestResumeReplaysAndNumbersGoOn(t *testing.T) {
	s := connected()
	for i := 1; i <= 3; i++ {
		if seq, send := s.Dispatch(body(i)); seq != uint64(i) || !send {
			t.Fatalf("dispatch %d: %d, %v", i, seq, send)
		}
	}
	s.Disconnect(begin)
	if seq, send := s.Dispatch(body(4)); seq != 4 || send {
		t.Fatalf("while cut: %d, %v", seq, send)
	}
	missed, code, ok := s.Resume(begin, 2)
	if !ok || code != 0 || len(missed) != 2 || !bytes.Equal(missed[0], body(3).Bytes()) || !bytes.Equal(missed[1], body(4).Bytes()) {
		t.Fatalf("%q, %d, %v", missed, code, ok)
	}
	if seq, send := s.Dispatch(body(5)); seq != 5 || !send {
		t.Fatalf("after resume: %d, %v", seq, send)
	}
}

func TestResumeRefusedLeavesTheSession(t *testing.T) {
	s := connected()
	for i := 1; i <= 20; i++ {
		s.Dispatch(body(i))
	}
	s.Disconnect(begin)
	if _, code, ok := s.Resume(begin, 21); ok || code != proto.CloseInvalidSeq {
		t.Errorf("from the future: %d, %v", code, ok)
	}
	if _, code, ok := s.Resume(begin, 11); ok || code != 0 {
		t.Errorf("too old: %d, %v", code, ok)
	}
	if s.Connected() {
		t.Error("a refused resume connects")
	}
	if _, _, ok := s.Resume(begin, 12); !ok {
		t.Error("what the buffer has cannot be resumed")
	}
}

func TestHeartbeatAcknowledges(t *testing.T) {
	s := connected()
	for i := 1; i <= 5; i++ {
		s.Dispatch(body(i))
	}
	s.Handle(begin, []byte(`{"op":1,"d":4}`))
	if n, _ := s.buffer.Len(); n != 1 {
		t.Errorf("%d frames are held after 4 of 5 were acknowledged", n)
	}
	s.Handle(begin, []byte(`{"op":1,"d":400}`)) // a lie frees nothing
	if n, _ := s.buffer.Len(); n != 1 {
		t.Errorf("%d frames are held", n)
	}
}

func TestHeartbeatThatTheReaderAnswered(t *testing.T) {
	s := connected()
	now := begin
	for range 10 {
		now = now.Add(testConfig.Heartbeat)
		s.Beaten(now)
		if step, over := s.Timeout(now.Add(testConfig.Heartbeat)); step.Send != nil || step.Close != 0 || over {
			t.Fatalf("%+v, %v", step, over)
		}
	}
	s.Beaten(begin) // told late, it takes nothing back
	if step, _ := s.Timeout(now.Add(testConfig.goneAfter() - 1)); step.Close != 0 {
		t.Errorf("%+v", step)
	}
	s.Dispatch(body(1))
	s.Ack(1)
	if n, _ := s.buffer.Len(); n != 0 {
		t.Errorf("%d frames are held", n)
	}
	s.Disconnect(now)
	s.Beaten(now.Add(time.Hour)) // of a connection that is no more
	if _, over := s.Timeout(now.Add(testConfig.ResumeWindow)); !over {
		t.Error("keeps a session without a connection")
	}
}

// FuzzBeat holds every answer of a reader against the session's to the same frame.
func FuzzBeat(f *testing.F) {
	for _, s := range []string{`{"op":1,"d":null}`, `{"op":1,"d":251}`, `{"op":1,"d":01}`, `{"op":1,"d":-1}`, `{"op":1,"d":99999999999999999999}`, `{"op":1}`, `{"op":11,"d":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		answer, seq, ok := Beat(frame)
		if !ok {
			return
		}
		s := connected()
		if step := s.Handle(begin, frame); !bytes.Equal(step.Send, answer) || step.Close != 0 {
			t.Fatalf("%q: %s, and the session %+v", frame, answer, step)
		}
		var f struct{ D *uint64 }
		if err := json.Unmarshal(frame, &f); err != nil || f.D == nil && seq != 0 || f.D != nil && *f.D != seq {
			t.Fatalf("%q: %d", frame, seq)
		}
	})
}

func TestBeatTakesWhatLibrariesSend(t *testing.T) {
	for frame, want := range map[string]uint64{`{"op":1,"d":null}`: 0, `{"op":1,"d":0}`: 0, `{"op":1,"d":251}`: 251} {
		if answer, seq, ok := Beat([]byte(frame)); !ok || seq != want || !bytes.Equal(answer, heartbeatACK) {
			t.Errorf("%s: %s, %d, %v", frame, answer, seq, ok)
		}
	}
	frame := []byte(`{"op":1,"d":12345}`)
	if n := testing.AllocsPerRun(1000, func() { Beat(frame) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGateCountsEveryFrame(t *testing.T) {
	g, hello := NewGate(begin, 41250*time.Millisecond)
	var f proto.GatewayFrame
	var d proto.HelloData
	if json.Unmarshal(hello.Send, &f) != nil || f.Op != proto.OpHello || json.Unmarshal(f.D, &d) != nil || d.HeartbeatInterval != 41250 {
		t.Fatalf("hello %s", hello.Send)
	}
	if g.Deadline() != begin.Add(30*time.Second) {
		t.Errorf("deadline %v", g.Deadline())
	}
	for i := range Rate {
		if !g.Admit(begin.Add(time.Duration(i) * time.Millisecond)) {
			t.Fatalf("frame %d refused", i)
		}
	}
	if g.Admit(begin.Add(time.Second)) || !g.Admit(begin.Add(RateWindow)) {
		t.Error("120 in 60 s is not what is admitted")
	}
}

func TestGatePassesIdentifyAndResumeOn(t *testing.T) {
	var g Gate
	step := g.Handle([]byte(`{"op":2,"d":{"token":"Bot abc","intents":1,"shard":[0,1],"presence":{"status":""}}}`))
	if d := step.Identify; d == nil || d.Token != "abc" || *d.Intents != 1 || *d.Shard != [2]int{0, 1} || d.Presence.Status != "online" {
		t.Errorf("%+v", step)
	}
	step = g.Handle([]byte(`{"op":6,"d":{"token":"abc","session_id":"s","seq":7}}`))
	if d := step.Resume; d == nil || *d != (proto.ResumeData{Token: "abc", SessionID: "s", Seq: 7}) {
		t.Errorf("%+v", step)
	}
	if step = g.Handle([]byte(`{"op":1,"d":null}`)); !bytes.Equal(step.Send, heartbeatACK) {
		t.Errorf("%+v", step)
	}
}

func TestIntents(t *testing.T) {
	some, none, odd := proto.IntentGuilds, proto.Intents(0), proto.Intents(1<<60)
	for _, c := range []struct {
		asked *proto.Intents
		bot   bool
		want  proto.Intents
		code  proto.CloseCode
	}{
		{&some, true, some, 0}, {&none, true, 0, 0}, {nil, true, 0, proto.CloseInvalidIntents}, {&odd, true, 0, proto.CloseInvalidIntents},
		{nil, false, ^proto.Intents(0), 0}, {&odd, false, ^proto.Intents(0), 0},
	} {
		if got, code := AcceptIntents(c.asked, c.bot); got != c.want || code != c.code {
			t.Errorf("%v, bot %v: %d, %d", c.asked, c.bot, got, code)
		}
	}
}

func TestEveryCloseCodeHasAReason(t *testing.T) {
	for code := range reasons {
		if r := Reason(code); r == "" || len(r) > 123 {
			t.Errorf("%d: %q", code, r)
		}
	}
}

func TestNoIDIsLongerThanTheyAre(t *testing.T) {
	for length, kept := range map[int]int{0: 0, 32: 32, maxSessionID: maxSessionID, maxSessionID + 1: 0} {
		step := connected().Handle(begin, []byte(`{"op":4,"d":{"guild_id":"1","channel_id":"2","connected_as":"`+strings.Repeat("x", length)+`"}}`))
		if step.Voice == nil || len(step.Voice.ConnectedAs) != kept {
			t.Errorf("of %d bytes: %+v", length, step.Voice)
		}
	}
}

// FuzzFrames gives any bytes to a connection before and after it has a session.
// Whatever they are, a frame asks for at most one thing, and each thing is whole.
func FuzzFrames(f *testing.F) {
	for _, s := range []string{
		`{"op":1,"d":null}`, `{"op":1,"d":5}`, `{"op":2,"d":{"token":"x","intents":1,"shard":[0,1]}}`, `{"op":3,"d":{"status":"idle","activities":[{}]}}`,
		`{"op":4,"d":{"guild_id":"1","channel_id":"0","self_mute":true}}`, `{"op":4,"d":{"guild_id":"1","channel_id":"2","connected_as":"s"}}`, `{"op":6,"d":{"token":"x","session_id":"y","seq":1}}`,
		`{"op":8,"d":{"guild_id":"1","user_ids":["1",2],"limit":0}}`, `{"op":99}`, `[`, `{"op":1e99}`, `{"op":2,"d":{"shard":[9223372036854775807,0]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var g Gate
		s := connected()
		s.Dispatch(body(1))
		for _, step := range []Step{g.Handle(frame), s.Handle(begin, frame)} {
			asked := 0
			for _, is := range []bool{step.Send != nil, step.Identify != nil, step.Resume != nil, step.Presence != nil,
				step.Voice != nil, step.Members != nil, step.Close != 0} {
				if is {
					asked++
				}
			}
			if asked != 1 {
				t.Fatalf("%q asks for %d things: %+v", frame, asked, step)
			}
			if step.Close != 0 && Reason(step.Close) == "" {
				t.Fatalf("%q closes with %d for no reason", frame, step.Close)
			}
			if i := step.Identify; i != nil && i.Shard != nil && proto.ShardOf(1<<40, i.Shard[1]) >= i.Shard[1] {
				t.Fatalf("%q has shard %v", frame, i.Shard)
			}
			if v := step.Voice; v != nil && v.ChannelID != nil && *v.ChannelID == 0 {
				t.Fatalf("%q joins channel 0", frame)
			}
		}
	})
}

func TestDispatchAndHeadDoNotAllocateInSteadyState(t *testing.T) {
	s, b := connected(), body(1)
	var head [40]byte
	var seq uint64
	give := func() {
		seq, _ = s.Dispatch(b)
		AppendHead(head[:0], seq)
	}
	for range 100 {
		give()
	}
	if n := testing.AllocsPerRun(1000, give); n != 0 {
		t.Errorf("%v allocations per dispatch", n)
	}
}

func BenchmarkDispatch(bench *testing.B) {
	s, b := connected(), body(1)
	var head [40]byte
	bench.ReportAllocs()
	for bench.Loop() {
		seq, _ := s.Dispatch(b)
		AppendHead(head[:0], seq)
	}
}

func BenchmarkHandleHeartbeat(bench *testing.B) {
	s, frame := connected(), []byte(`{"op":1,"d":12345}`)
	bench.ReportAllocs()
	for bench.Loop() {
		s.Handle(begin, frame)
	}
}

func TestASessionGoesOnElsewhere(t *testing.T) {
	now, cfg := clock.Time(1), &Config{Heartbeat: time.Minute, ResumeWindow: time.Minute, ReplayFrames: 4, ReplayBytes: 1000, ReplayFrame: 100}
	here := New(now, cfg)
	here.Connect(now)
	for i := range 5 {
		here.Dispatch(Body("E", fmt.Appendf(nil, "%d", i+1)))
	}
	if _, _, ok := here.Export(0); ok {
		t.Error("what is no longer kept was exported")
	}
	for _, seen := range []uint64{3, 5} {
		last, missed, ok := here.Export(seen)
		if !ok || last != 5 || len(missed) != int(5-seen) {
			t.Fatalf("from %d: %d and %d more, %t", seen, last, len(missed), ok)
		}
		there := Restore(now, cfg, last, missed)
		if seq, send := there.Dispatch(Body("E", []byte("6"))); seq != 6 || send {
			t.Errorf("the next is %d, sent %t", seq, send)
		}
		again, code, ok := there.Resume(now, seen)
		if !ok || code != 0 || len(again) != len(missed)+1 || string(again[len(missed)]) != `"t":"E","d":6}` {
			t.Errorf("from %d: %q", seen, again)
		}
		if _, _, ok := there.Resume(now, 1); ok {
			t.Error("what was not brought along is replayed")
		}
	}
	if last, missed, ok := here.Export(9); !ok || last != 5 || len(missed) != 0 {
		t.Error("a number from the future is for Resume to refuse")
	}
}
