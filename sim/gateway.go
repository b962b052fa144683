package sim

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/proto"
)

const (
	gatewayHeartbeat = 4 * time.Second
	gatewayResume    = 8 * time.Second
	// As in serve/gateway.
	sweepEvery = 500 * time.Millisecond
	endedFor   = 10 * time.Second
	maxEnded   = 4096
	askAgain   = 5 * time.Second
	askSeldom  = time.Minute
)

// held is a session as its gateway has it; serve/gateway calls it client.
type held struct {
	id      string
	user    proto.Snowflake
	number  int // in the order of their making
	session session.Session
	ready   bool
	conn    *link // nil while waiting to be resumed
	guilds  map[proto.Snowflake]bool
	voice   guild.Wishes

	// What the checks compare: the hash of all that was dispatched up to each number,
	// and the generation that spoke last of each guild.
	sum         uint64
	sums        []uint64
	generations map[proto.Snowflake]uint64
}

type endedSession struct {
	at     clock.Time
	attach *guild.Attach
	guilds []proto.Snowflake
	voice  guild.Wishes
	// leaving is set when the gateway ended it.
	leaving bool
}

// asking is when a session asks for a guild again, after how long.
type asking struct {
	at    clock.Time
	after time.Duration
}

type seats map[*held]struct{}

// inOrder returns sessions in the order of their making.
func inOrder[V any](s map[*held]V) []*held {
	return slices.SortedFunc(maps.Keys(s), func(a, b *held) int { return a.number - b.number })
}

// gatewayService mirrors serve/gateway with one shard.
type gatewayService struct {
	p        *process
	config   session.Config
	clients  mailbox // what readers post
	events   mailbox // what the bus brings
	sessions map[string]*held
	guilds   map[proto.Snowflake]seats
	awaiting map[proto.Snowflake]map[*held]asking
	// adrift, generations and ended as in serve/gateway's handoff.
	adrift      map[proto.Snowflake]struct{}
	generations map[proto.Snowflake]uint64
	ended       []endedSession
	view        *fleet.View
	draining    bool
	made        int
	quiet       bool // nobody reads what sessions get: only count
	delivered   int  // events given to sessions
	received    int  // dispatches that the bus brought
}

func newGatewayService(p *process) *gatewayService {
	g := &gatewayService{
		p: p, clients: mailbox{p: p}, events: mailbox{p: p},
		config:   session.Config{Heartbeat: gatewayHeartbeat, ResumeWindow: gatewayResume, ReplayFrames: 1024, ReplayBytes: 2 << 20},
		sessions: map[string]*held{}, guilds: map[proto.Snowflake]seats{}, awaiting: map[proto.Snowflake]map[*held]asking{},
		adrift: map[proto.Snowflake]struct{}{}, generations: map[proto.Snowflake]uint64{},
	}
	p.subs[guild.GatewaySubject(p.name)] = func(m any) { g.receive(m.(guild.GatewayMessage)) }
	p.subs[guild.SubjectGatewayAll] = p.subs[guild.GatewaySubject(p.name)]
	p.subs[guild.SubjectClaimed] = func(m any) {
		c := m.(guild.Claimed)
		g.events.post(func() { g.rollCall(&c) })
	}
	p.w.after(p.w.between(0, sweepEvery), func() { p.every(sweepEvery, g.sweep) })
	return g
}

func (g *gatewayService) receive(m guild.GatewayMessage) {
	g.events.post(func() {
		switch {
		case m.Dispatch != nil:
			g.received++
			g.dispatch(m.Dispatch)
		case m.VoiceServer != nil:
			g.voiceServer(m.VoiceServer)
		case m.Claimed != nil:
			g.rollCall(m.Claimed)
		case m.Mourned != nil:
			g.p.returned()
		case m.VoiceEnded != nil:
			g.voiceEnded(m.VoiceEnded)
		}
	})
}

