//go:build linux

package chaos

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/test/harness"
)

// bar is what is wanted of the worst client.
type bar struct {
	gap   time.Duration // 0 for any
	lost  int           // packets of one speaker, -1 for any number
	share float64       // of the packets, instead of a number
}

// uninterrupted is the bar of faults that audio has nothing to do with: a late
// packet is no gap.
var uninterrupted = bar{gap: 100 * time.Millisecond}

// fault is something that happens to the fleet. strike returns when the cause is gone
// and all that was ended runs again, with what there is to say of it; the seed chooses
// the victim and the times.
type fault struct {
	name   string
	says   string // in the table
	bar    bar
	apart  bool // needs network namespaces
	short  bool // is part of the short form
	strike func(w *world, r *rand.Rand) (note string)
}

// faults is everything that make chaos does. What gateways, guild nodes, the bus and the
// database do must not be heard.
var faults = []fault{
	{"media-kill", "kill -9 of the media child", bar{gap: 100 * time.Millisecond, lost: 5}, false, true, (*world).mediaKill},
	{"media-upgrade", "media upgrade in place", bar{gap: 100 * time.Millisecond}, false, true, (*world).mediaUpgrade},
	{"gateway-restart", "gateway process restarts (SIGTERM)", uninterrupted, false, false, restarts(fleet.Gateway)},
	{"gateway-kill", "gateway killed, back later", uninterrupted, false, true, kills(fleet.Gateway)},
	{"guild-restart", "guild process restarts (SIGTERM)", uninterrupted, false, false, restarts(fleet.Guilds)},
	{"guild-kill", "guild owner killed, back later", uninterrupted, false, true, kills(fleet.Guilds)},
	{"voice-restart", "signalling process restarts (SIGTERM)", uninterrupted, false, false, restarts(fleet.Voice)},
	{"voice-kill", "voice node dies, connections close (kill -9)", bar{gap: time.Second, lost: -1}, false, false, kills(fleet.Voice)},
	{"voice-power", "voice node power-off (not a word)", bar{gap: 4 * time.Second, lost: -1}, true, true, (*world).voicePower},
	{"bus-down", "NATS down", uninterrupted, false, true, (*world).busDown},
	{"database-down", "database down", uninterrupted, false, false, (*world).databaseDown},
	{"guilds-down", "all guild nodes down", uninterrupted, false, false, allDown(fleet.Guilds)},
	{"gateways-down", "all gateways down", uninterrupted, false, false, allDown(fleet.Gateway)},
	{"guild-stop", "guild owner stopped for 10 s (SIGSTOP)", uninterrupted, false, false, (*world).guildStops},
	{"gateway-part", "gateway parted from the bus", uninterrupted, true, false, parted(fleet.Gateway)},
	{"guild-part", "guild node parted from bus and database", uninterrupted, true, false, parted(fleet.Guilds)},
	{"voice-part", "voice node parted from the bus", bar{gap: time.Second, lost: -1}, true, false, parted(fleet.Voice)},
	{"junk", "200,000 junk packets/s at a worker's port", bar{share: 0.01}, false, false, (*world).junkFlood},
	{"storm", "17 % of all sessions cut at one instant", uninterrupted, false, true, (*world).storm},
}

// victim is a node that has something to lose: of the voice nodes one with a call, of
// the guild nodes one that owns a guild.
func (w *world) victim(r *rand.Rand, role fleet.Roles) *harness.FleetNode {
	w.t.Helper()
	metric := map[fleet.Roles]string{
		fleet.Gateway: "hubbub_gateway_sessions", fleet.Guilds: "hubbub_guilds_loaded", fleet.Voice: "hubbub_voice_sessions",
	}[role]
	ctx, cancel := w.step()
	defer cancel()
	var busy []*harness.FleetNode
	for _, n := range w.fleet.With(role) {
		if v, err := metricOf(ctx, n, metric); err != nil {
			w.t.Fatal(err)
		} else if v > 0 {
			busy = append(busy, n)
		}
	}
	if len(busy) == 0 {
		w.t.Fatalf("no node has %s", metric)
	}
	return busy[r.IntN(len(busy))]
}

// child is the media process of a voice node.
func (w *world) child(n *harness.FleetNode) int {
	w.t.Helper()
	pids, err := n.Children()
	if err != nil || len(pids) != 1 {
		w.t.Fatalf("%s has the children %v: %v", n.Name, pids, err)
	}
	return pids[0]
}

