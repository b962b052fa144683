package ring

import "slices"

// Depth is how many generations a View holds. One handoff needs two; the others are
// for nodes that come or go before it is over.
const Depth = 4

// Generation is a ring and its number. Whoever publishes rings counts them from 1,
// so that all processes mean the same ring by one number.
type Generation struct {
	Number uint64
	Ring   *Ring
}

// View is the current generation and those before it whose handoff is not yet over.
// It is immutable; the zero View has no generation, and nobody owns anything in it.
type View struct {
	held [Depth]Generation // newest first
	n    int
}

// Current returns the newest generation. Its Number is 0 when there is none.
func (v *View) Current() Generation { return v.held[0] }

// Advance returns the view in which g is current, and keys that it moved have a
// Previous owner until Settle. The oldest generation is forgotten when there are
// more than Depth. A g that is not newer than the current is false, and v is
// returned: it was late, or came twice.
func (v *View) Advance(g Generation) (*View, bool) {
	if g.Number <= v.Current().Number {
		return v, false
	}
	next := &View{n: min(v.n+1, Depth)}
	next.held[0] = g
	copy(next.held[1:], v.held[:])
	return next, true
}

// Settle returns the view after the handoffs to the generation of this number, and
// to those before it, have ended: what came before the ring of that number is
// forgotten. The current generation always stays.
func (v *View) Settle(number uint64) *View {
	next := new(View)
	for _, g := range v.held[:v.n] {
		next.held[next.n] = g
		next.n++
		if g.Number <= number {
			break
		}
	}
	return next
}

// Owner returns the key's node in the current generation, or "".
func (v *View) Owner(key uint64) string { return v.held[0].Ring.Owner(key) }

// Previous returns the node that the key came from: its owner in the newest held
// generation that gave it to another node than the current one does. It is "" when
// no handoff of this key is under way.
func (v *View) Previous(key uint64) string {
	owner := v.Owner(key)
	for i := 1; i < v.n; i++ {
		if was := v.held[i].Ring.Owner(key); was != owner && was != "" {
			return was
		}
	}
	return ""
}

// Moved reports whether a handoff of the key is under way.
func (v *View) Moved(key uint64) bool { return v.Previous(key) != "" }

// Holders fills dst with all nodes that own the key in any held generation, newest
// first and each once: the nodes that may have its state. It returns how many there
// are, at most Depth and at most len(dst).
func (v *View) Holders(key uint64, dst []string) int {
	n := 0
	for i := 0; i < v.n && n < len(dst); i++ {
		if name := v.held[i].Ring.Owner(key); name != "" && !slices.Contains(dst[:n], name) {
			dst[n] = name
			n++
		}
	}
	return n
}
