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
	nodes    map[string]*node
	rings    map[pool]*ring.Ring // those that were asked for
	fallback []string
}

type node struct {
	VoiceNode
	placed int // people since it was heard last, whom it cannot count yet
}

// NewNodes returns an empty table. The fallback names the regions that channels go to,
// in this order, while their own has no voice server; with none named that is any.
func NewNodes(fallback ...string) *Nodes {
	return &Nodes{nodes: map[string]*node{}, fallback: fallback}
}

// Announce records what a voice server says of itself and reports whether that
// may change where channels go: a node that is new, or takes channels again, or is to
// be left.
func (n *Nodes) Announce(v VoiceNode) bool {
	old := n.nodes[v.Node]
	n.nodes[v.Node] = &node{VoiceNode: v}
	if old == nil || old.Region != v.Region || old.open() != v.open() || old.Attacked != v.Attacked {
		n.rings = nil
	}
	return old == nil || v.open() && !old.open() || old.Attacked != v.Attacked || v.Draining && !old.Draining
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

// Leaving reports whether there are voice servers whose channels are to go elsewhere.
func (n *Nodes) Leaving() bool {
	for _, v := range n.nodes {
		if v.leaving() {
			return true
		}
	}
	return false
}

// get returns a voice server that is alive, whatever it takes.
func (n *Nodes) get(name string) (VoiceNode, bool) {
	v := n.nodes[name]
	if v == nil {
		return VoiceNode{}, false
	}
	return v.VoiceNode, true
}

// idlest returns the least loaded voice server of a pool, nil when it is empty.
func (n *Nodes) idlest(p pool) *node {
	var best *node
	less := func(a, b *node) bool {
		return cmp.Or(cmp.Compare(a.Load, b.Load), cmp.Compare(a.Peers+a.placed, b.Peers+b.placed)) < 0
	}
	for _, name := range slices.Sorted(maps.Keys(n.nodes)) {
		if v := n.nodes[name]; p.has(v) && (best == nil || less(v, best)) {
			best = v
		}
	}
	return best
}
