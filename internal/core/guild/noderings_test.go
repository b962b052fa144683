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
		a, _ := one.choose(channel<<22, "x", 1)
		b, _ := two.choose(channel<<22, "x", 1)
		if a.Node != b.Node {
			t.Errorf("channel %d goes to %s and to %s", channel, a.Node, b.Node)
		}
	}
}

func TestNoVoiceServerGetsMuchMoreThanItsShare(t *testing.T) {
	n := nodesOf(VoiceNode{Node: "a", Region: "x"}, VoiceNode{Node: "b", Region: "x"}, VoiceNode{Node: "c", Region: "x"})
	got := map[string]int{}
	for channel := range proto.Snowflake(300) {
		v, ok := n.choose(channel<<22, "x", 1)
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
	ailing, attacked := VoiceNode{Node: "e", Region: "x", Ailing: true}, VoiceNode{Node: "f", Region: "x", Attacked: true}
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
		"nobody takes channels":            {[]VoiceNode{draining, ailing}, "x", ""},
		"an ailing one":                    {[]VoiceNode{ailing, far}, "x", "d"},
		"an attacked one":                  {[]VoiceNode{attacked, far}, "x", "d"},
		"all are attacked":                 {[]VoiceNode{attacked, draining}, "x", "f"},
		"a node without a name is no harm": {[]VoiceNode{{Region: "x"}, far}, "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := nodesOf(c.nodes...)
			for channel := range proto.Snowflake(20) {
				if v, _ := n.choose(channel<<22, c.region, 1); v.Node != c.want {
					t.Fatalf("channel %d goes to %q", channel, v.Node)
				}
			}
		})
	}
}

func TestRingsFollowTheNodes(t *testing.T) {
	n := nodesOf(VoiceNode{Node: "a", Region: "x"})
	if v, _ := n.choose(1, "x", 1); v.Node != "a" {
		t.Fatal(v.Node)
	}
	n.Replace([]VoiceNode{{Node: "b", Region: "x"}})
	if v, _ := n.choose(1, "x", 1); v.Node != "b" {
		t.Errorf("a node that is gone: %q", v.Node)
	}
	n.Replace([]VoiceNode{{Node: "b", Region: "y"}, {Node: "c", Region: "x"}})
	if v, _ := n.choose(1, "x", 1); v.Node != "c" {
		t.Errorf("a node that moved: %q", v.Node)
	}
}

func TestWhatWasPlacedSinceTheLastWordCounts(t *testing.T) {
	n := nodesOf(VoiceNode{Node: "a", Region: "x", Load: 0.9}, VoiceNode{Node: "b", Region: "x", Load: 0.9, Peers: 1})
	n.choose(1, "x", 2)
	if v, _ := n.choose(1, "x", 1); v.Node != "b" {
		t.Error(v.Node)
	}
}

func TestRegionsFollowInTheOrderNamed(t *testing.T) {
	x, y, z := VoiceNode{Node: "x1", Region: "x"}, VoiceNode{Node: "y1", Region: "y"}, VoiceNode{Node: "z1", Region: "z"}
	floodedX, floodedZ := x, z
	floodedX.Attacked, floodedZ.Attacked = true, true
	for name, c := range map[string]struct {
		fallback []string
		nodes    []VoiceNode
		region   string
		want     string
	}{
		"its own":                            {[]string{"z", "y"}, []VoiceNode{x, y, z}, "x", "x1"},
		"the first named":                    {[]string{"z", "y"}, []VoiceNode{y, z}, "x", "z1"},
		"the next named":                     {[]string{"z", "y"}, []VoiceNode{y}, "x", "y1"},
		"none that is not named":             {[]string{"z"}, []VoiceNode{y}, "x", ""},
		"any when none is named":             {nil, []VoiceNode{y}, "x", "y1"},
		"any when none is asked for":         {[]string{"z"}, []VoiceNode{y}, "", "y1"},
		"a quiet one before an attacked one": {[]string{"z", "y"}, []VoiceNode{floodedX, floodedZ, y}, "x", "y1"},
		"its own when all are attacked":      {[]string{"z", "y"}, []VoiceNode{floodedX, floodedZ}, "x", "x1"},
	} {
		t.Run(name, func(t *testing.T) {
			n := NewNodes(c.fallback...)
			n.Replace(c.nodes)
			if v, _ := n.choose(7, c.region, 1); v.Node != c.want {
				t.Errorf("%q", v.Node)
			}
		})
	}
}

func TestNodesTellWhatMayMoveChannels(t *testing.T) {
	n := nodesOf(VoiceNode{Node: "a"}, VoiceNode{Node: "b"})
	for _, step := range []struct {
		name             string
		b                VoiceNode
		changed, leaving bool
	}{
		{"busier", VoiceNode{Node: "b", Load: 0.9}, false, false},
		{"ailing", VoiceNode{Node: "b", Ailing: true}, false, false},
		{"well", VoiceNode{Node: "b"}, true, false},
		{"attacked", VoiceNode{Node: "b", Attacked: true}, true, true},
		{"quiet", VoiceNode{Node: "b"}, true, false},
		{"draining", VoiceNode{Node: "b", Draining: true}, true, true},
		{"draining still", VoiceNode{Node: "b", Draining: true}, false, true},
	} {
		if changed := n.Replace([]VoiceNode{{Node: "a"}, step.b}); changed != step.changed || n.Leaving() != step.leaving {
			t.Errorf("%s: changed %t, leaving %t", step.name, changed, n.Leaving())
		}
	}
}
