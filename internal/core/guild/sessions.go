package guild

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"hubbub.dev/hubbub/proto"
)

const (
	maxEagerMembers = 1000 // a guild with more is large even for who wants all members
	maxChunk        = 1000 // members in one GUILD_MEMBERS_CHUNK
	maxQueried      = 100  // user_ids, and the limit of a search by name
	maxNonce        = 32   // bytes, else the nonce is ignored ("Request Guild Members")

	// answerFresh is how long an attached session has its answer under way, at most: one
	// that says what it has Waited is believed sooner that it was lost.
	answerFresh = 10 * time.Second
)

// session is one gateway session attached to the guild.
type session struct {
	ref     SessionRef
	bot     bool
	intents proto.Intents
	status  proto.PresenceData
	// answered is when GUILD_CREATE went out, zero when an earlier owner sent it.
	answered time.Time
}

func (g *Guild) attach(a *Attach) {
	m := g.members[a.User]
	if m == nil || a.Session == "" || a.Gateway == "" {
		return
	}
	if old := g.sessions[a.Session]; old != nil && old.ref != a.SessionRef {
		return
	}
	if a.Known {
		g.attachAgain(a)
		return
	}
	if old := g.sessions[a.Session]; old == nil || g.in.Wall.Sub(old.answered).Abs() >= underWay(a.Waited) {
		g.welcome(a, m)
	}
	g.joinUnheard(a)
}

// underWay is how long an answer may be under way to a session that waited since it asked
// before. Where the owner was slow to hear what was asked before, its answer is young, and
// a storm of those who ask again is not answered twice.
func underWay(waited time.Duration) time.Duration {
	if waited <= 0 {
		return answerFresh
	}
	return min(answerFresh, waited/2)
}

// joinUnheard lets a session join where its gateway says that it asked to be, when
// nobody heard it.
func (g *Guild) joinUnheard(a *Attach) {
	if a.Left || a.Voice == nil || a.Voice.ChannelID == nil || *a.Voice.ChannelID == 0 {
		return
	}
	v := g.voice[a.User]
	if v == nil || v.session.Gateway == "" || v.session != a.SessionRef && v.carries(a.Voice.ConnectedAs) {
		g.claimVoice(claim{a.SessionRef, *a.Voice})
	}
}

// welcome attaches a session and sends it the guild.
func (g *Guild) welcome(a *Attach, m *proto.Member) {
	before := g.presence(a.User)
	s := &session{ref: a.SessionRef, bot: a.Bot, intents: a.Intents, answered: g.in.Wall}
	s.status, _ = cleanStatus(a.Status)
	g.putSession(s)
	g.hide(a.User, g.hiddenFrom(m))
	// Presences of others come in GUILD_CREATE; the newcomer's goes out first so
	// that it is not sent to itself twice.
	g.announcePresence(before, a.Session)
	// To a session that did not ask for GUILDS it brings nothing but all other events.
	data := []byte("{}")
	if a.Intents&proto.IntentGuilds != 0 {
		data = g.snapshot(view{member: m, presences: a.Intents&proto.IntentGuildPresences != 0, large: a.Large})
	}
	g.sendDispatch(a.Gateway, Dispatch{Guild: g.id, Event: "GUILD_CREATE", Intent: proto.IntentGuilds, Sessions: []string{a.Session}, Data: data})
}

func (g *Guild) putSession(s *session) {
	user := s.ref.User
	others := slices.DeleteFunc(slices.Clone(g.online[user]), func(o *session) bool { return o.ref.Session == s.ref.Session })
	if old := g.sessions[s.ref.Session]; old != nil {
		g.tune(old.intents, -1)
	} else {
		set(g, g.gateways, s.ref.Gateway, g.gateways[s.ref.Gateway]+1)
	}
	g.tune(s.intents, 1)
	set(g, g.sessions, s.ref.Session, s)
	set(g, g.online, user, append(others, s))
}

func (g *Guild) dropSession(s *session) {
	user := s.ref.User
	unset(g, g.sessions, s.ref.Session)
	g.tune(s.intents, -1)
	if n := g.gateways[s.ref.Gateway]; n > 1 {
		set(g, g.gateways, s.ref.Gateway, n-1)
	} else {
		unset(g, g.gateways, s.ref.Gateway)
	}
	rest := slices.DeleteFunc(slices.Clone(g.online[user]), func(o *session) bool { return o == s })
	if len(rest) > 0 {
		set(g, g.online, user, rest)
		return
	}
	unset(g, g.online, user)
	g.hide(user, nil)
}

// attached returns the session that a request came from, nil when it is not, or
// no longer, attached.
func (g *Guild) attached(ref SessionRef) *session {
	s := g.sessions[ref.Session]
	if s == nil || s.ref.User != ref.User {
		return nil
	}
	return s
}

func (g *Guild) detach(d *Detach) {
	s := g.sessions[d.Session]
	if s == nil || s.ref.User != d.User && (d.User != 0 || s.ref.Gateway != d.Gateway) {
		return
	}
	user := s.ref.User
	if v := g.voice[user]; v != nil && v.session.Session == d.Session {
		if d.Leaving && v.transport != "" {
			g.orphan(v)
		} else {
			g.leaveVoice(v, CloseDisconnected)
		}
	}
	before := g.presence(user)
	g.dropSession(s)
	g.announcePresence(before, "")
}

