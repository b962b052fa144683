package gateway_test

import (
	"context"
	"encoding/json"
	"testing"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/proto"
)

func isAttach(r guild.Request) bool  { return r.Attach != nil }
func isVoice(r guild.Request) bool   { return r.Voice != nil }
func isPresent(r guild.Request) bool { return r.Present != nil }
func isWake(r guild.Request) bool    { return r.Wake != nil }

// claim has the world's owner take a guild in a generation.
func (w *world) claim(g proto.Snowflake, generation uint64) {
	w.t.Helper()
	if err := w.bus.Publish(guild.SubjectClaimed, guild.Claimed{Guild: g, Generation: generation, Node: "guilds"}); err != nil {
		w.t.Fatal(err)
	}
}

// voiceAnswer claims guild A and returns where its only session is said to be in voice.
func (w *world) voiceAnswer(generation uint64) *guild.Attach {
	w.t.Helper()
	w.claim(guildA, generation)
	r := w.asked(isAttach)
	if !r.Attach.Known || r.Guild != guildA {
		w.t.Fatalf("%+v", r.Attach)
	}
	if p := w.asked(isPresent); p.Guild != guildA || *p.Present != (guild.Present{Node: "n1", Role: guild.RoleGateway}) {
		w.t.Fatalf("%+v", p)
	}
	return r.Attach
}

func TestANewOwnerIsToldOfEverySession(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("v=10")
	ready := p.identify(aliceKey, "", 1)
	w.asked(isAttach)
	if a := w.voiceAnswer(2); a.Voice != nil {
		t.Errorf("in voice at %+v", a.Voice)
	}
	p.send(`{"op":4,"d":{"guild_id":"%d","channel_id":"55","self_mute":true,"self_deaf":false}}`, guildA)
	w.asked(isVoice)
	if at := w.voiceAnswer(3).Voice; at == nil || at.ChannelID == nil || *at.ChannelID != 55 || !at.SelfMute {
		t.Errorf("asked for 55, in voice at %+v", at)
	}
	w.tell(guild.GatewayMessage{VoiceServer: &guild.VoiceServer{Guild: guildA, Session: ready.SessionID, Token: "x", Endpoint: "v:1", Channel: 56, Node: "v", Generation: 3}})
	p.want("VOICE_SERVER_UPDATE")
	if at := w.voiceAnswer(4).Voice; at == nil || *at.ChannelID != 56 || !at.SelfMute {
		t.Errorf("moved to 56, in voice at %+v", at)
	}
	w.tell(guild.GatewayMessage{VoiceEnded: &guild.VoiceEnded{Guild: guildA, Session: ready.SessionID, Generation: 4}})
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "MARK", Sessions: []string{ready.SessionID}, Generation: 4, Data: []byte(`{}`)})
	p.want("MARK")
	if a := w.voiceAnswer(5); a.Voice == nil || !a.Left {
		t.Errorf("disconnected, and %+v", a)
	}
	// A guild that nobody is in is answered all the same.
	w.claim(guildB, 1)
	if r := w.asked(isPresent); r.Guild != guildB {
		t.Errorf("%+v", r)
	}
	// What an owner before says comes no more.
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "OLD", Generation: 4, Data: []byte(`{}`)})
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "NEW", Generation: 5, Data: []byte(`{}`)})
	p.want("NEW")
}

func TestANewOwnerIsToldOfWhoEndedLately(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("v=10")
	ready := p.identify(aliceKey, "", 1)
	w.asked(isAttach)
	if err := p.ws.Close(1000, ""); err != nil {
		t.Fatal(err)
	}
	if r := w.asked(isDetach); r.Detach.Leaving {
		t.Error("the client left, not its gateway")
	}
	w.claim(guildA, 2)
	if r := w.asked(isAttach); !r.Attach.Known || r.Attach.Session != ready.SessionID {
		t.Errorf("%+v", r.Attach)
	}
	if r := w.asked(isDetach); r.Detach.Session != ready.SessionID {
		t.Errorf("%+v", r.Detach)
	}
	w.asked(isPresent)
}

