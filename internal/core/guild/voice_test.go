package guild

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/proto"
)

func TestJoinGivesStateThenServer(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.join(ann, voiceID)
	h.wantEvents("VOICE_STATE_UPDATE→all")
	if last := h.out.Messages[len(h.out.Messages)-1]; last.Gateway.VoiceServer == nil || last.Subject != GatewaySubject("g1") {
		t.Fatal("VOICE_SERVER_UPDATE does not come last")
	}
	server, claims := h.server()
	if server.Endpoint != "v1:443" || server.Session != "s2" {
		t.Fatalf("%+v", server)
	}
	v := h.state(ann)
	if claims.Channel != voiceID || claims.User != ann || claims.Session != "s2" || claims.Join != v.join || claims.Mute || claims.Bitrate != 64000 ||
		!claims.Permissions.Has(proto.PermSpeak) {
		t.Fatalf("%+v", claims)
	}
	state := dispatched[proto.VoiceState](h, "VOICE_STATE_UPDATE")[0]
	if *state.ChannelID != voiceID || state.Member.User.ID != ann || state.Suppress || state.Mute {
		t.Fatalf("%+v", state)
	}
}

func TestSelfMuteSendsStateOnly(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.join(ann, voiceID)
	join := h.state(ann).join
	h.op4(ref(ann), voiceID, true, false)
	h.wantEvents("VOICE_STATE_UPDATE→all")
	if len(h.out.Messages) != 1 || h.state(ann).join != join {
		t.Fatal("self mute is no new join")
	}
	h.op4(ref(ann), voiceID, true, true)
	if c := h.commands(); len(c) != 1 || c[0].Update == nil || !c[0].Update.SelfDeaf || c[0].Join != join {
		t.Fatalf("%+v", c)
	}
}

func TestRepeatedRequestRejoins(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.join(ann, voiceID)
	first := h.state(ann).join
	h.join(ann, voiceID)
	_, claims := h.server()
	if claims.Join <= first {
		t.Fatal("the join is not new")
	}
	if c := h.commands(); len(c) != 1 || !c[0].End || !c[0].Moved || c[0].Join != first || c[0].Code != CloseDisconnected {
		t.Fatalf("%+v", c)
	}
}

func TestAnotherSessionTakesOver(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	second := SessionRef{Gateway: "g2", Session: "second", User: ann}
	h.step(Request{Attach: &Attach{SessionRef: second, Intents: proto.IntentsKnown}})
	h.join(ann, voiceID)
	first := h.state(ann).join
	h.op4(second, voiceID, false, false)
	if server, _ := h.server(); server.Session != "second" {
		t.Fatalf("%+v", server)
	}
	if c := h.commands(); len(c) != 1 || !c[0].End || c[0].Moved || c[0].Join != first {
		t.Fatalf("%+v", c)
	}
	h.step(Request{Detach: &Detach{SessionRef: ref(ann)}})
	h.state(ann) // the first session's end does not end the second's voice
	h.step(Request{Detach: &Detach{SessionRef: second}})
	if h.g.voice[ann] != nil {
		t.Fatal("the session's end leaves its voice state")
	}
}

func TestLeave(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.join(ann, voiceID)
	join := h.state(ann).join
	h.join(ann, 0)
	h.wantEvents("VOICE_STATE_UPDATE→all")
	if s := dispatched[proto.VoiceState](h, "VOICE_STATE_UPDATE")[0]; s.ChannelID != nil {
		t.Fatalf("%+v", s)
	}
	if c := h.commands(); len(c) != 1 || !c[0].End || c[0].Moved || c[0].Join != join {
		t.Fatalf("%+v", c)
	}
	h.join(ann, 0)
	if len(h.out.Messages) != 0 {
		t.Fatal("leaving twice says something")
	}
}

