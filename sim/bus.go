package sim

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

// bus is what edge/bus gives its users over NATS: what one node says to another arrives
// once and in order, or not at all, and nobody is told. Who has lost its own connection
// keeps what it says until it has one again, as nats.go does.
type bus struct {
	w *world
	// side is the part of a split that a host is in; those of one part hear each other.
	// What is said across waits, as TCP makes it, in across, unless the split is of the
	// kind that breaks connections.
	side   []int
	breaks bool
	across []func()
	// lost are the hosts without a connection, and what they would say.
	lost    []bool
	kept    [][]func()
	arrives [][]clock.Time // of the last message, by sender and receiver
	Slow    int            // percent of messages that take long
	loses   func(any) bool // messages that get lost on the way; nil for none
}

const maxKept = 8192 // messages of a host without a connection; nats.go counts bytes

func newBus(w *world) bus { return bus{w: w, Slow: 2} }

// open makes room for the world's hosts.
func (b *bus) open(hosts int) {
	b.side, b.lost = make([]int, hosts), make([]bool, hosts)
	b.kept, b.arrives = make([][]func(), hosts), make([][]clock.Time, hosts)
	for i := range b.arrives {
		b.arrives[i] = make([]clock.Time, hosts)
	}
}

func (b *bus) apart(from, to int) bool { return b.side[from] != b.side[to] }

// publish sends m, which nobody changes afterwards, to all who listen.
func (p *process) publish(subject string, m any) {
	b := &p.w.bus
	if b.lost[p.index] {
		if len(b.kept[p.index]) < maxKept {
			b.kept[p.index] = append(b.kept[p.index], func() {
				if !p.dead {
					p.publish(subject, m)
				}
			})
		}
		return
	}
	for _, h := range p.w.hosts {
		if to := h.is; to != nil && to.subs[subject] != nil {
			b.carry(p, to, subject, m)
		}
	}
}

func (b *bus) carry(from, to *process, subject string, m any) {
	w := b.w
	delay := w.between(100*time.Microsecond, 2*time.Millisecond)
	if w.rng.IntN(100) < b.Slow {
		delay += w.between(0, 60*time.Millisecond)
	}
	last := &b.arrives[from.index][to.index]
	*last = max(*last, w.now.Add(delay))
	switch {
	case b.lost[to.index], b.loses != nil && b.loses(m), b.breaks && b.apart(from.index, to.index):
		w.checks.lose(w, m)
		return
	case b.apart(from.index, to.index):
		b.across = append(b.across, func() { b.carry(from, to, subject, m) })
		return
	}
	w.at(*last, func() {
		if b.lost[to.index] {
			w.checks.lose(w, m)
			return
		}
		to.do(aMessage, func() {
			if f := to.subs[subject]; f != nil {
				w.result.Messages++
				f(m)
			}
		})
	})
}

// split cuts the hosts into parts. It breaks connections, so that what is said across
// is lost, or only stops them for a while.
func (b *bus) split(breaks bool, part func(index int) int) {
	b.breaks = breaks
	for i := range b.side {
		b.side[i] = part(i)
	}
	across := b.across
	b.across = nil
	for _, carry := range across {
		carry()
	}
}

// join makes the bus whole.
func (b *bus) join() {
	b.split(false, func(int) int { return 0 })
}

// disconnect takes a host its connection.
func (b *bus) disconnect(index int) { b.lost[index] = true }

// reconnect gives it back, and sends what was kept.
func (b *bus) reconnect(index int) {
	b.lost[index] = false
	if p := b.w.hosts[index].is; p != nil {
		p.discovery.calm = b.w.now.Add(probeCalm)
		defer p.do(aMessage, p.returned)
	}
	kept := b.kept[index]
	b.kept[index] = nil
	for _, say := range kept {
		say()
	}
}

// The answers of probe.
const (
	probeAnswered = iota
	probeNobody   // nobody listens
	probeSlow     // no answer in time
	probeAway     // the bus is
)

// probe asks whether a node is on the bus, as a request does whose answer is at hand.
func (b *bus) probe(from *process, name string) int {
	for _, h := range b.w.hosts {
		switch {
		case h.name != name:
		case b.lost[from.index]:
			return probeAway
		case h.is == nil, b.lost[h.index], b.breaks && b.apart(from.index, h.index):
			return probeNobody
		case h.is.stopped, b.apart(from.index, h.index):
			return probeSlow
		default:
			return probeAnswered
		}
	}
	return probeNobody
}
