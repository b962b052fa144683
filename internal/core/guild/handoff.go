package guild

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/proto"
)

// What passes when a guild gets another owner. The new one takes the guild in the
// database, tells everybody (Claimed), and takes in what they answer: gateways attach
// their sessions again, voice nodes report their connections, and each ends with
// Present. Then the guild is as it was, and goes on.

// Claimed says that a node has taken a guild. Gateways with sessions of it and voice
// nodes with connections of it answer that node.
type Claimed struct {
	Guild      proto.Snowflake `cbor:"1,keyasint"`
	Generation uint64          `cbor:"2,keyasint"`
	Node       string          `cbor:"3,keyasint"`
}

// Present says that a node has answered a Claimed in full: all requests before this
// one were its answer. Role is what answered, "gateway" or "voice".
type Present struct {
	Node string `cbor:"1,keyasint"`
	Role string `cbor:"2,keyasint"`
}

// The roles of Present.
const (
	RoleGateway = "gateway"
	RoleVoice   = "voice"
)

// Wake asks a guild's owner, which may not know the guild yet, for a Claimed to the
// gateway that asks. Gateways send it when a guild is to have another owner. Generation
// is the latest that the gateway knows: an owner of an earlier one has lost the guild.
type Wake struct {
	Gateway    string `cbor:"1,keyasint"`
	Generation uint64 `cbor:"2,keyasint,omitempty"`
}

// VoiceEnded tells a session's gateway that the session is no longer in voice.
type VoiceEnded struct {
	Guild   proto.Snowflake `cbor:"1,keyasint"`
	Session string          `cbor:"2,keyasint"`
	// Generation as in Dispatch.
	Generation uint64 `cbor:"16,keyasint,omitempty"`
}

// SetGeneration says which generation of a guild's owners a message is from.
func (m *GatewayMessage) SetGeneration(n uint64) {
	switch {
	case m.Dispatch != nil:
		m.Dispatch.Generation = n
	case m.VoiceServer != nil:
		m.VoiceServer.Generation = n
	case m.VoiceEnded != nil:
		m.VoiceEnded.Generation = n
	case m.HandedOver != nil:
		m.HandedOver.Generation = n
	}
}

// Mourned tells a gateway that a guild node had taken it for dead: its sessions were
// taken out of the node's guilds and have missed events.
type Mourned struct {
	Node string `cbor:"1,keyasint"` // that did
}

// Handover asks that a session be another gateway's from now on. The gateway that has it
// asks, and both are told (HandedOver): the one after the last event that is for it
// there, the other before the first. A session that is not attached is nobody's.
type Handover struct {
	SessionRef
	To      string `cbor:"4,keyasint"`
	ToEpoch int64  `cbor:"5,keyasint,omitempty"` // as SessionRef.Epoch
}

// HandedOver says that events of a guild for a session go to another gateway from now on.
type HandedOver struct {
	Guild   proto.Snowflake `cbor:"1,keyasint"`
	Session string          `cbor:"2,keyasint"`
	// Generation as in Dispatch.
	Generation uint64 `cbor:"16,keyasint,omitempty"`
}

// gathered is what a guild that is being rebuilt was told of who is in voice.
type gathered struct {
	claims  map[proto.Snowflake]claim  // of gateways
	left    map[proto.Snowflake]claim  // of gateways, of who was there lately
	reports map[proto.Snowflake]report // of voice nodes
}

// report is one that may have been under way for long, to an owner before, unless it
// answers the roll call.
type report struct {
	VoiceReport
	answers bool
}

type claim struct {
	ref   SessionRef
	state proto.VoiceStateUpdateData
}

func (a *gathered) report(r *VoiceReport, answers bool) {
	old, known := a.reports[r.User]
	switch {
	case known && old.Join > r.Join:
	case r.Connected:
		a.reports[r.User] = report{*r, answers || known && old.answers && old.Join == r.Join}
	default:
		if known && old.Join == r.Join {
			delete(a.reports, r.User)
		}
		if answers || r.Channel != 0 {
			// It left lately, which the owner before may have told nobody.
			a.left[r.User] = claim{SessionRef{Session: r.Session, User: r.User}, proto.VoiceStateUpdateData{ChannelID: &r.Channel}}
		}
	}
}

