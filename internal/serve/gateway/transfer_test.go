package gateway_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/serve/gateway"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

func isHandover(r guild.Request) bool { return r.Handover != nil }

// second starts another gateway, n2, in the world; both know of each other.
func (w *world) second() *world {
	w.t.Helper()
	cfg := defaults()
	cfg.Node, cfg.Log = "n2", slog.New(slog.DiscardHandler)
	other := *w
	other.service = gateway.New(cfg, w.bus, w.accounts)
	group := run.NewGroup(context.Background(), cfg.Log)
	if err := other.service.Start(group); err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewServer(other.service)
	other.url = server.URL
	w.t.Cleanup(func() {
		other.service.Close(context.Background())
		group.Stop()
		group.Wait()
		server.Close()
	})
	table := fleet.NewTable(1, fleet.Member{Name: "n1", Epoch: 1, Roles: fleet.Gateway})
	table.Hear(1, fleet.Member{Name: "n2", Epoch: 1, Roles: fleet.Gateway})
	w.service.Fleet(table.View())
	other.service.Fleet(table.View())
	return &other
}

func (w *world) tellNode(node string, m guild.GatewayMessage) {
	w.t.Helper()
	if err := w.bus.Publish(guild.GatewaySubject(node), m); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) event(node, event string) {
	w.t.Helper()
	w.tellNode(node, guild.GatewayMessage{Dispatch: &guild.Dispatch{Guild: guildA, Event: event, Data: []byte(`{}`)}})
}

func (w *world) handOver(g proto.Snowflake, session string) {
	w.t.Helper()
	for _, node := range []string{"n1", "n2"} {
		w.tellNode(node, guild.GatewayMessage{HandedOver: &guild.HandedOver{Guild: g, Session: session}})
	}
}

func TestASessionGoesOnAtAnotherGateway(t *testing.T) {
	w := newWorld(t, defaults())
	two := w.second()
	p := w.dial("v=10")
	ready := p.identify(aliceKey, "", 1)
	p.send(`{"op":4,"d":{"guild_id":"%d","channel_id":"55"}}`, guildA)
	w.asked(isVoice)
	w.event("n1", "SEEN")
	p.want("SEEN")

	var draining sync.WaitGroup
	draining.Go(func() { w.service.Drain(t.Context()) })
	p.want(proto.OpReconnect)
	p.wantClose(proto.CloseUnknownError)
	w.event("n1", "MISSED")
	if _, err := w.tryDial("v=10"); err == nil {
		t.Error("a gateway that drains takes clients")
	}

	again := two.dial("v=10")
	again.want(proto.OpHello)
	again.last = p.last
	again.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, aliceKey, ready.SessionID, p.last)
	r := w.asked(isHandover)
	if r.Guild != guildA || r.Handover.Gateway != "n1" || r.Handover.To != "n2" || r.Handover.Session != ready.SessionID || r.Handover.User != alice {
		t.Fatalf("%+v", r.Handover)
	}
	// What n2 hears of the guild before the guild says so, n1 hears too.
	w.event("n1", "LATE")
	w.event("n2", "LATE")
	w.handOver(guildA, ready.SessionID)
	w.event("n2", "NEXT")
	for _, event := range []string{"MISSED", "LATE", "RESUMED", "NEXT"} {
		again.want(event)
	}
	draining.Wait()
	again.send(`{"op":4,"d":{"guild_id":"%d","channel_id":null}}`, guildA)
	if v := w.asked(isVoice); v.Voice.Gateway != "n2" || v.Voice.Session != ready.SessionID {
		t.Errorf("%+v", v.Voice)
	}
	w.event("n1", "STRAY")
	w.event("n2", "LAST")
	again.want("LAST")
	// It can be resumed there as anywhere.
	_ = again.ws.CloseNow()
	third := two.dial("v=10")
	third.want(proto.OpHello)
	third.last = again.last
	third.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, aliceKey, ready.SessionID, again.last)
	third.want("RESUMED")
}

func TestANewOwnerKnowsWhereASessionIsInVoice(t *testing.T) {
	w := newWorld(t, defaults())
	two := w.second()
	p := w.dial("v=10")
	ready := p.identify(aliceKey, "", 1)
	p.send(`{"op":4,"d":{"guild_id":"%d","channel_id":"55","self_mute":true}}`, guildA)
	w.asked(isVoice)
	again := two.dial("v=10") // the client is quicker than the end of its connection
	again.want(proto.OpHello)
	again.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, aliceKey, ready.SessionID, p.last)
	w.asked(isHandover)
	p.wantClose(proto.CloseUnknownError)
	w.handOver(guildA, ready.SessionID)
	again.want("RESUMED")
	w.claim(guildA, 2)
	r := w.asked(func(r guild.Request) bool { return r.Attach != nil && r.Attach.Known })
	if a := r.Attach; a.Gateway != "n2" || a.Session != ready.SessionID || a.Voice == nil || *a.Voice.ChannelID != 55 || !a.Voice.SelfMute {
		t.Errorf("%+v", r.Attach)
	}
	w.asked(func(r guild.Request) bool { return r.Present != nil && r.Present.Node == "n2" })
}

func TestWhatCannotBeHandedOverIsLost(t *testing.T) {
	w := newWorld(t, defaults())
	two := w.second()
	p := w.dial("v=10")
	ready := p.identify(robotKey, robotIntents, 2)
	resume := func(key, id string) *peer {
		again := two.dial("v=10")
		again.want(proto.OpHello)
		again.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, key, id, p.last)
		return again
	}
	resume("MQ.AAAAAA.nobody", ready.SessionID).wantClose(proto.CloseAuthenticationFailed)
	resume(aliceKey, ready.SessionID).want(proto.OpInvalidSession) // another's
	resume(robotKey, "unheard of").want(proto.OpInvalidSession)

	again := resume(robotKey, ready.SessionID)
	w.asked(isHandover)
	w.asked(isHandover)
	w.handOver(guildA, ready.SessionID)
	w.claim(guildA, 2) // by an owner who cannot know of it
	again.want(proto.OpInvalidSession)
	left := map[proto.Snowflake]bool{}
	for range 2 {
		r := w.asked(func(r guild.Request) bool { return r.Detach != nil && r.Detach.Gateway == "n1" })
		if left[r.Guild] = true; !r.Detach.Leaving || r.Detach.Session != ready.SessionID {
			t.Errorf("%+v", r.Detach)
		}
	}
	if len(left) != 2 {
		t.Errorf("it left %v", left)
	}
}
