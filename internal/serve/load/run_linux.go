package load

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hubbub.dev/hubbub/internal/serve/run"
)

const (
	// accountsAtOnce and leavesAtOnce load a server no more than it has cores.
	accountsAtOnce = 8
	leavesAtOnce   = 32
	// mostTalkers may talk all the time while listeners join.
	mostTalkers = 100
	// firstPacket is how long a join waits for the first packet.
	firstPacket = 5 * time.Second
	// drainPatience is how long packets under way are waited for when none comes.
	drainPatience = 200 * time.Millisecond
	drainMost     = 3 * time.Second
	drainStep     = 5 * time.Millisecond
)

// runner is one run of the load generator.
type runner struct {
	cfg     Config
	group   *run.Group
	crowd   *crowd
	targets []*target
	round   uint32
	report  Report

	network *network // nil for this host's own
	party   *party
	ground  *ground
	members []*member
}

// Run measures and returns what came out. When ctx ends it stops and returns its
// error; in any case it leaves nothing running, and no guilds on the server.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &runner{cfg: cfg, group: run.NewGroup(ctx, cfg.Log)}
	defer r.close()
	for _, step := range []func(context.Context) error{r.open, r.join, r.openFloors, r.openMumble, r.measure, r.ramp, r.conclude} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return &r.report, nil
}

func (r *runner) serverCore() int {
	if r.cfg.Pin {
		return serverCore
	}
	return -1
}

func (r *runner) target(name string, pid int, stop func()) *target {
	t := &target{name: name, index: len(r.targets), pid: pid, close: stop}
	r.targets = append(r.targets, t)
	return t
}

// open starts what carries the clients, and a server if that is asked for.
func (r *runner) open(ctx context.Context) error {
	if r.cfg.Network {
		var err error
		if r.network, err = newNetwork(); err != nil {
			return err
		}
	}
	stop := func() {}
	if len(r.cfg.Spawn) > 0 {
		s, err := spawn(ctx, r.cfg.Spawn, r.serverCore(), r.network)
		if err != nil {
			return err
		}
		r.cfg.URL, r.cfg.Token, r.cfg.PID = s.url, s.token, s.cmd.Process.Pid
		stop = s.stop
	}
	r.target("hubbub", r.cfg.PID, stop)
	if r.cfg.Pin {
		if runtime.NumCPU() < 2 {
			r.warn("one core alone: server and load share it")
		} else if err := pinSelf(loadCore); err != nil {
			return err
		}
	}
	loops := r.cfg.Loops
	if loops == 0 {
		loops = runtime.GOMAXPROCS(0)
	}
	var err error
	if r.crowd, err = newCrowd(loops, r.cfg.Offload, r.group); err != nil {
		return err
	}
	a, err := newAdmin(r.cfg.URL, r.cfg.Token, r.cfg.CA)
	if err != nil {
		return err
	}
	r.party = &party{cfg: &r.cfg, admin: a, group: r.group}
	r.group.Go("load gateway heartbeats", r.party.gatewayHeart.run)
	r.group.Go("load voice heartbeats", r.party.voiceHeart.run)
	if r.cfg.Channel != 0 {
		r.ground, err = a.find(ctx, r.cfg.Channel)
	} else {
		r.ground, err = a.prepare(ctx, r.cfg.Guilds, r.cfg.Channels)
	}
	return err
}

func (r *runner) warn(format string, args ...any) {
	r.report.Warnings = append(r.report.Warnings, fmt.Sprintf(format, args...))
}

