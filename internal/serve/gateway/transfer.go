package gateway

import (
	"context"
	"crypto/subtle"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/proto"
)

// How a session goes over to another gateway, which is where its client resumes:
//
//	client       this gateway                the one that has it          guilds
//	  │ Resume ───►│ fetch (to all) ─────────────►│                        │
//	  │            │◄─────────────────────── held │ Handover, to each ────►│
//	  │            │◄─────── HandedOver ──────────┼─────── HandedOver ─────│
//	  │            │◄── state, once all guilds have said so               │
//	  │◄─ what it missed, RESUMED, what came here since
//
// A guild's HandedOver comes to each of the two in the order of its events, so none is
// lost and none comes twice. Whatever goes wrong ends the session, as if its gateway had
// died: the client identifies anew and its call goes on.

const (
	// heldWithin is how long a gateway that has a session may take to say so, and
	// wholeWithin how long it may take until all of it is here.
	heldWithin  = 300 * time.Millisecond
	wholeWithin = 3 * time.Second
	// maxKept bounds the events that wait for one session to be here.
	maxKept = 4096
)

// fetching asks all gateways for a session.
type fetching struct {
	Session string `cbor:"1,keyasint"`
	Token   []byte `cbor:"2,keyasint"` // its hash
	Seq     uint64 `cbor:"3,keyasint"` // what its client has seen
	To      string `cbor:"4,keyasint"` // who asks
	Epoch   int64  `cbor:"5,keyasint"` // of its process
}

// fetched is what the one that has it answers: first that it has it, then all of it, or
// neither when it was lost under way.
type fetched struct {
	Session string `cbor:"1,keyasint"`
	State   *state `cbor:"2,keyasint,omitempty"`
	Lost    bool   `cbor:"3,keyasint,omitempty"`
}

// state is a session as another gateway goes on with it.
type state struct {
	User    proto.Snowflake                                `cbor:"1,keyasint"`
	Bot     bool                                           `cbor:"2,keyasint,omitempty"`
	Packed  bool                                           `cbor:"3,keyasint,omitempty"`
	Token   []byte                                         `cbor:"4,keyasint"`
	Intents proto.Intents                                  `cbor:"5,keyasint"`
	Shard   [2]int                                         `cbor:"6,keyasint"`
	Large   int                                            `cbor:"7,keyasint,omitempty"`
	Status  *proto.PresenceData                            `cbor:"8,keyasint,omitempty"`
	Last    uint64                                         `cbor:"9,keyasint"`
	Missed  [][]byte                                       `cbor:"10,keyasint,omitempty"`
	Guilds  map[proto.Snowflake]bool                       `cbor:"11,keyasint,omitempty"` // whether GUILD_CREATE was sent
	Voice   map[proto.Snowflake]proto.VoiceStateUpdateData `cbor:"12,keyasint,omitempty"`
}

const subjectFetch = "gateway.fetch"

func fetchedSubject(node string) string { return "gateway." + node + ".fetched" }

// transfers is what a shard knows of sessions on their way.
type transfers struct {
	arriving map[string]*arrival
	leaving  map[string]*departure
}

// arrival is a session that is to come here.
type arrival struct {
	ask   resume
	user  proto.Snowflake
	until clock.Time
	state *state
	// here are the guilds that send its events here, of which some wait.
	here    map[proto.Snowflake]bool
	pending []mail
	broken  bool
}

// departure is a session that goes elsewhere.
type departure struct {
	to      string
	seq     uint64 // that its client has seen
	until   clock.Time
	waiting map[proto.Snowflake]struct{} // guilds that still send its events here
	gone    map[proto.Snowflake]bool     // those that do no longer, and whether GUILD_CREATE was sent
}

// keep puts an event aside until its session is here.
func (a *arrival) keep(m mail) {
	if a.pending = append(a.pending, m); len(a.pending) > maxKept {
		a.spoil()
	}
}

// spoil has a session given up that has missed something.
func (a *arrival) spoil() { a.broken, a.until, a.pending = true, 1, nil }

// receiveFetch and receiveFetched run on the bus's goroutine.
func (g *Service) receiveFetch(b bus.Message) {
	var f fetching
	if b.Decode(&f) == nil && f.To != g.cfg.Node && f.Session != "" {
		g.shardOf(f.Session).post(f)
	}
}

func (g *Service) receiveFetched(b bus.Message) {
	var f fetched
	if b.Decode(&f) == nil && f.Session != "" {
		g.shardOf(f.Session).post(f)
	}
}

func (sh *shard) tellGateway(subject string, m any) {
	if err := sh.service.bus.Publish(subject, m); err != nil {
		sh.service.log.Warn("gateway message lost", "subject", subject, "err", err)
	}
}

// fetch is a resume of a session that is not here, by a client whose token is good.
type fetch struct {
	resume
	user proto.Snowflake
}

