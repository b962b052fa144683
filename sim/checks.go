package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

// checks is what the world remembers to compare with.
type checks struct {
	tokens map[string]string  // where each voice token began a session
	joins  map[joinKey]string // the token of each join
	untold map[proto.Snowflake]bool
	// drift has the guilds of which clients may have been told too little, and why.
	drift map[proto.Snowflake]string
}

// operator may do everything.
const operator proto.Snowflake = 1

type joinKey struct {
	guild, user proto.Snowflake
	join        uint64
}

func newChecks() checks {
	return checks{tokens: map[string]string{}, joins: map[joinKey]string{}, untold: map[proto.Snowflake]bool{}, drift: map[proto.Snowflake]string{}}
}

// joined notes that a voice server has begun a session by a token: only ever one does
// by one token, and one token by one join.
func (k *checks) joined(p *process, c *voiceConn) {
	claims, err := token.VerifyVoice(tokenKey, c.token, p.wall())
	if err != nil {
		p.w.violate("%s let in a token that is %v", p.name, err)
	}
	if at, used := k.tokens[c.token]; used && at != p.name {
		p.w.violate("%s used its token for join %d at %s and at %s", c.client.name, claims.Join, at, p.name)
	}
	k.tokens[c.token] = p.name
	key := joinKey{claims.Guild, claims.User, claims.Join}
	if other, used := k.joins[key]; used && other != c.token {
		p.w.violate("join %d of %s has two tokens", claims.Join, c.client.name)
	}
	k.joins[key] = c.token
}

// lose notes that the bus has lost a message.
func (k *checks) lose(w *world, m any) {
	var about proto.Snowflake
	switch m := m.(type) {
	case delivery:
		about = m.request.Guild
	case guild.VoiceCommand:
		about = m.Guild
	case guild.Claimed:
		about = m.Guild
	case guild.GatewayMessage:
		switch {
		case m.Dispatch != nil:
			about = m.Dispatch.Guild
		case m.VoiceServer != nil:
			about = m.VoiceServer.Guild
		case m.VoiceEnded != nil:
			about = m.VoiceEnded.Guild
		}
	}
	if about != 0 {
		w.result.Lost++
		k.drift[about] = "messages were lost"
	}
}

// unanswered reports a roll call that ran out of time although all were there.
func (k *checks) unanswered(w *world, p *process, id proto.Snowflake, e *ownedGuild) {
	for m := range e.missing {
		w.violate("%s got no word of guild %d from the %s %s, which is there", p.name, id, m.Role, m.Node)
	}
}

// check holds what must be true after quiet.
func (w *world) check() {
	w.checkViews()
	for _, id := range slices.Sorted(maps.Keys(w.db.rows)) {
		if owner := w.checkOwner(id); owner != nil {
			w.checkSessions(id, owner)
			w.checkVoice(id, owner)
			if w.opts.Strict || w.checks.drift[id] == "" {
				w.checkTold(id, owner)
			}
		}
	}
	for _, c := range w.clients {
		w.checkClient(c)
	}
	w.checkLeftovers()
}

// checkViews holds that all nodes know the same fleet, and it is the fleet there is.
func (w *world) checkViews() {
	var want []string
	for _, h := range w.hosts {
		want = append(want, fmt.Sprintf("%s@%d", h.name, h.is.epoch))
	}
	slices.Sort(want)
	for _, h := range w.hosts {
		var have []string
		for _, m := range h.is.discovery.view.Members() {
			have = append(have, fmt.Sprintf("%s@%d", m.Name, m.Epoch))
		}
		if !slices.Equal(have, want) {
			w.violate("%s sees %v, and there are %v", h.name, have, want)
		}
		for id := range w.db.rows {
			if mine, theirs := h.is.discovery.view.GuildOwner(uint64(id)), w.hosts[0].is.discovery.view.GuildOwner(uint64(id)); mine != theirs {
				w.violate("%s takes %s for the owner of guild %d, and others %s", h.name, mine, id, theirs)
			}
		}
	}
}

