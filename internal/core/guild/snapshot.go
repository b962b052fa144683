package guild

import (
	"encoding/json"
	"time"

	"hubbub.dev/hubbub/proto"
)

// encodings keeps the JSON of what is in each GUILD_CREATE, by user. Values are
// replaced and never changed, so that one which is still at the same address is
// still the same.
type encodings[T any] map[proto.Snowflake]encoding[T]

type encoding[T any] struct {
	of   *T
	json []byte
}

func (e encodings[T]) get(user proto.Snowflake, of *T, make func() any) []byte {
	known := e[user]
	if known.of != of {
		known = encoding[T]{of, encode(make())}
		e[user] = known
	}
	return known.json
}

// snapshotHead is a GuildCreate without the lists that grow with the guild.
type snapshotHead struct {
	proto.GuildCreate
	VoiceStates *struct{} `json:"voice_states,omitempty"`
	Members     *struct{} `json:"members,omitempty"`
	Presences   *struct{} `json:"presences,omitempty"`
}

// view is who a snapshot is for.
type view struct {
	member    *proto.Member // nil sees everything
	presences bool
	large     int // with more members than that, those who are away are left out; 0 is the most there is
}

// snapshot returns the guild as somebody sees it, a GuildCreate in JSON. Of a
// large guild it has the members in voice and, for who gets presences, those
// online (Gateway Events, "Guild Create"). It is valid until the next one.
func (g *Guild) snapshot(to view) json.RawMessage {
	var hidden map[proto.Snowflake]bool
	var joined time.Time
	if to.member != nil {
		hidden, joined = g.hiddenFrom(to.member), to.member.JoinedAt
	}
	if to.large == 0 {
		to.large = maxEagerMembers
	}
	large := len(g.members) > to.large
	head := snapshotHead{GuildCreate: proto.GuildCreate{
		Guild: g.object(), JoinedAt: joined, Large: large, MemberCount: len(g.members),
		Channels: []proto.Channel{}, Threads: []json.RawMessage{}, StageInstances: []json.RawMessage{},
		GuildScheduledEvents: []json.RawMessage{}, SoundboardSounds: []json.RawMessage{},
	}}
	for _, ch := range g.sortedChannels() {
		if !hidden[ch.ID] {
			head.Channels = append(head.Channels, *ch)
		}
	}
	b := append(g.scratch[:0], encode(head)...)
	b = append(b[:len(b)-1], `,"voice_states":[`...)
	for _, user := range g.memberIDs() {
		if v := g.voice[user]; v != nil && !hidden[v.channel] {
			b = appendItem(b, g.stateJSON.get(user, v, func() any {
				state := g.voiceObject(v)
				state.Member = nil // it is in the members
				return state
			}))
		}
	}
	b = append(b, `],"members":[`...)
	for _, user := range g.memberIDs() {
		m := g.members[user]
		if !large || m == to.member || g.voice[user] != nil || to.presences && g.isOnline(user) {
			b = appendItem(b, g.memberJSON.get(user, m, func() any { return m }))
		}
	}
	b = append(b, `],"presences":[`...)
	if to.presences {
		for _, user := range g.memberIDs() {
			if g.isOnline(user) {
				b = appendItem(b, g.presenceJSON.get(user, &g.online[user][0], func() any { return g.presence(user) }))
			}
		}
	}
	b = append(b, `]}`...)
	g.scratch = b
	return b
}

// appendItem appends one item of a JSON list.
func appendItem(list, item []byte) []byte {
	if list[len(list)-1] != '[' {
		list = append(list, ',')
	}
	return append(list, item...)
}

// isOnline reports whether others see a user online.
func (g *Guild) isOnline(user proto.Snowflake) bool {
	for _, s := range g.online[user] {
		if statusRank[s.status.Status] > 1 {
			return true
		}
	}
	return false
}
