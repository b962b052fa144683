package ring

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"sync/atomic"
	"testing"
)

const million = 1_000_000

// named returns n nodes of weight 1.
func named(n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{fmt.Sprintf("node-%d", i), 1}
	}
	return nodes
}

// made builds a ring of nodes that are known to be good.
func made(t testing.TB, nodes []Node) *Ring {
	t.Helper()
	r, err := New(nodes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// snowflakes returns keys as a platform makes them: some a millisecond, rising.
func snowflakes(n int) []uint64 {
	keys := make([]uint64, n)
	for i := range keys {
		keys[i] = uint64(1_400_000_000_000+i/3)<<22 | uint64(i%3)
	}
	return keys
}

func owners(r *Ring, keys []uint64) []string {
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = r.Owner(key)
	}
	return out
}

// model is the textbook's ring: all points in a list, and a binary search.
type model []struct {
	place uint64
	name  string
}

func modelOf(nodes []Node) model {
	var m model
	for _, n := range nodes {
		h := fnv.New64a()
		h.Write([]byte(n.Name))
		s := mix(h.Sum64())
		for i := range n.Weight * PointsPerWeight {
			m = append(m, struct {
				place uint64
				name  string
			}{point(s, i) >> 16, n.Name})
		}
	}
	slices.SortFunc(m, func(a, b struct {
		place uint64
		name  string
	}) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.name, b.name))
	})
	return m
}

func (m model) owner(key uint64) string {
	from := sort.Search(len(m), func(i int) bool { return m[i].place >= place(key)>>16 })
	return m[from%len(m)].name
}

// TestModel compares with the textbook's ring, at the borders of points too.
func TestModel(t *testing.T) {
	nodes := []Node{{"a", 1}, {"b", 3}, {"c", 0}, {"d", 2}, {"e", 1}}
	r, m := made(t, nodes), modelOf(nodes)
	keys := append(snowflakes(2000), 0, 1, math.MaxUint64)
	for _, p := range append(slices.Clone(r.points[:200]), r.points[len(r.points)-2:]...) {
		keys = append(keys, unplace(p), unplace(p+nodeMask+1), unplace(p-nodeMask-1))
	}
	for _, key := range keys {
		if got, want := r.Owner(key), m.owner(key); got != want {
			t.Fatalf("key %d: owner %s, want %s", key, got, want)
		}
	}
}

// unplace returns the key that lies at a place: mix is a bijection.
func unplace(h uint64) uint64 {
	h = (h ^ h>>31 ^ h>>62) * 0x319642B2D24D8EC3
	h = (h ^ h>>27 ^ h>>54) * 0x96DE1B173F119089
	return (h ^ h>>30 ^ h>>60) - golden
}

// TestHashes holds the hashes to what other processes compute.
func TestHashes(t *testing.T) {
	if got := mix(golden); got != 0xE220A8397B1DCDAF { // SplitMix64's first output from seed 0
		t.Errorf("mix: %#x", got)
	}
	if got := place(0); got != 0xE220A8397B1DCDAF {
		t.Errorf("place: %#x", got)
	}
	if got := seed("foobar"); got != mix(0x85944171F73967E8) { // FNV-1a's own test vector
		t.Errorf("seed: %#x", got)
	}
	if got := point(0, 1); got != 0x6E789E6AA1B965F4 { // its second
		t.Errorf("point: %#x", got)
	}
	r := made(t, named(10))
	var sum uint64
	for i, key := range snowflakes(10_000) {
		sum += uint64(i) * seed(r.Owner(key))
	}
	if sum != 0xB30EADC9A4C49FD3 {
		t.Errorf("owners of 10,000 keys among 10 nodes: sum %#x", sum)
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	nodes := named(50)
	for i := range nodes {
		nodes[i].Weight = i % 4
	}
	keys := snowflakes(20_000)
	want := owners(made(t, nodes), keys)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		if !slices.Equal(owners(made(t, nodes), keys), want) {
			t.Fatal("another order of nodes gave other owners")
		}
	}
}

