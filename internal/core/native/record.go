package native

import (
	"crypto/sha256"
	"encoding/binary"

	"hubbub.dev/hubbub/internal/core/ledger"
)

// reservation is how many nonces are written down as used at once. A transport that
// goes on in another process skips what was left of them, which no peer notices.
const reservation = 256

// Parts of Record.received.
const (
	orderSettled = 1 << 47
	orderLittle  = 1 << 46
)

// Record is what must outlive a transport's process, in memory that another process
// reads: which nonces may have been used, and which were received. Zero is that of no
// transport.
type Record struct {
	key      uint64      // says which key the numbers belong to
	sent     ledger.Word // every nonce below may have been used
	received ledger.Word // the highest index, once the byte order is settled; how many were seen, before
	seen     [undecided]uint32
	ssrc     ledger.Word // of what a legacy transport received
}

// Resumption says what came of a record.
type Resumption uint8

// Resumptions.
const (
	Began   Resumption = iota // the record was of another key or none: counting starts
	Resumed                   // counting goes on
	Lost                      // the record is damaged: the key must not be used
)

// Forget says that the record is of no transport any more.
func (r *Record) Forget() { *r = Record{} }

// Keep has the transport write its numbers into a record from now on, beginning where
// the record ends if it is of the same mode and key. Known says that the key may have
// been in use before: then a record of another key is damage.
func (t *Transport) Keep(r *Record, mode Mode, key [32]byte, known bool) Resumption {
	tag := tagOf(mode, key)
	if r.key != tag {
		if known {
			return Lost
		}
		*r = Record{}
		r.sent.Set(0)
		r.received.Set(0)
		r.key = tag
		t.attach(r)
		return Began
	}
	sent, ok := r.sent.Get()
	if !ok || sent > MaxNonce {
		return Lost
	}
	received, ok := r.received.Get()
	if !ok || t.legacy == nil && !t.replay.resume(r, received) || t.legacy != nil && !t.legacy.resume(r, received) {
		return Lost
	}
	t.SetNonce(uint32(sent))
	t.attach(r)
	return Resumed
}

func (t *Transport) attach(r *Record) {
	t.record, t.reserved = r, t.sent
	t.replay.record = r
	if t.legacy != nil {
		t.legacy.record = r
	}
}

// reserve writes down that the next nonces may have been used, before they are.
func (t *Transport) reserve() {
	if t.record == nil {
		t.reserved = MaxNonce
		return
	}
	t.reserved = min(t.sent+reservation, MaxNonce)
	t.record.sent.Set(uint64(t.reserved))
}

// tagOf tells keys apart without telling what they are. It is never zero.
func tagOf(mode Mode, key [32]byte) uint64 {
	sum := sha256.Sum256(append([]byte("hubbub record: "+mode), key[:]...))
	return binary.LittleEndian.Uint64(sum[:]) | 1
}

// save writes down what was received.
func (r *replay) save() {
	if r.record == nil {
		return
	}
	if !r.settled {
		copy(r.record.seen[:], r.seen[:r.count])
		r.record.received.Set(uint64(r.count))
		return
	}
	v := r.window.Highest() | orderSettled
	if r.little {
		v |= orderLittle
	}
	r.record.received.Set(v)
}

// resume refuses from now on all that the record knows of. It is false for a damaged
// record.
func (r *replay) resume(from *Record, received uint64) bool {
	if received&orderSettled != 0 {
		r.settled, r.little = true, received&orderLittle != 0
		r.window.Exclude(received &^ (orderSettled | orderLittle))
		return true
	}
	if received >= undecided {
		return false
	}
	for _, nonce := range from.seen[:received] {
		r.commit(nonce)
	}
	return true
}

func (l *legacy) save() {
	if l.record != nil {
		l.record.ssrc.Set(uint64(l.ssrc))
		l.record.received.Set(l.window.Highest())
	}
}

func (l *legacy) resume(from *Record, received uint64) bool {
	if received == 0 {
		return true
	}
	ssrc, ok := from.ssrc.Get()
	l.ssrc = uint32(ssrc)
	l.window.Exclude(received)
	return ok
}