// Rebuild begins to take in who is there, after the guild was loaded by a new owner.
// Until Settle it takes Attach for sessions that are Known, and Report; nothing else
// may be given to it. Its owners are told apart by their generation.
func (g *Guild) Rebuild(generation uint64) {
	g.generation = generation
	g.gathered = &gathered{claims: map[proto.Snowflake]claim{}, left: map[proto.Snowflake]claim{}, reports: map[proto.Snowflake]report{}}
}

// Rebuilding reports whether Rebuild was called and Settle was not.
func (g *Guild) Rebuilding() bool { return g.gathered != nil }

// Settle ends a rebuild: users whom a voice node has are in voice as they were, which
// nobody needs to be told; those whom only their gateway takes to be in voice join
// anew. It needs no rollback, like NodesChanged.
func (g *Guild) Settle(wall time.Time) Output {
	g.begin(Input{Wall: wall})
	was := g.gathered
	g.gathered = nil
	if was == nil || g.info == nil {
		return g.out
	}
	for _, user := range slices.Sorted(maps.Keys(was.reports)) {
		r := was.reports[user]
		g.lastJoin = max(g.lastJoin, r.Join)
		g.restoreVoice(&r, was.claims[user])
	}
	for _, user := range slices.Sorted(maps.Keys(was.claims)) {
		// Who is there by a session that is no more asks to join by one that it has since.
		c, v := was.claims[user], g.voice[user]
		if v == nil || v.session.Gateway == "" || v.session.Session != c.ref.Session && v.session.Session == was.left[user].ref.Session {
			g.claimVoice(c)
		}
	}
	for _, user := range slices.Sorted(maps.Keys(was.left)) {
		if _, claimed := was.claims[user]; !claimed {
			g.unclaimVoice(was.left[user])
		}
	}
	return g.out
}

// restoreVoice brings back the voice state that a report is about.
func (g *Guild) restoreVoice(r *report, c claim) {
	m, ch := g.members[r.User], g.channels[r.Channel]
	if m == nil || ch == nil || !ch.Type.IsVoice() {
		g.command(r.Node, VoiceCommand{User: r.User, Join: r.Join, End: true, Code: CloseTerminated})
		return
	}
	v := &voiceState{
		user: r.User, channel: r.Channel, session: SessionRef{Session: r.Session, User: r.User}, join: r.Join,
		identified: cmp.Or(r.Identified, r.Session),
		self:       selfFlags{deaf: r.Flags.SelfDeaf}, mute: m.Mute, deaf: m.Deaf,
		node: r.Node, worker: r.Worker, transport: r.Transport, enforced: r.Flags,
	}
	if s := g.sessions[r.Session]; s != nil && s.ref.User == r.User {
		v.session = s.ref
	}
	if c.ref.Session == r.Session {
		v.self = g.selfFlags(m, ch, &c.state)
	}
	// Who is muted on a stage and not by a moderator is of the audience.
	v.suppress = ch.Type == proto.ChannelStage && r.Flags.Mute && !m.Mute
	v.suppress = g.suppressed(m, ch, v)
	g.setVoice(v)
	if flags := g.flags(v); flags != v.enforced {
		v.enforced = flags
		g.command(v.node, VoiceCommand{User: v.user, Join: v.join, Update: &flags})
	}
	if !r.answers {
		g.command(v.node, VoiceCommand{User: v.user, Join: v.join, Verify: true})
	}
}

// claimVoice lets a session join where its gateway says that it is, or tells
// everybody that it is not there.
func (g *Guild) claimVoice(c claim) {
	g.voiceRequest(&VoiceRequest{SessionRef: c.ref, State: c.state})
	g.unclaimVoice(c)
}

