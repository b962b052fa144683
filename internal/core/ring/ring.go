// Package ring owns placement by consistent hashing: which node a key (the
// snowflake of a guild or of a channel) belongs to. All processes that were given
// the same nodes and pins agree, without asking each other.
//
// A Ring never changes after it was made, so any number of goroutines may read it.
// Whoever shares one among goroutines keeps it in an atomic.Pointer: a reader loads the
// pointer once and looks up as often as it likes; the one writer stores the next Ring.
//
// How even the load is depends on the form:
//
//   - Ring.Owner hashes, and knows no load. With nodes of equal weight the fullest
//     of 1,000 owns less than 1.25 times the average share, which is a property of
//     PointsPerWeight and luck: expected, tested for one set of names, not promised
//     for every one.
//   - Ring.Within is told what each node holds, and promises it: nobody is given a key
//     who already holds 1.25 times the average.
//
// The package knows nothing of health, of regions or of the bus. A node that is to
// take nothing new gets weight 0, one that is gone leaves the list, and a region is
// a ring of its own.
package ring

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

const (
	// PointsPerWeight is the number of points on the circle that a node gets for
	// each unit of weight. A node's share varies by 1/√512, 4.4 %, so that the
	// fullest of 1,000 nodes has about 1.15 times the average. 256 points would make
	// it 1.21, which leaves too little room below 1.25 for the unevenness of the keys.
	PointsPerWeight = 512
	// MaxNodes is the largest number of nodes in a ring.
	MaxNodes = 1 << nodeBits
	// MaxWeight is the largest sum of weights in a ring: 4 million points, 33 MB.
	MaxWeight = 1 << 13

	// A point is one word: its place above, its node below. 48 bits of place are
	// enough, because two points in one place only mean that the first name wins.
	nodeBits = 16
	nodeMask = 1<<nodeBits - 1
)

// What New refuses.
var (
	ErrName      = errors.New("ring: a node has no name")
	ErrDuplicate = errors.New("ring: two nodes have one name")
	ErrWeight    = errors.New("ring: a weight is negative, or the weights are too much together")
	ErrNodes     = errors.New("ring: too many nodes")
)

// Node is one place that keys can be put.
type Node struct {
	Name string
	// Weight is the node's share of keys against the others': 1 for an ordinary
	// node, 2 for one twice as large. A node of weight 0 owns nothing but keys that
	// are pinned to it.
	Weight int
}

// Ring tells the owner of a key. It is immutable. The zero Ring and the nil Ring
// have no nodes.
type Ring struct {
	names   []string // in order; a point's low bits are an index
	weights []uint64 // of the names
	weight  uint64   // their sum
	// points are in order, and end with one at the end of the circle that belongs to
	// the first point's node, so that a search never wraps.
	points []uint64
	// starts has the first point of each of 2^(64-shift) equal parts of the circle,
	// or what follows it.
	starts []uint32
	shift  uint8
	pins   map[uint64]string // as given
	pinned map[uint64]uint16 // those whose node is in the ring
	// mayPin has a bit set for the hash of each pinned key, and 16 bits a pin or more,
	// so that hardly any other key pays for the map. Its length is a power of two.
	mayPin []uint64
}

