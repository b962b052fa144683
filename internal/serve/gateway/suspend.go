package gateway

import (
	"context"
	"errors"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/proto"
)

// Suspended is a session that waits to be resumed in the next program of this process.
type Suspended struct {
	ID    string `cbor:"1,keyasint"`
	State state  `cbor:"2,keyasint"`
}

// Suspend is Close for a process that goes on as another program: clients are told to
// resume, and their sessions are returned, for Config.Restored there. Guilds are told
// nothing. From then on the gateway is of no use.
func (g *Service) Suspend(ctx context.Context) ([]Suspended, error) {
	empty := g.door.shut()
	_ = g.unsubscribe()
	parts := make(chan []Suspended, len(g.shards))
	for _, sh := range g.shards {
		if !sh.clients.Post(suspend{parts}) {
			return nil, errors.New("gateway: a shard is overloaded")
		}
	}
	var all []Suspended
	for range g.shards {
		select {
		case some := <-parts:
			all = append(all, some...)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case <-empty:
	case <-ctx.Done():
	}
	return all, nil
}

// suspend ends a shard with what the bus has brought so far.
type suspend struct{ parts chan<- []Suspended }

func (m suspend) deliver(sh *shard, now clock.Time) {
	for sh.events.Len() > 0 {
		(<-sh.events.Receive()).deliver(sh, now)
	}
	sh.draining = true
	for id, a := range sh.arriving {
		sh.giveUp(id, a)
	}
	var all []Suspended
	for _, c := range sh.sessions {
		if c.conn != nil {
			goodbye(c.conn)
			sh.disconnect(now, c)
		}
		if !c.ready || sh.leaving[c.id] != nil {
			continue
		}
		st := &state{
			User: c.user, Bot: c.bot, Packed: c.packed, Token: c.token[:], Intents: c.intents, Shard: c.shard, Large: c.large,
			Status: c.status, Guilds: make(map[proto.Snowflake]bool, len(c.guilds)),
		}
		for g, place := range c.guilds {
			sh.catchUp(now, c, g)
			st.Guilds[g] = place != nil
		}
		st.Voice = c.voice.Here()
		st.Last, st.Missed, _ = c.session.Export(c.session.Oldest())
		all = append(all, Suspended{c.id, *st})
	}
	m.parts <- all
}

// restore takes the sessions in that were suspended. Their guilds are told once their
// owner, which begins anew too, calls the roll.
func (g *Service) restore() {
	now := monotonic.Now()
	for i := range g.cfg.Restored {
		is := &g.cfg.Restored[i]
		sh := g.shardOf(is.ID)
		if is.ID == "" || sh.sessions[is.ID] != nil || uint64(len(is.State.Missed)) > is.State.Last {
			continue
		}
		c := sh.admitted(now, is.ID, &is.State)
		for id, seated := range is.State.Guilds {
			if seated {
				sh.seat(c, id)
			} else {
				sh.await(now, c, id)
			}
		}
	}
	g.cfg.Restored = nil
}
