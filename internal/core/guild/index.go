package guild

import (
	"slices"

	"hubbub.dev/hubbub/proto"
)

// What is kept here follows from the rest of the state. It is there so that what
// happens to one member of a big guild costs no walk over all of them.

// setVoice replaces or adds a voice state.
func (g *Guild) setVoice(v *voiceState) {
	if old := g.voice[v.user]; old != nil && old.channel != v.channel {
		g.vacate(old)
	}
	room := g.rooms[v.channel]
	if room == nil {
		room = map[proto.Snowflake]*voiceState{}
		set(g, g.rooms, v.channel, room)
	}
	set(g, room, v.user, v)
	set(g, g.voice, v.user, v)
}

// dropVoice removes a voice state.
func (g *Guild) dropVoice(v *voiceState) {
	g.vacate(v)
	unset(g, g.voice, v.user)
}

func (g *Guild) vacate(v *voiceState) {
	room := g.rooms[v.channel]
	unset(g, room, v.user)
	if len(room) == 0 {
		unset(g, g.rooms, v.channel)
	}
}

// hide notes which channels a user online was not told of, nil for none.
func (g *Guild) hide(user proto.Snowflake, channels map[proto.Snowflake]bool) {
	old := g.hidden[user]
	for id := range old {
		if !channels[id] {
			g.count(id, -1)
		}
	}
	for id := range channels {
		if !old[id] {
			g.count(id, 1)
		}
	}
	switch {
	case len(channels) > 0:
		set(g, g.hidden, user, channels)
	case old != nil:
		unset(g, g.hidden, user)
	}
}

// count counts the users from whom a channel is hidden.
func (g *Guild) count(channel proto.Snowflake, more int) {
	if n := g.blind[channel] + more; n > 0 {
		set(g, g.blind, channel, n)
	} else {
		unset(g, g.blind, channel)
	}
}

// tune counts the sessions by their intents.
func (g *Guild) tune(intents proto.Intents, more int) {
	if n := g.tuned[intents] + more; n > 0 {
		set(g, g.tuned, intents, n)
	} else {
		unset(g, g.tuned, intents)
	}
}

// anyTuned reports whether any session gets events of an intent; 0 is for all.
func (g *Guild) anyTuned(intent proto.Intents) bool {
	if intent == 0 {
		return len(g.sessions) > 0
	}
	for intents := range g.tuned {
		if intents&intent != 0 {
			return true
		}
	}
	return false
}

// memberIDs returns the members' ids in order. The list is the guild's.
func (g *Guild) memberIDs() []proto.Snowflake {
	if len(g.order) != len(g.members) {
		g.order = g.order[:0]
		for id := range g.members {
			g.order = append(g.order, id)
		}
		slices.Sort(g.order)
	}
	return g.order
}

// place keeps the order when a member is added. Ids mostly grow.
func (g *Guild) place(id proto.Snowflake) {
	if len(g.order) == 0 {
		return // not asked for yet
	}
	if i, found := slices.BinarySearch(g.order, id); !found {
		g.order = slices.Insert(g.order, i, id)
	}
}