// New builds a ring without pins. The order of the nodes does not matter. It fails
// with ErrName, ErrDuplicate, ErrWeight or ErrNodes.
func New(nodes []Node) (*Ring, error) {
	if len(nodes) > MaxNodes {
		return nil, fmt.Errorf("%w: %d, and at most %d", ErrNodes, len(nodes), MaxNodes)
	}
	sorted := slices.Clone(nodes)
	slices.SortFunc(sorted, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	r := &Ring{names: make([]string, len(sorted)), weights: make([]uint64, len(sorted))}
	for i, n := range sorted {
		switch {
		case n.Name == "":
			return nil, ErrName
		case i > 0 && n.Name == sorted[i-1].Name:
			return nil, fmt.Errorf("%w: %q", ErrDuplicate, n.Name)
		case n.Weight < 0 || n.Weight > MaxWeight-int(r.weight):
			return nil, fmt.Errorf("%w: %q has %d, and at most %d together", ErrWeight, n.Name, n.Weight, MaxWeight)
		}
		r.names[i], r.weights[i] = n.Name, uint64(n.Weight)
		r.weight += r.weights[i]
	}
	if r.weight > 0 {
		r.sow()
	}
	return r, nil
}

// sow puts the nodes' points on the circle, sorted by parts of it. A part holds four
// to eight points on average, so a search reads one start and a cache line or two of
// points, however many nodes there are. Smaller parts would save a comparison or two
// and push the starts for 1,000 nodes, half a megabyte, out of the second cache.
func (r *Ring) sow() {
	loose := make([]uint64, 0, r.weight*PointsPerWeight)
	for node, name := range r.names {
		s := seed(name)
		for i := range int(r.weights[node]) * PointsPerWeight {
			loose = append(loose, point(s, i)&^nodeMask|uint64(node))
		}
	}
	width := bits.Len(uint(len(loose) / 8))
	r.shift = uint8(64 - width)
	ends := make([]uint32, 1<<width)
	for _, p := range loose {
		ends[p>>r.shift]++
	}
	var sum uint32
	for i, n := range ends {
		ends[i] = sum
		sum += n
	}
	r.starts = slices.Clone(ends)
	r.points = make([]uint64, len(loose)+1)
	for _, p := range loose {
		part := p >> r.shift
		r.points[ends[part]] = p
		ends[part]++
	}
	for part, end := range ends {
		slices.Sort(r.points[r.starts[part]:end])
	}
	r.points[len(loose)] = ^uint64(nodeMask) | r.points[0]&nodeMask
}

// WithNodes returns a ring of other nodes with the same pins. It fails as New does.
func (r *Ring) WithNodes(nodes []Node) (*Ring, error) {
	next, err := New(nodes)
	if err != nil {
		return nil, err
	}
	if r != nil {
		next.pin(r.pins)
	}
	return next, nil
}

// WithPins returns a ring of the same nodes in which the keys of pins belong to the
// nodes named, and all others to whom the hash says. The points are shared, so it
// costs no more than the pins do. A pin to a node that is not in the ring is kept,
// and has no effect until WithNodes brings that node.
func (r *Ring) WithPins(pins map[uint64]string) *Ring {
	var next Ring
	if r != nil {
		next = *r
	}
	next.pin(maps.Clone(pins))
	return &next
}

func (r *Ring) pin(pins map[uint64]string) {
	r.pins = pins
	r.pinned = make(map[uint64]uint16)
	r.mayPin = make([]uint64, 1<<bits.Len(uint(len(pins)/4)))
	for key, name := range pins {
		if i, ok := slices.BinarySearch(r.names, name); ok {
			r.pinned[key] = uint16(i)
			h := place(key)
			r.mayPin[h>>6&uint64(len(r.mayPin)-1)] |= 1 << (h & 63)
		}
	}
}

// Nodes returns the ring's nodes by name.
func (r *Ring) Nodes() []Node {
	if r == nil {
		return nil
	}
	nodes := make([]Node, len(r.names))
	for i := range nodes {
		nodes[i] = Node{r.names[i], int(r.weights[i])}
	}
	return nodes
}

// Owner returns the name of the key's node: the one it is pinned to, or the one
// whose point is at or next after its hash. It is "" when no node has weight.
func (r *Ring) Owner(key uint64) string {
	if i := r.owner(key); i >= 0 {
		return r.names[i]
	}
	return ""
}

// owner returns the index of the key's node, or -1.
func (r *Ring) owner(key uint64) int {
	if r == nil {
		return -1
	}
	h := place(key)
	if n := uint64(len(r.mayPin)); n > 0 && r.mayPin[h>>6&(n-1)]>>(h&63)&1 != 0 {
		if i, ok := r.pinned[key]; ok {
			return int(i)
		}
	}
	if len(r.points) == 0 {
		return -1
	}
	return int(r.points[r.seek(h)] & nodeMask)
}

// seek returns the index of the point at or next after a hash. The ring has points.
func (r *Ring) seek(h uint64) int {
	h &^= nodeMask
	i := int(r.starts[h>>(r.shift&63)])
	for r.points[i] < h {
		i++
	}
	return i
}

// after returns the index of the point next after point i.
func (r *Ring) after(i int) int {
	if i++; i < len(r.points) {
		return i
	}
	return 0
}
