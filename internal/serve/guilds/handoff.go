package guilds

import (
	"context"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/proto"
)

const (
	// rollCallFor is how long a guild that was taken waits for gateways and voice
	// nodes to say who is there. Whoever is later is taken in when it comes.
	rollCallFor = time.Second
	// rollCallAgain is when those who have not answered are asked once more: after a bus
	// was away, nodes are back on it some hundred milliseconds apart.
	rollCallAgain = rollCallFor / 2
	// rollCallEvery is how often it is looked whether that is over.
	rollCallEvery = 50 * time.Millisecond
	// claimFresh is how long a claim needs not be made again for a gateway that asks:
	// it is about to hear of it.
	claimFresh = 2 * time.Second
	// relocateRate is how many people a shard moves to other voice nodes every
	// rollCallEvery, a hundred a second, so that those are not stormed: each takes
	// hundreds, and nobody is silent who waits for its turn.
	relocateRate = 5
	// maxHeld bounds the requests that wait for that. What comes beyond is refused.
	maxHeld = 1024
)

// rollCall is what a guild that is being rebuilt waits for.
type rollCall struct {
	until   clock.Time
	again   clock.Time // when to ask once more, zero when that was done
	missing map[guild.Present]bool
	waiting []delivery
}

// mine reports whether a guild belongs to this node, as far as it knows.
func (sh *shard) mine(id proto.Snowflake) bool {
	return sh.service.cfg.View().GuildOwner(uint64(id)) == sh.service.cfg.Node
}

// late reports whether a request answers a claim that is not this node's latest, or is
// a report from before an answer that is still to come, and that says what is so now.
func (sh *shard) late(r *guild.Request) bool {
	e := sh.guilds[r.Guild]
	if r.Claim != 0 {
		return e == nil || e.tenure.Generation != r.Claim
	}
	return r.Report != nil && r.Report.Connected && e != nil && e.missing[guild.Present{Node: r.Report.Node, Role: guild.RoleVoice}]
}

// passOn gives a request to the guild's owner, unless that was done before.
func (sh *shard) passOn(m bus.Message, r *guild.Request) {
	s := sh.service
	owner := s.cfg.View().GuildOwner(uint64(r.Guild))
	if r.Forwarded || owner == "" || owner == s.cfg.Node {
		s.metrics.misplaced.Inc()
		s.respond(m, guild.Misplaced())
		return
	}
	r.Forwarded = true
	s.metrics.forwarded.Inc()
	if err := s.bus.Forward(m, guild.OwnerSubject(owner), r); err != nil {
		s.metrics.unsent.Inc()
		s.log.Warn("guild request not passed on", "guild", r.Guild, "err", err)
	}
}

// callRoll asks all gateways and voice nodes who is there of a guild that was just
// taken.
func (sh *shard) callRoll(now clock.Time, wall time.Time, id proto.Snowflake, e *entry) {
	e.Rebuild(e.tenure.Generation)
	e.claimedAt = now
	e.until, e.again, e.missing = now.Add(rollCallFor), now.Add(rollCallAgain), map[guild.Present]bool{}
	for _, m := range sh.service.cfg.View().Members() {
		if m.Roles.Has(fleet.Gateway) {
			e.missing[guild.Present{Node: m.Name, Role: guild.RoleGateway}] = true
		}
		if m.Roles.Has(fleet.Voice) {
			e.missing[guild.Present{Node: m.Name, Role: guild.RoleVoice}] = true
		}
	}
	sh.publish(guild.SubjectClaimed, sh.claimed(id, e))
	if len(e.missing) == 0 {
		e.Settle(wall)
		return
	}
	sh.gathering[id] = e
}

func (sh *shard) claimed(id proto.Snowflake, e *entry) guild.Claimed {
	return guild.Claimed{Guild: id, Generation: e.tenure.Generation, Node: sh.service.cfg.Node}
}

