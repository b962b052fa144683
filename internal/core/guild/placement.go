package guild

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// NodeSilence is how long a voice server may be silent before it counts as gone:
// three of its announcements.
const NodeSilence = 3 * time.Second

// Nodes is the table of voice servers that announced themselves. One shard owns
// it. It is not safe for concurrent use.
type Nodes struct {
	nodes map[string]*node
}

type node struct {
	VoiceNode
	heard  clock.Time
	placed int // channels since the last announcement, whose peers it cannot count yet
}

// NewNodes returns an empty table.
func NewNodes() *Nodes { return &Nodes{nodes: map[string]*node{}} }

// Announce records what a voice server says of itself and reports whether that
// may change where channels go: a node that is new, or back from draining.
func (n *Nodes) Announce(now clock.Time, v VoiceNode) bool {
	old := n.nodes[v.Node]
	n.nodes[v.Node] = &node{VoiceNode: v, heard: now}
	return old == nil || old.Draining && !v.Draining
}

// Expire forgets the voice servers that fell silent and reports whether there
// were any.
func (n *Nodes) Expire(now clock.Time) bool {
	before := len(n.nodes)
	maps.DeleteFunc(n.nodes, func(_ string, v *node) bool { return now.Sub(v.heard) > NodeSilence })
	return len(n.nodes) < before
}

// get returns a voice server that is alive, draining or not.
func (n *Nodes) get(name string) (VoiceNode, bool) {
	v := n.nodes[name]
	if v == nil {
		return VoiceNode{}, false
	}
	return v.VoiceNode, true
}

// pick returns the least loaded voice server for a new channel: in the region
// asked for if there is one, and none that drains.
func (n *Nodes) pick(region string) (VoiceNode, bool) {
	var best *node
	better := func(a, b *node) bool {
		if inA, inB := a.Region == region, b.Region == region; inA != inB {
			return inA
		}
		return cmp.Or(cmp.Compare(a.Load, b.Load), cmp.Compare(a.Peers+a.placed, b.Peers+b.placed)) < 0
	}
	for _, name := range slices.Sorted(maps.Keys(n.nodes)) {
		if v := n.nodes[name]; !v.Draining && (best == nil || better(v, best)) {
			best = v
		}
	}
	if best == nil {
		return VoiceNode{}, false
	}
	best.placed++
	return best.VoiceNode, true
}
