package gateway

import (
	"encoding/json"
	"slices"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/proto"
)

// receive brings a message of the bus to the shards it is for. It encodes what the
// receivers share, once, and only posts: it runs on the bus's goroutine.
func (g *Service) receive(b bus.Message) {
	var m guild.GatewayMessage
	if err := b.Decode(&m); err != nil {
		g.log.Error("gateway message", "subject", b.Subject, "err", err)
		return
	}
	switch {
	case m.Dispatch != nil:
		g.receiveDispatch(m.Dispatch)
	case m.VoiceServer != nil:
		g.shardOf(m.VoiceServer.Session).post(voiceServer{m.VoiceServer})
	case m.User != nil:
		g.postAll(newUserEvent(m.User))
	case m.Joined != nil:
		g.postAll(joined{*m.Joined})
	case m.Left != nil:
		g.postAll(left{*m.Left})
	case m.Revoked != nil:
		g.postAll(revoked{m.Revoked})
	case m.Claimed != nil:
		g.rollCall(m.Claimed)
	case m.Mourned != nil:
		g.log.Warn("a guild node took this gateway for dead", "node", m.Mourned.Node)
		g.Returned()
	case m.HandedOver != nil:
		g.shardOf(m.HandedOver.Session).post(handedOver{m.HandedOver})
	case m.VoiceEnded != nil:
		g.shardOf(m.VoiceEnded.Session).post(voiceEnded{m.VoiceEnded})
	}
}

func (g *Service) postAll(m mail) {
	for _, sh := range g.shards {
		sh.post(m)
	}
}

func (g *Service) receiveDispatch(d *guild.Dispatch) {
	g.metrics.dispatches.Inc()
	m := &dispatch{
		guild: d.Guild, generation: d.Generation, intent: d.Intent, sessions: d.Sessions, except: setOf(d.Except), prompt: d.Prompt, body: session.Body(d.Event, d.Data),
		opens: d.Event == "GUILD_CREATE", ends: d.Event == "GUILD_DELETE",
	}
	if len(d.Sessions) == 1 {
		g.shardOf(d.Sessions[0]).post(m)
		return
	}
	g.postAll(m)
}

// setOf returns a list as a set, nil for none.
func setOf(list []string) map[string]struct{} {
	if len(list) == 0 {
		return nil
	}
	set := make(map[string]struct{}, len(list))
	for _, id := range list {
		set[id] = struct{}{}
	}
	return set
}

// dispatch is one event of a guild, shared by the shards.
type dispatch struct {
	guild      proto.Snowflake
	generation uint64 // of the guild's owner
	intent     proto.Intents
	sessions   []string // empty for all that are attached
	except     map[string]struct{}
	prompt     string // one who may wait for it, and so need not
	body       *session.Payload
	opens      bool // GUILD_CREATE: those named get the guild's events from now on
	ends       bool // GUILD_DELETE: the guild is gone
}

func (m *dispatch) deliver(sh *shard, now clock.Time) {
	if sh.outdated(m.guild, m.generation) {
		return
	}
	if m.generation > sh.generations[m.guild] && sh.has(m.guild) {
		sh.generations[m.guild] = m.generation // whose claim came when nobody was here
	}
	m.keepFor(sh)
	if len(m.sessions) == 0 {
		m.deliverAll(sh, now)
		return
	}
	for _, id := range m.sessions {
		c := sh.sessions[id]
		if c != nil {
			if _, in := c.guilds[m.guild]; in {
				sh.catchUp(now, c, m.guild)
				m.give(sh, now, c)
				continue
			}
		}
		if m.opens && len(m.sessions) == 1 && sh.arriving[id] == nil { // its Detach has overtaken its Attach
			sh.request(guild.Request{Guild: m.guild, Detach: &guild.Detach{SessionRef: guild.SessionRef{Gateway: sh.service.cfg.Node, Session: id}}})
		}
	}
}

func (m *dispatch) deliverAll(sh *shard, now clock.Time) {
	cr := sh.guilds[m.guild]
	if cr == nil {
		return
	}
	if m.ends {
		sh.round(now, cr)
		for _, p := range slices.Clone(cr.places) { // giving it changes the list
			m.give(sh, now, p.client)
		}
		return
	}
	sh.gather(now, cr, m)
	if c := sh.sessions[m.prompt]; c != nil {
		sh.catchUp(now, c, m.guild)
	}
}

