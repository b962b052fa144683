package guild

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/proto"
)

// reports returns what the voice nodes have of a guild's connections.
func (h *house) reports() map[proto.Snowflake]VoiceReport {
	list := map[proto.Snowflake]VoiceReport{}
	for user, v := range h.g.voice {
		list[user] = VoiceReport{
			User: user, Join: v.join, Node: v.node, Connected: true, Worker: 1, Transport: "udp",
			Channel: v.channel, Session: v.session.Session, Identified: v.identified, Flags: v.enforced,
		}
	}
	return list
}

// connect has every voice server report what it has.
func (h *house) connect() {
	for _, r := range h.reports() {
		h.step(Request{Report: &r})
	}
}

// claims returns what a gateway says of its sessions.
func (h *house) claims() map[string]Attach {
	list := map[string]Attach{}
	for id, s := range h.g.sessions {
		a := Attach{SessionRef: s.ref, Intents: s.intents, Bot: s.bot, Status: &s.status, Known: true}
		if v := h.g.voice[s.ref.User]; v != nil && v.session == s.ref {
			a.Voice = &proto.VoiceStateUpdateData{
				GuildID: guildID, ChannelID: &v.channel, SelfMute: v.self.mute, SelfDeaf: v.self.deaf, SelfVideo: v.self.video,
			}
		}
		list[id] = a
	}
	return list
}

// successor returns the guild's next owner, which has the record alone and takes in
// who is there.
func (h *house) successor(voiceNodes ...string) *house {
	next := &house{TB: h.TB, nodes: NewNodes(), now: h.now, wall: h.wall}
	next.g = Load(testRecord(), Config{
		IDs: proto.NewGenerator(2), Random: rand.NewChaCha8([32]byte{2}), TokenKey: testKey, Nodes: next.nodes,
	})
	for _, name := range voiceNodes {
		next.announce(name, name+":443")
	}
	next.g.Rebuild(2)
	return next
}

func (h *house) settle() {
	h.Helper()
	h.out = h.g.Settle(h.wall)
	if h.g.Rebuilding() {
		h.Fatal("the guild is still being rebuilt")
	}
	h.checkVoice()
}

// look is all that clients can see of voice.
func (h *house) look() string {
	var list []string
	for _, user := range slices.Sorted(maps.Keys(h.g.voice)) {
		state := h.g.voiceObject(h.g.voice[user])
		state.Member = nil
		list = append(list, string(encode(state)))
	}
	return fmt.Sprint(list)
}

func TestANewOwnerFindsEverybodyAsTheyWere(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob, mod, bot)
	h.op4(ref(ann), otherID, true, false)
	h.op4(ref(bob), otherID, false, true)
	h.join(mod, stageID)
	h.join(bot, stageID)
	h.want(h.as(owner, OpVoiceUpdate, `{"suppress":false}`, "user="+mod.String()), 204, 0)
	h.connect()

	next := h.successor("v1")
	for _, a := range h.claims() {
		next.step(Request{Attach: &a})
		next.wantEvents()
	}
	for _, r := range h.reports() {
		next.step(Request{Claim: 1, Report: &r})
		next.wantEvents()
	}
	next.settle()
	h.g.voice[mod].requested = nil // a hand that was raised has to be raised again
	if len(next.out.Messages) != 0 {
		t.Errorf("nobody needs to be told anything, but %+v", next.out.Messages[0])
	}
	if got, want := next.look(), h.look(); got != want {
		t.Errorf("voice is\n%s\nand was\n%s", got, want)
	}
	for user, v := range h.g.voice {
		if next.state(user).join != v.join {
			t.Errorf("%d has another join", user)
		}
	}
	// And it goes on: a new join is later than all there were.
	next.join(ann, voiceID)
	next.wantEvents("VOICE_STATE_UPDATE→all")
	for user, v := range h.g.voice {
		if user != ann && next.state(ann).join <= v.join {
			t.Error("a join's number came twice")
		}
	}
}

