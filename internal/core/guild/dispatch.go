package guild

import (
	"maps"
	"slices"

	"hubbub.dev/hubbub/proto"
)

const (
	intentInvites proto.Intents = 1 << 6

	// maxListed receivers are listed in any case; more are told apart by the list
	// of the others, when that is shorter.
	maxListed = 100
)

// audience selects the sessions that get an event; nil is all of them.
type audience func(*session) bool

// dispatch sends one event to an audience: one message to each gateway node, and
// the payload encoded once.
func (g *Guild) dispatch(event string, intent proto.Intents, to audience, payload any) {
	d := Dispatch{Guild: g.id, Event: event, Intent: intent}
	if to == nil {
		g.dispatchAll(d, payload)
		return
	}
	if !g.anyTuned(intent) {
		return
	}
	chosen, others := map[string][]string{}, map[string][]string{}
	for id, s := range g.sessions {
		if !to(s) {
			others[s.ref.Gateway] = append(others[s.ref.Gateway], id)
		} else if intent == 0 || s.intents&intent != 0 {
			chosen[s.ref.Gateway] = append(chosen[s.ref.Gateway], id)
		}
	}
	if len(chosen) == 0 {
		return
	}
	d.Data = encode(payload)
	for _, node := range slices.Sorted(maps.Keys(chosen)) {
		d.Sessions, d.Except = chosen[node], nil
		if len(d.Sessions) > maxListed && len(others[node]) < len(d.Sessions) {
			d.Sessions, d.Except = nil, others[node]
		}
		slices.Sort(d.Sessions)
		slices.Sort(d.Except)
		g.sendDispatch(node, d)
	}
}

// dispatchAll sends one event to every session, less those, all of them attached,
// that the dispatch excepts.
func (g *Guild) dispatchAll(d Dispatch, payload any) {
	if !g.anyTuned(d.Intent) {
		return
	}
	d.Guild, d.Data = g.id, encode(payload)
	excepted := map[string]int{}
	for _, id := range d.Except {
		excepted[g.sessions[id].ref.Gateway]++
	}
	for _, node := range slices.Sorted(maps.Keys(g.gateways)) {
		if g.gateways[node] > excepted[node] {
			g.sendDispatch(node, d)
		}
	}
}

// dispatchTo sends one event to one session.
func (g *Guild) dispatchTo(s *session, event string, intent proto.Intents, data []byte) {
	if intent == 0 || s.intents&intent != 0 {
		g.sendDispatch(s.ref.Gateway, Dispatch{Guild: g.id, Event: event, Intent: intent, Sessions: []string{s.ref.Session}, Data: data})
	}
}

func (g *Guild) sendDispatch(node string, d Dispatch) {
	if d.Data == nil {
		return
	}
	g.out.Messages = append(g.out.Messages, Message{Subject: GatewaySubject(node), Gateway: &GatewayMessage{Dispatch: &d}})
}

func (g *Guild) broadcast(m GatewayMessage) {
	g.out.Messages = append(g.out.Messages, Message{Subject: SubjectGatewayAll, Gateway: &m})
}

func (g *Guild) command(node string, c VoiceCommand) {
	if node == "" {
		return
	}
	c.Guild = g.id
	g.out.Messages = append(g.out.Messages, Message{Subject: VoiceSubject(node), Voice: &c})
}

// viewers is everybody who was told of a channel.
func (g *Guild) viewers(channel proto.Snowflake) audience {
	if g.blind[channel] == 0 {
		return nil
	}
	return func(s *session) bool { return g.sees(s, channel) }
}

func (g *Guild) sees(s *session, channel proto.Snowflake) bool { return !g.hidden[s.ref.User][channel] }

// managersOf is everybody with MANAGE_CHANNELS in ch.
func (g *Guild) managersOf(ch *proto.Channel) audience {
	may := map[proto.Snowflake]bool{}
	for user := range g.online {
		may[user] = g.permissionsIn(g.members[user], ch).Has(proto.PermManageChannels)
	}
	return func(s *session) bool { return may[s.ref.User] }
}

// hiddenFrom returns the channels that a member may not view, nil for none.
func (g *Guild) hiddenFrom(m *proto.Member) map[proto.Snowflake]bool {
	var hidden map[proto.Snowflake]bool
	for id, ch := range g.channels {
		if !g.permissionsIn(m, ch).Has(proto.PermViewChannel) {
			if hidden == nil {
				hidden = map[proto.Snowflake]bool{}
			}
			hidden[id] = true
		}
	}
	return hidden
}

// reconcile brings what clients were told, and what voice servers enforce, in
// line with the permissions of now. Channels that a user lost or gained are
// CHANNEL_DELETE or CHANNEL_CREATE to it; fresh, if not zero, is a channel that
// nobody was told of.
func (g *Guild) reconcile(fresh proto.Snowflake) {
	g.reconcileUsers(maps.Keys(g.online), fresh)
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		g.refreshVoice(user)
	}
}

// reconcileUser is reconcile for a change that touches one member only.
func (g *Guild) reconcileUser(user proto.Snowflake) {
	if g.online[user] != nil {
		g.reconcileUsers(slices.Values([]proto.Snowflake{user}), 0)
	}
	g.refreshVoice(user)
}

func (g *Guild) reconcileUsers(users func(func(proto.Snowflake) bool), fresh proto.Snowflake) {
	gained, lost := visibility{}, visibility{}
	for user := range users {
		was, now := g.hidden[user], g.hiddenFrom(g.members[user])
		for id := range now {
			if !was[id] && id != fresh {
				lost.add(id, user)
			}
		}
		for id := range was {
			if !now[id] && g.channels[id] != nil {
				gained.add(id, user)
			}
		}
		if fresh != 0 && !now[fresh] {
			gained.add(fresh, user)
		}
		if !maps.Equal(was, now) {
			g.hide(user, now)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(lost)) {
		g.dispatch("CHANNEL_DELETE", proto.IntentGuilds, lost.audience(id), g.channels[id])
	}
	for _, id := range slices.Sorted(maps.Keys(gained)) {
		g.dispatch("CHANNEL_CREATE", proto.IntentGuilds, gained.audience(id), g.channels[id])
		for _, v := range g.occupants(id) {
			g.dispatch("VOICE_STATE_UPDATE", proto.IntentGuildVoice, gained.audience(id), g.voiceObject(v))
		}
	}
}

// visibility is, by channel, the users for whom it came into view or went.
type visibility map[proto.Snowflake]map[proto.Snowflake]bool

func (v visibility) add(channel, user proto.Snowflake) {
	if v[channel] == nil {
		v[channel] = map[proto.Snowflake]bool{}
	}
	v[channel][user] = true
}

func (v visibility) audience(channel proto.Snowflake) audience {
	return func(s *session) bool { return v[channel][s.ref.User] }
}
