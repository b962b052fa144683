package guild

import (
	"fmt"
	"slices"
	"testing"

	"hubbub.dev/hubbub/proto"
)

// newRef is the session that ann's client has since it lost s2.
var newRef = SessionRef{Gateway: "g2", Session: "new", User: ann}

// lostSession returns a house where ann and bob are connected to voice, and ann has a new session
// besides.
func lostSession(t testing.TB) *house {
	h := newHouse(t)
	h.attach(ann, bob)
	h.join(ann, otherID)
	h.join(bob, otherID)
	h.connect()
	h.step(Request{Attach: &Attach{SessionRef: newRef, Intents: proto.IntentsKnown}})
	return h
}

func stateOf(channel proto.Snowflake, as string, mute, deaf bool) proto.VoiceStateUpdateData {
	return proto.VoiceStateUpdateData{GuildID: guildID, ChannelID: &channel, ConnectedAs: as, SelfMute: mute, SelfDeaf: deaf}
}

func (h *house) goOn(r SessionRef, channel proto.Snowflake, as string) Output {
	h.Helper()
	return h.step(Request{Voice: &VoiceRequest{SessionRef: r, State: stateOf(channel, as, false, false)}})
}

// tokens returns the sessions that were given a voice server in the last step.
func (h *house) tokens() (list []string) {
	for _, m := range h.out.Messages {
		if m.Gateway != nil && m.Gateway.VoiceServer != nil {
			list = append(list, m.Gateway.VoiceServer.Session)
		}
	}
	return list
}

// wantAdopted holds that ann's call is another session's, and that nothing else became of it.
func (h *house) wantAdopted(join uint64, by SessionRef) {
	h.Helper()
	v := h.state(by.User)
	if v.join != join || v.session != by || v.transport == "" || len(h.tokens()) != 0 {
		h.Fatalf("tokens for %q, and %+v", h.tokens(), v)
	}
	for _, c := range h.commands() {
		if c.End || c.Join != join {
			h.Fatalf("the voice server was told %+v", c)
		}
	}
}

func TestACallGoesOnByANewSession(t *testing.T) {
	leaving := func(h *house) { h.step(Request{Detach: &Detach{SessionRef: ref(ann), Leaving: true}}) }
	for name, c := range map[string]struct {
		before func(*house)
		ended  bool // the old session's gateway is told
	}{
		"the old one is gone": {leaving, false},
		"its gateway is dead": {func(h *house) {
			h.out = h.g.GatewaysGone(h.wall, func(r SessionRef) bool { return r == ref(ann) })
		}, false},
		"the old one is there": {func(*house) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := lostSession(t)
			join := h.state(ann).join
			c.before(h)
			h.step(Request{Voice: &VoiceRequest{SessionRef: newRef, State: stateOf(otherID, "s2", true, true)}})
			h.wantAdopted(join, newRef)
			said := dispatched[proto.VoiceState](h, "VOICE_STATE_UPDATE")
			if len(said) == 0 || said[0].SessionID != "new" || *said[0].ChannelID != otherID || !said[0].SelfMute || !said[0].SelfDeaf {
				t.Errorf("%+v", said)
			}
			commands := h.commands()
			if len(commands) != 2 || commands[0].Session != "new" || commands[1].Update == nil || !commands[1].Update.SelfDeaf {
				t.Errorf("%+v", commands)
			}
			ended := slices.ContainsFunc(h.out.Messages, func(m Message) bool {
				return m.Gateway != nil && m.Gateway.VoiceEnded != nil && m.Gateway.VoiceEnded.Session == "s2"
			})
			if ended != c.ended {
				t.Errorf("the old gateway was told: %v", ended)
			}
			// Whatever becomes of the old session is nothing to the call.
			for _, leaving := range []bool{true, false} {
				h.step(Request{Detach: &Detach{SessionRef: ref(ann), Leaving: leaving}})
				h.wantAdopted(join, newRef)
			}
			// It goes on as any other.
			h.step(Request{Voice: &VoiceRequest{SessionRef: newRef, State: stateOf(otherID, "", false, false)}})
			h.wantAdopted(join, newRef)
			h.step(Request{Detach: &Detach{SessionRef: newRef}})
			if h.g.voice[ann] != nil {
				t.Error("it outlives its session")
			}
		})
	}
}

