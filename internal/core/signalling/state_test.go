package signalling

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

// TestStateIsResumedFrom has a channel suspended while two are in it and a third has only
// identified. In the next program they resume, and what was said meanwhile is told.
func TestStateIsResumedFrom(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(9, 1), r.join(9, 2)
	c := r.identify(9, claims(3, 1))
	r.speaks(2, true)
	ended := r.join(9, 4)
	r.shard.Closed(r.now, ended, 1000)
	r.drain()
	seen := r.take(a)
	r.take(b)
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 2, Join: r.session(2).join, Session: "later"})
	commands, ssrc, named := len(r.commands), r.session(2).ssrc, r.session(2).named

	st := r.shard.State(r.now, proto.VoiceCloseServerCrashed)
	r.drain()
	for _, conn := range []ConnID{a, b, c} {
		if r.closed[conn] != proto.VoiceCloseServerCrashed {
			t.Errorf("connection %d is closed with %d", conn, r.closed[conn])
		}
	}
	p := NewPlacement(4, 0)
	if !p.Restore(3, &st) || p.Restore(3, &st) || p.Channels() != 1 || p.Peers(3) != 3 {
		t.Errorf("placed: %d channels, %d peers", p.Channels(), p.Peers(3))
	}
	shard, err := Restore(r.now, r.shard.cfg, &st)
	if err != nil {
		t.Fatal(err)
	}
	r.shard = shard
	if x := r.session(2); x.gateway != "later" || x.named != named || named == "later" {
		t.Errorf("of session %q, by the token of %q", x.gateway, x.named)
	}
	again := r.resume(9, claims(1, 1), seen[len(seen)-1].Seq)
	r.expect(again, `9 null`)
	r.speaks(2, false)
	r.expect(again, fmt.Sprintf(`5 {"speaking":0,"ssrc":%d,"user_id":"2"} #%d`, ssrc, seen[len(seen)-1].Seq+1))
	if len(r.commands) != commands {
		t.Errorf("the worker was told %+v", r.commands[commands:])
	}
	if late := r.identify(9, claims(4, 1)); r.closed[late] != proto.VoiceCloseSessionInvalid {
		t.Errorf("a join that had ended: closed with %d", r.closed[late])
	}
	fifth := r.join(9, 5)
	if r.session(5).peer <= r.session(3).peer {
		t.Errorf("the next peer is %d, after %d", r.session(5).peer, r.session(3).peer)
	}
	r.shard.Closed(r.now, fifth, 1000)
	r.drain()
	r.beat(61*time.Second, again)
	if n := r.shard.Sessions(); n != 1 {
		t.Errorf("%d sessions are there a minute later, not the one that came back", n)
	}
}

func TestStatesThatCannotBe(t *testing.T) {
	for name, spoil := range map[string]func(*State){
		"another shard":     func(st *State) { st.Peer = 1 },
		"even step":         func(st *State) { st.Step = 2 },
		"unknown worker":    func(st *State) { st.Channels[0].Sessions[0].Worker = 4 },
		"negative worker":   func(st *State) { st.Channels[0].Sessions[0].Worker = -1 },
		"one peer twice":    func(st *State) { st.Channels[0].Sessions[1].Peer = st.Channels[0].Sessions[0].Peer },
		"peer not made":     func(st *State) { st.Channels[0].Sessions[0].Peer = st.Peer + 1 },
		"one member twice":  func(st *State) { st.Channels[0].Sessions[1].User = st.Channels[0].Sessions[0].User },
		"no token":          func(st *State) { st.Channels[0].Sessions[0].Token = "" },
		"version":           func(st *State) { st.Channels[0].Sessions[0].Version = 10 },
		"empty channel":     func(st *State) { st.Channels[0].Sessions = nil },
		"channel twice":     func(st *State) { st.Channels = append(st.Channels, st.Channels[0]) },
		"history from afar": func(st *State) { st.Channels[0].History[0].Sequence = st.Channels[0].Last + 1 },
		"relay to itself":   func(st *State) { st.Channels[0].Links = []LinkState{{A: 1, B: 1, Peer: st.Peer}} },
		"posting":           func(st *State) { st.Unposted = []PostingState{{Worker: 9, Command: sfu.Command{}}} },
	} {
		r := newRoom(t)
		r.join(9, 1)
		r.join(9, 2)
		st := r.shard.State(r.now, proto.VoiceCloseServerCrashed)
		spoil(&st)
		if _, err := Restore(r.now, r.shard.cfg, &st); !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
