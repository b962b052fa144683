package ring

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// counted is what somebody has placed.
type counted struct {
	held   map[string]uint64
	closed map[string]bool
}

func newCounted() counted { return counted{map[string]uint64{}, map[string]bool{}} }

func (c counted) load(name string) (uint64, bool) { return c.held[name], !c.closed[name] }

// limit is the bound in plain arithmetic, after total keys.
func (c counted) limit(r *Ring, name string) float64 {
	total, weight, own := uint64(0), 0, 0
	for _, n := range r.Nodes() {
		if c.closed[n.Name] || n.Weight == 0 {
			continue
		}
		total += c.held[n.Name]
		weight += n.Weight
		if n.Name == name {
			own = n.Weight
		}
	}
	return 1.25*float64(total)*float64(own)/float64(weight) + 1
}

func TestWithinKeepsTheBound(t *testing.T) {
	for _, nodes := range [][]Node{named(1), named(2), named(10), named(100), {{"small", 1}, {"large", 3}, {"none", 0}, {"middle", 2}}} {
		r, c, home := made(t, nodes), newCounted(), 0
		keys := snowflakes(40 * len(nodes))
		for _, key := range keys {
			name := r.Within(key, c.load)
			if name == r.Owner(key) {
				home++
			}
			if c.held[name]++; float64(c.held[name]) >= c.limit(r, name) {
				t.Fatalf("%d nodes: %s has %d, within %.2f", len(nodes), name, c.held[name], c.limit(r, name))
			}
		}
		// Most keys need not pass over their owner.
		if home < len(keys)*6/10 {
			t.Errorf("%d nodes: %d of %d keys are at their owner", len(nodes), home, len(keys))
		}
	}
}

// TestWhoCountAllKeepTheBoundTogether has several place keys who count again only now and
// then: each knows of the others' keys what the last count told.
func TestWhoCountAllKeepTheBoundTogether(t *testing.T) {
	const owners, between = 8, 20
	r, all := made(t, named(10)), newCounted()
	own := make([]counted, owners)
	for i, key := range snowflakes(8000) {
		if i%(owners*between) == 0 {
			for o := range own {
				own[o] = newCounted()
				for name, n := range all.held {
					own[o].held[name] = n
				}
			}
		}
		name := r.Within(key, own[i%owners].load)
		own[i%owners].held[name]++
		all.held[name]++
	}
	for name, n := range all.held {
		// Each may have filled what was left, without knowing of the others.
		if n > 1000+2*between {
			t.Errorf("%s has %d of 8000, a share is 800", name, n)
		}
	}
}

func TestWithinPassesOverWhoIsClosed(t *testing.T) {
	r, c := made(t, named(5)), newCounted()
	for _, n := range named(5) {
		c.closed[n.Name] = true
	}
	if name := r.Within(1, c.load); name != "" {
		t.Errorf("%q is closed", name)
	}
	c.closed["node-3"] = false
	c.held["node-3"] = 1 << 40
	for _, key := range snowflakes(100) {
		if name := r.Within(key, c.load); name != "node-3" {
			t.Fatalf("%q", name)
		}
	}
	c.closed["node-1"] = false
	pinned := r.WithPins(map[uint64]string{1: "node-3", 2: "node-2"})
	if a, b := pinned.Within(1, c.load), pinned.Within(2, c.load); a != "node-3" || b != "node-1" {
		t.Errorf("pinned to an open node: %q; to a closed one: %q", a, b)
	}
	var none *Ring
	if name := none.Within(1, c.load); name != "" {
		t.Errorf("%q of no ring", name)
	}
}

// FuzzWithin fills, opens and closes nodes as its seed says, and places after each step.
func FuzzWithin(f *testing.F) {
	f.Add(uint64(1), uint16(50))
	f.Add(uint64(7), uint16(400))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var nodes []Node
		for i := range 1 + rng.IntN(12) {
			nodes = append(nodes, Node{fmt.Sprint("n", i), rng.IntN(4)})
		}
		r, c := made(t, nodes), newCounted()
		for range steps % 500 {
			n := nodes[rng.IntN(len(nodes))]
			switch rng.IntN(4) {
			case 0:
				c.held[n.Name] = rng.Uint64N(100)
			case 1:
				c.closed[n.Name] = !c.closed[n.Name]
			}
			name, any := r.Within(rng.Uint64(), c.load), false
			for _, n := range nodes {
				any = any || n.Weight > 0 && !c.closed[n.Name]
			}
			if (name != "") != any || c.closed[name] {
				t.Fatalf("%q of %v, closed %v", name, nodes, c.closed)
			}
			if name == "" {
				continue
			}
			if c.held[name]++; float64(c.held[name]) >= c.limit(r, name) {
				t.Fatalf("%s has %d, within %.2f", name, c.held[name], c.limit(r, name))
			}
		}
	})
}

func BenchmarkWithin(b *testing.B) {
	r, c := made(b, named(100)), newCounted()
	b.ReportAllocs()
	key := uint64(1) << 60
	for b.Loop() {
		key += 1 << 22
		r.Within(key, c.load)
	}
}