func (m fetch) deliver(sh *shard, now clock.Time) {
	switch {
	case sh.sessions[m.id] != nil:
		m.resume.deliver(sh, now)
	case sh.arriving[m.id] != nil:
		m.answer <- resumed{}
	default:
		sh.arriving[m.id] = &arrival{ask: m.resume, user: m.user, until: now.Add(heldWithin), here: map[proto.Snowflake]bool{}}
		sh.tellGateway(subjectFetch, fetching{Session: m.id, Token: m.token[:], Seq: m.seq, To: sh.service.cfg.Node, Epoch: sh.service.cfg.Epoch})
	}
}

// deliver begins to hand a session over, if it is here.
func (m fetching) deliver(sh *shard, now clock.Time) {
	c := sh.sessions[m.Session]
	if c == nil || !c.ready || sh.draining || sh.leaving[m.Session] != nil || subtle.ConstantTimeCompare(c.token[:], m.Token) == 0 {
		return
	}
	sh.tellGateway(fetchedSubject(m.To), fetched{Session: c.id})
	if c.conn != nil {
		sh.close(c, proto.CloseUnknownError) // half-open, or the client has two
		sh.disconnect(now, c)
	}
	d := &departure{to: m.To, seq: m.Seq, until: now.Add(wholeWithin), waiting: map[proto.Snowflake]struct{}{}, gone: map[proto.Snowflake]bool{}}
	sh.leaving[c.id] = d
	for id := range c.guilds {
		d.waiting[id] = struct{}{}
		sh.request(guild.Request{Guild: id, Handover: &guild.Handover{SessionRef: sh.ref(c), To: m.To, ToEpoch: m.Epoch}})
	}
	if len(d.waiting) == 0 {
		sh.depart(now, c, d)
	}
}

// handedOver says that a guild sends a session's events to its next gateway.
type handedOver struct{ *guild.HandedOver }

func (m handedOver) deliver(sh *shard, now clock.Time) {
	if sh.outdated(m.Guild, m.Generation) {
		return
	}
	if a := sh.arriving[m.Session]; a != nil {
		a.here[m.Guild] = true
		sh.arrive(now, m.Session, a)
		return
	}
	d, c := sh.leaving[m.Session], sh.sessions[m.Session]
	if d == nil || c == nil {
		return
	}
	if _, waits := d.waiting[m.Guild]; !waits {
		return
	}
	sh.catchUp(now, c, m.Guild)
	d.gone[m.Guild] = c.guilds[m.Guild] != nil
	sh.unseat(c, m.Guild)
	if delete(d.waiting, m.Guild); len(d.waiting) == 0 {
		sh.depart(now, c, d)
	}
}

// depart gives all of a session to its next gateway and forgets it.
func (sh *shard) depart(now clock.Time, c *client, d *departure) {
	last, missed, ok := c.session.Export(d.seq)
	if !ok {
		sh.fail(c)
		return
	}
	s := &state{
		User: c.user, Bot: c.bot, Packed: c.packed, Token: c.token[:], Intents: c.intents, Shard: c.shard, Large: c.large, Status: c.status,
		Last: last, Missed: missed, Guilds: d.gone, Voice: c.voice.Here(),
	}
	sh.tellGateway(fetchedSubject(d.to), fetched{Session: c.id, State: s})
	delete(sh.leaving, c.id)
	for id := range d.gone {
		sh.forget(c, id)
	}
	sh.strike(c)
	sh.service.metrics.transfers.WithLabelValues("left").Inc()
}

// fail ends a session that cannot be handed over, as if this gateway had died.
func (sh *shard) fail(c *client) {
	d := sh.leaving[c.id]
	sh.tellGateway(fetchedSubject(d.to), fetched{Session: c.id, Lost: true})
	for g := range d.gone {
		c.guilds[g] = nil
	}
	sh.remove(c, true)
}

// deliver takes in what the gateway says that has a session.
func (m fetched) deliver(sh *shard, now clock.Time) {
	a := sh.arriving[m.Session]
	switch {
	case a == nil:
		if m.State != nil { // nobody waits for it any more
			c := sh.admitted(now, m.Session, m.State)
			sh.abandon(c)
		}
	case m.Lost:
		sh.giveUp(m.Session, a)
	case m.State == nil:
		a.until = now.Add(wholeWithin)
	default:
		a.state = m.State
		sh.arrive(now, m.Session, a)
	}
}

// arrive goes on with a session that is here, once it is whole.
func (sh *shard) arrive(now clock.Time, id string, a *arrival) {
	if a.state == nil {
		return
	}
	for g := range a.state.Guilds {
		if !a.here[g] {
			return
		}
	}
	delete(sh.arriving, id)
	c := sh.admitted(now, id, a.state)
	if a.broken {
		sh.abandon(c)
		a.ask.answer <- resumed{}
		return
	}
	for g, seated := range a.state.Guilds {
		if seated {
			sh.seat(c, g)
		} else {
			sh.await(now, c, g)
		}
	}
	sh.service.metrics.transfers.WithLabelValues("came").Inc()
	a.ask.deliver(sh, now)
	for _, m := range a.pending {
		m.deliver(sh, now)
	}
}