func (m *dispatch) give(sh *shard, now clock.Time, c *client) {
	if m.opens {
		sh.welcomed(c, m.guild)
		if c.guilds[m.guild] != nil {
			return // it had asked again, and has it
		}
		sh.seat(c, m.guild)
	}
	if _, except := m.except[c.id]; !except && c.intents&m.intent == m.intent {
		sh.dispatch(now, c, m.body)
	}
	if m.ends {
		sh.detach(c, m.guild, false)
	}
}

// voiceServer becomes VOICE_SERVER_UPDATE for one session.
type voiceServer struct{ *guild.VoiceServer }

func (m voiceServer) deliver(sh *shard, now clock.Time) {
	if a := sh.arriving[m.Session]; a != nil {
		a.keep(m)
		return
	}
	c := sh.sessions[m.Session]
	if c == nil || !c.ready || sh.outdated(m.Guild, m.Generation) {
		return
	}
	c.voice.Placed(m.Guild, m.Channel)
	at := m.Endpoint
	if beside := sh.service.cfg.Beside; at == "" || (beside != "" && m.Node == beside) {
		at = endpoint(c.host, c.secure)
	}
	data, err := json.Marshal(proto.VoiceServerUpdateData{Token: m.Token, GuildID: m.Guild, Endpoint: &at})
	if err != nil {
		sh.service.log.Error("gateway VOICE_SERVER_UPDATE", "err", err)
		return
	}
	sh.catchUp(now, c, m.Guild)
	sh.dispatch(now, c, session.Body("VOICE_SERVER_UPDATE", data))
}

// userEvent is an event for the sessions of a user: of all, or, when it is about a
// guild, of those whose shard has it.
type userEvent struct {
	user  proto.Snowflake
	guild proto.Snowflake
	body  *session.Payload
}

func newUserEvent(e *guild.UserEvent) userEvent {
	var about struct {
		Guild proto.Snowflake `json:"guild_id"`
	}
	_ = json.Unmarshal(e.Data, &about) // not every event is about a guild
	return userEvent{user: e.User, guild: about.Guild, body: session.Body(e.Event, e.Data)}
}

func (m userEvent) deliver(sh *shard, now clock.Time) {
	sh.keepForUser(m.user, func(session string) mail { return keptUserEvent{m, session} })
	for _, c := range sh.users[m.user] {
		if sh.leaving[c.id] == nil { // where it goes it is kept
			m.give(sh, now, c)
		}
	}
}

func (m userEvent) give(sh *shard, now clock.Time, c *client) {
	if c.ready && (m.guild == 0 || c.covers(m.guild)) {
		sh.catchUp(now, c, m.guild)
		sh.dispatch(now, c, m.body)
	}
}

// keptUserEvent gives one session an event that came before it.
type keptUserEvent struct {
	userEvent
	session string
}

func (m keptUserEvent) deliver(sh *shard, now clock.Time) {
	if c := sh.sessions[m.session]; c != nil {
		m.give(sh, now, c)
	}
}

// joined attaches the user's sessions to a guild; those still to be made ready do
// so with their other guilds.
type joined struct{ guild.Membership }

func (m joined) deliver(sh *shard, now clock.Time) {
	sh.keepForUser(m.User, func(string) mail { return m })
	for _, c := range sh.users[m.User] {
		if sh.leaving[c.id] != nil {
			continue
		}
		if _, in := c.guilds[m.Guild]; in || !c.covers(m.Guild) {
			continue
		}
		c.guilds[m.Guild] = nil
		if c.ready {
			sh.attach(now, c, m.Guild)
		}
	}
}

// left takes the user's sessions out of a guild.
type left struct{ guild.Membership }

func (m left) deliver(sh *shard, now clock.Time) {
	sh.keepForUser(m.User, func(string) mail { return m })
	body := session.Body("GUILD_DELETE", []byte(`{"id":"`+m.Guild.String()+`"}`))
	for _, c := range sh.users[m.User] {
		if _, in := c.guilds[m.Guild]; !in {
			continue
		}
		sh.catchUp(now, c, m.Guild)
		if c.ready && c.intents&proto.IntentGuilds != 0 {
			sh.dispatch(now, c, body)
		}
		sh.detach(c, m.Guild, false)
	}
}

// revoked ends the sessions that identified with a token.
type revoked struct{ *guild.Revocation }

func (m revoked) deliver(sh *shard, _ clock.Time) {
	sh.keepForUser(m.User, func(string) mail { return m })
	for _, c := range append([]*client(nil), sh.users[m.User]...) { // end changes the list
		if len(m.Hash) > 0 && string(m.Hash) != string(c.token[:]) {
			continue
		}
		if c.conn != nil {
			sh.close(c, proto.CloseAuthenticationFailed)
		}
		sh.end(c)
	}
}
