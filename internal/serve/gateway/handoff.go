package gateway

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/proto"
)

const (
	// endedFor is how long a session that ended is remembered, for an owner that may
	// not have heard of it from the owner before.
	endedFor = 10 * time.Second
	// maxEnded bounds how many are; the oldest are forgotten first.
	maxEnded = 4096
	// maxWakes bounds the guilds that are woken at once, so that an owner is not woken
	// for more than it can take.
	maxWakes = 2000
	// askAgain is how long GUILD_CREATE may take before a session asks for the guild
	// again: the bus may have lost the one or the other. Each time it waits for twice as
	// long, up to askSeldom. Who asks again meanwhile is maxAsking at once.
	askAgain  = 5 * time.Second
	askSeldom = time.Minute
	maxAsking = 500
)

// handoff is what a shard needs to know when guilds change owners.
type handoff struct {
	// awaiting has the sessions that asked for a guild and have no GUILD_CREATE yet.
	awaiting map[proto.Snowflake]map[*client]asking
	// adrift are the guilds that are to have another owner, which has not claimed them
	// yet: it is woken until it does.
	adrift      map[proto.Snowflake]struct{}
	generations map[proto.Snowflake]uint64 // of the owners that claimed guilds
	ended       []endedSession             // lately, in order
	draining    bool                       // the gateway is leaving, not its clients
}

// asking is when a session asks for a guild again, after how long.
type asking struct {
	at    clock.Time
	after time.Duration
}

type endedSession struct {
	at      clock.Time
	attach  *guild.Attach
	guilds  []proto.Snowflake
	voice   guild.Wishes
	leaving bool // it was ended by the gateway
}

func newHandoff() handoff {
	return handoff{
		awaiting: make(map[proto.Snowflake]map[*client]asking), adrift: make(map[proto.Snowflake]struct{}),
		generations: make(map[proto.Snowflake]uint64),
	}
}

// voiceEnded says that a session is no longer in voice.
type voiceEnded struct{ *guild.VoiceEnded }

func (m voiceEnded) deliver(sh *shard, now clock.Time) {
	if a := sh.arriving[m.Session]; a != nil {
		a.keep(m)
		return
	}
	if c := sh.sessions[m.Session]; c != nil && !sh.outdated(m.Guild, m.Generation) {
		c.voice.Ended(now, m.Guild)
	}
}

// await notes that a session has asked for GUILD_CREATE.
func (sh *shard) await(now clock.Time, c *client, g proto.Snowflake) {
	in := sh.awaiting[g]
	if in == nil {
		in = make(map[*client]asking)
		sh.awaiting[g] = in
	}
	in[c] = asking{now.Add(askAgain), askAgain}
}

// welcomed notes that a session has got GUILD_CREATE.
func (sh *shard) welcomed(c *client, g proto.Snowflake) {
	if in := sh.awaiting[g]; in != nil {
		if delete(in, c); len(in) == 0 {
			delete(sh.awaiting, g)
		}
	}
}

// forget drops what is known of a session and a guild that part.
func (sh *shard) forget(c *client, g proto.Snowflake) {
	sh.welcomed(c, g)
	c.voice.Forget(g)
	if !sh.has(g) {
		delete(sh.generations, g)
		delete(sh.adrift, g)
	}
}

// outdated reports whether an owner of a guild that speaks has been replaced.
func (sh *shard) outdated(g proto.Snowflake, generation uint64) bool {
	return generation < sh.generations[g]
}

// has reports whether the shard has sessions in a guild.
func (sh *shard) has(g proto.Snowflake) bool { return sh.guilds[g] != nil || sh.awaiting[g] != nil }

// seated calls f for each session that GUILD_CREATE of a guild has reached.
func (sh *shard) seated(g proto.Snowflake, f func(*client)) {
	if cr := sh.guilds[g]; cr != nil {
		for _, p := range cr.places {
			f(p.client)
		}
	}
}

// remember keeps a session that ends, unless all do.
func (sh *shard) remember(now clock.Time, c *client, leaving bool) {
	if sh.draining || len(c.guilds) == 0 {
		return
	}
	if len(sh.ended) >= maxEnded {
		sh.ended = slices.Delete(sh.ended, 0, 1)
	}
	sh.ended = append(sh.ended, endedSession{now, sh.attachment(c), slices.Collect(maps.Keys(c.guilds)), c.voice.End(now), leaving})
}

// remind wakes the owners of guilds that are adrift, asks again for those that do not
// come, and forgets who ended long ago.
func (sh *shard) remind(now clock.Time) {
	sh.wake()
	sh.ask(now)
	old := 0
	for old < len(sh.ended) && now.Sub(sh.ended[old].at) > endedFor {
		old++
	}
	sh.ended = slices.Delete(sh.ended, 0, old)
}