// A report that answers no roll call may be older than the end of what it is about
// (seed 878 of the simulation).
func TestWhatIsNoAnswerIsVerified(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.join(ann, otherID)
	h.connect()
	next := h.successor("v1")
	for _, r := range h.reports() {
		next.step(Request{Report: &r})
	}
	next.settle()
	join := h.state(ann).join
	if c := next.commands(); len(c) != 1 || !c[0].Verify || c[0].Join != join || len(next.g.voice) != 1 {
		t.Fatalf("%+v", c)
	}
	next.step(Request{Report: &VoiceReport{User: ann, Join: join, Node: "v1"}})
	if len(next.g.voice) != 0 {
		t.Error("it is not there, and stays")
	}
}

// A gateway that answers too late for the roll call says what its sessions have muted
// (seed 1303 of the simulation).
func TestALateGatewayBringsWhatIsMuted(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.op4(ref(ann), otherID, true, false)
	h.connect()
	next := h.successor("v1")
	for _, r := range h.reports() {
		next.step(Request{Claim: 1, Report: &r})
	}
	next.settle()
	for _, a := range h.claims() {
		next.step(Request{Claim: 1, Attach: &a})
	}
	if !next.state(ann).self.mute || next.state(ann).join != h.state(ann).join {
		t.Errorf("%+v", next.state(ann))
	}
}

// Whose session ended when nobody owned the guild, and whose voice node is gone too, is
// not in voice, and everybody is told so (seed 2136 of the simulation).
func TestWhoEndedUnheardIsSaidToBeGone(t *testing.T) {
	for _, late := range []bool{false, true} {
		h := newHouse(t)
		h.attach(ann, bob)
		h.join(ann, otherID)
		next := h.successor("v1")
		a := h.claims()["s2"]
		a.Left = true
		if late {
			next.settle()
		}
		next.step(Request{Attach: &a})
		if !late {
			next.settle()
		}
		next.wantEvents("VOICE_STATE_UPDATE→all")
		if len(next.g.voice) != 0 {
			t.Error("it joined")
		}
		// A session that it has since is where it says.
		next = h.successor("v1")
		again := Attach{SessionRef: SessionRef{Gateway: "g2", Session: "new", User: ann}, Known: true, Voice: a.Voice}
		next.step(Request{Attach: &again})
		next.step(Request{Attach: &a})
		next.settle()
		if s := next.state(ann).session.Session; s != "new" {
			t.Errorf("it joined by %q", s)
		}
	}
}

// Who left its call, and whose session left with its gateway, when nobody owned the
// guild, is said to be gone (seed 588 of the simulation).
func TestWhoHungUpUnheardIsSaidToBeGone(t *testing.T) {
	for name, c := range map[string]struct {
		claim   uint64
		channel proto.Snowflake
		told    []string
	}{
		"answers":                     {2, 0, []string{"VOICE_STATE_UPDATE→all"}},
		"reports":                     {0, otherID, []string{"VOICE_STATE_UPDATE→all"}},
		"says again what is long ago": {0, 0, nil},
	} {
		next := newHouse(t).successor("v1")
		again := Attach{SessionRef: ref(bob), Intents: proto.IntentsKnown, Known: true}
		next.step(Request{Attach: &again})
		next.step(Request{Claim: c.claim, Report: &VoiceReport{User: ann, Join: 5, Node: "v1", Channel: c.channel}})
		next.settle()
		if next.wantEvents(c.told...); len(next.g.voice) != 0 {
			t.Errorf("%s: %+v", name, next.g.voice)
		}
	}
}

