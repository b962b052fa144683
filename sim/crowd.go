package sim

import (
	"encoding/json"
	"fmt"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/proto"
)

// Crowd says what one event of a large guild cost.
type Crowd struct {
	Sessions  int            // that the guild's owner knows
	Messages  map[string]int // that the bus brought for the event, by gateway node
	Delivered int            // sessions that got the event
}

// RunCrowd puts a guild of so many members, all online on so many gateway nodes, into a
// world without faults, lets a guild node take it as after its owner's death, and has
// the operator rename a channel. It fails when that is not answered.
func RunCrowd(members, gateways int) (Crowd, error) {
	w := newWorld(1, Options{Gateways: gateways, Guilds: 1, Clients: 1})
	w.populate()
	w.bus.open(len(w.hosts))
	for _, h := range w.hosts {
		h.start()
	}
	w.runUntil(clock.Time(3 * time.Second))

	// All of a roll call arrives within two milliseconds here, which no network does.
	w.crowded = true
	id := w.clients[0].home
	row := w.db.rows[id]
	nodes := w.gateways()
	for i := range members {
		user := proto.Snowflake(1_000_000 + i)
		row.members[user] = proto.Member{User: &proto.User{ID: user, Username: fmt.Sprint("user", user)}, JoinedAt: time.Unix(1, 0).UTC()}
		nodes[i%gateways].is.gateway.seat(id, user)
	}
	owner := w.ownerOf(id)
	nodes[0].is.publish(guild.OwnerSubject(owner.name), delivery{request: guild.Request{Guild: id, Wake: &guild.Wake{Gateway: nodes[0].name}}})
	w.runUntil(w.now.Add(3 * time.Second))

	c := Crowd{Messages: map[string]int{}}
	for _, h := range nodes {
		c.Messages[h.name] = -h.is.gateway.received
		c.Delivered -= h.is.gateway.delivered
	}
	status := 0
	nodes[0].is.publish(guild.OwnerSubject(owner.name), delivery{
		request: guild.Request{Guild: id, Call: &guild.Call{
			Op: guild.OpChannelUpdate, Actor: guild.Actor{User: proto.User{ID: operator}, Admin: true},
			Params: map[string]string{"channel": (id + 1).String()}, Body: json.RawMessage(`{"name":"new"}`),
		}},
		answer: func(r *guild.Result) { status = r.Status },
	})
	w.runUntil(w.now.Add(time.Second))
	for _, h := range nodes {
		c.Messages[h.name] += h.is.gateway.received
		c.Delivered += h.is.gateway.delivered
	}
	var counts proto.GuildCreate
	if status != 200 || len(w.result.Violations) > 0 {
		return c, fmt.Errorf("the event was answered with %d: %v", status, w.result.Violations)
	}
	owner.is.guilds.ask(id, operator, guild.OpGuildSnapshot, &counts)
	c.Sessions = len(counts.Presences)
	return c, nil
}

func (w *world) ownerOf(id proto.Snowflake) *host {
	name := w.hosts[0].is.discovery.view.GuildOwner(uint64(id))
	for _, h := range w.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// seat makes a session that has the guild already, and whose client has gone away for a
// while, so that its events are kept and not read.
func (g *gatewayService) seat(id, user proto.Snowflake) {
	g.quiet = true
	g.config.ResumeWindow = time.Hour
	g.made++
	c := &held{
		id: fmt.Sprintf("%s-%d", g.p.name, g.made), user: user, number: g.made, session: session.New(g.p.w.now, &g.config), ready: true,
		guilds: map[proto.Snowflake]bool{id: true}, generations: map[proto.Snowflake]uint64{},
	}
	g.sessions[c.id] = c
	if g.guilds[id] == nil {
		g.guilds[id] = seats{}
	}
	g.guilds[id][c] = struct{}{}
}
