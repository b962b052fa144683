package guild

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/proto"
)

// told is what one step said of voice servers, in words.
func (h *house) told() []string {
	var said []string
	for _, m := range h.out.Messages {
		switch {
		case m.Gateway != nil && m.Gateway.VoiceServer != nil:
			s := m.Gateway.VoiceServer
			said = append(said, s.Session+" to "+s.Node)
		case m.Voice != nil && m.Voice.End:
			how := "ends"
			if m.Voice.Moved {
				how = "ends soon"
			} else if m.Voice.Linger {
				how = "lingers"
			}
			said = append(said, fmt.Sprintf("%d %s at %s", m.Voice.User, how, m.Subject))
		case m.Voice != nil && m.Voice.Update != nil:
			said = append(said, fmt.Sprintf("%d updated at %s", m.Voice.User, m.Subject))
		}
	}
	return said
}

func (h *house) wantTold(want ...string) {
	h.Helper()
	if got := h.told(); !slices.Equal(got, want) {
		h.Fatalf("told %q, want %q", got, want)
	}
}

func (h *house) see(list ...VoiceNode) {
	h.pass(1e9)
	if h.nodes.Replace(list) {
		h.out = h.g.NodesChanged(h.wall)
	}
}

func (h *house) relocate(most int) (moved int, done bool) {
	h.Helper()
	h.pass(1e6)
	h.out, moved, done = h.g.Relocate(h.wall, most)
	h.checkVoice()
	return moved, done
}

func (h *house) arrive(user proto.Snowflake) {
	h.Helper()
	v := h.state(user)
	h.step(Request{Report: &VoiceReport{User: user, Join: v.join, Node: v.node, Connected: true, Transport: "udp"}})
}

// inCall returns a house in which some are connected to v1 in one channel, and v2 is
// there too.
func inCall(t testing.TB, users ...proto.Snowflake) *house {
	h := newHouse(t)
	h.attach(users...)
	for _, user := range users {
		h.join(user, otherID)
		h.arrive(user)
	}
	h.see(VoiceNode{Node: "v1", Endpoint: "v1:443"}, VoiceNode{Node: "v2", Endpoint: "v2:443"})
	return h
}

func drainV1(h *house) {
	h.see(VoiceNode{Node: "v1", Endpoint: "v1:443", Draining: true}, VoiceNode{Node: "v2", Endpoint: "v2:443"})
}

func TestAChannelLeavesADrainingServerAsAWhole(t *testing.T) {
	h := inCall(t, ann, bob)
	if moved, done := h.relocate(10); moved != 0 || !done {
		t.Fatalf("%d were moved from a server that stays", moved)
	}
	drainV1(h)
	if moved, _ := h.relocate(1); moved != 2 {
		t.Fatalf("%d were moved", moved)
	}
	h.wantTold("2 lingers at voice.v1.in", "s2 to v2", "3 lingers at voice.v1.in", "s3 to v2")
	if _, done := h.relocate(1); !done || len(h.out.Messages) != 0 {
		t.Errorf("moved again: %q", h.told())
	}
	h.as(owner, OpMemberUpdate, `{"mute":true}`, "user=2")
	h.wantTold("2 updated at voice.v2.in", "2 updated at voice.v1.in")
	h.arrive(ann)
	h.wantTold("2 updated at voice.v2.in")
	h.arrive(bob)
	h.wantTold("2 ends soon at voice.v1.in", "3 ends soon at voice.v1.in", "3 updated at voice.v2.in")
	h.arrive(bob)
	h.wantTold("3 updated at voice.v2.in")
}

func TestChannelsMoveAtThePaceAskedFor(t *testing.T) {
	h := inCall(t, ann, bob)
	h.see(VoiceNode{Node: "v1"})
	h.attach(mod)
	h.join(mod, voiceID)
	drainV1(h)
	first, done := h.relocate(1)
	if first != 1 || done {
		t.Fatalf("%d first, done %t", first, done)
	}
	if rest, _ := h.relocate(1); rest != 2 {
		t.Errorf("%d then", rest)
	}
}

func TestWhoLeavesAMovingChannelHoldsNobodyUp(t *testing.T) {
	h := inCall(t, ann, bob)
	drainV1(h)
	h.relocate(10)
	h.arrive(ann)
	h.join(bob, 0)
	h.wantTold("3 ends at voice.v1.in", "3 ends at voice.v2.in")
	h.arrive(ann)
	h.wantTold("2 ends soon at voice.v1.in", "2 updated at voice.v2.in")

	h = inCall(t, ann)
	drainV1(h)
	h.relocate(10)
	h.join(ann, voiceID)
	h.wantTold("2 ends at voice.v1.in", "2 ends soon at voice.v2.in", "s2 to v2")

	h = inCall(t, ann)
	drainV1(h)
	h.relocate(10)
	v := h.state(ann)
	h.step(Request{Report: &VoiceReport{User: ann, Join: v.vacated.join, Node: "v1", Connected: true, Transport: "udp"}})
	h.wantTold("2 lingers at voice.v1.in") // it was on its way
	h.step(Request{Report: &VoiceReport{User: ann, Join: v.join, Node: "v2"}})
	h.wantTold("2 ends at voice.v1.in")
}

