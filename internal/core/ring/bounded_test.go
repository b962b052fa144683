package ring

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// check fails when the books of b do not agree with themselves.
func check(t testing.TB, b *Bounded) {
	t.Helper()
	var total uint64
	loads := make(map[*host]uint64)
	for key, p := range b.placed {
		if !slices.Contains(b.hosts, p.host) {
			t.Fatalf("key %d is on %s, which is gone", key, p.host.name)
		}
		if p.slot >= len(p.host.keys) || p.host.keys[p.slot] != key {
			t.Fatalf("key %d is not in slot %d of %s", key, p.slot, p.host.name)
		}
		loads[p.host] += uint64(p.load)
		total += uint64(p.load)
	}
	keys := 0
	for i, h := range b.hosts {
		if h.load != loads[h] || h.name != b.ring.names[i] || h.weight != b.ring.weights[i] {
			t.Fatalf("%s has load %d, its keys %d", h.name, h.load, loads[h])
		}
		keys += len(h.keys)
	}
	if total != b.total || keys != len(b.placed) {
		t.Fatalf("total %d, keys' %d; %d keys, hosts' %d", b.total, total, len(b.placed), keys)
	}
}

// within fails when a node is above its bound by slack or more.
func within(t testing.TB, b *Bounded, slack uint64) {
	t.Helper()
	for _, n := range b.ring.Nodes() {
		if load, bound := b.Load(n.Name); load > bound && load-bound >= slack {
			t.Fatalf("%s has %d, its bound is %d", n.Name, load, bound)
		}
	}
}

// TestBoundedFill places keys of load 1 and looks after each.
func TestBoundedFill(t *testing.T) {
	for _, n := range []int{1, 2, 10, 100} {
		r := made(t, named(n))
		b := NewBounded(r)
		home := 0
		keys := snowflakes(40 * n)
		for i, key := range keys {
			name := b.Place(key, 1)
			if name == r.Owner(key) {
				home++
			}
			load, bound := b.Load(name)
			if want := uint64(5*(i+1)+4*n-1) / uint64(4*n); load > bound || bound != want {
				t.Fatalf("%d nodes, %d keys: %s has %d, bound %d, want %d", n, i+1, name, load, bound, want)
			}
		}
		check(t, b)
		within(t, b, 1)
		t.Logf("%d nodes: %d of %d keys are on their owner", n, home, len(keys))
		if home < len(keys)*3/4 {
			t.Errorf("%d nodes: only %d of %d keys are on their owner", n, home, len(keys))
		}
	}
}

// TestBoundedOverflow says where a key goes whose owner is full: the next on the
// circle that is not.
func TestBoundedOverflow(t *testing.T) {
	r := made(t, named(8))
	b := NewBounded(r)
	full := make(map[string]bool)
	order := make([]string, 8)
	overflowed := 0
	for _, key := range snowflakes(2000) {
		for _, n := range r.Nodes() {
			load, _ := b.Load(n.Name)
			full[n.Name] = 4*8*load >= 5*(b.total+1) // load at 1.25 of the average with this key
		}
		got := b.Place(key, 1)
		n := r.Owners(key, order)
		want := order[slices.IndexFunc(order[:n], func(name string) bool { return !full[name] })]
		if got != want {
			t.Fatalf("key %d is on %s, want %s of %v", key, got, want, order)
		}
		if got != order[0] {
			overflowed++
		}
	}
	if overflowed == 0 {
		t.Error("no node was ever full")
	}
}