// admitted makes a session of what another gateway had of it. It has no place in its
// guilds yet.
func (sh *shard) admitted(now clock.Time, id string, s *state) *client {
	c := &client{
		id: id, user: s.User, bot: s.Bot, packed: s.Packed, intents: s.Intents, shard: s.Shard, large: s.Large, status: s.Status,
		ready: true, guilds: make(map[proto.Snowflake]*place, len(s.Guilds)), voice: guild.WishesOf(s.Voice),
		session: session.Restore(now, &sh.service.session, s.Last, s.Missed),
	}
	copy(c.token[:], s.Token)
	for g := range s.Guilds {
		c.guilds[g] = nil
	}
	sh.enlist(c)
	return c
}

// abandon ends a session that came for nobody: its guilds think that it is here.
func (sh *shard) abandon(c *client) {
	sh.remove(c, true)
}

func (sh *shard) giveUp(id string, a *arrival) {
	delete(sh.arriving, id)
	// Guilds may have been told that it is here; whoever does not know it pays no heed.
	for g := range a.here {
		sh.request(guild.Request{Guild: g, Detach: &guild.Detach{
			SessionRef: guild.SessionRef{Gateway: sh.service.cfg.Node, Epoch: sh.service.cfg.Epoch, Session: id, User: a.user}, Leaving: true,
		}})
	}
	a.ask.answer <- resumed{}
}

// transfersDue gives up what has taken too long.
func (sh *shard) transfersDue(now clock.Time) {
	for id, a := range sh.arriving {
		if !now.Before(a.until) {
			sh.giveUp(id, a)
		}
	}
	for id, d := range sh.leaving {
		if !now.Before(d.until) {
			sh.fail(sh.sessions[id])
		}
	}
}

// unsettle gives up what is on its way in a guild that is to be rebuilt: its owner before
// may have handed over what the next one does not know of.
func (sh *shard) unsettle(g proto.Snowflake) {
	for _, a := range sh.arriving {
		if a.here[g] {
			a.spoil()
		}
	}
	for _, id := range slices.Collect(maps.Keys(sh.leaving)) {
		if _, gone := sh.leaving[id].gone[g]; gone {
			sh.fail(sh.sessions[id])
		}
	}
}

// keepFor puts a guild's event aside for the sessions on their way that it is for.
func (m *dispatch) keepFor(sh *shard) {
	for id, a := range sh.arriving {
		if a.here[m.guild] && (len(m.sessions) == 0 || slices.Contains(m.sessions, id)) {
			a.keep(keptDispatch{m, id})
		}
	}
}

// keptDispatch gives one session an event that came before it.
type keptDispatch struct {
	*dispatch
	session string
}

func (m keptDispatch) deliver(sh *shard, now clock.Time) {
	if c := sh.sessions[m.session]; c != nil {
		if _, in := c.guilds[m.guild]; in {
			m.give(sh, now, c)
		}
	}
}

// keepForUser puts what concerns a user's sessions aside for those on their way here.
func (sh *shard) keepForUser(user proto.Snowflake, kept func(session string) mail) {
	for id, a := range sh.arriving {
		if a.user == user {
			a.keep(kept(id))
		}
	}
}

// transferDue returns when transfersDue has something to do, or never.
func (sh *shard) transferDue() (at clock.Time) {
	for _, a := range sh.arriving {
		at = clock.Earliest(at, a.until)
	}
	for _, d := range sh.leaving {
		at = clock.Earliest(at, d.until)
	}
	return at
}

// sendAway asks some clients to go on elsewhere. Their sessions wait to be asked for.
type sendAway struct{ most int }

func (m sendAway) deliver(sh *shard, now clock.Time) {
	for _, c := range sh.sessions {
		if m.most <= 0 {
			return
		}
		if c.conn != nil {
			goodbye(c.conn)
			sh.disconnect(now, c)
			m.most--
		}
	}
}

const (
	// sendEvery is how often, and sendMost how many clients, are sent away: a thousand a
	// second, which two or three other gateways let in as they come.
	sendEvery = 50 * time.Millisecond
	sendMost  = 50
	// sendQuiet is how long nobody has come for a session when the rest is given up.
	sendQuiet = 5 * time.Second
)

// Drain takes no more clients, asks all to reconnect, and hands their sessions over to the
// gateways where they resume. It returns when none is left, when nobody has come for one
// for a while, or with ctx. Where there is no other gateway it does nothing. Close comes
// next.
func (g *Service) Drain(ctx context.Context) {
	if !g.others.Load() {
		return
	}
	g.door.shut()
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	left, since := g.live.Load(), monotonic.Now()
	for left > 0 {
		for _, sh := range g.shards {
			sh.clients.Post(sendAway{most: max(1, sendMost/len(g.shards))}) // a full mailbox is told again
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-g.group.Context().Done():
			return
		}
		now := monotonic.Now()
		if n := g.live.Load(); n != left {
			left, since = n, now
		} else if now.Sub(since) > sendQuiet {
			return
		}
	}
}