func TestRefusedJoinIsAnsweredWithTheStateAsItStays(t *testing.T) {
	deny := func(bits proto.Permissions) func(*house) {
		return func(h *house) {
			h.want(h.admin(OpOverwritePut, fmt.Sprintf(`{"type":0,"deny":"%d"}`, bits), "channel=201", "target=100"), 204, 0)
		}
	}
	for name, c := range map[string]struct {
		channel proto.Snowflake
		prepare func(*house)
	}{
		"text channel": {textID, func(*house) {}},
		"category":     {groupID, func(*house) {}},
		"unknown":      {999, func(*house) {}},
		"no CONNECT":   {voiceID, deny(proto.PermConnect)},
		"no VIEW":      {voiceID, deny(proto.PermViewChannel)},
		"full":         {voiceID, func(h *house) { h.attach(bob, bot); h.join(bob, voiceID); h.join(bot, voiceID) }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.attach(ann)
			c.prepare(h)
			h.join(ann, c.channel)
			h.wantEvents("VOICE_STATE_UPDATE→s2")
			if s := dispatched[proto.VoiceState](h, "VOICE_STATE_UPDATE")[0]; s.ChannelID != nil || len(h.out.Messages) != 2 {
				t.Fatalf("%+v", s)
			}
		})
	}
}

func TestMoveMembersPassesTheLimit(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob, mod)
	h.join(ann, voiceID)
	h.join(bob, voiceID)
	h.join(mod, voiceID)
	h.state(mod)
}

func TestOnlyViewersHearOfAChannel(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob, mod)
	h.want(h.admin(OpOverwritePut, `{"type":1,"deny":"1024"}`, "channel=201", "target=3"), 204, 0)
	h.wantEvents("CHANNEL_DELETE→s3", "CHANNEL_UPDATE→s2,s4")
	h.join(ann, voiceID)
	h.wantEvents("VOICE_STATE_UPDATE→s2,s4")
	h.join(ann, otherID)
	h.wantEvents("VOICE_STATE_UPDATE→all")
	h.join(ann, voiceID) // for bob she vanishes
	h.wantEvents("VOICE_STATE_UPDATE→s2,s4", "VOICE_STATE_UPDATE→s3")
	if s := dispatched[proto.VoiceState](h, "VOICE_STATE_UPDATE")[1]; s.ChannelID != nil {
		t.Fatalf("%+v", s)
	}
	h.want(h.admin(OpOverwriteDelete, "", "channel=201", "target=3"), 204, 0)
	h.wantEvents("CHANNEL_CREATE→s3", "VOICE_STATE_UPDATE→s3", "CHANNEL_UPDATE→all")
}

func TestLostSpeakMutesAtOnce(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.join(ann, voiceID)
	h.want(h.admin(OpRoleUpdate, fmt.Sprintf(`{"permissions":"%d"}`, proto.PermDefault&^proto.PermSpeak), "role=100"), 200, 0)
	if c := h.commands(); len(c) != 1 || c[0].Update == nil || !c[0].Update.Mute {
		t.Fatalf("%+v", c)
	}
	if s := dispatched[proto.VoiceState](h, "VOICE_STATE_UPDATE")[0]; !s.Suppress || s.Mute {
		t.Fatalf("%+v", s)
	}
	h.want(h.admin(OpRoleUpdate, fmt.Sprintf(`{"permissions":"%d"}`, proto.PermDefault&^proto.PermConnect), "role=100"), 200, 0)
	h.state(ann) // losing CONNECT does not disconnect
}

