package browser

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"hubbub.dev/hubbub/internal/core/ledger"
)

const (
	// reservation is how many SRTCP indexes are written down as used at once. What is
	// left of them is skipped in another process, which no browser notices.
	reservation = 16
	// keyingSize is above what any profile takes from DTLS.
	keyingSize = 64
)

// errDamaged says that a record is of this transport and can not be trusted.
var errDamaged = errors.New("browser: record is damaged")

// Record is what must outlive a browser transport's process, in memory that another
// process reads: the keys that DTLS ended with, what was received under them, and
// which SRTCP indexes may have been used. The numbers of SRTP are those of a Rollover.
// Zero is that of no transport.
type Record struct {
	transport uint64      // says which transport it is of
	keys      ledger.Word // the profile and a checksum of keying; blank before DTLS ended
	keying    [keyingSize]byte
	control   ledger.Word // every SRTCP index below may have been used
	received  [2][maxStreams]received
	sources   ledger.Word // how many slots of the rollover may be in use
}

// received is the highest index of one source.
type received struct{ ssrc, index ledger.Word }

// Begin makes the record one of a transport that has no keys, or leaves it as it is if
// it is of this one already, which another process began. What the arguments name is
// the same for no two transports. Known says that the transport may have been begun
// before: then it is false for a record that is of another.
func (r *Record) Begin(ufrag, password string, known bool) bool {
	sum := sha256.Sum256([]byte("hubbub record: " + ufrag + ":" + password))
	tag := binary.LittleEndian.Uint64(sum[:]) | 1
	if r.transport == tag || known {
		return r.transport == tag
	}
	*r = Record{}
	r.transport = tag
	return true
}

// SetKeys notes the keys of the transport, before they are used.
func (r *Record) SetKeys(p Profile, keying []byte) {
	copy(r.keying[:], keying)
	r.control.Set(0)
	r.sources.Set(0)
	r.keys.Set(uint64(p)<<32 | uint64(crc32.ChecksumIEEE(r.keying[:])))
}

// Keys returns what SetKeys noted: nothing before that, and an error if it is damaged.
func (r *Record) Keys() (p Profile, keying []byte, err error) {
	v, ok := r.keys.Get()
	if !ok {
		if r.keys.Blank() {
			return 0, nil, nil
		}
		return 0, nil, errDamaged
	}
	p = Profile(v >> 32)
	if size := p.MaterialSize(); size > 0 && size <= keyingSize && uint32(v) == crc32.ChecksumIEEE(r.keying[:]) {
		return p, r.keying[:size], nil
	}
	return 0, nil, errDamaged
}

// Keep has an Inbound and an Outbound under the record's keys write their numbers into
// it from now on, beginning where it ends. It fails for a damaged record: then the keys
// must not be used.
func (r *Record) Keep(in *Inbound, out *Outbound) error {
	control, ok := r.control.Get()
	if !ok || control > MaxControlIndex || !r.sources.Valid() {
		return errDamaged
	}
	for kind, streams := range []*[]stream{&in.media, &in.control} {
		for _, s := range r.received[kind] {
			if s.ssrc.Blank() {
				break
			}
			ssrc, ok1 := s.ssrc.Get()
			index, ok2 := s.index.Get()
			if !ok1 || !ok2 {
				return errDamaged
			}
			restored := stream{ssrc: uint32(ssrc)}
			restored.window.Exclude(index)
			*streams = append(*streams, restored)
		}
	}
	out.SetIndex(uint32(control))
	in.record, out.record = r, r
	return nil
}

// note writes down the highest index of a source of one kind.
func (r *Record) note(kind, i int, s *stream) {
	r.received[kind][i].index.Set(s.window.Highest())
	if r.received[kind][i].ssrc.Blank() {
		r.received[kind][i].ssrc.Set(uint64(s.ssrc))
	}
}

// Keep has the rollover keep its numbers in a table of MaxSlots, as another process may
// have left them, and count in the record how many it uses. Both are then the
// rollover's alone.
func (r *Rollover) Keep(table []Numbering, record *Record) {
	r.slots, r.record = table, record
	used, _ := record.sources.Get()
	r.used = int(min(used, MaxSlots))
}

// Retain releases all slots that keep is false for.
func (r *Rollover) Retain(keep func(slot int) bool) {
	for slot := range r.slots[:r.used] {
		if r.slots[slot] != 0 && !keep(slot) {
			r.slots[slot] = 0
		}
	}
}

// Forget says that the record is of no transport any more.
func (r *Record) Forget() { *r = Record{} }
