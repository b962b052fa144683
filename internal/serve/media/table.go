package media

import (
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"slices"

	"hubbub.dev/hubbub/internal/core/sfu"
)

// maxEnds bounds the ends of relayed speakers that may have to be told again: as many
// as commands are under way to one child.
const maxEnds = 2 * commandQueue

// entryKey names a peer. Both workers of a relay know it by one PeerID.
type entryKey struct {
	worker int
	peer   sfu.PeerID
}

// entry is what commands have said of a peer or a relay.
type entry struct {
	number uint64 // of the command that added it
	add    sfu.AddPeer
	relay  *sfu.AddRelay // of what is no peer

	transport       sfu.Command // the last Native or Browser, if any
	transportNumber uint64

	connected bool
	lost      bool // the transport is
	onAir     bool
	heard     int // life of the child that said so last
}

// table is what a supervisor knows of all peers: what a child that lost its state is
// to be told.
type table struct {
	last    uint64 // number of the last command
	entries map[entryKey]*entry
	ends    []directive // of relayed speakers, which a child may not have begun
}

func newTable() *table { return &table{entries: make(map[entryKey]*entry)} }

// apply numbers a command and notes what it says.
func (t *table) apply(d *directive) {
	t.last++
	d.Number = t.last
	key := func(id sfu.PeerID) entryKey { return entryKey{d.Worker, id} }
	switch c := &d.Command; {
	case c.Add != nil:
		t.begin(key(c.Add.Peer), &entry{number: d.Number, add: *c.Add})
	case c.Relay != nil:
		t.begin(key(c.Relay.Peer), &entry{number: d.Number, relay: c.Relay})
	case c.Native != nil:
		t.setTransport(key(c.Native.Peer), d)
	case c.Browser != nil:
		t.setTransport(key(c.Browser.Peer), d)
	case c.Update != nil:
		if e := t.entries[key(c.Update.Peer)]; e != nil {
			e.add.Flags = c.Update.Flags
		}
	case c.Remove != nil:
		delete(t.entries, key(c.Remove.Peer))
	case c.End != nil:
		if len(t.ends) >= maxEnds {
			t.ends = slices.Delete(t.ends, 0, maxEnds/2)
		}
		t.ends = append(t.ends, *d)
	}
}

// begin notes what is added. One that is there already is refused by its worker.
func (t *table) begin(k entryKey, e *entry) {
	if t.entries[k] == nil {
		t.entries[k] = e
	}
}

func (t *table) setTransport(k entryKey, d *directive) {
	e := t.entries[k]
	if e == nil || e.relay != nil {
		return
	}
	if n := d.Command.Native; n != nil && e.transport.Native != nil && *e.transport.Native == *n && !e.lost {
		return // nothing changes
	}
	e.transport, e.transportNumber, e.lost = d.Command, d.Number, false
}

// event notes what a worker says in a life of the child, and is false for what was said
// before.
func (t *table) event(life int, ev *workerEvent) bool {
	e := t.entries[entryKey{ev.Worker, ev.Event.Peer()}]
	if e == nil {
		return false // removed in the meantime
	}
	switch {
	case ev.Event.Connected != nil:
		said := e.connected
		e.connected = true
		return !said
	case ev.Event.Speaking != nil:
		said := e.onAir
		e.onAir, e.heard = ev.Event.Speaking.On, life
		return said != e.onAir
	case ev.Event.Lost != nil:
		e.lost = true
	}
	return true
}

// hush returns the ends of speaking of those whom a life of the child has not heard.
func (t *table) hush(life int) (ends []workerEvent) {
	for k, e := range t.entries {
		if e.onAir && e.heard != life {
			e.onAir = false
			ends = append(ends, workerEvent{k.worker, sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: k.peer}}})
		}
	}
	return ends
}

// forget drops the ends that a worker has begun.
func (t *table) forget(begun func(worker int) uint64) {
	t.ends = slices.DeleteFunc(t.ends, func(d directive) bool { return d.Number <= begun(d.Worker) })
}

// replay returns all that a child is to be told, in the order in which it was said.
func (t *table) replay() []directive {
	out := slices.Clone(t.ends)
	for k, e := range t.entries {
		if e.relay != nil {
			out = append(out, directive{k.worker, e.number, sfu.Command{Relay: e.relay}})
			continue
		}
		out = append(out, directive{k.worker, e.number, sfu.Command{Add: &e.add}})
		if !e.lost && e.transportNumber != 0 {
			out = append(out, directive{k.worker, e.transportNumber, e.transport})
		}
	}
	slices.SortFunc(out, func(a, b directive) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// forLife returns a command as one life of the child is told it. A relay's nonces begin
// at zero in each, so each has keys of its own, which both ends make alike.
func forLife(c sfu.Command, life int) sfu.Command {
	if c.Relay == nil {
		return c
	}
	relay := *c.Relay
	relay.In.Key = keyForLife(relay.In.Key, life)
	relay.Out.Key = keyForLife(relay.Out.Key, life)
	return sfu.Command{Relay: &relay}
}

func keyForLife(key [32]byte, life int) [32]byte {
	made, err := hkdf.Expand(sha256.New, key[:], fmt.Sprintf("hubbub relay: life %d", life), len(key))
	if err != nil {
		panic(err) // it fails for keys that are far longer
	}
	return [32]byte(made)
}