func TestModeration(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, mod)
	user := "user=2"
	h.want(h.as(mod, OpMemberUpdate, `{"mute":true}`, user), 400, proto.ErrNotConnectedToVoice)
	h.join(ann, voiceID)
	h.want(h.as(bob, OpMemberUpdate, `{"mute":true}`, user), 403, proto.ErrMissingPermissions)

	h.want(h.as(mod, OpMemberUpdate, `{"mute":true,"deaf":true}`, user), 200, 0)
	if c := h.commands(); len(c) != 1 || !c[0].Update.Mute || !c[0].Update.Deaf {
		t.Fatalf("%+v", c)
	}
	if len(h.out.Writes) != 1 || !h.out.Writes[0].Member.Mute {
		t.Fatal("server mute is not stored")
	}
	h.join(ann, 0)
	h.join(ann, otherID)
	if _, claims := h.server(); !claims.Mute || !claims.Deaf {
		t.Fatal("server mute does not survive a new join")
	}

	old := h.state(ann).join
	h.want(h.as(mod, OpMemberUpdate, `{"channel_id":"201"}`, user), 200, 0)
	if _, claims := h.server(); claims.Channel != voiceID || claims.Join == old {
		t.Fatalf("%+v", claims)
	}
	if c := h.commands(); len(c) != 1 || !c[0].End || !c[0].Moved || c[0].Join != old {
		t.Fatalf("%+v", c)
	}
	h.want(h.as(mod, OpMemberUpdate, `{"channel_id":"200"}`, user), 400, proto.ErrNotOnThisChannelType)
	h.want(h.as(mod, OpMemberUpdate, `{"channel_id":"999"}`, user), 404, proto.ErrUnknownChannel)
	h.want(h.as(mod, OpMemberUpdate, `{"channel_id":null}`, user), 200, 0)
	if h.g.voice[ann] != nil {
		t.Fatal("disconnected and still there")
	}
	if c := h.commands(); len(c) != 1 || !c[0].End || c[0].Moved || c[0].Code != CloseDisconnected {
		t.Fatalf("%+v", c)
	}
}

func TestUnmuteWhileSuppressedStillShows(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.join(ann, stageID)
	h.want(h.as(mod, OpMemberUpdate, `{"mute":true}`, "user=2"), 200, 0)
	if s := dispatched[proto.VoiceState](h, "VOICE_STATE_UPDATE"); len(s) != 1 || !s[0].Mute || len(h.commands()) != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestStage(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, mod)
	h.join(ann, stageID)
	if _, claims := h.server(); !claims.Mute || !h.state(ann).suppress {
		t.Fatal("the audience may speak")
	}
	h.want(h.as(ann, OpVoiceUpdate, `{"suppress":false}`, "user=2"), 403, proto.ErrMissingPermissions)
	h.want(h.as(ann, OpVoiceUpdate, `{"request_to_speak_timestamp":"2030-01-02T03:04:05Z"}`, "user=2"), 204, 0)
	if s := dispatched[proto.VoiceState](h, "VOICE_STATE_UPDATE")[0]; s.RequestToSpeakTimestamp == nil || !s.Suppress {
		t.Fatalf("%+v", s)
	}
	h.want(h.as(mod, OpVoiceUpdate, `{"suppress":false,"channel_id":"203"}`, "user=2"), 204, 0)
	if c := h.commands(); len(c) != 1 || c[0].Update.Mute {
		t.Fatalf("%+v", c)
	}
	h.want(h.as(ann, OpVoiceUpdate, `{"suppress":true}`, "user=2"), 204, 0)
	if v := h.state(ann); !v.suppress || v.requested != nil {
		t.Fatalf("%+v", v)
	}
	h.want(h.as(mod, OpVoiceUpdate, `{"suppress":false}`, "user=3"), 404, proto.ErrUnknownVoiceState)
	h.want(h.as(mod, OpVoiceUpdate, `{"channel_id":"201"}`, "user=2"), 400, proto.ErrUnknownVoiceState)
	h.join(ann, voiceID)
	h.want(h.as(mod, OpVoiceUpdate, `{"suppress":true}`, "user=2"), 400, proto.ErrNotOnThisChannelType)
	if h.state(ann).suppress {
		t.Fatal("suppressed off the stage")
	}
}

