package ring

import (
	"maps"
	"math/bits"
	"slices"
)

// Bounded places a known set of keys on the nodes of a ring so that none has more
// than its bound: 1.25 times its fair share of the whole load, rounded up, the share
// being by weight. A key goes to its owner, or when that is at its bound to the next
// on the circle that is not (consistent hashing with bounded loads: Mirrokni,
// Thorup, Zadimoghaddam, 2018).
//
// What it promises, when all keys have load 1 and none is pinned: after Place, the
// node that took the key is within its bound; so is every node after Rebalance was
// allowed enough moves; and losing nodes keeps within bounds whoever was. A key of
// load l may bring its node l-1 above. Place, SetRing and Rebalance put a pinned
// key where the pin says, whatever the bound.
//
// A placed key stays until its node leaves, a pin calls it, or Rebalance moves it:
// a call is not torn from its server because others ended. So where keys are depends
// on what came before, and a Bounded belongs to one owner, which tells the others.
// The same calls in the same order place every key alike.
type Bounded struct {
	ring   *Ring
	hosts  []*host // by the ring's index
	placed map[uint64]placement
	total  uint64
}

type host struct {
	name   string
	weight uint64
	load   uint64
	keys   []uint64
}

type placement struct {
	host *host
	slot int // in host.keys
	load uint32
}

// Move says that a key was taken from one node and given to another. To is "" when
// no node has weight: the key is then placed no longer.
type Move struct {
	Key      uint64
	From, To string
}

// NewBounded returns an assignment of no keys to the nodes of r.
func NewBounded(r *Ring) *Bounded {
	b := &Bounded{placed: make(map[uint64]placement)}
	b.SetRing(r)
	return b
}

// Place gives the key a node and returns its name, or "" when no node has weight.
// Load is what the key counts for, such as the people in a channel; 0 counts as 1. A
// key that is placed already stays where it is and only its load changes, which may
// bring its node above its bound.
func (b *Bounded) Place(key uint64, load uint32) string {
	load = max(load, 1)
	if p, ok := b.placed[key]; ok {
		b.total += uint64(load) - uint64(p.load)
		p.host.load += uint64(load) - uint64(p.load)
		p.load = load
		b.placed[key] = p
		return p.host.name
	}
	b.total += uint64(load)
	h := b.open(key)
	if h == nil {
		b.total -= uint64(load)
		return ""
	}
	b.put(key, h, load)
	return h.name
}

// Release forgets the key. It is false when the key was not placed.
func (b *Bounded) Release(key uint64) bool {
	p, ok := b.placed[key]
	if ok {
		b.take(key)
		b.total -= uint64(p.load)
	}
	return ok
}

// Node returns the node that the key is placed on, or "".
func (b *Bounded) Node(key uint64) string {
	if p, ok := b.placed[key]; ok {
		return p.host.name
	}
	return ""
}

// Load returns what is placed on a node, and its bound. Both are 0 for a node that
// is not in the ring.
func (b *Bounded) Load(name string) (load, bound uint64) {
	i, ok := slices.BinarySearch(b.ring.names, name)
	if !ok {
		return 0, 0
	}
	return b.hosts[i].load, b.bound(b.hosts[i])
}

// SetRing goes over to another ring. It moves the keys of nodes that are not in it
// and those that it pins elsewhere, and no others; a node that has come, or whose
// weight is less than before, leaves work for Rebalance.
func (b *Bounded) SetRing(r *Ring) []Move {
	if r == nil {
		r = new(Ring)
	}
	lost := make(map[string]*host, len(b.hosts))
	for _, h := range b.hosts {
		lost[h.name] = h
	}
	b.ring, b.hosts = r, make([]*host, len(r.names))
	for i, name := range r.names {
		h := lost[name]
		if h == nil {
			h = &host{name: name}
		}
		h.weight = r.weights[i]
		b.hosts[i] = h
		delete(lost, name)
	}

	var moves []Move
	for _, key := range slices.Sorted(maps.Keys(r.pinned)) {
		if p, ok := b.placed[key]; ok && p.host != b.hosts[r.pinned[key]] {
			moves = append(moves, b.move(key))
		}
	}
	var homeless []uint64
	for _, h := range lost {
		homeless = append(homeless, h.keys...)
	}
	slices.Sort(homeless)
	for _, key := range homeless {
		moves = append(moves, b.move(key))
	}
	return moves
}

