package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// As in serve/guilds.
const (
	rollCallFor   = time.Second
	rollCallEvery = 50 * time.Millisecond
	claimFresh    = 2 * time.Second
	maxHeld       = 1024
	maxWaiting    = 8192
)

var tokenKey = []byte("the key of the simulation's voice tokens")

// delivery is a request on its way through its guild's shard. Only calls have an answer.
type delivery struct {
	request guild.Request
	answer  func(*guild.Result)
}

func (d *delivery) respond(r *guild.Result) {
	if d.answer != nil {
		d.answer(r)
	}
}

// ownedGuild is a guild that this node has loaded.
type ownedGuild struct {
	*guild.Guild
	tenure  tenure
	claimed clock.Time // when all were told of the tenure last
	until   clock.Time // of the roll call
	again   clock.Time // when to ask once more, zero when that was done
	missing map[guild.Present]bool
	waiting []delivery
	// unsaid counts writes that the database may have and nobody was told of.
	unsaid int
}

// guildService mirrors serve/guilds with one shard. A shard waits for the store, and
// so what comes meanwhile waits for the shard, in work.
type guildService struct {
	p         *process
	owner     string
	config    guild.Config
	nodes     *guild.Nodes
	guilds    map[proto.Snowflake]*ownedGuild
	gathering map[proto.Snowflake]*ownedGuild
	view      *fleet.View
	gateways  fleet.Mourning
	mail      mailbox
	work      []func()
	busy      bool
}

func newGuildService(p *process) *guildService {
	nodes := guild.NewNodes()
	s := &guildService{
		p: p, owner: fmt.Sprintf("%s@%d", p.name, p.epoch), nodes: nodes, mail: mailbox{p: p},
		config: guild.Config{IDs: proto.NewGenerator(uint16(p.index)), Random: noise{p.w}, TokenKey: tokenKey, Nodes: nodes},
		guilds: map[proto.Snowflake]*ownedGuild{}, gathering: map[proto.Snowflake]*ownedGuild{},
	}
	p.subs[guild.OwnerSubject(p.name)] = func(m any) { s.post(m.(delivery)) }
	p.subs[guild.SubjectClaimed] = func(m any) { s.receiveClaimed(m.(guild.Claimed)) }
	p.w.after(p.w.between(0, rollCallEvery), func() {
		p.every(rollCallEvery, func() { s.turn(s.endRollCalls) })
	})
	return s
}

// noise is the world's randomness as bytes.
type noise struct{ w *world }

func (n noise) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(n.w.rng.Uint32())
	}
	return len(b), nil
}

// post brings a request to the shard's mailbox.
func (s *guildService) post(d delivery) {
	s.mail.post(func() { s.turn(func() { s.deliver(d) }) })
}

// turn runs f on the shard, after all that came before.
func (s *guildService) turn(f func()) {
	s.work = append(s.work, f)
	s.p.w.bound(s.p.name+" work", len(s.work), maxWaiting)
	s.goOn()
}

func (s *guildService) goOn() {
	for !s.busy && len(s.work) > 0 && !s.p.dead {
		f := s.work[0]
		s.work = s.work[1:]
		f()
	}
}

// wait makes the shard wait for the database.
func (s *guildService) wait(do func(*database) error, then func(error)) {
	s.busy = true
	s.p.query(do, func(err error) {
		s.busy = false
		then(err)
		s.goOn()
	})
}

func (s *guildService) mine(id proto.Snowflake) bool {
	return s.p.discovery.view.GuildOwner(uint64(id)) == s.p.name
}

func (s *guildService) deliver(d delivery) {
	id := d.request.Guild
	if s.late(&d.request) && !s.p.w.bug("take late answers") {
		return
	}
	if !s.mine(id) {
		s.passOn(d)
		return
	}
	if s.held(d) {
		return
	}
	s.handle(d)
}

// late mirrors the shard's late.
func (s *guildService) late(r *guild.Request) bool {
	e := s.guilds[r.Guild]
	if r.Claim != 0 {
		return e == nil || e.tenure.generation != r.Claim
	}
	return r.Report != nil && r.Report.Connected && e != nil && e.missing[guild.Present{Node: r.Report.Node, Role: guild.RoleVoice}]
}

func (s *guildService) passOn(d delivery) {
	owner := s.p.discovery.view.GuildOwner(uint64(d.request.Guild))
	if d.request.Forwarded || owner == "" || owner == s.p.name {
		d.respond(guild.Misplaced())
		return
	}
	d.request.Forwarded = true
	s.p.publish(guild.OwnerSubject(owner), d)
}

func (s *guildService) held(d delivery) bool {
	r, e := &d.request, s.gathering[d.request.Guild]
	if e == nil || r.Report != nil || r.Present != nil || r.Wake != nil || (r.Attach != nil && r.Attach.Known) {
		return false
	}
	if len(e.waiting) >= maxHeld {
		d.respond(guild.Overloaded())
		return true
	}
	e.waiting = append(e.waiting, d)
	return true
}

