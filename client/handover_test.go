package client

import (
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/proto"
)

func TestTheOldServerIsLeftWhenItSaysSo(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	f.mu.Lock()
	old := f.voice
	f.place(fakeChannel)
	f.mu.Unlock()
	f.expect("voice identify 300 token-2", "select")
	waitTransport(t, v, fakeSSRC+2)
	former := v.handover.former.Load()
	if former == nil || former.transport.ssrc != fakeSSRC+1 {
		t.Fatal("the old session was given up")
	}
	select {
	case bye := <-f.byes:
		t.Fatalf("a connection ended: %s", bye)
	default:
	}
	_ = old.Close(websocket.StatusCode(proto.VoiceCloseDisconnected), "")
	select {
	case <-former.transport.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the old transport goes on")
	}
	if v.Err() != nil || v.transport.Load().ssrc != fakeSSRC+2 {
		t.Errorf("the new one too: %v", v.Err())
	}
}

func TestEachSpeakerIsHeardOnceWhileServersChange(t *testing.T) {
	h := handover{ears: map[proto.Snowflake]*ear{}}
	for i, step := range []struct {
		user   proto.Snowflake
		former bool
		opus   string
		news   bool
	}{
		{1, true, "a", true}, {2, true, "A", true}, {1, true, "b", true},
		{1, false, "a", false}, {1, false, "b", false}, // as they were heard already
		{1, false, "c", true}, {1, true, "c", false}, {1, false, "a", true},
		// The old server had lost the first, and is ahead of the new one later.
		{4, true, "b", true}, {4, true, "c", true}, {4, false, "a", true}, {4, false, "b", false}, {4, true, "d", false},
		{4, false, "c", false}, {4, true, "e", false}, {4, false, "d", true}, {4, false, "e", true},
		{2, true, "B", true}, {2, false, "C", true}, {2, true, "C", false},
		{3, false, "x", true}, {3, false, "x", true},
	} {
		news := h.atFormer
		if !step.former {
			news = func(p Packet) bool { return h.atNew(p, true) }
		}
		if got := news(Packet{UserID: step.user, Opus: []byte(step.opus)}); got != step.news {
			t.Errorf("step %d: %t", i, got)
		}
	}
	// The former session is gone, and what the new one brings is behind it.
	for i, step := range []struct {
		user proto.Snowflake
		opus string
		news bool
	}{{6, "a", true}, {5, "late", false}, {5, "next", true}, {5, "late", true}} {
		if i == 1 {
			h.atFormer(Packet{UserID: 5, Opus: []byte("late")})
		}
		if got := h.atNew(Packet{UserID: step.user, Opus: []byte(step.opus)}, false); got != step.news {
			t.Errorf("step %d after: %t", i, got)
		}
	}
}

// A session that has been left has nothing to say, unless it is all there is.
func TestWhoIsLeftIsNotHeard(t *testing.T) {
	old, next := &transport{}, &transport{}
	v := &Voice{packets: make(chan Packet, 8)}
	s := &voiceSession{v: v, transport: old}
	s.following.Store(true)
	v.transport.Store(old)
	s.hear(Packet{UserID: 1})
	if len(v.packets) != 1 {
		t.Error("all there is, and not heard")
	}
	v.transport.Store(next)
	s.hear(Packet{UserID: 1})
	if len(v.packets) != 1 {
		t.Error("heard twice")
	}
}