// Who has another session since, and asks to join by it, joins by it (seed 3574 of the
// simulation).
func TestANewSessionTakesAnOrphanOver(t *testing.T) {
	for _, late := range []bool{false, true} {
		h := newHouse(t)
		h.attach(ann)
		h.join(ann, otherID)
		h.connect()
		next := h.successor("v1")
		for _, r := range h.reports() {
			next.step(Request{Claim: 2, Report: &r})
		}
		if late {
			next.settle()
		}
		again := Attach{SessionRef: SessionRef{Gateway: "g2", Session: "new", User: ann}, Known: true}
		channel := otherID
		again.Voice = &proto.VoiceStateUpdateData{GuildID: guildID, ChannelID: &channel, SelfMute: true}
		next.step(Request{Claim: 2, Attach: &again})
		if !late {
			next.settle()
		}
		if v := next.state(ann); v.session != again.SessionRef || !v.self.mute || v.join == h.state(ann).join {
			t.Errorf("%+v", v)
		}
	}
}

// Who came anew and asked to join when nobody heard it joins with what its gateway says,
// but takes no place from a session that is there.
func TestWhoAskedUnheardJoins(t *testing.T) {
	channel := otherID
	asked := Attach{SessionRef: SessionRef{Gateway: "g2", Session: "new", User: ann}}
	asked.Voice = &proto.VoiceStateUpdateData{GuildID: guildID, ChannelID: &channel, SelfMute: true}
	for name, there := range map[string]func(h *house){
		"nobody": func(h *house) { h.attach(ann) },
		"an orphan": func(h *house) {
			h.attach(ann)
			h.join(ann, otherID)
			h.connect()
			h.step(Request{Detach: &Detach{SessionRef: ref(ann), Leaving: true}})
		},
	} {
		h := newHouse(t)
		there(h)
		h.step(Request{Attach: &asked})
		v := h.state(ann)
		if v.session != asked.SessionRef || !v.self.mute {
			t.Errorf("%s: %+v", name, v)
		}
		// It asks again for the guild: all of this was heard.
		h.step(Request{Attach: &asked})
		if again := h.state(ann); again != v {
			t.Errorf("%s: %+v, then %+v", name, v, again)
		}
	}
	h := newHouse(t)
	h.attach(ann)
	h.join(ann, otherID)
	h.step(Request{Attach: &asked})
	if v := h.state(ann); v.session != ref(ann) {
		t.Errorf("%+v", v)
	}
	h.connect()
	connected, state := asked, *asked.Voice
	state.ConnectedAs = ref(ann).Session
	connected.Voice = &state
	join := h.state(ann).join
	h.step(Request{Attach: &connected})
	if v := h.state(ann); v.session != asked.SessionRef || v.join != join {
		t.Errorf("its own call, and %+v", v)
	}
	gone := asked
	gone.Left = true
	h = newHouse(t)
	h.step(Request{Attach: &gone})
	if len(h.g.voice) != 0 {
		t.Error("it joined what it has left")
	}
}

func TestWhoOnlyAskedToJoinJoins(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.join(ann, otherID) // and does not connect
	next := h.successor("v1")
	for _, a := range h.claims() {
		next.step(Request{Attach: &a})
	}
	next.settle()
	next.wantEvents("VOICE_STATE_UPDATE→all")
	if server, _ := next.server(); server.Session != "s2" || server.Channel != otherID || server.Node != "v1" {
		t.Errorf("%+v", server)
	}
}

func TestWhoMayNotJoinIsSaidToBeGone(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.join(ann, otherID)
	next := h.successor("v1")
	next.g.channels[otherID].PermissionOverwrites = []proto.Overwrite{{ID: guildID, Deny: proto.PermConnect}}
	for _, a := range h.claims() {
		next.step(Request{Attach: &a})
	}
	next.settle()
	next.wantEvents("VOICE_STATE_UPDATE→s2", "VOICE_STATE_UPDATE→all")
	if len(next.g.voice) != 0 {
		t.Error("it joined")
	}
}