// Rebalance moves keys away from nodes that are above their bounds, which happens
// when keys were released elsewhere, loads grew, or nodes came, and from nodes of
// weight 0, whose bound is 0. It makes at most limit moves, so that the caller can
// spread them over time; fewer say that it is done. Keys leave first that are not on
// their owner; keys that are pinned stay.
func (b *Bounded) Rebalance(limit int) []Move {
	var moves []Move
	if b.ring.weight == 0 {
		return nil
	}
	// Each move takes at least 1 off the sum of what is above the bounds: the giver
	// stays at its bound or above, and the taker was below its own. So this ends.
	for {
		before := len(moves)
		for _, h := range b.hosts {
			moves = b.shed(h, moves, limit)
		}
		if len(moves) == before {
			return moves
		}
	}
}

// shed moves keys of h until it could not spare another.
func (b *Bounded) shed(h *host, moves []Move, limit int) []Move {
	bound := b.bound(h)
	if h.load <= bound || len(moves) >= limit {
		return moves
	}
	var strangers, own []uint64
	for _, key := range h.keys {
		if _, pinned := b.ring.pinned[key]; pinned {
			continue
		}
		if b.hosts[b.ring.owner(key)] == h {
			own = append(own, key)
		} else {
			strangers = append(strangers, key)
		}
	}
	slices.Sort(strangers)
	slices.Sort(own)
	for _, key := range append(strangers, own...) {
		if len(moves) >= limit {
			break
		}
		if h.load >= bound+uint64(b.placed[key].load) {
			moves = append(moves, b.move(key))
		}
	}
	return moves
}

// move takes a placed key from its node and places it anew.
func (b *Bounded) move(key uint64) Move {
	p := b.placed[key]
	b.take(key)
	h := b.open(key)
	if h == nil {
		b.total -= uint64(p.load)
		return Move{key, p.host.name, ""}
	}
	b.put(key, h, p.load)
	return Move{key, p.host.name, h.name}
}

// open returns the first node from the key on that is below its bound, or nil when
// none has weight. The total already counts the key and no node does: the bounds
// together are at least 1.25 times the total, the nodes hold less than the total, so
// there is always one below.
func (b *Bounded) open(key uint64) *host {
	if i, ok := b.ring.pinned[key]; ok {
		return b.hosts[i]
	}
	if b.ring.weight == 0 {
		return nil
	}
	i := b.ring.seek(place(key))
	for {
		h := b.hosts[b.ring.points[i]&nodeMask]
		if h.load < b.bound(h) {
			return h
		}
		i = b.ring.after(i)
	}
}

// bound is 5/4 of the host's share of the total, rounded up. Loads are 32 bits wide,
// so five times their sum fits a word for any number of keys that fits a memory.
func (b *Bounded) bound(h *host) uint64 {
	if h.weight == 0 {
		return 0
	}
	hi, lo := bits.Mul64(5*b.total, h.weight)
	whole, rest := bits.Div64(hi, lo, 4*b.ring.weight)
	if rest > 0 {
		whole++
	}
	return whole
}

func (b *Bounded) put(key uint64, h *host, load uint32) {
	b.placed[key] = placement{h, len(h.keys), load}
	h.keys = append(h.keys, key)
	h.load += uint64(load)
}

func (b *Bounded) take(key uint64) {
	p := b.placed[key]
	last := len(p.host.keys) - 1
	if other := p.host.keys[last]; other != key {
		q := b.placed[other]
		q.slot = p.slot
		b.placed[other] = q
		p.host.keys[p.slot] = other
	}
	p.host.keys = p.host.keys[:last]
	p.host.load -= uint64(p.load)
	delete(b.placed, key)
}