// The next gateway may die before it has told anybody anything: the client says by which
// session it is connected, not which it had last.
func TestACallGoesOnByOneSessionAfterAnother(t *testing.T) {
	h := lostSession(t)
	join := h.state(ann).join
	h.goOn(newRef, otherID, "s2")
	h.step(Request{Detach: &Detach{SessionRef: newRef, Leaving: true}})
	third := SessionRef{Gateway: "g3", Session: "third", User: ann}
	h.step(Request{Attach: &Attach{SessionRef: third, Intents: proto.IntentsKnown}})
	h.goOn(third, otherID, "s2")
	h.wantAdopted(join, third)
	// One that asks again is told again, and nobody else.
	h.goOn(third, otherID, "s2")
	h.wantAdopted(join, third)
	h.wantEvents("VOICE_STATE_UPDATE→third")
	// By that session it was never connected, only told of.
	h.goOn(third, otherID, "new")
	if tokens := h.tokens(); len(tokens) != 1 || h.state(ann).join == join {
		t.Errorf("it was never connected as that, and %+v", h.state(ann))
	}
}

func TestWhoIsNotConnectedAsItSaysJoinsAnew(t *testing.T) {
	for name, c := range map[string]struct {
		before  func(*house)
		channel proto.Snowflake
		as      string
	}{
		"says nothing":           {nil, otherID, ""},
		"another session":        {nil, otherID, "s9"},
		"somebody else's":        {nil, otherID, "s3"},
		"its own new one":        {nil, otherID, "new"},
		"another channel":        {nil, voiceID, "s2"},
		"the session ended":      {func(h *house) { h.step(Request{Detach: &Detach{SessionRef: ref(ann)}}) }, otherID, "s2"},
		"the connection ended":   {func(h *house) { h.step(Request{Report: &VoiceReport{User: ann, Join: h.state(ann).join, Node: "v1"}}) }, otherID, "s2"},
		"it was not there yet":   {func(h *house) { h.join(ann, voiceID) }, voiceID, "s2"},
		"it was moved":           {func(h *house) { h.as(owner, OpMemberUpdate, `{"channel_id":"201"}`, "user=2") }, otherID, "s2"},
		"moved where it asks to": {func(h *house) { h.as(owner, OpMemberUpdate, `{"channel_id":"201"}`, "user=2") }, voiceID, "s2"},
		"its voice server went":  {func(h *house) { h.nodes.Replace([]VoiceNode{{Node: "v2"}}); h.out = h.g.NodesChanged(h.wall) }, otherID, "s2"},
	} {
		t.Run(name, func(t *testing.T) {
			h := lostSession(t)
			old := h.state(ann).join
			bobs := *h.state(bob)
			if c.before != nil {
				c.before(h)
			}
			h.goOn(newRef, c.channel, c.as)
			if server, claims := h.server(); server.Session != "new" || claims.Channel != c.channel || claims.Join == old {
				t.Errorf("%+v", claims)
			}
			if bobs.session != h.state(bob).session {
				t.Errorf("it has become of another's call: %+v", h.state(bob))
			}
		})
	}
}

// A second device says nothing of the kind and takes the place, as ever; the first has lost
// it, whatever it says.
func TestASecondDeviceTakesThePlace(t *testing.T) {
	h := lostSession(t)
	h.goOn(newRef, otherID, "s2")
	join := h.state(ann).join
	h.join(ann, otherID) // by s2, which is another device's now
	if c := h.commands(); len(c) != 1 || !c[0].End || c[0].Moved || c[0].Join != join {
		t.Fatalf("%+v", c)
	}
	h.step(Request{Report: &VoiceReport{User: ann, Join: join, Node: "v1"}})
	if v := h.state(ann); v.session != ref(ann) || v.join == join {
		t.Errorf("%+v", v)
	}
}

// An adopted call that goes over to another voice server goes there by the session that it
// has, and is known by that from then on.
func TestAnAdoptedCallIsRelocated(t *testing.T) {
	h := lostSession(t)
	h.goOn(newRef, otherID, "s2")
	h.nodes.Announce(VoiceNode{Node: "v2", Endpoint: "v2:443"})
	h.nodes.Replace([]VoiceNode{{Node: "v2", Endpoint: "v2:443"}})
	h.out = h.g.NodesChanged(h.wall)
	if tokens := h.tokens(); !slices.Contains(tokens, "new") {
		t.Fatalf("%q", tokens)
	}
	join := h.state(ann).join
	h.connect()
	third := SessionRef{Gateway: "g3", Session: "third", User: ann}
	h.step(Request{Attach: &Attach{SessionRef: third, Intents: proto.IntentsKnown}})
	h.goOn(third, otherID, "new")
	h.wantAdopted(join, third)
}