func TestAGatewayThatLeavesEndsNoCall(t *testing.T) {
	for name, leave := range map[string]func(*house){
		"goodbye": func(h *house) {
			for _, user := range []proto.Snowflake{ann, bob} {
				h.step(Request{Detach: &Detach{SessionRef: ref(user), Leaving: true}})
			}
		},
		"death": func(h *house) {
			h.out = h.g.GatewaysGone(h.wall, func(r SessionRef) bool { return r.Gateway == "g1" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.attach(ann, bob)
			h.join(ann, otherID)
			h.connect()
			h.join(bob, otherID) // does not connect, and so is gone
			leave(h)
			if len(h.g.sessions) != 0 || len(h.g.voice) != 1 {
				t.Fatalf("%d sessions, %d in voice", len(h.g.sessions), len(h.g.voice))
			}
			join := h.state(ann).join

			// The client identifies anew elsewhere and asks for its call.
			again := SessionRef{Gateway: "g2", Session: "new", User: ann}
			h.step(Request{Attach: &Attach{SessionRef: again, Intents: proto.IntentsKnown}})
			h.op4(again, otherID, false, false)
			if c := h.commands(); len(c) != 1 || !c[0].Moved || c[0].Join != join {
				t.Errorf("its old connection: %+v", c)
			}
			if s, _ := h.server(); s.Session != "new" {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestAnOrphanEndsWithItsConnection(t *testing.T) {
	orphan := func() *house {
		h := newHouse(t)
		h.attach(ann, bob)
		h.join(ann, otherID)
		h.connect()
		h.step(Request{Detach: &Detach{SessionRef: ref(ann), Leaving: true}})
		return h
	}
	h := orphan()
	h.step(Request{Report: &VoiceReport{User: ann, Join: h.state(ann).join, Node: "v1"}})
	h.wantEvents("VOICE_STATE_UPDATE→all")
	if len(h.g.voice) != 0 {
		t.Error("its connection is gone and it stays")
	}
	h = orphan()
	h.nodes.Replace([]VoiceNode{{Node: "v2"}})
	h.out = h.g.NodesChanged(h.wall)
	h.wantEvents("VOICE_STATE_UPDATE→all")
	if len(h.g.voice) != 0 {
		t.Error("its voice node is gone and it stays")
	}
	// Nobody can tell its client that it was moved (seed 778 of the simulation).
	h = orphan()
	h.as(owner, OpMemberUpdate, fmt.Sprintf(`{"channel_id":"%d"}`, voiceID), fmt.Sprintf("user=%d", ann))
	if len(h.g.voice) != 0 {
		t.Error("it was moved and waits for its client for ever")
	}
}

func TestAGatewayTakesOutWhatItDoesNotKnow(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	unknown := SessionRef{Session: ref(ann).Session}
	unknown.Gateway = "g2"
	h.step(Request{Detach: &Detach{SessionRef: unknown}})
	if len(h.g.sessions) != 1 {
		t.Error("a gateway took out another's session")
	}
	unknown.Gateway = ref(ann).Gateway
	h.step(Request{Detach: &Detach{SessionRef: unknown}})
	if len(h.g.sessions) != 0 || len(h.g.online) != 0 {
		t.Error("the session is still there")
	}
}

func TestConnectionsToWhatIsGoneEnd(t *testing.T) {
	h := newHouse(t)
	next := h.successor("v1")
	for user, channel := range map[proto.Snowflake]proto.Snowflake{ann: 999, 777: otherID, bob: textID} {
		next.step(Request{Report: &VoiceReport{User: user, Join: 5, Node: "v1", Connected: true, Channel: channel, Session: "s"}})
	}
	next.settle()
	if c := next.commands(); len(c) != 3 || !c[0].End || !c[1].End || !c[2].End || len(next.g.voice) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestNobodyIsLostOrDoubled hands a guild over and over while everybody moves, and
// some of what the new owner is told comes late, twice or never.
func TestNobodyIsLostOrDoubled(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHouse(t)
		users := []proto.Snowflake{ann, bob, mod, bot}
		h.attach(users...)
		for range rapid.IntRange(1, 4).Draw(rt, "owners") {
			for range rapid.IntRange(0, 6).Draw(rt, "steps") {
				user := rapid.SampledFrom(users).Draw(rt, "user")
				h.op4(ref(user), rapid.SampledFrom([]proto.Snowflake{0, otherID, stageID}).Draw(rt, "channel"),
					rapid.Bool().Draw(rt, "mute"), rapid.Bool().Draw(rt, "deaf"))
			}
			h.connect()
			claims, reports := h.claims(), h.reports()
			next := h.successor("v1")
			late := []Request{}
			for _, id := range slices.Sorted(maps.Keys(claims)) {
				a := claims[id]
				r := Request{Attach: &a}
				switch rapid.IntRange(0, 3).Draw(rt, "claim") {
				case 0:
					late = append(late, r)
				case 1:
					next.step(r)
					next.step(r)
				default:
					next.step(r)
				}
			}
			silent := map[proto.Snowflake]bool{}
			for _, user := range slices.Sorted(maps.Keys(reports)) {
				report := reports[user]
				if silent[user] = rapid.IntRange(0, 4).Draw(rt, "report") == 0; !silent[user] {
					next.step(Request{Report: &report})
				}
			}
			next.settle()
			for _, r := range late {
				next.step(r)
			}
			for _, user := range users {
				was, is := h.g.voice[user], next.g.voice[user]
				switch {
				case (was == nil) != (is == nil):
					rt.Fatalf("%d was %+v and is %+v", user, was, is)
				case was == nil:
				case was.channel != is.channel || is.session != ref(user):
					rt.Fatalf("%d was %+v and is %+v", user, was, is)
				case !silent[user] && was.join != is.join:
					rt.Fatalf("%d was connected and has to join again", user)
				}
			}
			h = next
		}
	})
}

func TestASessionChangesGateways(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.join(ann, otherID)
	h.connect()
	to := ref(ann)
	to.Gateway = "g2"
	other := ref(ann)
	other.User = bob
	for _, wrong := range []Handover{{}, {SessionRef: ref(mod), To: "g2"}, {SessionRef: ref(ann)}, {SessionRef: ref(ann), To: "g1"}, {SessionRef: other, To: "g2"}, {SessionRef: to, To: "g3"}} {
		if h.step(Request{Handover: &wrong}); len(h.out.Messages) != 0 {
			t.Errorf("%+v is told of", wrong)
		}
	}
	h.step(Request{Handover: &Handover{SessionRef: ref(ann), To: "g2"}})
	var told []string
	for _, m := range h.out.Messages {
		if m.Gateway == nil || m.Gateway.HandedOver == nil || *m.Gateway.HandedOver != (HandedOver{Guild: guildID, Session: to.Session}) {
			t.Fatalf("%+v", m)
		}
		told = append(told, m.Subject)
	}
	if want := []string{GatewaySubject("g1"), GatewaySubject("g2")}; !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
	if v := h.state(ann); v.session != to || v.transport == "" {
		t.Errorf("%+v", v)
	}
	if h.g.gateways["g1"] != 1 || h.g.gateways["g2"] != 1 {
		t.Errorf("%v", h.g.gateways)
	}
	// Its call outlives its old gateway now, and not its new one's word that it is over.
	h.out = h.g.GatewaysGone(h.wall, func(r SessionRef) bool { return r.Gateway == "g1" })
	if h.state(ann).session != to {
		t.Error("it went with its old gateway")
	}
	h.step(Request{Detach: &Detach{SessionRef: to}})
	if h.g.voice[ann] != nil || len(h.g.sessions) != 0 || len(h.g.gateways) != 0 {
		t.Errorf("%v %v", h.g.sessions, h.g.gateways)
	}
}