// checkOwner holds that a guild is loaded by its owner alone, in the database's
// generation; it returns nil when nobody has loaded it.
func (w *world) checkOwner(id proto.Snowflake) *guildService {
	var owner *guildService
	for _, h := range w.hosts {
		if h.is.guilds == nil || h.is.guilds.guilds[id] == nil {
			continue
		}
		if h.is.discovery.view.GuildOwner(uint64(id)) != h.name {
			w.violate("%s has guild %d, which is not its", h.name, id)
			continue
		}
		owner = h.is.guilds
	}
	for _, h := range w.hosts {
		handed := w.calm && owner == nil && w.ownerOf(id) == w.killed
		if handed && h.is.gateway != nil && len(h.is.gateway.guilds[id]) > 0 {
			w.violate("nobody has taken guild %d, of which %s has %d sessions", id, h.name, len(h.is.gateway.guilds[id]))
		}
	}
	row := w.db.rows[id]
	if owner != nil && owner.guilds[id].tenure != row.tenure {
		w.violate("guild %d: %s has tenure %v, and the database %v", id, owner.p.name, owner.guilds[id].tenure, row.tenure)
		return nil
	}
	return owner
}

// ask makes a call that changes nothing.
func (s *guildService) ask(id proto.Snowflake, user proto.Snowflake, op string, v any) {
	out := s.guilds[id].Handle(guild.Input{Wall: s.p.wall(), Request: guild.Request{Guild: id, Call: &guild.Call{
		Op: op, Actor: guild.Actor{User: proto.User{ID: user}, Admin: user == operator},
	}}})
	if out.Reply == nil || out.Reply.Status != 200 || json.Unmarshal(out.Reply.Body, v) != nil {
		s.p.w.violate("guild %d does not answer %s: %+v", id, op, out.Reply)
	}
}

// checkSessions holds that the sessions in a guild are those that its gateways have.
func (w *world) checkSessions(id proto.Snowflake, owner *guildService) {
	var snapshot proto.GuildCreate
	owner.ask(id, operator, guild.OpGuildSnapshot, &snapshot)
	present := map[proto.Snowflake]bool{}
	for _, p := range snapshot.Presences {
		present[p.User.ID] = p.Status != "offline"
	}
	there := map[proto.Snowflake]bool{}
	for _, h := range w.hosts {
		if h.is.gateway != nil {
			for c := range h.is.gateway.guilds[id] {
				there[c.user] = true
			}
			for c := range h.is.gateway.awaiting[id] {
				w.violate("%s waits for guild %d for ever", c.id, id)
			}
		}
	}
	if !maps.Equal(present, there) {
		w.violate("guild %d shows online%s, and gateways have%s", id, names(slices.Sorted(maps.Keys(present))), names(slices.Sorted(maps.Keys(there))))
	}
}

// checkVoice holds that the voice states of a guild are the connections that its voice
// nodes have, each once.
func (w *world) checkVoice(id proto.Snowflake, owner *guildService) {
	var list []guild.VoiceListEntry
	owner.ask(id, operator, guild.OpVoiceList, &list)
	states := map[string]int{}
	for _, v := range list {
		if c := w.clients[v.User-1000]; w.calm && c.voice != nil && v.SelfMute != c.mute {
			w.violate("%s has muted itself: %v, and guild %d has %v", c.name, c.mute, id, v.SelfMute)
		}
		states[fmt.Sprintf("%d in %d at %s by %s", v.User, v.Channel, v.Node, v.Transport)]++
	}
	connections := map[string]int{}
	for _, h := range w.hosts {
		if h.is.voice == nil {
			continue
		}
		for _, i := range h.is.voice.core.List() {
			if i.Guild == id {
				connections[fmt.Sprintf("%d in %d at %s by %s", i.User, i.Channel, h.name, i.Transport)]++
			}
		}
	}
	if !maps.Equal(states, connections) {
		w.violate("guild %d has voice states %v and connections %v", id, states, connections)
	}
	for what, n := range connections {
		if n != 1 {
			w.violate("guild %d: %s is there %d times", id, what, n)
		}
	}
}