func (g *Guild) presenceRequest(r *PresenceRequest) {
	s := g.attached(r.SessionRef)
	status, ok := cleanStatus(&r.Status)
	if s == nil || !ok {
		return
	}
	before := g.presence(r.User)
	changed := *s
	changed.status = status
	g.putSession(&changed)
	g.announcePresence(before, "")
}

// statusRank orders what the sessions of one user say of it: the user is shown
// with the highest.
var statusRank = map[string]int{"invisible": 1, "offline": 1, "idle": 2, "online": 3, "dnd": 4}

// cleanStatus returns what a client says of itself, online when it says nothing;
// false when it makes no sense.
func cleanStatus(p *proto.PresenceData) (proto.PresenceData, bool) {
	online := proto.PresenceData{Status: "online"}
	if p == nil || p.Status == "" {
		return online, true
	}
	if statusRank[p.Status] == 0 || slices.ContainsFunc(p.Activities, func(a json.RawMessage) bool { return !json.Valid(a) }) {
		return online, false
	}
	return *p, true
}

// presence returns what others see of a user: nothing of it when it is invisible.
func (g *Guild) presence(user proto.Snowflake) proto.Presence {
	p := proto.Presence{User: proto.PresenceUser{ID: user}, GuildID: g.id, Status: "offline", Activities: []json.RawMessage{}, ClientStatus: map[string]string{}}
	best := 1
	for _, s := range g.online[user] {
		if rank := statusRank[s.status.Status]; rank > best {
			best = rank
			p.Status = s.status.Status
			p.Activities = orEmpty(s.status.Activities)
		}
	}
	if best > 1 {
		p.ClientStatus["web"] = p.Status
	}
	return p
}

// announcePresence sends PRESENCE_UPDATE when a user's presence is no longer as
// before, to all but one session.
func (g *Guild) announcePresence(before proto.Presence, but string) {
	after := g.presence(before.User.ID)
	same := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
	if before.Status == after.Status && slices.EqualFunc(before.Activities, after.Activities, same) {
		return
	}
	d := Dispatch{Event: "PRESENCE_UPDATE", Intent: proto.IntentGuildPresences}
	if but != "" {
		d.Except = []string{but}
	}
	g.dispatchAll(d, after)
}

// membersRequest answers op 8 with as many chunks as it takes.
func (g *Guild) membersRequest(r *MembersRequest) {
	s := g.attached(r.SessionRef)
	if s == nil {
		return
	}
	q := &r.Query
	var found []proto.Member
	var missing []proto.Snowflake
	switch {
	case len(q.UserIDs) > 0:
		found, missing = g.membersByID(q.UserIDs[:min(len(q.UserIDs), maxQueried)])
	case q.Query == nil:
		return
	case *q.Query == "" && q.Limit <= 0:
		// All members are for those who also hear of changes.
		if s.intents&proto.IntentGuildMembers == 0 {
			return
		}
		found = g.membersNamed("", len(g.members))
	default:
		limit := q.Limit
		if limit <= 0 || limit > maxQueried {
			limit = maxQueried
		}
		found = g.membersNamed(*q.Query, limit)
	}
	g.sendChunks(s, q, found, missing)
}

func (g *Guild) sendChunks(s *session, q *proto.RequestGuildMembersData, found []proto.Member, missing []proto.Snowflake) {
	count := max(1, (len(found)+maxChunk-1)/maxChunk)
	for i := range count {
		chunk := proto.GuildMembersChunk{
			GuildID: g.id, Members: orEmpty(found[min(i*maxChunk, len(found)):min((i+1)*maxChunk, len(found))]),
			ChunkIndex: i, ChunkCount: count,
		}
		if i == 0 {
			chunk.NotFound = missing
		}
		if len(q.Nonce) <= maxNonce {
			chunk.Nonce = q.Nonce
		}
		if q.Presences && s.intents&proto.IntentGuildPresences != 0 {
			for _, m := range chunk.Members {
				if p := g.presence(m.User.ID); p.Status != "offline" {
					chunk.Presences = append(chunk.Presences, p)
				}
			}
		}
		g.dispatchTo(s, "GUILD_MEMBERS_CHUNK", 0, encode(chunk))
	}
}

func (g *Guild) membersByID(ids []proto.Snowflake) (found []proto.Member, missing []proto.Snowflake) {
	for _, id := range ids {
		if m := g.members[id]; m != nil {
			found = append(found, *m)
		} else {
			missing = append(missing, id)
		}
	}
	return found, missing
}

// membersNamed returns up to limit members one of whose names begins with
// prefix, in whatever case, by id.
func (g *Guild) membersNamed(prefix string, limit int) []proto.Member {
	found := []proto.Member{}
	prefix = strings.ToLower(prefix)
	begins := func(name *string) bool { return name != nil && strings.HasPrefix(strings.ToLower(*name), prefix) }
	for _, id := range g.memberIDs() {
		if len(found) >= limit {
			break
		}
		m := g.members[id]
		if begins(&m.User.Username) || begins(m.Nick) || begins(m.User.GlobalName) {
			found = append(found, *m)
		}
	}
	return found
}
