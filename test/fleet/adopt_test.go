//go:build linux

package fleet

import (
	"net/http"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// connections has a page remember each of its connections, for hearing to ask them.
const connections = `(() => {
	window.connections = [];
	const real = window.RTCPeerConnection;
	window.RTCPeerConnection = class extends real {
		constructor(...args) { super(...args); window.connections.push(this); }
	};
	return true;
})()`

const hearing = `(async () => {
	const got = { connections: window.connections.length, packets: 0, lost: 0 };
	for (const c of window.connections) for (const s of (await c.getStats()).values()) {
		if (s.type !== "inbound-rtp" || s.kind !== "audio") continue;
		got.packets += s.packetsReceived;
		got.lost += s.packetsLost;
	}
	return got;
})()`

// outliving is a call of two natives and a page whose gateways die, and a witness whose
// gateway does not.
type outliving struct {
	*platform
	natives crowd
	cy      *browser.App
	page    *ear // what the witness hears of it
	eve     *person
	// sessions are by whose the places of those who talk are, as the witness was told.
	sessions map[proto.Snowflake]string
	named    chan proto.Snowflake // voice servers, to natives
}

// wantUnheard holds that nobody has noticed anything.
func (o *outliving) wantUnheard(t *testing.T, what string) {
	t.Helper()
	o.natives.everybody(t, 100)
	if lost, doubled := o.natives.tell(t, what); lost+doubled > 0 {
		t.Errorf("%s: %d packets were lost, %d doubled", what, lost, doubled)
	}
	heard, _, _ := o.page.told()
	o.page.wait(t, heard+50)
	o.page.mu.Lock()
	heard, lost, ssrcs := o.page.heard, o.page.lost, len(o.page.next)
	o.page.mu.Unlock()
	if t.Logf("%-22s %d packets of the page, %d lost", what, heard, lost); lost > 0 || ssrcs != 1 {
		t.Errorf("%s: %d packets of the page were lost, and it had %d SSRCs", what, lost, ssrcs)
	}
	var cy struct{ Connections, Packets, Lost int }
	o.cy.Eval(t, hearing, &cy)
	if cy.Connections != 1 || cy.Packets == 0 || cy.Lost > 0 {
		t.Errorf("%s: by the page's count: %+v", what, cy)
	}
	select {
	case id := <-o.named:
		t.Errorf("%s: %d was told of a voice server", what, id)
	default:
	}
}

// dies kills the gateway of those who talk, and waits until they go on by another.
func (o *outliving) dies(t *testing.T, gateway, next *harness.FleetNode, balancer *harness.Proxy) {
	t.Helper()
	drained(o.eve.states)
	o.natives.tell(t, "calm")
	gateway.Kill()
	balancer.Retarget(next.URL())
	limit := time.After(patience)
	for renewed := map[proto.Snowflake]bool{}; len(renewed) < len(o.sessions); {
		select {
		case s := <-o.eve.states:
			if was, talks := o.sessions[s.UserID]; talks && s.SessionID != was && s.ChannelID != nil {
				o.sessions[s.UserID], renewed[s.UserID] = s.SessionID, true
			}
		case <-limit:
			t.Fatalf("of %d only %d go on", len(o.sessions), len(renewed))
		}
	}
	o.wantUnheard(t, gateway.Name+" was killed")
}

// TestACallOutlivesItsGateway kills one gateway after the other while people talk, with
// the guild's owner in between: each time they identify anew, and nobody loses a packet or
// is told of a voice server.
func TestACallOutlivesItsGateway(t *testing.T) {
	p := start(t)
	front := p.entrance
	gateways := []*harness.FleetNode{p.run("gw-a", "gateway,rest"), p.run("gw-b", "gateway,rest")}
	balancer := harness.NewProxy(t, gateways[0].URL())
	p.entrance, p.url = gateways[0], "http://"+balancer.Addr()
	var invite proto.Invite
	p.call(http.MethodPost, "/guilds/"+p.guild.String()+"/invites", map[string]any{"channel_id": p.lounge, "max_age": 0}, &invite)
	page := browser.Enter(t, browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)}), p.url, invite.Code, "Cy")
	page.Eval(t, connections, nil)
	page.Join(t, p.lounge)
	ann, bob := p.person("ann"), p.person("bob")
	fromAnn, fromBob := p.join(ann), p.join(bob)
	o := &outliving{
		platform: p, cy: page, natives: crowd{attend(t, fromAnn, bob.id), attend(t, fromBob, ann.id)},
		sessions: map[proto.Snowflake]string{}, named: make(chan proto.Snowflake, 100),
	}
	play(t, fromAnn, &numbers{})
	play(t, fromBob, &numbers{})

	p.entrance, p.url = front, front.URL()
	o.eve = p.person("eve")
	for _, s := range (<-o.eve.guilds).VoiceStates {
		o.sessions[s.UserID] = s.SessionID
		if s.UserID != ann.id && s.UserID != bob.id {
			o.page = listen(t, p.join(o.eve), s.UserID)
		}
	}
	if len(o.sessions) != 3 {
		t.Fatalf("in voice: %v", o.sessions)
	}
	o.natives.everybody(t, 25)
	o.page.wait(t, 25)
	for _, who := range []*person{ann, bob} {
		t.Cleanup(client.On(who.Gateway, client.VoiceServerUpdate, func(proto.VoiceServerUpdateData) { o.named <- who.id }))
	}
	before := p.inVoice()
	o.dies(t, gateways[0], gateways[1], balancer)

	owner := p.GuildOwner(p.guild)
	owner.Kill()
	p.until("the guild answers", func() bool {
		status, _, err := front.Admin().Try(t.Context(), http.MethodPatch, p.member(ann), map[string]any{"mute": false})
		return err == nil && status < 300
	})
	o.wantUnheard(t, owner.Name+" was killed")
	p.must(p.Start(gateways[0]))
	o.dies(t, gateways[1], gateways[0], balancer)
	p.must(p.Start(owner))
	o.wantUnheard(t, owner.Name+" came back")
	for id, was := range before {
		if is := p.inVoice()[id]; is != was {
			t.Errorf("%d was %+v and is %+v", id, was, is)
		}
	}

	// They are at home in their calls: they move and are disconnected by their new sessions.
	other := p.channel("other", "")
	if err := fromAnn.Move(other); err != nil {
		t.Fatal(err)
	}
	p.until("Ann is in the other channel", func() bool { e := p.inVoice()[ann.id]; return e.Channel == other && e.Transport == proto.ProtocolUDP })
	p.call(http.MethodPatch, p.member(bob), map[string]any{"channel_id": nil}, nil)
	<-fromBob.Done()
	if err := fromBob.Err(); err != client.ErrDisconnected {
		t.Errorf("Bob is gone for %v", err)
	}
}