// checkTold holds that every client was told what is so.
func (w *world) checkTold(id proto.Snowflake, owner *guildService) {
	row := w.db.rows[id]
	stored := map[proto.Snowflake]string{}
	for _, ch := range row.channels {
		stored[ch.ID] = ch.Name
	}
	for _, c := range w.clients {
		told := c.guilds[id]
		if c.link == nil || told == nil {
			continue
		}
		var snapshot proto.GuildCreate
		owner.ask(id, c.user, guild.OpGuildSnapshot, &snapshot)
		is := seenOf(&snapshot)
		if !maps.Equal(is.channels, stored) {
			w.violate("guild %d has channels %v, and the database %v", id, is.channels, stored)
		}
		if !maps.Equal(told.channels, stored) {
			w.violate("%s was told of channels %v, and there are %v", c.name, told.channels, stored)
		}
		if !maps.Equal(told.voice, is.voice) {
			w.violate("%s was told of voice %v, and it is %v", c.name, told.voice, is.voice)
		}
	}
}

// checkClient holds that a client has missed nothing and is where its user wants it.
func (w *world) checkClient(c *client) {
	if !c.online {
		return
	}
	if c.link == nil || c.session == "" || len(c.guilds) != len(w.db.guildsOf(c.user)) {
		w.violate("%s is not online: session %q, %d guilds", c.name, c.session, len(c.guilds))
		return
	}
	h := c.link.server.gateway.sessions[c.session]
	switch {
	case h == nil:
		w.violate("%s has session %s, which %s does not know", c.name, c.session, c.link.server.name)
	case h.session.Seq() != c.seq || h.sums[c.seq-1] != c.sum:
		w.violate("%s has %d events, and its gateway %d", c.name, c.seq, h.session.Seq())
	}
	if _, exists := w.db.rows[c.home].channels[c.want]; c.want != 0 && !exists && w.checks.drift[c.home] != "" {
		return // it was told of the channel, and not of its end
	}
	if in := c.voice != nil && c.voice.ready; in != (c.want != 0) {
		w.violate("%s wants channel %d, and is in voice: %v", c.name, c.want, in)
	}
	if told := c.guilds[c.home].voice[c.user]; told.channel != c.want && (w.opts.Strict || w.checks.drift[c.home] == "") {
		w.violate("%s wants channel %d, and is told that it is in %d", c.name, c.want, told.channel)
	}
}

// checkLeftovers holds that nothing is kept of what is over.
func (w *world) checkLeftovers() {
	for _, h := range w.hosts {
		if g := h.is.gateway; g != nil {
			if len(g.adrift) > 0 || len(g.ended) > 0 {
				w.violate("%s still has %d guilds adrift and %d ended sessions", h.name, len(g.adrift), len(g.ended))
			}
			for id := range g.generations {
				if !g.has(id) {
					w.violate("%s remembers a generation of guild %d, where it has nobody", h.name, id)
				}
			}
		}
		if s := h.is.guilds; s != nil && (len(s.gathering) > 0 || len(s.work) > 0) {
			w.violate("%s still has %d guilds to rebuild and %d to do", h.name, len(s.gathering), len(s.work))
		}
	}
}

// String lists what a run came to, for a reader.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d faults, %d events, %d messages, %d frames, %d takes, %d fenced, %d lost, %d untold, %d voice cuts, %d calls adopted, hash %016x",
		r.Seed, r.Faults, r.Events, r.Messages, r.Frames, r.Takes, r.Fenced, r.Lost, r.Untold, r.Cut, r.Adopted, r.Hash)
	for _, v := range r.Violations {
		b.WriteString("\n  " + v)
	}
	return b.String()
}
