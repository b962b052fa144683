package guild

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

// Voice close codes that a guild's decisions lead to ("Voice Close Event Codes").
const (
	CloseDisconnected proto.CloseCode = 4014 // kicked, moved, or the session ended
	CloseTerminated   proto.CloseCode = 4022 // the channel is gone
)

// voiceState is one user's place in a voice channel. It is replaced, never
// changed.
type voiceState struct {
	user    proto.Snowflake
	channel proto.Snowflake
	session SessionRef
	// identified is the session that the token of the join names, by which the client
	// and the voice server know it; session was another's since then if it is not that.
	identified string
	// join numbers this stay in this channel; whatever a voice server says of
	// another number is stale. It follows the wall clock, so that it also grows
	// across restarts of the guild.
	join      uint64
	self      selfFlags
	mute      bool // by a moderator, as the member has it
	deaf      bool
	suppress  bool
	requested *time.Time // hand raised, or invited to speak, on a stage
	node      string     // voice server, "" while there is none
	worker    int
	transport string     // "" until the voice server reports the connection
	enforced  VoiceFlags // what the token or the last update told the voice server
	vacated   place      // where its connection lingers while its channel moves
}

// selfFlags is what users choose for themselves.
type selfFlags struct{ mute, deaf, video bool }

// voiceRequest is op 4. A request that is refused is answered with the voice
// state as it stays, so that no client waits in vain.
func (g *Guild) voiceRequest(r *VoiceRequest) {
	s := g.attached(r.SessionRef)
	if s == nil {
		return
	}
	m, current := g.members[r.User], g.voice[r.User]
	if r.State.ChannelID == nil || *r.State.ChannelID == 0 {
		if current != nil {
			g.leaveVoice(current, CloseDisconnected)
		}
		return
	}
	ch := g.channels[*r.State.ChannelID]
	if ch == nil || !g.mayEnter(m, ch, current) {
		if current == nil {
			g.tellEnded(&voiceState{user: r.User, session: r.SessionRef}, nil)
		}
		stays := g.voiceObject(cmp.Or(current, &voiceState{user: r.User, session: r.SessionRef}))
		g.dispatchTo(s, "VOICE_STATE_UPDATE", proto.IntentGuildVoice, encode(stays))
		return
	}
	self := g.selfFlags(m, ch, &r.State)
	if current != nil && current.channel == ch.ID {
		switch {
		case current.carries(r.State.ConnectedAs):
			g.adopt(current, s, self)
			return
		case current.session == s.ref && current.self != self:
			next := *current
			next.self = self
			g.changeVoice(current, &next)
			return
		}
	}
	g.enter(m, s.ref, ch, self)
}

// selfFlags returns what a member may have of what it asks for.
func (g *Guild) selfFlags(m *proto.Member, ch *proto.Channel, d *proto.VoiceStateUpdateData) selfFlags {
	return selfFlags{mute: d.SelfMute, deaf: d.SelfDeaf, video: d.SelfVideo && g.permissionsIn(m, ch).Has(proto.PermStream)}
}

// mayEnter reports whether m may be in ch by its own will. Whoever is there
// already, perhaps moved there by a moderator, may stay.
func (g *Guild) mayEnter(m *proto.Member, ch *proto.Channel, current *voiceState) bool {
	if !ch.Type.IsVoice() {
		return false
	}
	if current != nil && current.channel == ch.ID {
		return true
	}
	p := g.permissionsIn(m, ch)
	if !p.Has(proto.PermViewChannel | proto.PermConnect) {
		return false
	}
	return ch.UserLimit == 0 || len(g.rooms[ch.ID]) < ch.UserLimit || p.Has(proto.PermMoveMembers)
}

// occupants returns who is in a channel, by user id.
func (g *Guild) occupants(channel proto.Snowflake) []*voiceState {
	return slices.SortedFunc(maps.Values(g.rooms[channel]), func(a, b *voiceState) int { return cmp.Compare(a.user, b.user) })
}