func TestWhatEndsAllInAChannel(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*house) *Result
		code proto.CloseCode
	}{
		"channel deleted": {func(h *house) *Result { return h.as(mod, OpChannelDelete, "", "channel=201") }, CloseTerminated},
		"kicked":          {func(h *house) *Result { return h.as(mod, OpMemberRemove, "", "user=2") }, CloseDisconnected},
		"guild deleted":   {func(h *house) *Result { return h.as(owner, OpGuildDelete, "") }, CloseTerminated},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.attach(ann)
			h.join(ann, voiceID)
			if r := c.end(h); r.Status >= 400 {
				t.Fatalf("%s", r.Body)
			}
			if v := h.commands(); len(v) != 1 || !v[0].End || v[0].Moved || v[0].Code != c.code || len(h.g.voice) != 0 {
				t.Fatalf("%+v", v)
			}
		})
	}
}

func TestReports(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.join(ann, voiceID)
	join := h.state(ann).join
	report := func(join uint64, connected bool) {
		h.step(Request{Report: &VoiceReport{User: ann, Join: join, Node: "v1", Connected: connected, Worker: 3, Transport: "udp"}})
	}
	report(join, true)
	if c := h.commands(); len(c) != 1 || c[0].Update == nil || *c[0].Update != h.state(ann).enforced {
		t.Fatalf("%+v", c)
	}
	list := as[[]VoiceListEntry](h, h.admin(OpVoiceList, "").Body)
	if len(list) != 1 || list[0].Worker != 3 || list[0].Transport != "udp" || list[0].Node != "v1" || list[0].Username != "ann" {
		t.Fatalf("%+v", list)
	}
	report(join-1, false)
	h.state(ann) // a stale end
	report(join-1, true)
	if c := h.commands(); len(c) != 1 || !c[0].End || c[0].Join != join-1 {
		t.Fatalf("a connection with a stale token stays: %+v", c)
	}
	report(join, false)
	h.wantEvents("VOICE_STATE_UPDATE→all")
	if h.g.voice[ann] != nil {
		t.Fatal("the connection's end leaves the voice state")
	}
}

func TestChannelStaysTogetherAndMovesWhenItsServerIsGone(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.join(ann, otherID)
	h.nodes.Announce(VoiceNode{Node: "v1", Endpoint: "v1:443", Load: 0.9})
	h.announce("v2", "v2:443")
	h.join(bob, otherID)
	if server, _ := h.server(); server.Endpoint != "v1:443" {
		t.Fatal("one channel is on two voice servers")
	}
	before := []uint64{h.state(ann).join, h.state(bob).join}
	h.pass(time.Second)
	if !h.nodes.Replace([]VoiceNode{{Node: "v2", Endpoint: "v2:443"}}) {
		t.Fatal("v1 is not gone")
	}
	h.out = h.g.NodesChanged(h.wall)
	var given []string
	for _, m := range h.out.Messages {
		if m.Gateway != nil {
			given = append(given, m.Gateway.VoiceServer.Session+" "+m.Gateway.VoiceServer.Endpoint)
		}
	}
	if want := []string{"s2 v2:443", "s3 v2:443"}; !slices.Equal(given, want) {
		t.Fatalf("%q", given)
	}
	if h.state(ann).join <= before[0] || h.state(bob).join <= before[1] || h.state(ann).join == h.state(bob).join {
		t.Fatal("the joins are not new")
	}
}

func TestJoinWaitsForAVoiceServer(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.pass(time.Minute)
	h.nodes.Replace(nil)
	h.join(ann, voiceID)
	h.wantEvents("VOICE_STATE_UPDATE→all")
	if len(h.out.Messages) != 1 {
		t.Fatal("a server was named though there is none")
	}
	h.announce("v9", "v9:1")
	if server, claims := h.server(); server.Endpoint != "v9:1" || claims.Join != h.state(ann).join {
		t.Fatalf("%+v", server)
	}
}