// join brings all clients into their channels, speakers first, who then talk.
func (r *runner) join(ctx context.Context) error {
	// Bots that other runs left behind, or have now, are called otherwise.
	tag := strconv.FormatUint(rand.Uint64(), 36)
	r.members = make([]*member, r.cfg.clients())
	err := each(ctx, r.group, len(r.members), accountsAtOnce, func(ctx context.Context, i int) (err error) {
		m := &member{seat: r.cfg.newSeat(0, i)}
		m.room = r.ground.rooms[m.seat.room]
		r.members[i] = m
		m.token, err = r.ground.bot(ctx, m.room.guild, fmt.Sprintf("load %s %d", tag, i+1))
		return err
	})
	if err != nil {
		return err
	}
	if r.cfg.PID != 0 {
		if err := r.rehearse(ctx); err != nil {
			return fmt.Errorf("first client: %w", err)
		}
		before, err := residentOf(r.cfg.PID)
		if err != nil {
			return fmt.Errorf("--pid: %w", err)
		}
		r.report.Memory = &Memory{Before: before}
	}
	speakers := r.cfg.Speakers * r.cfg.Channels
	if err := r.enter(ctx, r.members[:speakers], false); err != nil {
		return err
	}
	// Speakers talk without a pause, so that a listener's first packet is there to come;
	// but a crowd of them would be another load than the one asked for.
	talk, hear := 1.0, speakers > 0 || r.cfg.Hear > 0
	if speakers > mostTalkers {
		talk, hear = r.cfg.Talk, false
	}
	if err := r.crowd.begin(ctx, r.window(0, talk, r.cfg.Rate)); err != nil {
		return err
	}
	if err := r.enter(ctx, r.members[speakers:], hear); err != nil {
		return err
	}
	return r.crowd.recount(ctx, 0)
}

// rehearse lets one client join and leave before memory is read: the code that the
// first one brings in is not what each of the others takes.
func (r *runner) rehearse(ctx context.Context) error {
	first := r.members[len(r.members)-1]
	m := &member{seat: r.cfg.newSeat(0, len(r.members)-1), room: first.room, token: first.token}
	defer m.leave()
	if err := r.party.connect(ctx, m); err != nil {
		return err
	}
	if err := r.party.join(ctx, m); err != nil {
		return err
	}
	return unix.Close(m.seat.fd)
}

// enter joins some members; those who are to hear are waited for until they do.
func (r *runner) enter(ctx context.Context, members []*member, hear bool) error {
	var done atomic.Int64
	return each(ctx, r.group, len(members), r.cfg.Joins, func(ctx context.Context, i int) error {
		m := members[i]
		if err := r.party.connect(ctx, m); err != nil {
			return fmt.Errorf("client %d: %w", i+1, err)
		}
		if err := r.party.join(ctx, m); err != nil {
			return fmt.Errorf("client %d: %w", i+1, err)
		}
		if err := r.seatOrClose(ctx, m.seat); err != nil {
			return err
		}
		if hear {
			patience := time.NewTimer(firstPacket)
			defer patience.Stop()
			select {
			case <-m.seat.firstHeard:
			case <-patience.C:
			case <-ctx.Done():
			}
		}
		r.say("joining: %d of %d", done.Add(1), len(members))
		return nil
	})
}

// seatOrClose gives a seat to the crowd, which owns its socket then.
func (r *runner) seatOrClose(ctx context.Context, s *seat) error {
	err := r.crowd.add(ctx, s)
	if err != nil {
		_ = unix.Close(s.fd)
	}
	return err
}

func (r *runner) openFloors(ctx context.Context) error {
	if !r.cfg.Floor || r.cfg.Speakers == 0 {
		return nil
	}
	if err := r.startFloor(ctx, "floor"); err != nil {
		return err
	}
	return r.startFloor(ctx, "floor+GSO", "--segment", "--wait", r.cfg.FloorWait.String())
}

func (r *runner) window(target int, talk, rate float64) window {
	r.round++
	return window{round: r.round, target: target, talk: talk, rate: rate, size: r.cfg.Size, burst: r.cfg.Phase == PhaseBurst}
}

// pass lets time pass, and shows how it goes.
func (r *runner) pass(ctx context.Context, d time.Duration, what string, show func(what string, passed time.Duration)) error {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-end.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if show != nil {
				show(what, time.Since(began))
			}
		}
	}
}

func (r *runner) drawn(what string, passed time.Duration) {
	received, expected := r.crowd.progress()
	share := 100.0
	if expected > 0 {
		share = 100 * float64(received) / float64(expected)
	}
	r.say("%s: %4.1f s, %.0f packets/s, %.2f%% delivered", what, passed.Seconds(), float64(received)/passed.Seconds(), share)
}

// say rewrites the progress line.
func (r *runner) say(format string, args ...any) {
	if r.cfg.Progress != nil {
		_, _ = fmt.Fprintf(r.cfg.Progress, "\r\x1b[K"+format, args...)
	}
}