func (g *gatewayService) dispatch(d *guild.Dispatch) {
	if d.Generation < g.generations[d.Guild] && !g.p.w.bug("no generations") {
		g.p.w.trace("%s drops %s of generation %d", g.p.name, d.Event, d.Generation)
		return
	}
	if d.Generation > g.generations[d.Guild] && g.has(d.Guild) && !g.p.w.bug("learn from claims alone") {
		g.generations[d.Guild] = d.Generation
	}
	body := session.Body(d.Event, d.Data)
	if len(d.Sessions) == 0 {
		for _, c := range inOrder(g.guilds[d.Guild]) {
			g.give(c, d, body)
		}
		return
	}
	for _, id := range d.Sessions {
		if c := g.sessions[id]; c != nil {
			if _, in := c.guilds[d.Guild]; in {
				g.give(c, d, body)
				continue
			}
		}
		if d.Event == "GUILD_CREATE" && !g.p.w.bug("keep strangers") {
			g.request(guild.Request{Guild: d.Guild, Detach: &guild.Detach{SessionRef: guild.SessionRef{Gateway: g.p.name, Session: id}}})
		}
	}
}

func (g *gatewayService) give(c *held, d *guild.Dispatch, body *session.Payload) {
	if d.Event == "GUILD_CREATE" {
		g.welcomed(c, d.Guild)
		if c.guilds[d.Guild] {
			return // it had asked again, and has it
		}
		c.guilds[d.Guild] = true
		if g.guilds[d.Guild] == nil {
			g.guilds[d.Guild] = seats{}
		}
		g.guilds[d.Guild][c] = struct{}{}
	}
	if d.Generation < c.generations[d.Guild] {
		g.p.w.violate("%s: %s of generation %d of guild %d after one of %d", c.id, d.Event, d.Generation, d.Guild, c.generations[d.Guild])
	}
	c.generations[d.Guild] = d.Generation
	g.say(c, body)
}

// say numbers one event for one session and sends it.
func (g *gatewayService) say(c *held, body *session.Payload) {
	g.delivered++
	seq, send := c.session.Dispatch(body)
	if g.quiet {
		return
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d", c.sum)
	_, _ = h.Write(body.Bytes())
	c.sum = h.Sum64()
	c.sums = append(c.sums, c.sum)
	if send {
		c.conn.reply(append(session.AppendHead(nil, seq), body.Bytes()...))
	}
}

// outdated reports whether an owner of a guild that speaks has been replaced.
func (g *gatewayService) outdated(id proto.Snowflake, generation uint64) bool {
	return generation < g.generations[id]
}

func (g *gatewayService) voiceEnded(v *guild.VoiceEnded) {
	if c := g.sessions[v.Session]; c != nil && !g.outdated(v.Guild, v.Generation) {
		c.voice.Ended(g.p.w.now, v.Guild)
	}
}

func (g *gatewayService) voiceServer(v *guild.VoiceServer) {
	c := g.sessions[v.Session]
	if c == nil || !c.ready || g.outdated(v.Guild, v.Generation) {
		return
	}
	c.voice.Placed(v.Guild, v.Channel)
	g.say(c, session.Body("VOICE_SERVER_UPDATE", encode(proto.VoiceServerUpdateData{Token: v.Token, GuildID: v.Guild, Endpoint: &v.Endpoint})))
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the payloads of proto can be encoded
	}
	return b
}

func (g *gatewayService) ref(c *held) guild.SessionRef {
	return guild.SessionRef{Gateway: g.p.name, Epoch: g.p.epoch, Session: c.id, User: c.user}
}

func (g *gatewayService) request(r guild.Request) {
	g.p.publish(guild.OwnerSubject(g.p.discovery.view.GuildOwner(uint64(r.Guild))), delivery{request: r})
}

func (g *gatewayService) attachment(c *held) *guild.Attach {
	return &guild.Attach{SessionRef: g.ref(c), Intents: ^proto.Intents(0)}
}

