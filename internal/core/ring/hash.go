package ring

// The hashes are part of the agreement between processes: a changed constant
// moves nearly every key, so TestHashes holds them to fixed values.
const (
	golden    = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio
	fnvOffset = 0xCBF29CE484222325
	fnvPrime  = 0x100000001B3
)

// mix is the finaliser of SplitMix64 (Stafford's variant 13): a bijection in which
// each bit of x changes about half of the result.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// place returns where on the circle a key lies.
func place(key uint64) uint64 { return mix(key + golden) }

// seed returns where the points of a node start: FNV-1a of its name, mixed.
func seed(name string) uint64 {
	h := uint64(fnvOffset)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * fnvPrime
	}
	return mix(h)
}

// point returns the place of a node's i-th point. It depends on nothing but the
// node, so a node's weight and its neighbours can change without moving it.
func point(seed uint64, i int) uint64 { return mix(seed + uint64(i+1)*golden) }