// held keeps a request back that has to wait until its guild is rebuilt.
func (sh *shard) held(d delivery, r *guild.Request) bool {
	e := sh.gathering[d.guild]
	if e == nil || r.Report != nil || r.Present != nil || r.Wake != nil || (r.Attach != nil && r.Attach.Known) {
		return false
	}
	if len(e.waiting) >= maxHeld {
		sh.service.metrics.dropped.Inc()
		sh.service.respond(d.message, guild.Overloaded())
		return true
	}
	e.waiting = append(e.waiting, d)
	return true
}

// outlived lets go of a guild that another node had after this one, unheard, when a
// request says so.
func (sh *shard) outlived(r *guild.Request) {
	if e := sh.guilds[r.Guild]; e != nil && r.Wake != nil && r.Wake.Generation > e.tenure.Generation {
		sh.drop(r.Guild)
	}
}

// handover takes what is said of a guild's owners and not of the guild; it is false
// for all else.
func (sh *shard) handover(ctx context.Context, now clock.Time, in guild.Input, e *entry, known bool) bool {
	r := &in.Request
	switch {
	case r.Present != nil:
		delete(e.missing, *r.Present)
		if e.Rebuilding() && len(e.missing) == 0 {
			sh.settle(ctx, now, in.Wall, r.Guild, e)
		}
	case r.Wake != nil:
		if (known && now.Sub(e.claimedAt) > claimFresh) || !e.Exists() {
			claimed := sh.claimed(r.Guild, e)
			sh.publish(guild.GatewaySubject(r.Wake.Gateway), guild.GatewayMessage{Claimed: &claimed})
		}
	default:
		return false
	}
	if !e.Exists() {
		sh.drop(r.Guild)
	}
	return true
}

// endRollCalls lets the guilds go on that wait for nobody, or have waited enough. Answers
// may have come while the store kept this goroutine, so what waits is heard before.
func (sh *shard) endRollCalls(ctx context.Context, now clock.Time, wall time.Time) {
	for _, e := range sh.gathering {
		if !now.Before(e.until) {
			sh.hear(ctx, wall)
			break
		}
	}
	for id, e := range sh.gathering {
		switch {
		case len(e.missing) == 0 || !now.Before(e.until):
			sh.settle(ctx, now, wall, id, e)
		case e.again != 0 && !now.Before(e.again):
			e.again = 0
			sh.publish(guild.SubjectClaimed, sh.claimed(id, e))
		}
	}
}

// hear handles what waits in the mailbox now, and not what comes meanwhile.
func (sh *shard) hear(ctx context.Context, wall time.Time) {
	for range sh.mailbox.Len() {
		select {
		case d := <-sh.mailbox.Receive():
			sh.deliver(ctx, monotonic.Now(), wall, d)
		default:
			return
		}
	}
}

func (sh *shard) settle(ctx context.Context, now clock.Time, wall time.Time, id proto.Snowflake, e *entry) {
	delete(sh.gathering, id)
	if len(e.missing) > 0 {
		sh.service.log.Warn("guild goes on without word from all", "guild", id, "missing", len(e.missing))
	}
	waiting := e.waiting
	e.rollCall = rollCall{}
	sh.send(e, e.Settle(wall).Messages)
	sh.send(e, e.NodesChanged(wall).Messages) // since they answered
	for _, d := range waiting {
		sh.deliver(ctx, now, wall, d)
	}
}

// tell runs f on every shard's goroutine, or counts that it could not.
func (s *Service) tell(f func(sh *shard, now clock.Time, wall time.Time)) {
	for _, sh := range s.shards {
		if !sh.mailbox.Post(delivery{do: func(now clock.Time, wall time.Time) { f(sh, now, wall) }}) {
			s.metrics.dropped.Inc()
		}
	}
}

// receiveClaimed takes in that another node has a guild now.
func (s *Service) receiveClaimed(m bus.Message) {
	var c guild.Claimed
	if err := m.Decode(&c); err != nil || c.Guild == 0 {
		s.metrics.malformed.Inc()
		return
	}
	if c.Node == s.cfg.Node {
		return
	}
	sh := s.shardOf(c.Guild)
	sh.mailbox.Post(delivery{do: func(clock.Time, time.Time) {
		if e := sh.guilds[c.Guild]; e != nil && e.tenure.Generation < c.Generation {
			sh.drop(c.Guild)
		}
	}})
}