// TestBoundedNodeLoss loses nodes one by one: only the keys of the lost node move,
// and nobody comes above the bound.
func TestBoundedNodeLoss(t *testing.T) {
	nodes := named(30)
	b := NewBounded(made(t, nodes))
	keys := snowflakes(3000)
	for _, key := range keys {
		b.Place(key, 1)
	}
	b.Rebalance(len(keys)) // the average has grown, bounds hold for all
	within(t, b, 1)
	for len(nodes) > 1 {
		gone := nodes[len(nodes)/2]
		nodes = slices.Delete(nodes, len(nodes)/2, len(nodes)/2+1)
		before := make(map[uint64]string)
		for _, key := range keys {
			before[key] = b.Node(key)
		}
		moves := b.SetRing(made(t, nodes))
		moved := make(map[uint64]Move)
		for _, m := range moves {
			moved[m.Key] = m
		}
		for _, key := range keys {
			m, ok := moved[key]
			if ok != (before[key] == gone.Name) || (!ok && b.Node(key) != before[key]) {
				t.Fatalf("key %d went from %s to %s when %s left", key, before[key], b.Node(key), gone.Name)
			}
			if ok && m != (Move{key, gone.Name, b.Node(key)}) {
				t.Fatalf("%v, but it is on %s", m, b.Node(key))
			}
		}
		check(t, b)
		within(t, b, 1)
	}
	moves := b.SetRing(nil)
	if len(moves) != len(keys) || moves[0].To != "" || b.Node(keys[0]) != "" || b.total != 0 {
		t.Errorf("no nodes: %d moves, total %d", len(moves), b.total)
	}
	if b.Place(1, 1) != "" || b.Rebalance(10) != nil {
		t.Error("placed on no node")
	}
	check(t, b)
}

// TestBoundedManyLost loses half of the nodes at once, which must go in one order
// wherever it is done.
func TestBoundedManyLost(t *testing.T) {
	nodes := named(20)
	var first []Move
	for range 3 {
		b := NewBounded(made(t, nodes))
		for _, key := range snowflakes(1000) {
			b.Place(key, 1)
		}
		moves := b.SetRing(made(t, nodes[:10]))
		check(t, b)
		if first == nil {
			first = moves
		}
		if len(moves) < 300 || !slices.Equal(moves, first) {
			t.Fatalf("%d moves, and %d the first time", len(moves), len(first))
		}
	}
}

// TestBoundedNewNode gives a new node what is above the others' bounds, and first of
// all what the new ring says is its own.
func TestBoundedNewNode(t *testing.T) {
	nodes := named(4)
	b := NewBounded(made(t, nodes))
	keys := snowflakes(1000)
	for _, key := range keys {
		b.Place(key, 1)
	}
	next := made(t, append(nodes, Node{"new-1", 1}, Node{"new-2", 1}))
	if moves := b.SetRing(next); len(moves) != 0 {
		t.Fatalf("%d keys moved when nodes came", len(moves))
	}
	if got := b.Rebalance(3); len(got) != 3 {
		t.Errorf("%d moves of 3", len(got))
	}
	moves := b.Rebalance(len(keys))
	right := 0
	for _, m := range moves {
		if m.To == next.Owner(m.Key) {
			right++
		}
	}
	check(t, b)
	within(t, b, 1)
	if len(moves) < 100 || right < len(moves)*9/10 {
		t.Errorf("%d moves, %d to the owner", len(moves), right)
	}
	if again := b.Rebalance(len(keys)); len(again) != 0 {
		t.Errorf("%d moves when all was well", len(again))
	}
}

// TestBoundedDrain takes the weight of a node away: it keeps its keys, gets no new
// ones, and Rebalance empties it.
func TestBoundedDrain(t *testing.T) {
	nodes := named(5)
	b := NewBounded(made(t, nodes))
	keys := snowflakes(600)
	for _, key := range keys[:500] {
		b.Place(key, 1)
	}
	had, _ := b.Load("node-2")
	nodes[2].Weight = 0
	if moves := b.SetRing(made(t, nodes)); len(moves) != 0 {
		t.Fatal(moves)
	}
	for _, key := range keys[500:] {
		if b.Place(key, 1) == "node-2" {
			t.Fatal("a draining node got a key")
		}
	}
	if load, bound := b.Load("node-2"); load != had || bound != 0 {
		t.Errorf("load %d of %d, bound %d", load, had, bound)
	}
	b.Rebalance(len(keys))
	if load, _ := b.Load("node-2"); load != 0 {
		t.Errorf("%d keys are left", load)
	}
	check(t, b)
	within(t, b, 1)
}

func TestBoundedPins(t *testing.T) {
	r := made(t, append(named(5), Node{"draining", 0}))
	b := NewBounded(r.WithPins(map[uint64]string{1: "draining", 2: "node-1"}))
	if b.Place(1, 4) != "draining" || b.Place(2, 400) != "node-1" {
		t.Error("not where the pins say")
	}
	if got := b.Rebalance(10); len(got) != 0 {
		t.Error("pinned keys were moved", got)
	}
	b.Place(3, 1)
	was := b.Node(3)
	moves := b.SetRing(r.WithPins(map[uint64]string{3: "draining", 1: "node-1", 99: "node-2"}))
	if want := []Move{{1, "draining", "node-1"}, {3, was, "draining"}}; !slices.Equal(moves, want) {
		t.Errorf("%v, want %v", moves, want)
	}
	check(t, b)
}