// ask asks again for guilds that sessions have waited for.
func (sh *shard) ask(now clock.Time) {
	left := maxAsking
	for g, in := range sh.awaiting {
		for c, a := range in {
			if now.Before(a.at) {
				continue
			}
			if left--; left < 0 {
				return
			}
			attach := sh.claim(now, c, g)
			attach.Waited = a.after
			a.after = min(2*a.after, askSeldom)
			a.at = now.Add(a.after)
			in[c] = a
			sh.request(guild.Request{Guild: g, Attach: attach})
		}
	}
}

// claim is the attachment of a session with what its guild's owner may not have heard.
func (sh *shard) claim(now clock.Time, c *client, g proto.Snowflake) *guild.Attach {
	a := sh.attachment(c)
	c.voice.Claim(now, g, a)
	return a
}

// wake asks the owners of guilds that are adrift for their claims.
func (sh *shard) wake() {
	left := maxWakes
	for g := range sh.adrift {
		if left--; left < 0 {
			return
		}
		sh.request(guild.Request{Guild: g, Wake: &guild.Wake{Gateway: sh.service.cfg.Node, Generation: sh.generations[g]}})
	}
}

// Returned takes in that the bus was away: events were missed, so every session is
// ended and told to identify anew.
func (g *Service) Returned() {
	for _, sh := range g.shards {
		sh.overrun.Store(true)
		sh.post(nudge{})
	}
}

// nudge makes a shard look at what it was told beside its mailboxes.
type nudge struct{}

func (nudge) deliver(*shard, clock.Time) {}

// Fleet takes in who is there: guilds whose owner is another now, or has restarted,
// are to be claimed by it.
func (g *Service) Fleet(v *fleet.View) {
	was := g.fleet
	g.fleet = v
	g.others.Store(slices.ContainsFunc(v.Members(), func(m fleet.Member) bool {
		return m.Name != g.cfg.Node && m.Roles.Has(fleet.Gateway) && !m.Draining && m.Ailing == ""
	}))
	g.postAll(fleetChanged{was, v})
}

// Members is told how the others are doing, which is nothing to a gateway.
func (g *Service) Members([]fleet.Member) {}

type fleetChanged struct{ was, is *fleet.View }

func (m fleetChanged) deliver(sh *shard, _ clock.Time) {
	check := func(g proto.Snowflake) {
		if m.is.OwnerChanged(m.was, uint64(g)) {
			sh.adrift[g] = struct{}{}
		}
	}
	for g := range sh.guilds {
		check(g)
	}
	for g := range sh.awaiting {
		if sh.guilds[g] == nil {
			check(g)
		}
	}
	sh.wake()
}

// receiveClaimed takes in that a node has taken a guild.
func (g *Service) receiveClaimed(b bus.Message) {
	var c guild.Claimed
	if err := b.Decode(&c); err != nil || c.Guild == 0 {
		g.log.Error("gateway: claim unreadable", "err", err)
		return
	}
	g.rollCall(&c)
}

// rollCall tells a guild's new owner of all sessions of the guild, and when that is
// all.
func (g *Service) rollCall(c *guild.Claimed) {
	m := claimed{Claimed: c, left: new(atomic.Int32)}
	m.left.Store(int32(len(g.shards)))
	g.postAll(m)
}

type claimed struct {
	*guild.Claimed
	left *atomic.Int32 // shards that have not answered
}

func (m claimed) deliver(sh *shard, now clock.Time) {
	delete(sh.adrift, m.Guild)
	sh.unsettle(m.Guild)
	if sh.has(m.Guild) {
		sh.generations[m.Guild] = max(sh.generations[m.Guild], m.Generation)
	}
	known := func(a *guild.Attach) {
		a.Known = true
		sh.answer(m.Claimed, guild.Request{Attach: a})
	}
	sh.seated(m.Guild, func(c *client) { known(sh.claim(now, c, m.Guild)) })
	for _, e := range sh.ended {
		if slices.Contains(e.guilds, m.Guild) {
			a := *e.attach
			e.voice.Claim(now, m.Guild, &a)
			known(&a)
			sh.answer(m.Claimed, guild.Request{Detach: &guild.Detach{SessionRef: e.attach.SessionRef, Leaving: e.leaving}})
		}
	}
	// After who has left: one of those may be the same user, whose place it takes.
	for c := range sh.awaiting[m.Guild] {
		sh.answer(m.Claimed, guild.Request{Attach: sh.claim(now, c, m.Guild)})
	}
	if m.left.Add(-1) == 0 {
		sh.answer(m.Claimed, guild.Request{Present: &guild.Present{Node: sh.service.cfg.Node, Role: guild.RoleGateway}})
	}
}

// answer tells the node that claimed a guild something of it.
func (sh *shard) answer(c *guild.Claimed, r guild.Request) {
	r.Guild, r.Claim = c.Guild, c.Generation
	if err := sh.service.bus.Publish(guild.OwnerSubject(c.Node), r); err != nil {
		sh.service.log.Warn("gateway request lost", "guild", r.Guild, "err", err)
	}
}