func TestAGuildAdriftIsWokenUntilItIsClaimed(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("v=10")
	p.identify(aliceKey, "", 1)
	table := fleet.NewTable(1, fleet.Member{Name: "n1", Epoch: 1, Roles: fleet.Gateway})
	table.Hear(1, fleet.Member{Name: "a", Epoch: 1, Roles: fleet.Guilds})
	w.service.Fleet(table.View())
	for range 3 {
		if r := w.asked(isWake); r.Guild != guildA || r.Wake.Gateway != "n1" {
			t.Fatalf("%+v", r)
		}
	}
	w.claim(guildA, 2)
	w.asked(isPresent)
	// It is at rest now: the same fleet with another gateway wakes nobody, a restart of
	// the owner does.
	table.Hear(1, fleet.Member{Name: "n2", Epoch: 1, Roles: fleet.Gateway})
	w.service.Fleet(table.View())
	w.claim(guildA, 3)
	for r := range w.requests {
		if r.Wake != nil {
			t.Error("woken without need")
		}
		if r.Present != nil {
			break
		}
	}
	table.Hear(1, fleet.Member{Name: "a", Epoch: 2, Roles: fleet.Guilds})
	w.service.Fleet(table.View())
	w.asked(isWake)
}

func TestALeavingGatewayEndsNoCalls(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("v=10")
	p.identify(aliceKey, "", 1)
	w.service.Close(context.Background())
	if r := w.asked(isDetach); !r.Detach.Leaving {
		t.Error("the gateway left, not its client")
	}
}

// TestAReturnedBusEndsNoCalls has the bus come back, and the guild's owner call the roll
// after it.
func TestAReturnedBusEndsNoCalls(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("v=10")
	ready := p.identify(aliceKey, "", 1)
	w.asked(isAttach)
	w.service.Returned()
	if r := w.asked(isDetach); !r.Detach.Leaving {
		t.Error("the gateway has missed events, its client has not left")
	}
	w.claim(guildA, 2)
	w.asked(isAttach)
	if r := w.asked(isDetach); r.Detach.Session != ready.SessionID || !r.Detach.Leaving {
		t.Errorf("%+v", r.Detach)
	}
	w.asked(isPresent)
}

// TestAnOwnerThatHeardNothingIsToldWhatWasAsked has an owner miss Attach and op 4, as one
// does that is back on the bus after the gateway, and claim the guild later.
func TestAnOwnerThatHeardNothingIsToldWhatWasAsked(t *testing.T) {
	cfg := defaults()
	cfg.Route = func(proto.Snowflake) string { return guild.OwnerSubject("nobody") }
	w := newWorld(t, cfg)
	missed := make(chan guild.Request, 10)
	unsub, err := w.bus.Subscribe(guild.OwnerSubject("nobody"), func(m bus.Message) {
		var r guild.Request
		if err := m.Decode(&r); err != nil {
			t.Error(err)
		}
		missed <- r
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unsub)
	p := w.dial("v=10")
	ready := p.identify(aliceKey, "", 0)
	p.send(`{"op":4,"d":{"guild_id":"%d","channel_id":"55","self_mute":true,"self_deaf":false}}`, guildA)
	for r := range missed {
		if r.Voice != nil {
			break
		}
	}
	w.claim(guildA, 2)
	a := w.asked(isAttach).Attach
	if a.Known || a.Session != ready.SessionID || a.Voice == nil || *a.Voice.ChannelID != 55 || !a.Voice.SelfMute {
		t.Errorf("%+v", a)
	}
}

func TestAVoiceNodeBesideTheGatewayIsReachedLikeIt(t *testing.T) {
	cfg := defaults()
	cfg.Beside = "n1"
	w := newWorld(t, cfg)
	p := w.dial("v=10")
	ready := p.identify(aliceKey, "", 1)
	for node, want := range map[string]string{"n1": w.url[len("http://"):], "n2": "far:443"} {
		w.tell(guild.GatewayMessage{VoiceServer: &guild.VoiceServer{Guild: guildA, Session: ready.SessionID, Token: "x", Endpoint: "far:443", Channel: 5, Node: node}})
		var d proto.VoiceServerUpdateData
		if err := json.Unmarshal(p.want("VOICE_SERVER_UPDATE").D, &d); err != nil {
			t.Fatal(err)
		}
		if d.Endpoint == nil || *d.Endpoint != want {
			t.Errorf("%s is at %v, want %s", node, d.Endpoint, want)
		}
	}
}