func TestBoundedLoads(t *testing.T) {
	b := NewBounded(made(t, named(4)))
	name := b.Place(7, 0)
	if load, _ := b.Load(name); load != 1 {
		t.Errorf("load 0 counts %d", load)
	}
	if b.Place(7, 1<<32-1) != name || b.Place(7, 50) != name {
		t.Error("a placed key moved")
	}
	if load, bound := b.Load(name); load != 50 || bound != 16 {
		t.Errorf("load %d, bound %d", load, bound)
	}
	if moves := b.Rebalance(5); len(moves) != 0 {
		t.Error("a key larger than any bound was moved in circles", moves)
	}
	if load, bound := b.Load("nobody"); load != 0 || bound != 0 {
		t.Error("a node that is not there has a load")
	}
	if !b.Release(7) || b.Release(7) || b.Node(7) != "" {
		t.Error("release")
	}
	check(t, b)
}

// act does one random thing and checks what is promised of it. Keys have loads up
// to most.
func act(t testing.TB, b *Bounded, rng *rand.Rand, nodes map[string]int, most uint64) {
	key := rng.Uint64N(400)
	switch rng.IntN(20) {
	default:
		known := b.Node(key)
		load := uint32(1 + rng.Uint64N(most))
		name := b.Place(key, load)
		if known != "" && known != name {
			t.Fatalf("key %d went from %s to %s", key, known, name)
		}
		if held, bound := b.Load(name); name != "" && known == "" && held >= bound+uint64(load) {
			t.Fatalf("%s got a key and has %d, bound %d", name, held, bound)
		}
	case 0, 1, 2, 3, 4, 5, 6:
		b.Release(key)
	case 7:
		nodes[fmt.Sprint("node-", rng.IntN(12))] = rng.IntN(4)
	case 8:
		delete(nodes, fmt.Sprint("node-", rng.IntN(12)))
	case 9:
		b.Rebalance(1 << 20)
		if b.ring.weight > 0 {
			within(t, b, most)
		}
	}
	list := make([]Node, 0, len(nodes))
	for name, weight := range nodes {
		list = append(list, Node{name, weight})
	}
	if len(list) != len(b.hosts) || slices.ContainsFunc(b.hosts, func(h *host) bool { return nodes[h.name] != int(h.weight) }) {
		for _, m := range b.SetRing(made(t, list)) {
			if _, here := nodes[m.From]; here || m.To != b.Node(m.Key) {
				t.Fatalf("%v without need", m)
			}
		}
	}
	check(t, b)
}

// TestBoundedRandom adds, releases, loses and gains for long, with keys of load 1
// and of loads up to 20; and twice, to the same end.
func TestBoundedRandom(t *testing.T) {
	for _, most := range []uint64{1, 20} {
		var ends [2]map[uint64]string
		for i := range ends {
			rng := rand.New(rand.NewPCG(most, 7))
			nodes := map[string]int{"node-1": 1, "node-2": 2}
			b := NewBounded(made(t, []Node{{"node-1", 1}, {"node-2", 2}}))
			for range 3000 {
				act(t, b, rng, nodes, most)
			}
			ends[i] = make(map[uint64]string)
			for key := range b.placed {
				ends[i][key] = b.Node(key)
			}
		}
		if !maps.Equal(ends[0], ends[1]) {
			t.Error("the same calls placed keys differently")
		}
	}
}

func TestBoundedDoesNotAllocate(t *testing.T) {
	b := NewBounded(made(t, named(20)))
	keys := snowflakes(1100)
	for _, key := range keys {
		b.Place(key, 1)
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		b.Place(keys[i], 3) // grows
		b.Node(keys[i])
		b.Load("node-7")
		b.Release(keys[i-1])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBoundedPlace(b *testing.B) {
	a := NewBounded(made(b, named(1000)))
	keys := snowflakes(100_000)
	for _, key := range keys {
		a.Place(key, 1)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		key := keys[i%len(keys)]
		a.Release(key)
		a.Place(key, 1)
		i++
	}
}