// drain waits until what was sent has come, or no more comes, and returns when the
// last came.
func (r *runner) drain(ctx context.Context) (last time.Duration, err error) {
	began := time.Now()
	before, expected := r.crowd.progress()
	for before < expected && time.Since(began) < min(last+drainPatience, drainMost) {
		if err := r.pass(ctx, drainStep, "", nil); err != nil {
			return 0, err
		}
		received, _ := r.crowd.progress()
		if received != before {
			last = time.Since(began)
		}
		before = received
	}
	return last, nil
}

// ramp finds the most that each target delivers.
func (r *runner) ramp(ctx context.Context) error {
	if !r.cfg.Ramp {
		return nil
	}
	for _, t := range r.targets {
		climbed, err := climb(r.cfg.Rate, func(rate float64) (Window, error) {
			s, err := r.watch(ctx, t, rate, 1, r.cfg.Step)
			return r.judge(t, rate, &s), err
		})
		if err != nil {
			return err
		}
		climbed.Target = t.name
		r.report.Ramps = append(r.report.Ramps, climbed)
	}
	return nil
}

// conclude adds what is known at the end.
func (r *runner) conclude(ctx context.Context) error {
	r.report.Workers = r.party.admin.workers(ctx)
	if m := r.report.Memory; m != nil {
		after, err := residentOf(r.cfg.PID)
		if err != nil {
			return fmt.Errorf("the server is gone: %w", err)
		}
		m.After = after
		m.PerClient = float64(m.After-m.Before) / float64(r.cfg.clients())
	}
	var ready, first []time.Duration
	for _, m := range r.members {
		if !m.seat.hears {
			continue
		}
		ready = append(ready, m.ready)
		select {
		case <-m.seat.firstHeard:
			first = append(first, time.Duration(m.seat.first-m.asked.UnixNano()))
		default:
		}
	}
	r.report.Join = &Join{
		Clients: len(ready), ReadyP50: millis(quantileOf(ready, 0.5)), ReadyP95: millis(quantileOf(ready, 0.95)),
		Heard: len(first), FirstP50: millis(quantileOf(first, 0.5)), FirstP95: millis(quantileOf(first, 0.95)),
		Cuts: r.party.cuts.Load(),
	}
	if len(first) > 0 {
		for _, q := range Curve {
			r.report.Join.FirstCurve = append(r.report.Join.FirstCurve, millis(quantileOf(first, q)))
		}
	}
	c := &r.cfg
	r.report.Version, r.report.At, r.report.Host = c.Version, time.Now().UTC().Format(time.RFC3339), host(c.Pin)
	clients := "native " + c.Mode
	if c.Browser {
		clients = "browser"
	}
	r.report.Settings = Settings{
		Clients: clients, Speakers: c.Speakers, Listeners: c.Listeners, Channels: c.Channels, Talk: c.Talk, Rate: c.Rate,
		Size: c.Size, Phase: c.Phase, Path: c.path(), Settle: c.Settle.Seconds(), Seconds: c.Duration.Seconds(), Runs: c.Runs, Joins: c.Joins,
	}
	if n := r.party.cuts.Load(); n > 0 {
		r.warn("%d WebSockets were cut", n)
	}
	r.say("")
	return nil
}

// host describes the machine.
func host(pinned bool) Host {
	h := Host{Cores: runtime.NumCPU(), Pinned: pinned}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		h.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range bytes.Lines(info) {
			if model, ok := strings.CutPrefix(string(line), "model name"); ok {
				h.CPU = strings.TrimSpace(strings.TrimLeft(model, "\t :"))
				break
			}
		}
	}
	return h
}

// close ends everything, the clients before their servers.
func (r *runner) close() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	leaving := run.NewGroup(ctx, r.cfg.Log)
	_ = each(ctx, leaving, len(r.members), leavesAtOnce, func(_ context.Context, i int) error {
		if m := r.members[i]; m != nil {
			m.leave()
		}
		return nil
	})
	if r.ground != nil {
		r.ground.remove(ctx)
		r.ground.admin.http.CloseIdleConnections()
	}
	r.group.Stop()
	for _, t := range r.targets {
		t.close()
	}
	r.group.Wait()
	leaving.Stop()
	leaving.Wait()
	if r.crowd != nil {
		r.crowd.release()
	}
	r.network.close()
}
