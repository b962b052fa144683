package guild

import (
	"maps"
	"slices"

	"hubbub.dev/hubbub/internal/core/ring"
	"hubbub.dev/hubbub/proto"
)

const (
	// tooBusy is the load from which a voice server is given no channel by the ring.
	tooBusy = 0.8
	// ringTries is how many nodes of the ring are looked at for one channel.
	ringTries = 8
)

// choose returns the voice server for a channel that has none: in the region asked for
// if there is one, the channel's owner on the region's ring, or the next on it that is
// not too busy and within the bound. So guilds' owners that do not know of each other
// choose alike. Where all are too busy it is the least loaded.
func (n *Nodes) choose(channel proto.Snowflake, region string) (VoiceNode, bool) {
	in := func(v *node) bool { return !v.Draining && v.Region == region }
	if region == "" || !n.any(in) {
		in, region = func(v *node) bool { return !v.Draining }, ""
	}
	total, nodes := 0, 0
	for _, v := range n.nodes {
		if in(v) {
			total += v.Peers + v.placed
			nodes++
		}
	}
	var order [ringTries]string
	for _, name := range order[:n.ring(region, in).Owners(uint64(channel), order[:])] {
		v := n.nodes[name]
		// As in ring.Bounded: below 1.25 times the share, with one more counted.
		if v.Load < tooBusy && 4*nodes*(v.Peers+v.placed) < 5*(total+1) {
			v.placed++
			return v.VoiceNode, true
		}
	}
	return n.pick(region)
}

func (n *Nodes) any(in func(*node) bool) bool {
	for _, v := range n.nodes {
		if in(v) {
			return true
		}
	}
	return false
}

// ring returns the ring of a region, or for "" of all: it is made when it is first
// asked for after nodes have changed.
func (n *Nodes) ring(region string, in func(*node) bool) *ring.Ring {
	if r, made := n.rings[region]; made {
		return r
	}
	var list []ring.Node
	for _, name := range slices.Sorted(maps.Keys(n.nodes)) {
		if in(n.nodes[name]) {
			list = append(list, ring.Node{Name: name, Weight: 1})
		}
	}
	r, err := ring.New(list)
	if err != nil {
		r = nil // a node without a name: the least loaded is chosen
	}
	if n.rings == nil {
		n.rings = map[string]*ring.Ring{}
	}
	n.rings[region] = r
	return r
}

// sameSeat reports whether two words of a voice server leave it where it is on rings.
func sameSeat(old *node, v VoiceNode) bool {
	return old != nil && old.Region == v.Region && old.Draining == v.Draining
}