// TestVoiceHoldsUnderAnyOrder drives everything that touches voice in any order.
// The harness checks after each step that every voice state has a join of its
// own, a member and a channel, and that what is enforced is what is permitted.
func TestVoiceHoldsUnderAnyOrder(t *testing.T) {
	users := []proto.Snowflake{owner, ann, bob, bot}
	channels := []proto.Snowflake{0, textID, voiceID, otherID, stageID}
	rapid.Check(t, func(rt *rapid.T) {
		h := newHouse(t)
		h.attach(users...)
		user := func() proto.Snowflake { return rapid.SampledFrom(users).Draw(rt, "user") }
		channel := func() proto.Snowflake { return rapid.SampledFrom(channels).Draw(rt, "channel") }
		flag := func() bool { return rapid.Bool().Draw(rt, "flag") }
		permissions := func() proto.Permissions {
			return rapid.SampledFrom([]proto.Permissions{proto.PermSpeak, proto.PermConnect, proto.PermViewChannel, proto.PermMoveMembers, proto.PermMuteMembers}).Draw(rt, "bits")
		}
		steps := map[string]func(*rapid.T){
			"op 4": func(*rapid.T) {
				u, to := user(), channel()
				full, was := len(h.g.occupants(voiceID)) >= 2, h.g.voice[u]
				h.op4(ref(u), to, flag(), flag())
				now := h.g.voice[u]
				entered := now != nil && now.channel == voiceID && (was == nil || was.channel != voiceID)
				if full && entered && !h.g.permissionsIn(h.g.members[u], h.g.channels[voiceID]).Has(proto.PermMoveMembers) {
					rt.Fatalf("%d entered a full channel", u)
				}
			},
			"session ends": func(*rapid.T) { u := user(); h.step(Request{Detach: &Detach{SessionRef: ref(u)}}); h.attach(u) },
			"report": func(*rapid.T) {
				u := user()
				r := VoiceReport{User: u, Node: "v1", Connected: flag(), Transport: "udp"}
				if v := h.g.voice[u]; v != nil && flag() {
					r.Join = v.join
				}
				h.step(Request{Report: &r})
			},
			"goes on": func(*rapid.T) {
				u := user()
				again := SessionRef{Gateway: "g2", Session: fmt.Sprint("again", u), User: u}
				h.step(Request{Attach: &Attach{SessionRef: again, Intents: proto.IntentsKnown}})
				if v := h.g.voice[u]; v != nil {
					h.goOn(again, v.channel, v.identified)
					if is := h.state(u); is.session != again || (is.join == v.join) != (v.transport != "") {
						rt.Fatalf("%+v has become %+v", v, is)
					}
				}
			},
			"moderate": func(*rapid.T) {
				h.as(owner, OpMemberUpdate, fmt.Sprintf(`{"mute":%t,"deaf":%t}`, flag(), flag()), "user="+user().String())
			},
			"move": func(*rapid.T) {
				h.as(owner, OpMemberUpdate, fmt.Sprintf(`{"channel_id":%q}`, channel()), "user="+user().String())
			},
			"overwrite": func(*rapid.T) {
				h.as(owner, OpOverwritePut, fmt.Sprintf(`{"type":1,"allow":"%d","deny":"%d"}`, permissions(), permissions()),
					"channel="+rapid.SampledFrom(channels[1:]).Draw(rt, "of").String(), "target="+user().String())
			},
			"role": func(*rapid.T) {
				h.as(owner, OpRoleUpdate, fmt.Sprintf(`{"permissions":"%d"}`, proto.PermDefault^permissions()), "role=100")
			},
			"stage": func(*rapid.T) {
				h.as(owner, OpVoiceUpdate, fmt.Sprintf(`{"suppress":%t}`, flag()), "user="+user().String())
			},
			"servers": func(*rapid.T) {
				h.pass(2 * time.Second)
				var list []VoiceNode
				if flag() {
					list = append(list, VoiceNode{Node: "v1", Endpoint: "v1:443"})
				}
				if h.nodes.Replace(list) {
					h.out = h.g.NodesChanged(h.wall)
				}
			},
			"undone": func(*rapid.T) {
				before := len(h.g.voice)
				h.as(owner, OpChannelDelete, "", "channel=201")
				h.g.Rollback()
				if len(h.g.voice) != before {
					rt.Fatal("a change was not taken back")
				}
			},
			"": func(*rapid.T) { h.checkVoice() },
		}
		rt.Repeat(steps)
	})
}
