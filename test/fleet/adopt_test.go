//go:build linux

package fleet

import (
	"net/http"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// TestACallOutlivesItsGateway kills one gateway after the other while people talk, with
// the guild's owner in between: each time they identify anew, and nobody loses a packet or
// is told of a voice server.
func TestACallOutlivesItsGateway(t *testing.T) {
	p := start(t)
	front := p.entrance
	gateways := []*harness.FleetNode{p.run("gw-a", "gateway,rest"), p.run("gw-b", "gateway,rest")}
	balancer := harness.NewProxy(t, gateways[0].URL())
	p.entrance, p.url = gateways[0], "http://"+balancer.Addr()
	ann, bob := p.person("ann"), p.person("bob")
	fromAnn, fromBob := p.join(ann), p.join(bob)
	c := crowd{attend(t, fromAnn, bob.id), attend(t, fromBob, ann.id)}
	play(t, fromAnn, &numbers{})
	play(t, fromBob, &numbers{})
	c.everybody(t, 25)
	p.entrance, p.url = front, front.URL()
	named := make(chan proto.Snowflake, 100)
	for _, who := range []*person{ann, bob} {
		t.Cleanup(client.On(who.Gateway, client.VoiceServerUpdate, func(proto.VoiceServerUpdateData) { named <- who.id }))
	}
	before := p.inVoice()
	wantUnheard := func(what string) {
		t.Helper()
		c.everybody(t, 100)
		if lost, doubled := c.tell(t, what); lost+doubled > 0 {
			t.Errorf("%s: %d packets were lost, %d doubled", what, lost, doubled)
		}
		for id, was := range before {
			if is := p.inVoice()[id]; is != was {
				t.Errorf("%s: %d was %+v and is %+v", what, id, was, is)
			}
		}
		select {
		case id := <-named:
			t.Errorf("%s: %d was told of a voice server", what, id)
		default:
		}
	}
	dies := func(gateway, next *harness.FleetNode) {
		t.Helper()
		was := map[*person]string{ann: ann.SessionID(), bob: bob.SessionID()}
		for who := range was {
			drained(who.states)
		}
		c.tell(t, "calm")
		gateway.Kill()
		balancer.Retarget(next.URL())
		for who, session := range was {
			p.await(who, "its call by a new session", func(s proto.VoiceState) bool {
				return s.UserID == who.id && s.SessionID != session && s.SessionID == who.SessionID() && s.ChannelID != nil
			})
		}
		wantUnheard(gateway.Name + " was killed")
	}
	dies(gateways[0], gateways[1])

	owner := p.GuildOwner(p.guild)
	owner.Kill()
	p.until("the guild answers", func() bool {
		status, _, err := front.Admin().Try(t.Context(), http.MethodPatch, p.member(ann), map[string]any{"mute": false})
		return err == nil && status < 300
	})
	wantUnheard(owner.Name + " was killed")
	p.must(p.Start(gateways[0]))
	dies(gateways[1], gateways[0])
	p.must(p.Start(owner))
	wantUnheard(owner.Name + " came back")

	// Both are at home in their calls: they are moved and disconnected by their new sessions.
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

// await waits until a person is told of a voice state that is what they wait for.
func (p *platform) await(who *person, what string, is func(proto.VoiceState) bool) {
	p.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case s := <-who.states:
			if is(s) {
				return
			}
		case <-limit:
			p.t.Fatalf("%d was never told of %s", who.id, what)
		}
	}
}
