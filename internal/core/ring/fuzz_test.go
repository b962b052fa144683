package ring

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzNew builds rings of arbitrary names and weights: names are parted by newlines,
// and the first byte of each is its weight.
func FuzzNew(f *testing.F) {
	f.Add([]byte("\x01a\n\x02b\n\x00c"), uint64(7), "b")
	f.Add([]byte("\x01a\n\x01a"), uint64(0), "")
	f.Add([]byte("\xFFa\n\x01"), uint64(1)<<63, "c")
	f.Add([]byte{}, uint64(1), "nobody")
	f.Fuzz(func(t *testing.T, data []byte, key uint64, pin string) {
		var nodes []Node
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			if len(line) > 0 {
				nodes = append(nodes, Node{string(line[1:]), int(int8(line[0])) % 8})
			}
		}
		r, err := New(nodes)
		slices.Reverse(nodes)
		again, err2 := New(nodes)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%v in one order, %v in the other", err, err2)
		}
		if err != nil {
			return
		}
		want := r.Owner(key)
		if other := again.Owner(key); other != want {
			t.Fatalf("%q in one order, %q in the other", want, other)
		}
		weighty := func(n Node) bool { return n.Weight > 0 }
		if slices.ContainsFunc(nodes, weighty) != slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == want && weighty(n) }) {
			t.Fatalf("%q owns it of %v", want, nodes)
		}
		if slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == pin }) {
			want = pin
		}
		if got := r.WithPins(map[uint64]string{key: pin}).Owner(key); got != want {
			t.Fatalf("pinned to %q: %q", pin, got)
		}
	})
}
