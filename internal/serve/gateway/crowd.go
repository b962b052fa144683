package gateway

import (
	"slices"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/proto"
)

// maxWaiting bounds the events that wait for a round; with that many, a round
// costs much less than the events do.
const maxWaiting = 512

// crowd is the sessions of one shard that GUILD_CREATE of one guild has reached.
// Where they are many, events for all of them wait a little for more of their
// kind, so that each session gets them in one burst (session.Pace). Its order of
// events is the guild's all the same: whatever is for one session only comes after
// what has waited for it (catchUp).
type crowd struct {
	guild     proto.Snowflake
	places    []*place
	waiting   []*dispatch
	pace      session.Pace
	gathering bool // is in shard.gathering
}

// place is one session's in a crowd.
type place struct {
	client *client
	index  int // in crowd.places
	told   int // of the events that wait
}

// seat gives a session its place in a guild, unless it has one. What waits there
// happened before it came.
func (sh *shard) seat(c *client, g proto.Snowflake) {
	if c.guilds[g] != nil {
		return
	}
	cr := sh.guilds[g]
	if cr == nil {
		cr = &crowd{guild: g}
		sh.guilds[g] = cr
	}
	p := &place{client: c, index: len(cr.places), told: len(cr.waiting)}
	cr.places = append(cr.places, p)
	c.guilds[g] = p
}

// unseat takes a session's place away, if it has one.
func (sh *shard) unseat(c *client, g proto.Snowflake) {
	p, cr := c.guilds[g], sh.guilds[g]
	delete(c.guilds, g)
	if p == nil {
		return
	}
	last := len(cr.places) - 1
	cr.places[p.index] = cr.places[last]
	cr.places[p.index].index = p.index
	cr.places[last] = nil
	if cr.places = cr.places[:last]; last == 0 {
		cr.waiting = nil
		delete(sh.guilds, g)
	}
}

// gather takes an event for all of a crowd.
func (sh *shard) gather(now clock.Time, cr *crowd, m *dispatch) {
	cr.waiting = append(cr.waiting, m)
	switch {
	case cr.pace.Round(now, len(cr.places)), len(cr.waiting) >= maxWaiting:
		sh.round(now, cr)
	case !cr.gathering:
		cr.gathering = true
		sh.gathering = append(sh.gathering, cr)
	}
}

// round gives every session what waits for it.
func (sh *shard) round(now clock.Time, cr *crowd) {
	waiting := cr.waiting
	for _, p := range cr.places {
		for _, m := range waiting[p.told:] {
			m.give(sh, now, p.client)
		}
		p.told = 0
	}
	clear(waiting)
	cr.waiting = waiting[:0]
}

// catchUp gives one session at once what waits for it in a guild.
func (sh *shard) catchUp(now clock.Time, c *client, g proto.Snowflake) {
	p := c.guilds[g]
	if p == nil {
		return
	}
	cr := sh.guilds[g]
	for ; p.told < len(cr.waiting); p.told++ {
		cr.waiting[p.told].give(sh, now, c)
	}
}

// rounds holds the rounds that are due.
func (sh *shard) rounds(now clock.Time) {
	sh.gathering = slices.DeleteFunc(sh.gathering, func(cr *crowd) bool {
		if len(cr.waiting) > 0 && !cr.pace.Round(now, len(cr.places)) {
			return false
		}
		sh.round(now, cr)
		cr.gathering = false
		return true
	})
}

// due returns when the next round is, or never.
func (sh *shard) due() (at clock.Time) {
	for _, cr := range sh.gathering {
		at = clock.Earliest(at, cr.pace.Next())
	}
	return at
}
