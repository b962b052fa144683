package sim

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
)

// As in serve/discovery.
const (
	subjectHello = "fleet.hello"
	acquaint     = fleet.Interval + 200*time.Millisecond
	answerEvery  = 100 * time.Millisecond
	probeEvery   = 250 * time.Millisecond
	probeMisses  = 2
	probeCalm    = 3 * time.Second
)

// discovery is a node's place in the fleet. It mirrors serve/discovery.
type discovery struct {
	p        *process
	table    *fleet.Table
	self     fleet.Member
	view     *fleet.View
	met      bool // has heard itself
	joined   bool
	answered clock.Time
	beat     int

	misses int
	asked  string
	calm   clock.Time
}

func newDiscovery(p *process) *discovery {
	d := &discovery{p: p, self: fleet.Member{
		Name: p.name, Epoch: p.epoch, Roles: p.roles, Region: p.region, Joining: true, Capacity: 1000,
	}}
	if p.voice != nil || p.roles.Has(fleet.Voice) {
		d.self.Endpoint = p.name
	}
	d.table = fleet.NewTable(p.w.now, d.self)
	d.view = d.table.View()
	return d
}

func (d *discovery) start() {
	w := d.p.w
	d.p.subs[subjectHello] = func(m any) { d.hear(m.(fleet.Member)) }
	d.self.Ask = true
	d.announce()
	d.self.Ask = false
	w.after(w.between(0, fleet.Interval/4), func() { d.p.every(fleet.Interval/4, d.tick) })
	d.calm = w.now.Add(probeCalm)
	w.after(w.between(0, probeEvery), func() { d.p.every(probeEvery, d.probe) })
}

func (d *discovery) tick() {
	d.publish(d.table.Tick(d.p.w.now))
	if d.beat = (d.beat + 1) % 4; d.beat == 0 && !d.self.Gone {
		d.announce()
		d.tellMembers()
	}
}

func (d *discovery) hear(m fleet.Member) {
	now := d.p.w.now
	asked := m.Ask && m.Name != d.self.Name && now.Sub(d.answered) >= answerEvery && !d.self.Gone
	m.Ask = false
	if m.Name == d.self.Name && m.Epoch == d.self.Epoch {
		d.meet()
		if m.Gone && !d.self.Gone {
			d.p.returned()
			d.announce()
		}
	}
	d.publish(d.table.Hear(now, m))
	if asked {
		d.answered = now
		d.announce()
	}
	if d.table.Displaced() {
		d.p.w.violate("%s thinks that it is displaced", d.p.name)
	}
}

func (d *discovery) meet() {
	if d.met {
		return
	}
	d.met = true
	d.p.w.after(acquaint, func() { d.p.do(aTimer, d.join) })
}

func (d *discovery) join() {
	d.self.Joining = false
	d.announce()
	d.joined = true
}

// leave is the goodbye of a node that is shut down in order.
func (d *discovery) leave() {
	d.self.Gone = true
	d.announce()
}

func (d *discovery) announce() {
	if v := d.p.voice; v != nil {
		d.self.Peers = v.core.Sessions()
		d.self.Load = float64(d.self.Peers) / 1000
	}
	self := d.self
	self.Ask = false
	d.publish(d.table.SetSelf(d.p.w.now, self))
	if d.table.Overslept() {
		d.p.returned()
	}
	d.p.publish(subjectHello, d.self)
}

func (d *discovery) publish(changed bool) {
	if !changed {
		return
	}
	d.view = d.table.View()
	view := d.view
	d.p.w.trace("%s sees %d members", d.p.name, len(view.Members()))
	d.tellMembers()
	switch {
	case d.p.guilds != nil:
		d.p.guilds.fleet(view)
	case d.p.gateway != nil:
		d.p.gateway.fleet(view)
	case d.p.voice != nil:
		d.p.voice.fleet(view)
	}
}

func (d *discovery) tellMembers() {
	if d.p.guilds != nil {
		d.p.guilds.members(d.table.Members())
	}
}

// probe asks the next node whether it is on the bus.
func (d *discovery) probe() {
	w := d.p.w
	next, ok := d.next()
	if !ok {
		return
	}
	if next.Name != d.asked {
		d.misses, d.asked = 0, next.Name
	}
	switch w.bus.probe(d.p, next.Name) {
	case probeNobody:
		d.misses++
	case probeAway:
		d.misses, d.calm = 0, w.now.Add(probeCalm)
	default:
		d.misses = 0
	}
	if d.misses < probeMisses || w.now.Before(d.calm) {
		return
	}
	d.misses = 0
	w.trace("%s says that %s has left", d.p.name, next.Name)
	next.Gone = true
	d.p.publish(subjectHello, next)
}

func (d *discovery) next() (fleet.Member, bool) {
	members := d.view.Members()
	for _, m := range members {
		if m.Name > d.p.name {
			return m, true
		}
	}
	if len(members) == 0 || members[0].Name == d.p.name {
		return fleet.Member{}, false
	}
	return members[0], true
}
