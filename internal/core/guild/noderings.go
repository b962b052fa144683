package guild

import (
	"maps"
	"slices"

	"hubbub.dev/hubbub/internal/core/ring"
	"hubbub.dev/hubbub/proto"
)

// tooBusy is the load from which a voice server is given no channel by the ring.
const tooBusy = 0.8

// pool is the voice servers that a channel may go to at one step of the search: those
// of a region, or for "" of all, that take channels and are attacked or not.
type pool struct {
	region   string
	attacked bool
}

func (p pool) has(v *node) bool {
	return v.open() && v.Attacked == p.attacked && (p.region == "" || v.Region == p.region)
}

// choose returns the voice server for a channel that has none and is about to have some
// people: of the first region that has one, of those that are not attacked if there are
// any.
func (n *Nodes) choose(channel proto.Snowflake, region string, people int) (VoiceNode, bool) {
	for _, attacked := range []bool{false, true} {
		if v := n.find(channel, region, attacked); v != nil {
			v.placed += people
			return v.VoiceNode, true
		}
	}
	return VoiceNode{}, false
}

// refuge returns the voice server for a channel that is to leave the one it has. From
// one that is attacked to another that is too there is nothing to be gained.
func (n *Nodes) refuge(channel proto.Snowflake, region string, from VoiceNode, people int) (VoiceNode, bool) {
	if from.Draining {
		return n.choose(channel, region, people)
	}
	v := n.find(channel, region, false)
	if v == nil {
		return VoiceNode{}, false
	}
	v.placed += people
	return v.VoiceNode, true
}

// find looks through the regions that a channel may be in: its own, then the fallback.
func (n *Nodes) find(channel proto.Snowflake, region string, attacked bool) *node {
	if v := n.within(channel, pool{region, attacked}); v != nil || region == "" {
		return v
	}
	fallback := n.fallback
	if len(fallback) == 0 {
		fallback = []string{""}
	}
	for _, region := range fallback {
		if v := n.within(channel, pool{region, attacked}); v != nil {
			return v
		}
	}
	return nil
}

// within returns the channel's owner on the ring of a pool, or the next on it that is
// not too busy and has less than 1.25 times its share of the people. So guilds' owners that do not know of each other
// choose alike. Where all are too busy it is the least loaded.
func (n *Nodes) within(channel proto.Snowflake, p pool) *node {
	name := n.ring(p).Within(uint64(channel), func(name string) (uint64, bool) {
		v := n.nodes[name]
		return uint64(max(v.Peers+v.placed, 0)), v.Load < tooBusy
	})
	if name == "" {
		return n.idlest(p)
	}
	return n.nodes[name]
}

// ring returns the ring of a pool: it is made when it is first asked for after nodes
// have changed.
func (n *Nodes) ring(p pool) *ring.Ring {
	if r, made := n.rings[p]; made {
		return r
	}
	var list []ring.Node
	for _, name := range slices.Sorted(maps.Keys(n.nodes)) {
		if p.has(n.nodes[name]) {
			list = append(list, ring.Node{Name: name, Weight: 1})
		}
	}
	r, err := ring.New(list)
	if err != nil {
		r = nil // a node without a name: the least loaded is chosen
	}
	if n.rings == nil {
		n.rings = map[pool]*ring.Ring{}
	}
	n.rings[p] = r
	return r
}