func (g *gatewayService) attach(c *held, id proto.Snowflake) {
	if g.awaiting[id] == nil {
		g.awaiting[id] = map[*held]asking{}
	}
	g.awaiting[id][c] = asking{g.p.w.now.Add(askAgain), askAgain}
	g.request(guild.Request{Guild: id, Attach: g.attachment(c)})
}

func (g *gatewayService) welcomed(c *held, id proto.Snowflake) {
	if in := g.awaiting[id]; in != nil {
		if delete(in, c); len(in) == 0 {
			delete(g.awaiting, id)
		}
	}
}

func (g *gatewayService) detach(c *held, id proto.Snowflake, leaving bool) {
	delete(c.guilds, id)
	if in := g.guilds[id]; in != nil {
		if delete(in, c); len(in) == 0 {
			delete(g.guilds, id)
		}
	}
	g.welcomed(c, id)
	c.voice.Forget(id)
	if !g.has(id) {
		delete(g.generations, id)
		delete(g.adrift, id)
	}
	g.request(guild.Request{Guild: id, Detach: &guild.Detach{SessionRef: g.ref(c), Leaving: leaving}})
}

func (g *gatewayService) has(id proto.Snowflake) bool {
	return g.guilds[id] != nil || g.awaiting[id] != nil
}

// end forgets a session that its client has ended, or that has timed out.
func (g *gatewayService) end(c *held) { g.remove(c, false) }

// remove forgets a session and tells its guilds whether it is the gateway that leaves.
func (g *gatewayService) remove(c *held, leaving bool) {
	g.p.w.trace("%s ends %s", g.p.name, c.id)
	ids := slices.Sorted(maps.Keys(c.guilds))
	if !g.draining && len(ids) > 0 {
		if len(g.ended) >= maxEnded {
			g.ended = slices.Delete(g.ended, 0, 1)
		}
		g.ended = append(g.ended, endedSession{g.p.w.now, g.attachment(c), ids, c.voice.End(g.p.w.now), leaving})
	}
	for _, id := range ids {
		g.detach(c, id, leaving)
	}
	delete(g.sessions, c.id)
}

// drain ends every session of a gateway that is going away.
func (g *gatewayService) drain() {
	g.draining = true
	for _, c := range g.inOrder() {
		if c.conn != nil {
			c.conn.shut(proto.CloseUnknownError)
		}
		g.remove(c, true)
	}
}

func (g *gatewayService) inOrder() []*held {
	return slices.SortedFunc(maps.Values(g.sessions), func(a, b *held) int { return a.number - b.number })
}

// sweep acts on the time that passed.
func (g *gatewayService) sweep() {
	now := g.p.w.now
	g.wake()
	g.ask()
	old := 0
	for old < len(g.ended) && now.Sub(g.ended[old].at) > endedFor {
		old++
	}
	g.ended = slices.Delete(g.ended, 0, old)
	for _, c := range g.inOrder() {
		step, over := c.session.Timeout(now)
		if over {
			g.end(c)
			continue
		}
		g.apply(c, step)
	}
}

func (g *gatewayService) wake() {
	for _, id := range slices.Sorted(maps.Keys(g.adrift)) {
		g.request(guild.Request{Guild: id, Wake: &guild.Wake{Gateway: g.p.name, Generation: g.generations[id]}})
	}
}

// ask asks again for guilds that sessions have waited for.
func (g *gatewayService) ask() {
	if g.p.w.bug("ask once") {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(g.awaiting)) {
		for _, c := range inOrder(g.awaiting[id]) {
			a := g.awaiting[id][c]
			if g.p.w.now.Before(a.at) {
				continue
			}
			waited := a.after
			a.after = min(2*a.after, askSeldom)
			a.at = g.p.w.now.Add(a.after)
			g.awaiting[id][c] = a
			attach := g.claim(c, id)
			if g.p.w.bug("wait without a wish") {
				attach = g.attachment(c)
			}
			if !g.p.w.bug("ask as if for the first time") {
				attach.Waited = waited
			}
			g.request(guild.Request{Guild: id, Attach: attach})
		}
	}
}