func TestAMoveGoesOnWhenItsNextServerIsLeftToo(t *testing.T) {
	h := inCall(t, ann)
	drainV1(h)
	h.relocate(10)
	first := h.state(ann).vacated
	h.see(VoiceNode{Node: "v1", Draining: true}, VoiceNode{Node: "v2", Draining: true}, VoiceNode{Node: "v3"})
	h.relocate(10)
	h.wantTold("2 ends soon at voice.v2.in", "s2 to v3")
	if h.state(ann).vacated != first {
		t.Error("the connection that carries the call is given up")
	}
	h.see(VoiceNode{Node: "v1", Draining: true}, VoiceNode{Node: "v4"})
	h.wantTold("2 ends soon at voice.v3.in", "s2 to v4")
	h.arrive(ann)
	h.wantTold("2 ends soon at voice.v1.in", "2 updated at voice.v4.in")
}

func TestAnAttackedServerIsLeftForAQuietOne(t *testing.T) {
	flooded := func(names ...string) (list []VoiceNode) {
		for _, name := range []string{"v1", "v2"} {
			list = append(list, VoiceNode{Node: name, Attacked: slices.Contains(names, name)})
		}
		return list
	}
	h := inCall(t, ann)
	h.see(flooded("v1", "v2")...)
	if moved, _ := h.relocate(10); moved != 0 {
		t.Fatal("from one attacked server to another")
	}
	h.see(flooded("v1")...)
	if moved, _ := h.relocate(10); moved != 1 || h.state(ann).node != "v2" {
		t.Fatal("it stays where it is attacked")
	}
	h.arrive(ann)
	h.see(flooded()...)
	if moved, _ := h.relocate(10); moved != 0 || h.state(ann).node != "v2" {
		t.Error("it goes back")
	}
	// Draining is no matter of choice.
	h.see(VoiceNode{Node: "v1", Attacked: true}, VoiceNode{Node: "v2", Draining: true})
	if moved, _ := h.relocate(10); moved != 1 || h.state(ann).node != "v1" {
		t.Error("it stays on a server that ends")
	}
}

func TestWhoCannotBeToldToMoveStaysAndNobodyFollows(t *testing.T) {
	h := inCall(t, ann, bob)
	h.step(Request{Detach: &Detach{SessionRef: ref(ann), Leaving: true}})
	drainV1(h)
	if moved, _ := h.relocate(10); moved != 1 || h.state(ann).node != "v1" || h.state(bob).node != "v2" {
		t.Fatalf("%+v %+v", h.state(ann), h.state(bob))
	}
	h.attach(mod, ann)
	for range 20 {
		h.join(mod, otherID)
		if at := h.state(mod).node; at != "v2" {
			t.Fatalf("a newcomer is sent to %s", at)
		}
	}
	h.join(ann, otherID)
	if at := h.state(ann).node; at != "v2" {
		t.Errorf("back with a gateway, it is sent to %s", at)
	}
}

// TestMovesLeaveNobodyBehind moves, reports and hands over in any order. In the end, once
// servers have settled and all have connected, each channel is on one server that stays
// and nothing lingers.
func TestMovesLeaveNobodyBehind(t *testing.T) {
	users := []proto.Snowflake{ann, bob, mod, bot}
	names := []string{"v1", "v2", "v3"}
	rapid.Check(t, func(rt *rapid.T) {
		h := newHouse(t)
		h.attach(users...)
		user := func() proto.Snowflake { return rapid.SampledFrom(users).Draw(rt, "user") }
		nodes := func() (list []VoiceNode) {
			for _, name := range names {
				switch rapid.IntRange(0, 4).Draw(rt, name) {
				case 0:
				case 1:
					list = append(list, VoiceNode{Node: name, Draining: true})
				case 2:
					list = append(list, VoiceNode{Node: name, Attacked: true})
				default:
					list = append(list, VoiceNode{Node: name})
				}
			}
			return list
		}
		rt.Repeat(map[string]func(*rapid.T){
			"op 4": func(*rapid.T) {
				h.join(user(), rapid.SampledFrom([]proto.Snowflake{0, otherID, stageID}).Draw(rt, "channel"))
			},
			"report": func(*rapid.T) {
				if u := user(); h.g.voice[u] != nil {
					h.arrive(u)
				}
			},
			"nodes":    func(*rapid.T) { h.see(nodes()...) },
			"relocate": func(*rapid.T) { h.relocate(rapid.IntRange(1, 3).Draw(rt, "most")) },
			"ends":     func(*rapid.T) { u := user(); h.step(Request{Detach: &Detach{SessionRef: ref(u)}}); h.attach(u) },
			"":         func(*rapid.T) { h.checkVoice() },
		})
		h.see(append(nodes(), VoiceNode{Node: "v4"})...)
		for _, done := h.relocate(1); !done; {
			_, done = h.relocate(1)
		}
		for _, u := range users {
			if h.g.voice[u] != nil {
				h.arrive(u)
			}
		}
		at := map[proto.Snowflake]string{}
		for _, u := range users {
			v := h.g.voice[u]
			if v == nil {
				continue
			}
			n, alive := h.nodes.get(v.node)
			if !alive || n.leaving() || v.vacated.node != "" {
				rt.Fatalf("%d is at %+v, and %+v lingers", u, n, v.vacated)
			}
			if before, known := at[v.channel]; known && before != v.node {
				rt.Fatalf("channel %d is at %s and at %s", v.channel, before, v.node)
			}
			at[v.channel] = v.node
		}
	})
}