// A voice server that was not told whose a join is now says so with its next report.
func TestAVoiceServerIsToldAgain(t *testing.T) {
	h := lostSession(t)
	h.goOn(newRef, otherID, "s2")
	stale := h.reports()[ann]
	stale.Session = "s2"
	h.step(Request{Report: &stale})
	if c := h.commands(); len(c) != 1 || c[0].Session != "new" || c[0].Update == nil || h.state(ann).session != newRef {
		t.Errorf("%+v", c)
	}
}

// The guild changes owners meanwhile: what the new one is told, and in which order, makes no
// difference.
func TestAnAdoptedCallIsHandedOver(t *testing.T) {
	for name, c := range map[string]struct {
		told    bool // the voice server, of the adoption
		old     bool // the old session's gateway tells that it has ended, before and then
		late    bool // the gateways answer after the guild has gone on
		op4     bool // it is asked for afterwards, and no gateway knows
		renewed bool // nothing was to be told of at all
	}{
		"the owner before had done it":        {told: true, renewed: true},
		"and the gateway is late":             {told: true, late: true, renewed: true},
		"the owner before had not":            {},
		"and the gateway is late to say so":   {late: true},
		"the old session ends just then":      {old: true},
		"the client asks once it has settled": {op4: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := lostSession(t)
			join := h.state(ann).join
			reports := h.reports()
			if c.told {
				h.goOn(newRef, otherID, "s2")
				reports = h.reports()
			}
			next := h.successor("v1")
			for _, user := range []proto.Snowflake{ann, bob} {
				r := reports[user]
				next.step(Request{Claim: 2, Report: &r})
			}
			state := stateOf(otherID, "s2", false, false)
			claims := []Attach{{SessionRef: newRef, Intents: proto.IntentsKnown, Known: true, Voice: &state}}
			if c.op4 {
				claims[0].Voice = nil
			}
			if c.old {
				claims = append(claims, Attach{SessionRef: ref(ann), Intents: proto.IntentsKnown, Known: true, Voice: &state, Left: true})
			}
			if c.late {
				next.settle()
			}
			for i := range claims {
				next.step(Request{Claim: 2, Attach: &claims[i]})
			}
			if !c.late {
				next.settle()
			}
			if c.old {
				next.step(Request{Claim: 2, Detach: &Detach{SessionRef: ref(ann), Leaving: true}})
			}
			if c.op4 {
				next.goOn(newRef, otherID, "s2")
			}
			next.wantAdopted(join, newRef)
			if c.renewed && len(next.out.Messages) != 0 {
				t.Errorf("nobody needs to be told anything, but %+v", next.out.Messages)
			}
			third := SessionRef{Gateway: "g3", Session: "third", User: ann}
			next.step(Request{Attach: &Attach{SessionRef: third, Intents: proto.IntentsKnown}})
			next.goOn(third, otherID, "s2")
			next.wantAdopted(join, third)
		})
	}
}

// A voice node of the version before says by which session a join was made, and no more.
func TestAnOldVoiceNodeReports(t *testing.T) {
	h := lostSession(t)
	next := h.successor("v1")
	r := h.reports()[ann]
	r.Identified = ""
	next.step(Request{Claim: 2, Report: &r})
	next.settle()
	next.step(Request{Attach: &Attach{SessionRef: newRef, Intents: proto.IntentsKnown}})
	next.goOn(newRef, otherID, "s2")
	next.wantAdopted(h.state(ann).join, newRef)
}

func TestWishesKeepWhatACallIsConnectedAs(t *testing.T) {
	var w Wishes
	state := stateOf(otherID, "s2", true, false)
	w.Ask(1, &state)
	var a Attach
	w.Claim(1, guildID, &a)
	elsewhere := WishesOf(w.Here())
	var b Attach
	elsewhere.Claim(1, guildID, &b)
	w.Placed(guildID, voiceID)
	var placed Attach
	w.Claim(1, guildID, &placed)
	if got := fmt.Sprintf("%q %q %q", a.Voice.ConnectedAs, b.Voice.ConnectedAs, placed.Voice.ConnectedAs); got != `"s2" "s2" ""` {
		t.Error(got)
	}
}
