package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// Faults is a set of what may go wrong.
type Faults uint16

// What may go wrong.
const (
	KillGateway  Faults = 1 << iota // without a goodbye, and started again later
	KillGuilds                      // likewise
	KillVoice                       // likewise
	StopNode                        // SIGSTOP for a while
	SplitBus                        // in two parts, between which nothing passes for a while
	LoseBus                         // one node's connection
	LoseDatabase                    // for all
	JumpClock                       // one host's wall clock
	LeaveNode                       // with a goodbye, and started again
	CutClient                       // a client's connections

	// AllFaults are those that the fleet is to get over.
	AllFaults Faults = 1<<iota - 1
	// BreakBus is a split that breaks connections within the bus, so that what is said
	// across is lost and no node is told. ADR 0019 says what that may leave behind.
	BreakBus Faults = 1 << 15
	// RestartBus takes all nodes the bus at once. Each finds it again by itself, at its
	// own time: until the last has, what is said to it is lost.
	RestartBus Faults = 1 << 14
)

// injector does one kind of fault and returns what heals it, nil for nothing.
type injector struct {
	kind   Faults
	inject func(w *world) (heal func())
}

var injectors = []injector{
	{KillGateway, func(w *world) func() { return w.killOne(fleet.Gateway) }},
	{KillGuilds, func(w *world) func() { return w.killOne(fleet.Guilds) }},
	{KillVoice, func(w *world) func() { return w.killOne(fleet.Voice) }},
	{StopNode, (*world).stopOne},
	{SplitBus, func(w *world) func() { return w.splitBus(false) }},
	{BreakBus, func(w *world) func() { return w.splitBus(true) }},
	{LoseBus, (*world).loseBus},
	{RestartBus, (*world).restartBus},
	{LoseDatabase, (*world).loseDatabase},
	{JumpClock, (*world).jumpClock},
	{LeaveNode, (*world).leaveOne},
	{CutClient, (*world).cutOne},
}

// schedule lays out the time of faults: something happens every half second or so.
func (w *world) schedule() {
	var may []injector
	for _, in := range injectors {
		if in.kind&w.opts.Faults != 0 {
			may = append(may, in)
		}
	}
	end := w.now.Add(w.opts.Length)
	for at := w.now.Add(time.Second); at < end; at = at.Add(w.between(20*time.Millisecond, 600*time.Millisecond)) {
		if len(may) > 0 && w.chance(20) {
			in := may[w.rng.IntN(len(may))]
			w.at(at, func() {
				heal := in.inject(w)
				w.result.Faults++
				if heal == nil {
					return
				}
				done := false
				w.at(min(end, w.now.Add(w.between(100*time.Millisecond, 7*time.Second))), func() {
					if !done {
						done = true
						heal()
					}
				})
			})
			continue
		}
		w.at(at, w.act)
	}
}

func (w *world) pick(roles fleet.Roles) *host {
	var list []*host
	for _, h := range w.hosts {
		if h.roles.Has(roles) {
			list = append(list, h)
		}
	}
	return list[w.rng.IntN(len(list))]
}

func (w *world) killOne(roles fleet.Roles) func() {
	h := w.pick(roles)
	if h.is == nil {
		return nil
	}
	h.is.kill()
	return h.start
}

func (w *world) stopOne() func() {
	p := w.pick(fleet.All).is
	if p == nil || p.stopped {
		return nil
	}
	p.stop()
	return func() {
		if !p.dead && p.stopped {
			p.wake()
		}
	}
}

func (w *world) splitBus(breaks bool) func() {
	cut := w.rng.Uint64()
	w.trace("the bus is split by %x", cut&0x1ff)
	w.bus.split(breaks, func(i int) int { return int(cut>>(i%64)) & 1 })
	return func() {
		w.trace("the bus is whole")
		w.bus.join()
	}
}

func (w *world) loseBus() func() {
	h := w.pick(fleet.All)
	if w.bus.lost[h.index] {
		return nil
	}
	w.trace("%s loses the bus", h.name)
	w.bus.disconnect(h.index)
	return func() {
		w.trace("%s has the bus again", h.name)
		w.bus.reconnect(h.index)
	}
}

// findBusIn is the longest that a node takes to find a bus that is back: nats.go waits
// for 250 ms and some jitter between two tries, and a try may time out.
const findBusIn = 2 * time.Second

func (w *world) restartBus() func() {
	w.trace("the bus is down")
	var away []int
	for _, h := range w.hosts {
		if !w.bus.lost[h.index] {
			w.bus.disconnect(h.index)
			away = append(away, h.index)
		}
	}
	return func() {
		w.trace("the bus is up")
		for _, i := range away {
			w.findBus(i)
		}
	}
}

// findBus lets a host find the bus that is back, in its own time.
func (w *world) findBus(index int) {
	w.after(w.between(0, findBusIn), func() {
		if w.bus.lost[index] {
			w.trace("%s has the bus again", w.hosts[index].name)
			w.bus.reconnect(index)
		}
	})
}