// Returned takes in that the bus was away: others may have taken guilds, and requests
// were missed, so all guilds are given up. Those that are this node's are taken anew
// with the next request.
func (s *Service) Returned() {
	s.tell(func(sh *shard, _ clock.Time, _ time.Time) {
		for id, e := range sh.guilds {
			sh.release(id, e)
		}
	})
}

// Fleet takes in who is there: guilds that belong to other nodes are dropped, and
// sessions of gateways that are gone. A gateway that was not gone is told.
func (s *Service) Fleet(v *fleet.View) {
	for _, name := range s.gateways.Back(v, fleet.Gateway) {
		mourned := guild.GatewayMessage{Mourned: &guild.Mourned{Node: s.cfg.Node}}
		if err := s.bus.Publish(guild.GatewaySubject(name), mourned); err != nil {
			s.log.Warn("gateway not told that it was taken for dead", "gateway", name, "err", err)
		}
	}
	s.tell(func(sh *shard, _ clock.Time, wall time.Time) { sh.heldAgainst(v, wall) })
}

// Members takes in how the voice nodes are doing.
func (s *Service) Members(members []fleet.Member) {
	var nodes []guild.VoiceNode
	for _, m := range members {
		if m.Roles.Has(fleet.Voice) && !m.Joining {
			nodes = append(nodes, guild.VoiceNode{
				Node: m.Name, Region: m.Region, Endpoint: m.Endpoint, Peers: m.Peers, Load: m.Load,
				Ailing: m.Ailing != "", Draining: m.Draining, Attacked: m.Attacked,
			})
		}
	}
	s.tell(func(sh *shard, _ clock.Time, wall time.Time) {
		if sh.nodes.Replace(nodes) {
			for _, e := range sh.guilds {
				sh.send(e, e.NodesChanged(wall).Messages)
			}
		}
		if len(sh.leaving) == 0 && sh.nodes.Leaving() {
			sh.leaving = slices.Collect(maps.Keys(sh.guilds))
		}
	})
}

// relocate goes on with moving channels from voice nodes that are to be left, at the pace
// of relocateRate.
func (sh *shard) relocate(wall time.Time) {
	sh.pace = min(sh.pace+relocateRate, relocateRate)
	for sh.pace > 0 && len(sh.leaving) > 0 {
		e := sh.guilds[sh.leaving[0]]
		if e == nil || e.Rebuilding() {
			sh.leaving = sh.leaving[1:] // it is looked at again with the next word of the nodes
			continue
		}
		out, moved, done := e.Relocate(wall, sh.pace)
		sh.send(e, out.Messages)
		sh.service.metrics.relocated.Add(float64(moved))
		if sh.pace -= moved; done {
			sh.leaving = sh.leaving[1:]
		}
	}
}

func (sh *shard) heldAgainst(v *fleet.View, wall time.Time) {
	was := sh.view
	sh.view = v
	gone := func(node string) bool { return v.Gone(was, node) }
	ended := func(r guild.SessionRef) bool {
		now, still := v.Member(r.Gateway)
		return gone(r.Gateway) || (still && r.Epoch < now.Epoch)
	}
	for id, e := range sh.guilds {
		if v.GuildOwner(uint64(id)) != sh.service.cfg.Node {
			sh.release(id, e)
			continue
		}
		for p := range e.missing {
			if gone(p.Node) {
				delete(e.missing, p)
			}
		}
		sh.send(e, e.GatewaysGone(wall, ended).Messages)
	}
}

// release gives a guild up, and what waited for it to its owner.
func (sh *shard) release(id proto.Snowflake, e *entry) {
	sh.drop(id)
	for _, d := range e.waiting {
		var r guild.Request
		if d.message.Decode(&r) == nil {
			sh.passOn(d.message, &r)
		}
	}
}