// handle carries out one request: load, decide, store, send.
func (s *guildService) handle(d delivery) {
	id := d.request.Guild
	// Another node may have had the guild after this one, unheard.
	if e, wake := s.guilds[id], d.request.Wake; e != nil && wake != nil && wake.Generation > e.tenure.generation {
		s.drop(id)
	}
	known := s.guilds[id] != nil
	s.load(id, func(e *ownedGuild, err error) {
		switch {
		case err != nil:
			s.failed(d)
		case !known && (s.late(&d.request) || s.held(d)):
		case s.handover(d, e, known):
		default:
			s.decide(d, e)
		}
	})
}

func (s *guildService) load(id proto.Snowflake, then func(*ownedGuild, error)) {
	if e := s.guilds[id]; e != nil {
		then(e, nil)
		return
	}
	var record guild.Record
	var t tenure
	var found bool
	s.wait(func(db *database) error {
		record, t, found = db.take(id, s.owner)
		return nil
	}, func(err error) {
		if err != nil || !found {
			then(nil, errAway)
			return
		}
		e := &ownedGuild{Guild: guild.Load(record, s.config), tenure: t}
		s.guilds[id] = e
		s.callRoll(id, e)
		then(e, nil)
	})
}

func (s *guildService) decide(d delivery, e *ownedGuild) {
	id := d.request.Guild
	s.p.w.trace("%s %v", s.p.name, described{&d.request})
	out := e.Handle(guild.Input{Wall: s.p.wall(), Request: d.request})
	finish := func() {
		s.send(id, e, out.Messages)
		if out.Reply != nil {
			d.respond(out.Reply)
		}
	}
	if len(out.Writes) == 0 {
		finish()
		return
	}
	s.wait(func(db *database) error {
		err := db.apply(id, e.tenure, out.Writes)
		if err == nil {
			e.unsaid++
		}
		return err
	}, func(err error) {
		if err != nil {
			e.Rollback()
			if err == errFenced {
				s.p.w.trace("%s is fenced from guild %d", s.p.name, id)
				s.drop(id)
			}
			s.failed(d)
			return
		}
		e.unsaid--
		finish()
	})
}

// described is a request for the trace.
type described struct{ *guild.Request }

// String names what the checks are about.
func (d described) String() string {
	switch {
	case d.Attach != nil:
		return fmt.Sprintf("attaches %s to %d, known %v", d.Attach.Session, d.Guild, d.Attach.Known)
	case d.Detach != nil:
		return fmt.Sprintf("detaches %s from %d, leaving %v", d.Detach.Session, d.Guild, d.Detach.Leaving)
	case d.Voice != nil:
		return fmt.Sprintf("hears op 4 of %s in %d", d.Voice.Session, d.Guild)
	case d.Report != nil:
		return fmt.Sprintf("hears of %d in %d by join %d at %s: %v", d.Report.User, d.Guild, d.Report.Join, d.Report.Node, d.Report.Connected)
	}
	return fmt.Sprintf("is asked for something in %d", d.Guild)
}

func (s *guildService) failed(d delivery) {
	if d.request.Call != nil {
		d.respond(guild.Overloaded())
	}
}

func (s *guildService) drop(id proto.Snowflake) {
	delete(s.guilds, id)
	delete(s.gathering, id)
}

// abandon counts what the death of the process leaves untold.
func (s *guildService) abandon() {
	for _, id := range slices.Sorted(maps.Keys(s.guilds)) {
		if n := s.guilds[id].unsaid; n > 0 {
			s.p.w.trace("%s dies with %d writes of guild %d untold", s.p.name, n, id)
			s.p.w.result.Untold += n
			s.p.w.checks.untold[id] = true
		}
	}
}

// send sends what a guild says, as its owner of this generation.
func (s *guildService) send(id proto.Snowflake, e *ownedGuild, messages []guild.Message) {
	for _, m := range messages {
		if m.Voice != nil {
			s.p.publish(m.Subject, *m.Voice)
			continue
		}
		g := *m.Gateway
		g.SetGeneration(e.tenure.generation)
		if g.Dispatch != nil {
			d := *g.Dispatch
			d.Data = bytes.Clone(d.Data) // the guild's own until its next input; the bus encodes it at once
			g.Dispatch = &d
		}
		s.p.publish(m.Subject, g)
	}
}

func (s *guildService) callRoll(id proto.Snowflake, e *ownedGuild) {
	e.Rebuild(e.tenure.generation)
	e.claimed = s.p.w.now
	e.until, e.again, e.missing = s.p.w.now.Add(rollCallFor), s.p.w.now.Add(rollCallFor/2), map[guild.Present]bool{}
	for _, m := range s.p.discovery.view.Members() {
		if m.Roles.Has(fleet.Gateway) {
			e.missing[guild.Present{Node: m.Name, Role: guild.RoleGateway}] = true
		}
		if m.Roles.Has(fleet.Voice) {
			e.missing[guild.Present{Node: m.Name, Role: guild.RoleVoice}] = true
		}
	}
	s.p.publish(guild.SubjectClaimed, claimOf(id, s.p, e))
	if len(e.missing) == 0 {
		e.Settle(s.p.wall())
		return
	}
	s.gathering[id] = e
}