func (w *world) signal(pid int, s syscall.Signal) {
	w.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mediaKill(r *rand.Rand) string {
	n := w.victim(r, fleet.Voice)
	w.signal(w.child(n), syscall.SIGKILL)
	return n.Name
}

func (w *world) mediaUpgrade(r *rand.Rand) string {
	n := w.victim(r, fleet.Voice)
	old := w.child(n)
	w.signal(n.Pid(), syscall.SIGUSR2)
	for limit := time.Now().Add(patience); ; {
		if pids, err := n.Children(); err == nil && len(pids) == 1 && pids[0] != old {
			return n.Name
		}
		if time.Now().After(limit) {
			w.t.Fatalf("%s did not upgrade", n.Name)
		}
		w.hold(10 * time.Millisecond)
	}
}

func restarts(role fleet.Roles) func(*world, *rand.Rand) string {
	return func(w *world, r *rand.Rand) string {
		n := w.victim(r, role)
		began := time.Now()
		if err := n.Stop(2 * patience); err != nil {
			w.t.Error(err)
		}
		took := time.Since(began)
		w.startAgain(n.Process)
		return fmt.Sprintf("%s ended after %v", n.Name, took.Round(time.Millisecond))
	}
}

// downtime is how long what was killed stays away.
func downtime(r *rand.Rand) time.Duration {
	if !*full {
		return between(r, time.Second, 2*time.Second)
	}
	return between(r, time.Second, 5*time.Second)
}

// deathKnown is longer than the fleet takes to miss a node that says nothing.
const deathKnown = 3500 * time.Millisecond

func kills(role fleet.Roles) func(*world, *rand.Rand) string {
	return func(w *world, r *rand.Rand) string {
		n, away := w.victim(r, role), downtime(r)
		n.Kill()
		w.hold(away)
		w.startAgain(n.Process)
		return forSeconds(n.Name, away)
	}
}

func forSeconds(who string, away time.Duration) string {
	return fmt.Sprintf("%s, for %.1f s", who, away.Seconds())
}

// voicePower ends a voice node as a power cut does: nobody is told, not even by its
// kernel.
func (w *world) voicePower(r *rand.Rand) string {
	n, away := w.victim(r, fleet.Voice), deathKnown+downtime(r)
	at := w.hosts[n.Name]
	w.net.unplug(at)
	n.Kill()
	w.hold(away)
	w.net.plug(at)
	w.startAgain(n.Process)
	return forSeconds(n.Name, away)
}

func (w *world) busDown(r *rand.Rand) string {
	away := time.Second + downtime(r)
	w.bus.Kill()
	w.hold(away)
	w.startAgain(w.bus)
	return forSeconds("bus", away)
}

func (w *world) databaseDown(r *rand.Rand) string {
	away := downtime(r)
	if err := w.db.Signal(syscall.SIGQUIT); err != nil {
		w.t.Fatal(err)
	}
	<-w.db.Exited()
	w.hold(away)
	w.startAgain(w.db.Process)
	return forSeconds("database", away)
}

func allDown(role fleet.Roles) func(*world, *rand.Rand) string {
	return func(w *world, r *rand.Rand) string {
		away := downtime(r)
		for _, n := range w.with(role) {
			n.Kill()
		}
		w.hold(away)
		w.startAgain(w.with(role)...)
		return forSeconds("all", away)
	}
}

func (w *world) guildStops(r *rand.Rand) string {
	n := w.victim(r, fleet.Guilds)
	if err := n.Suspend(); err != nil {
		w.t.Fatal(err)
	}
	w.hold(10 * time.Second)
	if err := n.Continue(); err != nil {
		w.t.Fatal(err)
	}
	return n.Name
}

// parted cuts a node from the bus, and a guild node from the database too.
func parted(role fleet.Roles) func(*world, *rand.Rand) string {
	return func(w *world, r *rand.Rand) string {
		n, away := w.victim(r, role), deathKnown+downtime(r)
		from := []string{w.busAt.ip}
		if role == fleet.Guilds {
			from = append(from, w.net.clients())
		}
		at := w.hosts[n.Name]
		w.net.part(at, from...)
		w.hold(away)
		w.net.join(at)
		return forSeconds(n.Name, away)
	}
}

func (w *world) junkFlood(r *rand.Rand) string {
	n := w.victim(r, fleet.Voice)
	rate := w.flood(n, 5*time.Second)
	return fmt.Sprintf("%s, %.0f/s", n.Name, rate)
}

// stormShare is how many of all sessions a storm cuts.
const stormShare = 0.17

func (w *world) storm(r *rand.Rand) string {
	all := r.Perm(len(w.people))[:max(1, int(stormShare*float64(len(w.people))+0.5))]
	for _, i := range all {
		w.people[i].lines.cut()
	}
	return fmt.Sprintf("%d of %d", len(all), len(w.people))
}