func (w *world) loseDatabase() func() {
	if w.db.down {
		return nil
	}
	w.db.down, w.db.hangs = true, w.chance(50)
	w.trace("the database is away, hanging %v", w.db.hangs)
	return func() {
		w.trace("the database is back")
		w.db.down = false
	}
}

func (w *world) jumpClock() func() {
	h := w.pick(fleet.All)
	h.skew += w.between(-300*time.Millisecond, 300*time.Millisecond)
	w.trace("the clock of %s jumps to %v", h.name, h.skew)
	return nil
}

// leaveOne shuts a node down in order, as serve/node does: roles first, then goodbye.
func (w *world) leaveOne() func() {
	p := w.pick(fleet.All).is
	if p == nil || p.stopped {
		return nil
	}
	w.trace("%s leaves", p.name)
	if p.gateway != nil {
		p.gateway.drain()
	}
	w.after(50*time.Millisecond, func() {
		p.do(aMessage, func() {
			p.discovery.leave()
			w.after(20*time.Millisecond, func() {
				if !p.dead {
					p.kill()
				}
			})
		})
	})
	h := p.host
	return func() {
		if h.is == p {
			p.kill()
		}
		if h.is == nil {
			h.start()
		}
	}
}

func (w *world) cutOne() func() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	if l := c.link; l != nil && w.chance(70) {
		w.trace("%s is cut from its gateway", c.name)
		l.hangUp(1006)
		c.lost(l)
	}
	if v := c.voice; v != nil && w.chance(50) {
		w.trace("%s is cut from its voice server", c.name)
		v.hangUp(1006)
		v.open = true
		c.voiceClosed(v, 1006)
	}
	return nil
}

// act lets a client or a moderator do something.
func (w *world) act() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch n := w.rng.IntN(100); {
	case n < 6 && c.online:
		w.trace("%s goes offline", c.name)
		c.online, c.want = false, 0
		c.hangUpVoice(1000)
		if l := c.link; l != nil {
			l.hangUp(1000)
			c.link = nil
		}
		c.forget()
	case !c.online:
		w.trace("%s goes online", c.name)
		c.online = true
		c.connect()
	case n < 50:
		if s := c.guilds[c.home]; s != nil {
			c.want = w.voiceChannel(s)
			c.ask(true)
		}
	case n < 60:
		c.want = 0
		c.ask(true)
	case n < 75:
		c.mute = !c.mute
		c.ask(true)
	default:
		w.moderate(c)
	}
}

// voiceChannel returns one of the channels that a client knows; all are for voice.
func (w *world) voiceChannel(s *seen) proto.Snowflake {
	ids := slices.Sorted(maps.Keys(s.channels))
	if len(ids) == 0 {
		return 0
	}
	return ids[w.rng.IntN(len(ids))]
}

// moderate makes a call to c's guild, as REST does for the operator, through any node
// that is on the bus.
func (w *world) moderate(c *client) {
	from := w.pick(fleet.Gateway).is
	row := w.db.rows[c.home]
	channels := slices.Sorted(maps.Keys(row.channels))
	if from == nil || from.stopped {
		return
	}
	call := &guild.Call{Actor: guild.Actor{User: proto.User{ID: operator, Username: "operator"}, Admin: true}}
	done := func() {}
	member := map[string]string{"user": fmt.Sprint(uint64(c.user))}
	channel := map[string]string{"channel": "0"} // of a guild that has none
	if len(channels) > 0 {
		channel["channel"] = fmt.Sprint(uint64(channels[w.rng.IntN(len(channels))]))
	}
	switch n := w.rng.IntN(10); {
	case n < 2:
		call.Op, call.Params, call.Body = guild.OpMemberUpdate, member, json.RawMessage(fmt.Sprintf(`{"channel_id":%q}`, channel["channel"]))
	case n < 4:
		call.Op, call.Params, call.Body = guild.OpMemberUpdate, member, json.RawMessage(fmt.Sprintf(`{"mute":%v}`, w.chance(50)))
	case n < 5:
		call.Op, call.Params, call.Body = guild.OpMemberUpdate, member, json.RawMessage(`{"channel_id":null}`)
		done = func() {
			c.want = 0
			c.hangUpVoice(1000)
			if c.patient {
				c.ask(false) // it may have joined anew since, and asks for nothing later
			}
		}
	case n < 7 || len(channels) < 3:
		call.Op, call.Body = guild.OpChannelCreate, json.RawMessage(fmt.Sprintf(`{"name":"c%d","type":2}`, w.rng.IntN(1000)))
	case n < 9:
		call.Op, call.Params, call.Body = guild.OpChannelUpdate, channel, json.RawMessage(fmt.Sprintf(`{"name":"u%d"}`, w.rng.IntN(1000)))
	default:
		call.Op, call.Params = guild.OpChannelDelete, channel
	}
	w.trace("operator: %s %v %s", call.Op, call.Params, call.Body)
	owner := guild.OwnerSubject(from.discovery.view.GuildOwner(uint64(c.home)))
	from.publish(owner, delivery{request: guild.Request{Guild: c.home, Call: call}, answer: func(r *guild.Result) {
		w.trace("operator: %s answered %d", call.Op, r.Status)
		if r.Status < 300 {
			done()
		}
	}})
}
