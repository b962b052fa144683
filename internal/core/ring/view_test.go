package ring

import (
	"slices"
	"testing"
)

func TestGenerations(t *testing.T) {
	nodes := named(12)
	keys := snowflakes(20_000)
	first, second := made(t, nodes[:10]), made(t, nodes[:11])
	v := new(View)
	dst := make([]string, Depth)
	if v.Owner(1) != "" || v.Previous(1) != "" || v.Moved(1) || v.Holders(1, dst) != 0 || v.Current().Number != 0 {
		t.Error("the zero View knows an owner")
	}
	v, ok := v.Advance(Generation{5, first})
	if !ok || v.Current().Number != 5 || v.Moved(1) {
		t.Error("first generation", ok, v.Current().Number)
	}
	old := v
	v, ok = v.Advance(Generation{6, second})
	if !ok {
		t.Fatal("second generation")
	}
	moved := 0
	for _, key := range keys {
		was, is := first.Owner(key), second.Owner(key)
		if v.Owner(key) != is || v.Moved(key) != (was != is) || old.Owner(key) != was || old.Moved(key) {
			t.Fatalf("key %d: %s, moved %v; want %s from %s", key, v.Owner(key), v.Moved(key), is, was)
		}
		want := []string{is}
		previous := ""
		if was != is {
			moved++
			previous = was
			want = append(want, was)
		}
		if v.Previous(key) != previous || !slices.Equal(dst[:v.Holders(key, dst)], want) {
			t.Fatalf("key %d: previous %q of %q", key, v.Previous(key), previous)
		}
	}
	about(t, "moved", moved, float64(len(keys))/11)

	for _, stale := range []uint64{0, 5, 6} {
		if same, ok := v.Advance(Generation{stale, first}); ok || same != v {
			t.Errorf("generation %d was taken after 6", stale)
		}
	}
	if v = v.Settle(5); !slices.ContainsFunc(keys, v.Moved) {
		t.Error("the handoff to 6 ended with the one to 5")
	}
	if v = v.Settle(6); slices.ContainsFunc(keys, v.Moved) || v.Current().Number != 6 {
		t.Error("keys still move after the handoff")
	}
	if v = new(View).Settle(1); v.Current().Number != 0 {
		t.Error("a generation from nowhere")
	}
}

// TestOverlappingHandoffs has another change before the first handoff is over.
func TestOverlappingHandoffs(t *testing.T) {
	pin := func(name string) *Ring {
		return made(t, append(named(10), Node{"a", 0}, Node{"b", 0}, Node{"c", 0})).WithPins(map[uint64]string{1: name})
	}
	v := new(View)
	for i, name := range []string{"a", "b", "b"} {
		v, _ = v.Advance(Generation{uint64(i + 1), pin(name)})
	}
	if v.Owner(1) != "b" || v.Previous(1) != "a" {
		t.Errorf("a generation that left the key alone hid where it came from: %q", v.Previous(1))
	}
	v, _ = v.Advance(Generation{4, pin("c")})
	dst := make([]string, Depth)
	if n := v.Holders(1, dst); !slices.Equal(dst[:n], []string{"c", "b", "a"}) || v.Previous(1) != "b" {
		t.Errorf("holders %v", dst[:n])
	}
	if n := v.Holders(1, dst[:2]); n != 2 || dst[0] != "c" || dst[1] != "b" {
		t.Errorf("two holders: %v", dst[:n])
	}
	back, _ := v.Advance(Generation{9, pin("a")})
	if n := back.Holders(1, dst); !slices.Equal(dst[:n], []string{"a", "c", "b"}) || !back.Moved(1) {
		t.Errorf("back where it was: holders %v", dst[:n])
	}
	// 7 was never seen here; the ring of 4 was in force then, so it stays.
	settled := back.Settle(7)
	if n := settled.Holders(1, dst); !slices.Equal(dst[:n], []string{"a", "c"}) {
		t.Errorf("after 7: %v", dst[:n])
	}
	// A ring on which nobody owned anything is not where a key came from.
	gap, _ := settled.Advance(Generation{10, nil})
	gap, _ = gap.Advance(Generation{11, pin("a")})
	if gap.Previous(1) != "c" || gap.Owner(1) != "a" {
		t.Errorf("over an empty ring: %q from %q", gap.Owner(1), gap.Previous(1))
	}
	many := v
	for i := range uint64(10) {
		many, _ = many.Advance(Generation{100 + i, pin("b")})
	}
	if many.Moved(1) {
		t.Error("more than Depth generations are held")
	}
}
