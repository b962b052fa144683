package client

import (
	"encoding/binary"
	"errors"
)

var errReplayed = errors.New("client: packet was received before")

// replayWindow remembers which of the latest 1024 nonces were received, as in
// RFC 6479. The protocol does not say in which byte order a nonce counts, and
// servers differ; the first two nonces tell, since they are close together in
// one order only.
type replayWindow struct {
	first   [nonceSize]byte
	state   replayState
	highest uint32
	bits    [replayWords]uint64
}

type replayState uint8

const (
	replayEmpty  replayState = iota
	replayOne                // one nonce received, byte order unknown
	replayBig                // big-endian
	replayLittle             // little-endian
)

const (
	replayWords = 16
	replaySpan  = replayWords * 64
)

// seen reports whether a packet with this nonce must be dropped: it came before,
// or is too old to know.
func (w *replayWindow) seen(nonce [nonceSize]byte) bool {
	switch w.state {
	case replayEmpty:
		return false
	case replayOne:
		return nonce == w.first
	}
	n := w.number(nonce)
	if n > w.highest {
		return false
	}
	if w.highest-n >= replaySpan {
		return true
	}
	return w.bits[n/64%replayWords]&(1<<(n%64)) != 0
}

// accept notes the nonce of a packet that decrypted.
func (w *replayWindow) accept(nonce [nonceSize]byte) {
	switch w.state {
	case replayEmpty:
		w.first, w.state = nonce, replayOne
		return
	case replayOne:
		big := distance(binary.BigEndian.Uint32(nonce[:]), binary.BigEndian.Uint32(w.first[:]))
		little := distance(binary.LittleEndian.Uint32(nonce[:]), binary.LittleEndian.Uint32(w.first[:]))
		w.state = replayBig
		if little < big {
			w.state = replayLittle
		}
		w.highest = w.number(w.first)
		w.set(w.highest)
	}
	n := w.number(nonce)
	if n > w.highest {
		w.advance(n)
	}
	w.set(n)
}

func (w *replayWindow) number(nonce [nonceSize]byte) uint32 {
	if w.state == replayLittle {
		return binary.LittleEndian.Uint32(nonce[:])
	}
	return binary.BigEndian.Uint32(nonce[:])
}

// advance clears the words that the window moves onto.
func (w *replayWindow) advance(n uint32) {
	from, to := w.highest/64, n/64
	for i := uint32(1); i <= min(to-from, replayWords); i++ {
		w.bits[(from+i)%replayWords] = 0
	}
	w.highest = n
}

func (w *replayWindow) set(n uint32) { w.bits[n/64%replayWords] |= 1 << (n % 64) }

func distance(a, b uint32) uint32 { return min(a-b, b-a) }
