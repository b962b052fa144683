package media

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/ledger"
	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/child"
)

const (
	// maxRecords bounds the peers, and the streams, of one worker that a crash leaves
	// unharmed. What nobody uses of their memory is never touched and costs nothing.
	maxRecords = 1 << 16
	pageSize   = 4096
	// sourcesApart is how far the sources of two records are apart: a cache line more
	// than browser.MaxSlots, for at a power of two all would share a few lines' places.
	sourcesApart = browser.MaxSlots + 8
)

// heading is what a worker tells of itself.
type heading struct {
	beat           uint64      // turns so far
	applied        ledger.Word // number of the last command that was begun
	peers, streams ledger.Word // records that may be in use
}

// record is what must outlive a worker of one peer, besides what commands say.
type record struct {
	id      [2]ledger.Word // low and high half; written last
	state   ledger.Word
	paths   [paths]path // the first is where it is sent to
	native  native.Record
	browser browser.Record
}

// Parts of record.state.
const (
	stateLatched = 1 << iota
	stateConnected
	stateBelieved
)

// path is an address: its 16 bytes and the port.
type path [3]ledger.Word

func (p *path) set(addr netip.AddrPort) {
	var b [24]byte
	if addr.IsValid() {
		ip := addr.Addr().As16()
		copy(b[2:], ip[:6])
		copy(b[10:], ip[6:12])
		copy(b[18:], ip[12:])
		binary.BigEndian.PutUint16(b[22:], addr.Port())
	}
	// Without its last word it is none.
	p[2].Clear()
	if addr.IsValid() {
		for i := range p {
			p[i].Set(binary.BigEndian.Uint64(b[8*i:]))
		}
	}
}

func (p *path) get() netip.AddrPort {
	var b [24]byte
	for i := range p {
		v, ok := p[i].Get()
		if !ok {
			return netip.AddrPort{}
		}
		binary.BigEndian.PutUint64(b[8*i:], v)
	}
	var ip [16]byte
	copy(ip[:], b[2:8])
	copy(ip[6:], b[10:16])
	copy(ip[12:], b[18:22])
	return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), binary.BigEndian.Uint16(b[22:]))
}

func (r *record) setID(id sfu.PeerID) {
	r.id[0].Set(uint64(id) & (1<<32 - 1))
	r.id[1].Set(uint64(id) >> 32)
}

func (r *record) getID() (sfu.PeerID, bool) {
	low, ok0 := r.id[0].Get()
	high, ok1 := r.id[1].Get()
	return sfu.PeerID(high<<32 | low), ok0 && ok1
}

// memory is the part of the shared memory that one worker writes and no other does.
type memory struct {
	heading *heading
	records []record
	streams []sfu.Record
	sources []browser.Numbering // sourcesApart for each record
}

// memorySize is that of one worker's part.
var memorySize = func() int {
	_, size := layOut(nil)
	return size
}()

// layOut returns the part of one worker, which b begins with, and its size.
func layOut(b []byte) (m memory, size int) {
	heads := take[heading](b, &size, 1)
	m.records = take[record](b, &size, maxRecords)
	m.streams = take[sfu.Record](b, &size, maxRecords)
	m.sources = take[browser.Numbering](b, &size, maxRecords*sourcesApart)
	if b != nil {
		m.heading = &heads[0]
	}
	return m, size
}

// take cuts count values off the memory, to the end of a page.
func take[T any](b []byte, at *int, count int) (out []T) {
	var t T
	if b != nil {
		out = child.View[T](b, *at, count)
	}
	*at = (*at + count*int(unsafe.Sizeof(t)) + pageSize - 1) &^ (pageSize - 1)
	return out
}

func (m *memory) rollover(i int) []browser.Numbering {
	first := i * sourcesApart
	return m.sources[first : first+browser.MaxSlots : first+browser.MaxSlots]
}

// store is a worker's memory in use.
type store struct {
	memory
	table   *ledger.Table[record]
	left    map[sfu.PeerID]int // records of an earlier process that no command has named yet
	applied uint64             // number of the last command that the earlier process began
	damaged bool               // and it is unknown which that was
	replay  bool               // until settle
}

// newStore reads what an earlier process left.
func newStore(m memory) *store {
	s := &store{memory: m, table: ledger.NewTable(m.records, &m.heading.peers), left: make(map[sfu.PeerID]int), replay: true}
	for i := range s.table.Left() {
		if id, ok := m.records[i].getID(); ok {
			s.left[id] = i
		}
	}
	var ok bool
	if s.applied, ok = m.heading.applied.Get(); !ok && !m.heading.applied.Blank() {
		s.damaged = true
	}
	return s
}

// known reports whether an earlier process may have begun the command of this number.
func (s *store) known(number uint64) bool {
	return s.replay && (s.damaged || number <= s.applied)
}

// open gives a peer its record: the one that an earlier process left, or a new one.
func (s *store) open(p *peer) {
	if i, ok := s.left[p.id]; ok {
		delete(s.left, p.id)
		p.record, p.recordIndex = &s.records[i], i
		return
	}
	if i, r, ok := s.table.Take(); ok {
		r.setID(p.id)
		p.record, p.recordIndex = r, i
	}
}

// close takes the record of a peer back.
func (s *store) close(p *peer) {
	if p.record == nil {
		return
	}
	s.wipe(p.recordIndex)
	s.table.Release(p.recordIndex)
	p.record = nil
}

// wipe clears the numbers that belong to a record and are kept apart from it.
func (s *store) wipe(i int) {
	var r browser.Rollover
	r.Keep(s.rollover(i), &s.records[i].browser)
	r.Retain(func(int) bool { return false })
}
