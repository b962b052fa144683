package native

import (
	"math/bits"

	"hubbub.dev/hubbub/internal/core/rtp"
)

const (
	// undecided is how many packets may pass before the byte order must be settled.
	undecided = 16
	// settled is the lead in votes that settles it sooner.
	settled = 4
)

// replay refuses nonces that were received before. Discord says that the four bytes
// count up, not in which byte order, and libraries do both. So the first packets are
// remembered as they are, and each votes for the order in which it lies nearer to
// the one before: two counters less than 256 apart are never nearer in the wrong
// order. Then the order is settled and the window takes over.
type replay struct {
	window  rtp.Window
	settled bool
	little  bool
	votes   int8 // for little endian, against it when negative
	count   uint8
	seen    [undecided]uint32
	record  *Record // nil: nothing is written down
}

// fresh reports whether the nonce, read as big endian, is worth decrypting under.
func (r *replay) fresh(nonce uint32) bool {
	if r.settled {
		return r.window.Fresh(r.index(nonce))
	}
	for _, n := range r.seen[:r.count] {
		if n == nonce {
			return false
		}
	}
	return true
}

// commit notes the fresh nonce of an authentic packet.
func (r *replay) commit(nonce uint32) {
	if r.settled {
		r.window.Commit(r.index(nonce))
		r.save()
		return
	}
	if r.count > 0 {
		before := r.seen[r.count-1]
		big := distance(nonce, before)
		little := distance(bits.ReverseBytes32(nonce), bits.ReverseBytes32(before))
		switch {
		case little < big:
			r.votes++
		case big < little:
			r.votes--
		}
	}
	r.seen[r.count] = nonce
	r.count++
	if r.count == undecided || r.votes == settled || r.votes == -settled {
		r.settle()
	}
	r.save()
}

func (r *replay) settle() {
	r.settled, r.little = true, r.votes > 0
	for _, n := range r.seen[:r.count] {
		if index := r.index(n); r.window.Fresh(index) {
			r.window.Commit(index)
		}
	}
}

// index extends a nonce to the value nearest to the highest so far, for counters
// may start anywhere and wrap.
func (r *replay) index(nonce uint32) uint64 {
	if r.little {
		nonce = bits.ReverseBytes32(nonce)
	}
	highest := r.window.Highest()
	if highest == 0 {
		return 1<<32 | uint64(nonce)
	}
	return highest + uint64(int64(int32(nonce-uint32(highest))))
}

func distance(a, b uint32) uint32 { return min(a-b, b-a) }
