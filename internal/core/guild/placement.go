package guild

import (
	"cmp"
	"maps"
	"slices"

	"hubbub.dev/hubbub/internal/core/ring"
)

// Nodes is the table of the voice servers there are. One shard owns it. It is not
// safe for concurrent use.
type Nodes struct {
	nodes map[string]*node
	rings map[string]*ring.Ring // by region, those that were asked for
}

type node struct {
	VoiceNode
	placed int // channels since it was heard last, whose peers it cannot count yet
}

// NewNodes returns an empty table.
func NewNodes() *Nodes { return &Nodes{nodes: map[string]*node{}} }

// Announce records what a voice server says of itself and reports whether that
// may change where channels go: a node that is new, or back from draining.
func (n *Nodes) Announce(v VoiceNode) bool {
	old := n.nodes[v.Node]
	if !sameSeat(old, v) {
		n.rings = nil
	}
	n.nodes[v.Node] = &node{VoiceNode: v}
	return old == nil || old.Draining && !v.Draining
}

// Replace makes the voice servers of a list all that there are, and reports whether
// that may change where channels go.
func (n *Nodes) Replace(list []VoiceNode) (changed bool) {
	named := make(map[string]bool, len(list))
	for _, v := range list {
		named[v.Node] = true
		changed = n.Announce(v) || changed
	}
	before := len(n.nodes)
	maps.DeleteFunc(n.nodes, func(name string, _ *node) bool { return !named[name] })
	if len(n.nodes) < before {
		n.rings = nil
		changed = true
	}
	return changed
}

// get returns a voice server that is alive, draining or not.
func (n *Nodes) get(name string) (VoiceNode, bool) {
	v := n.nodes[name]
	if v == nil {
		return VoiceNode{}, false
	}
	return v.VoiceNode, true
}

// pick returns the least loaded voice server: in the region
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
