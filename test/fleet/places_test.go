//go:build linux

package fleet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

// until waits for something that each look asks the fleet for.
func (p *platform) until(what string, is func() bool) {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !is(); {
		select {
		case <-tick.C:
		case <-limit:
			p.t.Fatalf("never: %s", what)
		}
	}
}

// callIs reports whether people are connected at one voice node.
func (p *platform) callIs(node string, people ...*person) bool {
	p.t.Helper()
	in := p.inVoice()
	for _, who := range people {
		if e := in[who.id]; e.Node != node || e.Transport == "" {
			return false
		}
	}
	return true
}

// twoWitnesses are two who talk in a channel and hear each other.
func (p *platform) twoWitnesses(channel proto.Snowflake) (c crowd, people []*person) {
	p.t.Helper()
	ann, bob := p.person("ann"), p.person("bob")
	fromAnn, fromBob := p.enter(ann, channel), p.enter(bob, channel)
	c = crowd{attend(p.t, fromAnn, bob.id), attend(p.t, fromBob, ann.id)}
	play(p.t, fromAnn, &numbers{})
	play(p.t, fromBob, &numbers{})
	c.everybody(p.t, 25)
	return c, []*person{ann, bob}
}

// TestCallsOutliveTheirRegion kills all voice nodes of a region, then of the next: the
// call goes on in the regions named, in that order, and stays there.
func TestCallsOutliveTheirRegion(t *testing.T) {
	t.Parallel()
	p := startWithoutVoice(t, "--region-fallback", "north,east")
	for name, region := range map[string]string{"v-west": "west", "v-east": "east", "v-north": "north", "v-south": "south"} {
		p.run(name, "voice", "--region", region)
	}
	c, people := p.twoWitnesses(p.channel("westward", "west"))
	if !p.callIs("v-west", people...) {
		t.Fatalf("%+v", p.inVoice())
	}
	for _, step := range []struct{ gone, next string }{{"v-west", "v-north"}, {"v-north", "v-east"}} {
		c.tell(t, "calm")
		p.Node(step.gone).Kill()
		p.until("the call is at "+step.next, func() bool { return p.callIs(step.next, people...) })
		c.everybody(t, 50)
		c.tell(t, step.gone+" was killed")
	}
	west := p.run("v-west", "voice")
	c.everybody(t, 100)
	if !p.callIs("v-east", people...) {
		t.Errorf("the call goes back: %+v", p.inVoice())
	}
	// None of the regions that it may be in is left, so it waits for one.
	p.must(p.Stop(west))
	p.Node("v-east").Kill()
	p.until("the call has no node", func() bool { return p.callIsNowhere(people...) })
	p.run("v-north", "voice")
	p.until("the call is in the north", func() bool { return p.callIs("v-north", people...) })
	c.everybody(t, 50)
}

func (p *platform) callIsNowhere(people ...*person) bool {
	p.t.Helper()
	in := p.inVoice()
	for _, who := range people {
		if e, is := in[who.id]; !is || e.Node != "" {
			return false
		}
	}
	return true
}

// freeUDPPort returns a UDP port of the loopback that nobody has now.
func freeUDPPort(t testing.TB) int {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// flood sends junk to a UDP port until the test ends or stop is called.
func flood(t testing.TB, port int) (stop func()) {
	t.Helper()
	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		junk := make([]byte, 200)
		junk[0] = 0x80 // as RTP begins
		for {
			for range 20 {
				_, _ = conn.Write(junk) // refused once the port is closed
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	stop = func() { cancel(); task.Wait(); _ = conn.Close() }
	t.Cleanup(stop)
	return stop
}

// TestAnAttackedNodeIsLeft floods the node of a call: the call goes to a quiet one
// unheard, and stays where it is when that one is flooded too.
func TestAnAttackedNodeIsLeft(t *testing.T) {
	t.Parallel()
	p := startWithoutVoice(t)
	ports := map[string]int{"voice-a": freeUDPPort(t), "voice-b": freeUDPPort(t)}
	for name, port := range ports {
		p.run(name, "voice", "--attack-rate", "1000", "--udp-port", fmt.Sprint(port))
	}
	c, people := p.twoWitnesses(p.lounge)
	was := p.inVoice()[people[0].id].Node
	next := map[string]string{"voice-a": "voice-b", "voice-b": "voice-a"}[was]
	c.tell(t, "calm")
	flood(t, ports[was])
	began := time.Now()
	p.until("the call is at "+next, func() bool { return p.callIs(next, people...) })
	t.Logf("flooded, %s was left after %v", was, time.Since(began).Round(time.Millisecond))
	c.everybody(t, 50)
	lost, doubled := c.tell(t, was+" is attacked")
	if lost > 20 || doubled > 4 {
		t.Errorf("%d frames lost, %d doubled", lost, doubled)
	}
	flood(t, ports[next])
	c.everybody(t, 300) // three times as long as it takes to call itself attacked
	lost, _ = c.tell(t, next+" is attacked too")
	if !p.callIs(next, people...) || lost > 20 {
		t.Errorf("%d frames lost, %+v", lost, p.inVoice())
	}
}