// enter begins a new join of m in ch with a session, ending the join there was.
func (g *Guild) enter(m *proto.Member, ref SessionRef, ch *proto.Channel, self selfFlags) {
	old := g.voice[m.User.ID]
	v := &voiceState{user: m.User.ID, channel: ch.ID, session: ref, identified: ref.Session, join: g.nextJoin(), self: self, mute: m.Mute, deaf: m.Deaf, suppress: ch.Type == proto.ChannelStage}
	if old != nil && old.channel == ch.ID {
		v.suppress, v.requested = old.suppress, old.requested
	}
	v.suppress = g.suppressed(m, ch, v)
	v.node = g.placeIn(ch)
	v.enforced = g.flags(v)
	g.setVoice(v)
	g.announceVoice(old, v)
	if old != nil {
		g.endLingering(old)
		// The same session goes over by itself and needs its old connection for
		// the time it takes; another one has lost its place.
		g.command(old.node, VoiceCommand{User: v.user, Join: old.join, End: true, Moved: old.session == ref || old.session.Gateway == "", Code: CloseDisconnected})
	}
	g.sendServer(v)
}

// nextJoin returns a join's number: later than all before, by the clock, and by its
// last bits no other owner's, whose clock may say the same.
func (g *Guild) nextJoin() uint64 {
	const owners = 1024
	g.lastJoin = max(g.lastJoin/owners+1, uint64(g.in.Wall.UnixMilli()))*owners + g.generation%owners
	return g.lastJoin
}

// placeIn returns the voice server for a channel: the one where people of the
// channel are, else the best there is, else "".
func (g *Guild) placeIn(ch *proto.Channel) string {
	if n, ok := g.seat(ch.ID); ok {
		return n.Node
	}
	n, _ := g.cfg.Nodes.choose(ch.ID, regionOf(ch), 1)
	return n.Node
}

// seat returns the voice server where people of a channel are. When they are on
// several, since somebody could not be told to move, it is where the last one went.
func (g *Guild) seat(channel proto.Snowflake) (seat VoiceNode, ok bool) {
	latest := uint64(0)
	for _, v := range g.rooms[channel] {
		if n, alive := g.cfg.Nodes.get(v.node); alive && v.join > latest {
			seat, ok, latest = n, true, v.join
		}
	}
	return seat, ok
}

func regionOf(ch *proto.Channel) string {
	if ch.RTCRegion == nil {
		return ""
	}
	return *ch.RTCRegion
}

// sendServer gives a session the address and the token for its join, as soon as
// there is a voice server.
func (g *Guild) sendServer(v *voiceState) {
	n, ok := g.cfg.Nodes.get(v.node)
	if !ok || v.session.Gateway == "" {
		return
	}
	claims := token.Voice{
		Guild: g.id, Channel: v.channel, User: v.user, Join: v.join, Session: v.session.Session,
		Permissions: v.enforced.Permissions, Mute: v.enforced.Mute, Deaf: v.enforced.Deaf, SelfDeaf: v.enforced.SelfDeaf,
		Bitrate: uint32(g.channels[v.channel].Bitrate), Expires: g.in.Wall.Add(token.VoiceLifetime),
	}
	g.out.Messages = append(g.out.Messages, Message{Subject: GatewaySubject(v.session.Gateway), Gateway: &GatewayMessage{
		VoiceServer: &VoiceServer{Guild: g.id, Session: v.session.Session, Token: claims.Sign(g.cfg.TokenKey), Endpoint: n.Endpoint, Channel: v.channel, Node: v.node},
	}})
}

// suppressed reports whether v's user has no say in ch: on a stage, the
// audience; elsewhere, those without SPEAK.
func (g *Guild) suppressed(m *proto.Member, ch *proto.Channel, v *voiceState) bool {
	if ch.Type == proto.ChannelStage {
		return v.suppress
	}
	return !g.permissionsIn(m, ch).Has(proto.PermSpeak)
}

// flags returns what the voice server has to enforce for v.
func (g *Guild) flags(v *voiceState) VoiceFlags {
	return VoiceFlags{
		Mute: v.mute || v.suppress, Deaf: v.deaf, SelfDeaf: v.self.deaf,
		Permissions: g.permissionsIn(g.members[v.user], g.channels[v.channel]),
	}
}

// changeVoice replaces a voice state within one join, and tells clients and the
// voice server what each of them has to know.
func (g *Guild) changeVoice(old, next *voiceState) {
	if flags := g.flags(next); flags != old.enforced {
		next.enforced = flags
		g.command(next.node, VoiceCommand{User: next.user, Join: next.join, Update: &flags})
		g.command(next.vacated.node, VoiceCommand{User: next.user, Join: next.vacated.join, Update: &flags})
	}
	g.setVoice(next)
	if next.session.Session != old.session.Session || next.self != old.self || next.mute != old.mute || next.deaf != old.deaf || next.suppress != old.suppress || next.requested != old.requested {
		g.announceVoice(old, next)
	}
}