// TestOneOfN adds a node and loses a node. The keys that move are those of that
// node, no others, and about 1/n of all.
func TestOneOfN(t *testing.T) {
	keys := snowflakes(million)
	for _, n := range []int{10, 100, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			nodes := named(n)
			before := owners(made(t, nodes), keys)

			after := made(t, append(slices.Clone(nodes), Node{"new", 1}))
			moved := 0
			for i, key := range keys {
				if owner := after.Owner(key); owner != before[i] {
					moved++
					if owner != "new" {
						t.Fatalf("key %d went from %s to %s when another came", key, before[i], owner)
					}
				}
			}
			about(t, "keys that a node took", moved, million/float64(n+1))

			gone := n / 3
			after = made(t, slices.Delete(slices.Clone(nodes), gone, gone+1))
			moved = 0
			takers := make(map[string]int)
			for i, key := range keys {
				owner := after.Owner(key)
				if lost := before[i] == nodes[gone].Name; lost != (owner != before[i]) {
					t.Fatalf("key %d went from %s to %s when %s left", key, before[i], owner, nodes[gone].Name)
				} else if lost {
					moved++
					takers[owner]++
				}
			}
			about(t, "keys that a node left", moved, million/float64(n))
			if len(takers) < min(n-1, PointsPerWeight)/3 {
				t.Errorf("what one node left went to only %d others", len(takers))
			}
		})
	}
}

// TestEachOfN loses every node in turn.
func TestEachOfN(t *testing.T) {
	keys := snowflakes(5000)
	nodes := named(60)
	before := owners(made(t, nodes), keys)
	for gone := range nodes {
		after := made(t, slices.Delete(slices.Clone(nodes), gone, gone+1))
		for i, key := range keys {
			if owner := after.Owner(key); (owner != before[i]) != (before[i] == nodes[gone].Name) {
				t.Fatalf("key %d went from %s to %s when %s left", key, before[i], owner, nodes[gone].Name)
			}
		}
	}
}

// about allows five standard deviations of a node's share (1/√PointsPerWeight) and
// of the keys that fall on it.
func about(t *testing.T, what string, got int, want float64) {
	t.Helper()
	share := want / math.Sqrt(PointsPerWeight)
	if off := math.Abs(float64(got) - want); off > 5*math.Hypot(share, math.Sqrt(want)) {
		t.Errorf("%s: %d, want about %.0f", what, got, want)
	}
}

// TestEven measures the shares of the circle and of a million keys, among nodes of
// equal weight. The fullest has less than 1.25 times the average.
func TestEven(t *testing.T) {
	keys := snowflakes(million)
	for _, n := range []int{10, 100, 1000} {
		r := made(t, named(n))
		share := make(map[int]float64)
		last := r.points[len(r.points)-2]
		for i, p := range r.points[:len(r.points)-1] {
			share[int(p&nodeMask)] += float64(p - last) // wraps for the first
			last = r.points[i]
		}
		arc := 0.0
		for _, s := range share {
			arc = max(arc, s/math.Exp2(64)*float64(n))
		}
		count := make(map[string]int)
		for _, key := range keys {
			count[r.Owner(key)]++
		}
		most, least := 0, million
		for _, c := range count {
			most, least = max(most, c), min(least, c)
		}
		ratio, low := float64(most*n)/million, float64(least*n)/million
		t.Logf("%d nodes: largest arc %.3f of the average; keys: most %.3f, least %.3f", n, arc, ratio, low)
		if len(count) != n || arc >= 1.25 || ratio >= 1.25 || low <= 0.75 {
			t.Errorf("%d nodes: largest arc %.3f, most keys %.3f, least %.3f of the average", n, arc, ratio, low)
		}
	}
}

func TestWeights(t *testing.T) {
	nodes := named(40)
	total := 0
	for i := range nodes {
		nodes[i].Weight = i % 5
		total += nodes[i].Weight
	}
	keys := snowflakes(million / 2)
	r := made(t, nodes)
	count := make(map[string]int)
	before := owners(r, keys)
	for _, owner := range before {
		count[owner]++
	}
	for _, n := range nodes {
		want := float64(len(keys)*n.Weight) / float64(total)
		if n.Weight == 0 && count[n.Name] != 0 {
			t.Errorf("%s has weight 0 and %d keys", n.Name, count[n.Name])
		} else if n.Weight > 0 {
			about(t, n.Name, count[n.Name], want)
		}
	}

	nodes[6].Weight++
	heavier := made(t, nodes)
	for i, key := range keys {
		if owner := heavier.Owner(key); owner != before[i] && owner != nodes[6].Name {
			t.Fatalf("key %d went from %s to %s when %s grew", key, before[i], owner, nodes[6].Name)
		}
	}
}

