//go:build linux

package fleet

import (
	"net/http"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// TestAGatewayIsReplacedByResume drains a gateway behind a balancer while people talk: they
// resume on the other, with the sessions that they have, and no event or packet is lost.
func TestAGatewayIsReplacedByResume(t *testing.T) {
	t.Parallel()
	p := start(t)
	front := p.entrance
	leaving, next := p.run("gw-a", "gateway,rest"), p.run("gw-b", "gateway,rest")
	balancer := harness.NewProxy(t, leaving.URL())
	p.entrance, p.url = leaving, "http://"+balancer.Addr()
	ann, bob := p.person("ann"), p.person("bob")
	fromAnn, fromBob := p.join(ann), p.join(bob)
	c := crowd{attend(t, fromAnn, bob.id), attend(t, fromBob, ann.id)}
	play(t, fromAnn, &numbers{})
	play(t, fromBob, &numbers{})
	c.everybody(t, 25)
	sessions := map[*person]string{ann: ann.SessionID(), bob: bob.SessionID()}

	p.entrance, p.url = front, front.URL()
	before := p.inVoice()
	balancer.Retarget(next.URL())
	for _, who := range []*person{ann, bob} {
		drained(who.states)
	}
	c.tell(t, "calm")
	began := time.Now()
	p.drain("gw-a")
	// While they go over, something happens again and again: each hears each of it, in order.
	muted := false
	for ended := false; !ended; {
		select {
		case <-leaving.Exited():
			ended = true
		default:
		}
		if time.Since(began) > patience {
			t.Fatal("the gateway does not end")
		}
		muted = !muted
		p.call(http.MethodPatch, p.member(ann), map[string]any{"mute": muted}, nil)
		for _, who := range []*person{ann, bob} {
			wantMuted(t, who, ann.id, muted)
		}
	}
	t.Logf("gw-a ended after %v", time.Since(began).Round(time.Millisecond))
	p.call(http.MethodPatch, p.member(ann), map[string]any{"mute": false}, nil)
	c.everybody(t, 50)
	heard := c[0].begin() // Ann hears Bob, who is never muted
	t.Logf("Ann heard %d packets, lost %d, and nothing for %v at most", heard.frames, heard.lost, heard.pause.Round(time.Millisecond))
	if heard.lost > 0 {
		t.Errorf("%d packets were lost", heard.lost)
	}
	for who, was := range sessions {
		if is := who.SessionID(); is != was {
			t.Errorf("%d had session %s and has %s", who.id, was, is)
		}
	}
	after := p.inVoice()
	for id, was := range before {
		if is := after[id]; is != was {
			t.Errorf("%d was %+v and is %+v", id, was, is)
		}
	}
	// The session is at home there: it leaves by it, and moves.
	other := p.channel("other", "")
	if err := fromAnn.Move(other); err != nil {
		t.Fatal(err)
	}
	p.until("Ann is in the other channel", func() bool { e := p.inVoice()[ann.id]; return e.Channel == other && e.Transport == proto.ProtocolUDP })
}