// refreshVoice brings one user's voice state in line with its permissions and
// its server mute and deaf. Lost CONNECT does not disconnect, as on Discord.
func (g *Guild) refreshVoice(user proto.Snowflake) {
	old := g.voice[user]
	if old == nil {
		return
	}
	m, ch := g.members[user], g.channels[old.channel]
	next := *old
	next.mute, next.deaf = m.Mute, m.Deaf
	next.suppress = g.suppressed(m, ch, old)
	next.self.video = old.self.video && g.permissionsIn(m, ch).Has(proto.PermStream)
	g.changeVoice(old, &next)
}

// leaveVoice ends a join.
func (g *Guild) leaveVoice(v *voiceState, code proto.CloseCode) {
	g.dropVoice(v)
	g.announceVoice(v, nil)
	g.endLingering(v)
	g.command(v.node, VoiceCommand{User: v.user, Join: v.join, End: true, Code: code})
}

// announceVoice sends VOICE_STATE_UPDATE for the step from old to next, either of
// which may be nil: to all who see next's channel and to the user itself, and to
// those who see only old's that the user is gone.
func (g *Guild) announceVoice(old, next *voiceState) {
	g.tellEnded(old, next)
	told := audience(func(*session) bool { return false })
	if next != nil {
		told = func(s *session) bool { return s.ref.User == next.user || g.sees(s, next.channel) }
		if g.viewers(next.channel) == nil {
			told = nil
		}
		g.dispatchVoice(told, next)
	}
	if old == nil || told == nil {
		return
	}
	to := audience(func(s *session) bool {
		return !told(s) && (s.ref.User == old.user || g.sees(s, old.channel))
	})
	if next == nil && g.viewers(old.channel) == nil {
		to = nil
	}
	gone := *old
	gone.channel = 0
	g.dispatchVoice(to, &gone)
}

// dispatchVoice sends VOICE_STATE_UPDATE, for which the session it is about need
// not wait.
func (g *Guild) dispatchVoice(to audience, v *voiceState) {
	if to == nil {
		g.dispatchAll(Dispatch{Event: "VOICE_STATE_UPDATE", Intent: proto.IntentGuildVoice, Prompt: v.session.Session}, g.voiceObject(v))
		return
	}
	g.dispatch("VOICE_STATE_UPDATE", proto.IntentGuildVoice, to, g.voiceObject(v))
}

// voiceObject returns a voice state as clients see it; one without a channel is
// of somebody who is not connected.
func (g *Guild) voiceObject(v *voiceState) proto.VoiceState {
	state := proto.VoiceState{
		GuildID: g.id, UserID: v.user, SessionID: v.session.Session, Member: g.members[v.user],
		Mute: v.mute, Deaf: v.deaf, SelfMute: v.self.mute, SelfDeaf: v.self.deaf, SelfVideo: v.self.video,
		Suppress: v.suppress, RequestToSpeakTimestamp: v.requested,
	}
	if v.channel != 0 {
		state.ChannelID = &v.channel
	}
	return state
}

// voiceReport takes what a voice server says of a join. One that is not current
// was ended before the voice server knew of it, so it is ended once more.
func (g *Guild) voiceReport(r *VoiceReport) {
	if g.gathered != nil {
		g.gathered.report(r, g.in.Request.Claim != 0)
		return
	}
	v := g.voice[r.User]
	if v == nil || v.join != r.Join || v.node != r.Node {
		if r.Connected {
			lingers := v != nil && v.vacated == place{r.Node, r.Join}
			g.command(r.Node, VoiceCommand{User: r.User, Join: r.Join, End: true, Linger: lingers, Code: CloseDisconnected})
		}
		return
	}
	if !r.Connected {
		g.dropVoice(v)
		g.announceVoice(v, nil)
		g.endLingering(v)
		return
	}
	next := *v
	next.worker, next.transport = r.Worker, r.Transport
	g.setVoice(&next)
	g.arrived(&next)
	// The token may be older than the last change, which the voice server could
	// not match to a join it did not know.
	g.command(v.node, VoiceCommand{User: v.user, Join: v.join, Update: &next.enforced, Session: v.adopter()})
}
