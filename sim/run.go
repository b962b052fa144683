package sim

import (
	"fmt"
	"time"

	"hubbub.dev/hubbub/proto"
)

// quiet is how long a run goes on after its last fault: sessions and roll calls that
// are to end have ended by then.
const quiet = 40 * time.Second

// Run plays the schedule of a seed and returns what it came to.
func Run(seed uint64, o Options) Result {
	w := newWorld(seed, o)
	w.begin()
	w.runUntil(w.now.Add(5 * time.Second))
	w.schedule()
	w.runUntil(w.now.Add(w.opts.Length))
	w.heal()
	w.runUntil(w.now.Add(quiet))
	if len(w.result.Violations) == 0 {
		w.check()
	}
	if len(w.result.Violations) == 0 {
		w.handOver()
	}
	w.result.Hash = w.digest.Sum64()
	return w.result
}

// begin starts all nodes, and after them the clients.
func (w *world) begin() {
	w.populate()
	w.bus.open(len(w.hosts))
	for _, h := range w.hosts {
		h.start()
	}
	for _, c := range w.clients {
		w.after(w.between(2*time.Second, 4*time.Second), func() {
			c.online = true
			c.connect()
		})
	}
}

// handOver kills a guild node while all else is well: calls must go on as they were, and
// all who are asked who is there must answer.
func (w *world) handOver() {
	w.calm = true
	for _, h := range w.hosts {
		if h.is.guilds != nil {
			h.is.kill()
			w.killed = h
			w.after(4*time.Second, h.start)
			break
		}
	}
	cut := w.result.Cut
	w.runUntil(w.now.Add(12 * time.Second))
	if w.result.Cut != cut {
		w.violate("%d voice connections ended with a guild node", w.result.Cut-cut)
	}
	w.check()
}

// populate stores guilds and their members. Client i is in guild i and the next, and
// goes into voice in the first.
func (w *world) populate() {
	for i := range w.opts.Guilds {
		id := proto.Snowflake(7000+i) << 22
		r := &row{
			guild:    proto.Guild{ID: id, Name: fmt.Sprint("guild ", i), OwnerID: 1, Roles: []proto.Role{{ID: id, Name: "@everyone", Permissions: proto.PermDefault}}},
			channels: map[proto.Snowflake]proto.Channel{}, members: map[proto.Snowflake]proto.Member{},
		}
		for n, region := range []string{"", "east", "west"} {
			ch := proto.Channel{ID: id + proto.Snowflake(n+1), GuildID: id, Type: proto.ChannelVoice, Name: fmt.Sprint("voice ", n), Bitrate: 64000}
			if region != "" {
				ch.RTCRegion = &region
			}
			r.channels[ch.ID] = ch
		}
		w.db.rows[id] = r
	}
	join := func(id, user proto.Snowflake) {
		w.db.rows[id].members[user] = proto.Member{User: &proto.User{ID: user, Username: fmt.Sprint("user", user)}, JoinedAt: time.Unix(1, 0).UTC()}
	}
	for i := range w.opts.Clients {
		home := proto.Snowflake(7000+i%w.opts.Guilds) << 22
		c := newClient(w, i, home)
		w.clients = append(w.clients, c)
		join(home, c.user)
		join(proto.Snowflake(7000+(i+1)%w.opts.Guilds)<<22, c.user)
	}
}

// heal ends all faults that are still there.
func (w *world) heal() {
	w.trace("the faults are over")
	w.db.down = false
	w.bus.join()
	for _, h := range w.hosts {
		switch {
		case !w.bus.lost[h.index]:
		case w.opts.Faults&RestartBus != 0:
			w.findBus(h.index)
		default:
			w.bus.reconnect(h.index)
		}
		switch {
		case h.is == nil:
			h.start()
		case h.is.stopped:
			h.is.wake()
		}
	}
}