func TestPins(t *testing.T) {
	r := made(t, append(named(10), Node{"draining", 0}))
	keys := snowflakes(1000)
	before := owners(r, keys)
	pins := map[uint64]string{keys[0]: "node-3", keys[1]: "draining", keys[2]: "absent"}
	pinned := r.WithPins(pins)
	pins[keys[3]] = "draining" // the caller's map is the caller's
	if got := owners(pinned, keys); got[0] != "node-3" || got[1] != "draining" || !slices.Equal(got[2:], before[2:]) {
		t.Errorf("pinned: %v; before: %v", got[:4], before[:4])
	}
	if !slices.Equal(owners(r, keys), before) {
		t.Error("pins changed the ring they were not for")
	}
	next, err := pinned.WithNodes([]Node{{"absent", 1}, {"other", 1}})
	if err != nil {
		t.Fatal(err)
	}
	if got := next.Owner(keys[2]); got != "absent" {
		t.Errorf("pinned to a node that came: %s", got)
	}
	if got := next.Owner(keys[1]); got != made(t, next.Nodes()).Owner(keys[1]) {
		t.Errorf("pinned to a node that left: %s", got)
	}
	if _, err := pinned.WithNodes([]Node{{"", 1}}); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if got := owners(pinned.WithPins(nil), keys); !slices.Equal(got, before) {
		t.Error("without pins it is not as before")
	}
}

func TestEmpty(t *testing.T) {
	var none *Ring
	idle := made(t, []Node{{"idle", 0}})
	for name, r := range map[string]*Ring{"nil": none, "zero": {}, "no nodes": made(t, nil), "no weight": idle, "pinned nil": none.WithPins(map[uint64]string{7: "idle"})} {
		if r.Owner(7) != "" {
			t.Errorf("%s: somebody owns a key", name)
		}
	}
	if name := idle.WithPins(map[uint64]string{7: "idle"}).Owner(7); name != "idle" {
		t.Errorf("pinned to a node without weight: %q", name)
	}
	if none.Nodes() != nil || len(idle.Nodes()) != 1 {
		t.Error("nodes")
	}
	full, err := none.WithNodes(named(3))
	if err != nil || full.Owner(7) == "" {
		t.Error(err, full)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []Node
		want  error
	}{
		{"no name", []Node{{"a", 1}, {"", 1}}, ErrName},
		{"one name twice", []Node{{"a", 1}, {"b", 1}, {"a", 2}}, ErrDuplicate},
		{"negative weight", []Node{{"a", -1}}, ErrWeight},
		{"large weight", []Node{{"a", math.MaxInt}}, ErrWeight},
		{"large weights", []Node{{"a", MaxWeight}, {"b", 1}}, ErrWeight},
		{"many nodes", make([]Node, MaxNodes+1), ErrNodes},
	} {
		if r, err := New(c.nodes); !errors.Is(err, c.want) || r != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	pins := map[uint64]string{1: "node-1"}
	r := made(t, named(100)).WithPins(pins)
	var key uint64
	if n := testing.AllocsPerRun(1000, func() {
		key++
		r.Owner(key)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkOwner looks up keys all over a ring of 1,000 nodes through the pointer
// that goroutines share. In "chained" each key needs the answer before it, which
// shows the delay of one lookup; in "apart" the processor may overlap them.
func BenchmarkOwner(b *testing.B) {
	for _, pins := range []int{0, 100} {
		r := made(b, named(1000))
		m := make(map[uint64]string)
		for i := range pins {
			m[uint64(i)] = "node-1"
		}
		if pins > 0 {
			r = r.WithPins(m)
		}
		var shared atomic.Pointer[Ring]
		shared.Store(r)
		b.Run(fmt.Sprintf("chained/%d pins", pins), func(b *testing.B) {
			b.ReportAllocs()
			key := uint64(1) << 60
			for b.Loop() {
				key += 1<<22 + uint64(len(shared.Load().Owner(key)))
			}
		})
		b.Run(fmt.Sprintf("apart/%d pins", pins), func(b *testing.B) {
			b.ReportAllocs()
			key := uint64(1) << 60
			for b.Loop() {
				key += 1 << 22
				shared.Load().Owner(key)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	nodes := named(1000)
	b.ReportAllocs()
	for b.Loop() {
		made(b, nodes)
	}
}