// unclaimVoice tells everybody that a user is not in voice, if it is not: an owner before
// may have said that it is.
func (g *Guild) unclaimVoice(c claim) {
	if g.voice[c.ref.User] == nil {
		g.announceVoice(&voiceState{user: c.ref.User, session: c.ref, channel: *c.state.ChannelID}, nil)
	}
}

// attachAgain attaches a session that knows the guild already. Nobody else is told:
// to them it was there all the time.
func (g *Guild) attachAgain(a *Attach) {
	s := &session{ref: a.SessionRef, bot: a.Bot, intents: a.Intents}
	s.status, _ = cleanStatus(a.Status)
	g.putSession(s)
	g.hide(a.User, g.hiddenFrom(g.members[a.User]))
	if v := g.voice[a.User]; v != nil && v.session.Session == a.Session && v.session != a.SessionRef {
		next := *v
		next.session = a.SessionRef
		g.setVoice(&next)
	}
	if a.Voice == nil || a.Voice.ChannelID == nil || *a.Voice.ChannelID == 0 {
		return
	}
	c, v := claim{a.SessionRef, *a.Voice}, g.voice[a.User]
	switch {
	case a.Left && g.gathered != nil:
		g.gathered.left[a.User] = c
	case a.Left:
		g.unclaimVoice(c)
	case g.gathered != nil:
		g.gathered.claims[a.User] = c
	case v == nil, v.session.Gateway == "":
		g.claimVoice(c)
	case v.session == a.SessionRef && v.channel == *a.Voice.ChannelID:
		// It comes after the guild went on without its word of what it has muted.
		if self := g.selfFlags(g.members[a.User], g.channels[v.channel], a.Voice); self != v.self {
			next := *v
			next.self = self
			g.changeVoice(v, &next)
		}
	}
}

// handOver gives a session to another gateway.
func (g *Guild) handOver(r *Handover) {
	old := g.sessions[r.Session]
	if old == nil || old.ref != r.SessionRef || r.To == "" || r.To == r.Gateway {
		return
	}
	next := *old
	next.ref.Gateway, next.ref.Epoch = r.To, r.ToEpoch
	if n := g.gateways[r.Gateway]; n > 1 {
		set(g, g.gateways, r.Gateway, n-1)
	} else {
		unset(g, g.gateways, r.Gateway)
	}
	set(g, g.gateways, r.To, g.gateways[r.To]+1)
	g.putSession(&next)
	if v := g.voice[r.User]; v != nil && v.session == old.ref {
		state := *v
		state.session = next.ref
		g.setVoice(&state)
	}
	for _, node := range []string{r.Gateway, r.To} {
		g.out.Messages = append(g.out.Messages, Message{Subject: GatewaySubject(node), Gateway: &GatewayMessage{
			HandedOver: &HandedOver{Guild: g.id, Session: r.Session},
		}})
	}
}

// orphan leaves a voice state without a session, to last as long as its voice server
// has the user.
func (g *Guild) orphan(v *voiceState) {
	next := *v
	next.session.Gateway = ""
	g.setVoice(&next)
}

// GatewaysGone takes out the sessions of gateways that are there no longer. Calls
// that are connected go on without them. It needs no rollback.
func (g *Guild) GatewaysGone(wall time.Time, gone func(SessionRef) bool) Output {
	g.begin(Input{Wall: wall})
	for _, id := range slices.Sorted(maps.Keys(g.sessions)) {
		if ref := g.sessions[id].ref; gone(ref) {
			g.detach(&Detach{SessionRef: ref, Leaving: true})
		}
	}
	return g.out
}

// tellEnded tells a session's gateway when the step from old to next takes it out of
// voice.
func (g *Guild) tellEnded(old, next *voiceState) {
	if old == nil || old.session.Gateway == "" || (next != nil && next.session.Session == old.session.Session) {
		return
	}
	g.out.Messages = append(g.out.Messages, Message{Subject: GatewaySubject(old.session.Gateway), Gateway: &GatewayMessage{
		VoiceEnded: &VoiceEnded{Guild: g.id, Session: old.session.Session},
	}})
}