// claim is the attachment of a session with what its guild's owner may not have heard.
func (g *gatewayService) claim(c *held, id proto.Snowflake) *guild.Attach {
	a := g.attachment(c)
	c.voice.Claim(g.p.w.now, id, a)
	return a
}

// returned takes in that the bus was away: every session is ended and told to identify
// anew.
func (g *gatewayService) returned() {
	g.events.post(func() {
		for _, c := range g.inOrder() {
			if c.conn != nil {
				c.conn.reply(session.InvalidSession())
				c.conn.shut(proto.CloseUnknownError)
			}
			g.remove(c, true)
		}
	})
}

// apply does what a session asks.
func (g *gatewayService) apply(c *held, step session.Step) {
	if step.Send != nil {
		c.conn.reply(step.Send)
	}
	if step.Voice != nil {
		if _, in := c.guilds[step.Voice.GuildID]; in {
			if !g.p.w.bug("forget claims") {
				c.voice.Ask(g.p.w.now, step.Voice)
			}
			g.request(guild.Request{Guild: step.Voice.GuildID, Voice: &guild.VoiceRequest{SessionRef: g.ref(c), State: *step.Voice}})
		}
	}
	if step.Close != 0 {
		c.conn.shut(step.Close)
		g.disconnect(c)
	}
}

func (g *gatewayService) disconnect(c *held) {
	c.conn = nil
	c.session.Disconnect(g.p.w.now)
}

// fleet takes in who is there: guilds whose owner is another now are adrift.
func (g *gatewayService) fleet(is *fleet.View) {
	was := g.view
	g.view = is
	g.events.post(func() {
		all := slices.Concat(slices.Collect(maps.Keys(g.guilds)), slices.Collect(maps.Keys(g.awaiting)))
		slices.Sort(all)
		for _, id := range slices.Compact(all) {
			if is.OwnerChanged(was, uint64(id)) {
				g.adrift[id] = struct{}{}
			}
		}
		g.wake()
	})
}

// rollCall tells a guild's new owner of all sessions of the guild.
func (g *gatewayService) rollCall(c *guild.Claimed) {
	delete(g.adrift, c.Guild)
	if g.has(c.Guild) {
		g.generations[c.Guild] = max(g.generations[c.Guild], c.Generation)
	}
	known := func(a *guild.Attach) {
		a.Known = true
		g.answer(c, guild.Request{Attach: a})
	}
	for _, h := range inOrder(g.guilds[c.Guild]) {
		known(g.claim(h, c.Guild))
	}
	for _, e := range g.ended {
		if slices.Contains(e.guilds, c.Guild) {
			a := *e.attach
			e.voice.Claim(g.p.w.now, c.Guild, &a)
			known(&a)
			g.answer(c, guild.Request{Detach: &guild.Detach{SessionRef: e.attach.SessionRef, Leaving: e.leaving}})
		}
	}
	// After who has left: one of those may be the same user, whose place it takes.
	for _, h := range inOrder(g.awaiting[c.Guild]) {
		a := g.claim(h, c.Guild)
		if g.p.w.bug("wait without a wish") {
			a = g.attachment(h)
		}
		g.answer(c, guild.Request{Attach: a})
	}
	if !g.p.w.bug("gateway forgets Present") {
		g.answer(c, guild.Request{Present: &guild.Present{Node: g.p.name, Role: guild.RoleGateway}})
	}
}

func (g *gatewayService) answer(c *guild.Claimed, r guild.Request) {
	r.Guild, r.Claim = c.Guild, c.Generation
	g.p.publish(guild.OwnerSubject(c.Node), delivery{request: r})
}