func claimOf(id proto.Snowflake, p *process, e *ownedGuild) guild.Claimed {
	return guild.Claimed{Guild: id, Generation: e.tenure.generation, Node: p.name}
}

func (s *guildService) handover(d delivery, e *ownedGuild, known bool) bool {
	r := &d.request
	switch {
	case r.Present != nil:
		delete(e.missing, *r.Present)
		if e.Rebuilding() && len(e.missing) == 0 {
			s.settle(r.Guild, e)
		}
	case r.Wake != nil:
		if known && s.p.w.now.Sub(e.claimed) > claimFresh {
			claimed := claimOf(r.Guild, s.p, e)
			s.p.publish(guild.GatewaySubject(r.Wake.Gateway), guild.GatewayMessage{Claimed: &claimed})
		}
	default:
		return false
	}
	return true
}

func (s *guildService) endRollCalls() {
	for _, id := range slices.Sorted(maps.Keys(s.gathering)) {
		e := s.gathering[id]
		switch {
		case len(e.missing) == 0 || !s.p.w.now.Before(e.until):
			s.settle(id, e)
		case e.again != 0 && !s.p.w.now.Before(e.again):
			e.again = 0
			s.p.publish(guild.SubjectClaimed, claimOf(id, s.p, e))
		}
	}
}

func (s *guildService) settle(id proto.Snowflake, e *ownedGuild) {
	delete(s.gathering, id)
	if len(e.missing) > 0 {
		s.p.w.trace("%s goes on with guild %d without word from %d", s.p.name, id, len(e.missing))
		if s.p.w.calm {
			s.p.w.checks.unanswered(s.p.w, s.p, id, e)
		}
	}
	waiting := e.waiting
	e.until, e.missing, e.waiting = 0, nil, nil
	s.send(id, e, e.Settle(s.p.wall()).Messages)
	s.send(id, e, e.NodesChanged(s.p.wall()).Messages)
	// They come before all that the shard has to do besides.
	var first []func()
	for _, d := range waiting {
		first = append(first, func() { s.deliver(d) })
	}
	s.work = append(first, s.work...)
}

func (s *guildService) receiveClaimed(c guild.Claimed) {
	if c.Node == s.p.name {
		return
	}
	s.mail.post(func() {
		s.turn(func() {
			if e := s.guilds[c.Guild]; e != nil && e.tenure.generation < c.Generation {
				s.drop(c.Guild)
			}
		})
	})
}

// returned takes in that the bus was away: all guilds are given up.
func (s *guildService) returned() {
	s.mail.post(func() {
		s.turn(func() {
			for _, id := range slices.Sorted(maps.Keys(s.guilds)) {
				s.release(id, s.guilds[id])
			}
		})
	})
}

// fleet takes in who is there.
func (s *guildService) fleet(v *fleet.View) {
	for _, name := range s.gateways.Back(v, fleet.Gateway) {
		if !s.p.w.bug("mourn in silence") {
			s.p.publish(guild.GatewaySubject(name), guild.GatewayMessage{Mourned: &guild.Mourned{Node: s.p.name}})
		}
	}
	s.mail.post(func() { s.turn(func() { s.heldAgainst(v) }) })
}

// members takes in how the voice nodes are doing.
func (s *guildService) members(members []fleet.Member) {
	var nodes []guild.VoiceNode
	for _, m := range members {
		if m.Roles.Has(fleet.Voice) && !m.Joining {
			nodes = append(nodes, guild.VoiceNode{
				Node: m.Name, Region: m.Region, Endpoint: m.Endpoint, Peers: m.Peers, Load: m.Load,
				Ailing: m.Ailing != "", Draining: m.Draining,
			})
		}
	}
	s.mail.post(func() {
		s.turn(func() {
			if !s.nodes.Replace(nodes) {
				return
			}
			for _, id := range slices.Sorted(maps.Keys(s.guilds)) {
				e := s.guilds[id]
				s.send(id, e, e.NodesChanged(s.p.wall()).Messages)
			}
		})
	})
}

func (s *guildService) heldAgainst(v *fleet.View) {
	was := s.view
	s.view = v
	gone := func(node string) bool { return v.Gone(was, node) }
	ended := func(r guild.SessionRef) bool {
		now, still := v.Member(r.Gateway)
		return gone(r.Gateway) || (still && r.Epoch < now.Epoch)
	}
	for _, id := range slices.Sorted(maps.Keys(s.guilds)) {
		e := s.guilds[id]
		if v.GuildOwner(uint64(id)) != s.p.name {
			s.release(id, e)
			continue
		}
		maps.DeleteFunc(e.missing, func(p guild.Present, _ bool) bool { return gone(p.Node) })
		s.send(id, e, e.GatewaysGone(s.p.wall(), ended).Messages)
	}
}

func (s *guildService) release(id proto.Snowflake, e *ownedGuild) {
	s.p.w.trace("%s releases guild %d", s.p.name, id)
	if !s.p.w.bug("keep released guilds") {
		s.drop(id)
	}
	for _, d := range e.waiting {
		s.passOn(d)
	}
}
