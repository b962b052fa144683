package guild

import (
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/proto"
)

// What passes when channels change voice servers. One that is gone took its
// connections along, and its people go over as they can. One that drains or is attacked
// goes on, so its people go over one by one and nobody falls silent: their old connections
// linger until all of the channel are on the new server, and clients that can talk and
// listen at both.

// place is one connection: a voice server and the number of a join there.
type place struct {
	node string
	join uint64
}

// NodesChanged gives the channels of voice servers that are gone, and those that
// had none, a new one. It needs no rollback: nothing of it is stored.
func (g *Guild) NodesChanged(wall time.Time) Output {
	g.begin(Input{Wall: wall})
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		old := g.voice[user]
		if _, alive := g.cfg.Nodes.get(old.node); alive {
			continue
		}
		if old.session.Gateway == "" {
			g.leaveVoice(old, CloseDisconnected) // whoever could tell its client is gone too
			continue
		}
		if to := g.placeIn(g.channels[old.channel]); to != old.node {
			g.relocate(old, to, false)
		}
	}
	return g.out
}

// Relocate moves channels away from voice servers that drain, and from those that are
// attacked when others are not. It stops when it has moved as many people as most, but
// leaves no channel half moved; done is false when there may be more to move. It needs no
// rollback, like NodesChanged.
func (g *Guild) Relocate(wall time.Time, most int) (out Output, moved int, done bool) {
	g.begin(Input{Wall: wall})
	for _, id := range slices.Sorted(maps.Keys(g.rooms)) {
		if moved >= most {
			return g.out, moved, false
		}
		moved += g.relocateChannel(g.channels[id])
	}
	return g.out, moved, true
}

// relocateChannel moves the people of a channel who are on a server that is to be left.
func (g *Guild) relocateChannel(ch *proto.Channel) (moved int) {
	var movers []*voiceState
	for _, v := range g.occupants(ch.ID) {
		// Nobody could tell the client of one without a gateway.
		if n, alive := g.cfg.Nodes.get(v.node); alive && n.leaving() && v.session.Gateway != "" {
			movers = append(movers, v)
		}
	}
	if len(movers) == 0 {
		return 0
	}
	to, ok := g.seat(ch.ID)
	if ok && to.leaving() {
		to, ok = g.cfg.Nodes.refuge(ch.ID, regionOf(ch), to, len(movers))
	}
	if !ok {
		return 0
	}
	for _, v := range movers {
		if v.node != to.Node {
			g.relocate(v, to.Node, true)
			moved++
		}
	}
	return moved
}

// relocate begins a new join of the same stay on another voice server. Where its old
// connection lingers the client loses nothing meanwhile.
func (g *Guild) relocate(old *voiceState, to string, linger bool) {
	next := *old
	next.node, next.join, next.worker, next.transport = to, g.nextJoin(), 0, ""
	next.identified, next.enforced = next.session.Session, g.flags(&next)
	end := VoiceCommand{User: old.user, Join: old.join, End: true, Moved: true, Code: CloseDisconnected}
	if linger && (old.transport != "" || old.vacated.node == "") {
		g.endLingering(old)
		next.vacated = place{old.node, old.join}
		end.Moved, end.Linger = false, true
	}
	g.setVoice(&next)
	// A server that was only cut off must not keep the old join.
	g.command(old.node, end)
	g.sendServer(&next)
}

// arrived takes in that a user is connected to its voice server: once all of its channel
// are, the connections that linger are of no more use, save for those whose media is on
// its way.
func (g *Guild) arrived(v *voiceState) {
	if v.vacated.node == "" {
		return
	}
	for _, o := range g.rooms[v.channel] {
		if o.vacated.node != "" && o.transport == "" {
			return
		}
	}
	for _, o := range g.occupants(v.channel) {
		if o.vacated.node == "" {
			continue
		}
		g.command(o.vacated.node, VoiceCommand{User: o.user, Join: o.vacated.join, End: true, Moved: true, Code: CloseDisconnected})
		next := *o
		next.vacated = place{}
		g.setVoice(&next)
	}
}

// endLingering ends the connection that one who leaves, or goes elsewhere, has besides.
func (g *Guild) endLingering(v *voiceState) {
	g.command(v.vacated.node, VoiceCommand{User: v.user, Join: v.vacated.join, End: true, Code: CloseDisconnected})
}
