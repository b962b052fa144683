package guild

import (
	"fmt"
	"testing"

	"hubbub.dev/hubbub/proto"
)

func nodesOf(list ...VoiceNode) *Nodes {
	n := NewNodes()
	n.Replace(list)
	return n
}

func TestOwnersChooseVoiceServersAlike(t *testing.T) {
	var list []VoiceNode
	for i := range 10 {
		list = append(list, VoiceNode{Node: fmt.Sprint("v", i), Region: "x", Peers: 100 + i, Load: float64(i) / 100})
	}
	one, two := nodesOf(list...), nodesOf(list...)
	for channel := range proto.Snowflake(3) {
		a, _ := one.choose(channel<<22, "x")
		b, _ := two.choose(channel<<22, "x")
		if a.Node != b.Node {
			t.Errorf("channel %d goes to %s and to %s", channel, a.Node, b.Node)
		}
	}
}

func TestNoVoiceServerGetsMuchMoreThanItsShare(t *testing.T) {
	n := nodesOf(VoiceNode{Node: "a", Region: "x"}, VoiceNode{Node: "b", Region: "x"}, VoiceNode{Node: "c", Region: "x"})
	got := map[string]int{}
	for channel := range proto.Snowflake(300) {
		v, ok := n.choose(channel<<22, "x")
		if !ok {
			t.Fatal("nobody was chosen")
		}
		got[v.Node]++
	}
	for name, count := range got {
		if count > 126 { // 1.25 times 100, rounded up, and what the first ones got
			t.Errorf("%s has %d of 300", name, count)
		}
	}
	if len(got) != 3 {
		t.Errorf("%v", got)
	}
}

func TestBusyAndDrainingServersGetNothing(t *testing.T) {
	busy, draining := VoiceNode{Node: "a", Region: "x", Load: 0.9}, VoiceNode{Node: "b", Region: "x", Draining: true}
	idle, far := VoiceNode{Node: "c", Region: "x", Peers: 500}, VoiceNode{Node: "d", Region: "y"}
	for name, c := range map[string]struct {
		nodes  []VoiceNode
		region string
		want   string
	}{
		"the one that is not busy":         {[]VoiceNode{busy, draining, far, {Node: "c", Region: "x"}}, "x", "c"},
		"all are busy or full":             {[]VoiceNode{busy, draining, idle, far}, "x", "c"},
		"only a busy one":                  {[]VoiceNode{busy, far}, "x", "a"},
		"nobody is in the region":          {[]VoiceNode{far}, "x", "d"},
		"the region drains":                {[]VoiceNode{draining, far}, "x", "d"},
		"no region asked for":              {[]VoiceNode{draining, far}, "", "d"},
		"nobody takes channels":            {[]VoiceNode{draining}, "x", ""},
		"a node without a name is no harm": {[]VoiceNode{{Region: "x"}, far}, "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := nodesOf(c.nodes...)
			for channel := range proto.Snowflake(20) {
				if v, _ := n.choose(channel<<22, c.region); v.Node != c.want {
					t.Fatalf("channel %d goes to %q", channel, v.Node)
				}
			}
		})
	}
}

func TestRingsFollowTheNodes(t *testing.T) {
	n := nodesOf(VoiceNode{Node: "a", Region: "x"})
	if v, _ := n.choose(1, "x"); v.Node != "a" {
		t.Fatal(v.Node)
	}
	n.Replace([]VoiceNode{{Node: "b", Region: "x"}})
	if v, _ := n.choose(1, "x"); v.Node != "b" {
		t.Errorf("a node that is gone: %q", v.Node)
	}
	n.Replace([]VoiceNode{{Node: "b", Region: "y"}, {Node: "c", Region: "x"}})
	if v, _ := n.choose(1, "x"); v.Node != "c" {
		t.Errorf("a node that moved: %q", v.Node)
	}
}
