package ring

import "math/bits"

// Within returns the node for one key more: its owner, or the next on the circle that is
// open and holds less than its bound. The bound is 1.25 times the node's share, by weight,
// of all that open nodes hold with this key, rounded up (consistent hashing with bounded
// loads: Mirrokni, Thorup, Zadimoghaddam, 2018). It is "" when no node with weight is
// open, and else there always is one below its bound.
//
// load says what a node holds, in whatever unit, and whether it is open. It is called once
// for each node with weight, and must know the keys of all who place any: then those who
// do so without asking each other keep the bound together, but for what they have placed
// since they counted last. A pinned key goes where its pin says, if that is open.
func (r *Ring) Within(key uint64, load func(name string) (held uint64, open bool)) string {
	if r == nil || len(r.points) == 0 {
		return ""
	}
	room := make([]uint64, len(r.names)) // 1 + what is held, of open nodes
	total, weight := uint64(1), uint64(0)
	for i, name := range r.names {
		if r.weights[i] == 0 {
			continue
		}
		if held, open := load(name); open {
			room[i] = held + 1
			total += held
			weight += r.weights[i]
		}
	}
	if weight == 0 {
		return ""
	}
	first := r.owner(key)
	if _, pinned := r.pinned[key]; pinned && room[first] > 0 {
		return r.names[first]
	}
	for at := r.seek(place(key)); ; at = r.after(at) {
		i := r.points[at] & nodeMask
		if room[i] > 0 && room[i]-1 < bound(total, r.weights[i], weight) {
			return r.names[i]
		}
	}
}

// bound is 5/4 of a share of the total, rounded up. The total is a count of people or
// keys, far below 2^61.
func bound(total, share, of uint64) uint64 {
	hi, lo := bits.Mul64(5*total, share)
	whole, rest := bits.Div64(hi, lo, 4*of)
	if rest > 0 {
		whole++
	}
	return whole
}
