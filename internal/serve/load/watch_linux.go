package load

import (
	"context"
	"os"
	"time"
)

const (
	// warmUp comes before each slice and is not measured: caches are cold after another
	// target's turn.
	warmUp = 300 * time.Millisecond
	// sliceLength is how long a target is measured until it is another's turn. What a
	// host gives a virtual machine changes within seconds.
	sliceLength = time.Second
)

// slice is what was seen of one target in a time, or in several.
type slice struct {
	counters counters
	used     usage
	talked   time.Duration // while speakers sent
	late     time.Duration // from then on until the last packet came
	wall     time.Duration // all of it
	drops    uint64
}

func (s *slice) merge(other *slice) {
	s.counters.merge(&other.counters)
	s.used = s.used.add(other.used)
	s.talked += other.talked
	s.late += other.late
	s.wall += other.wall
	s.drops += other.drops
}

// usage is the CPU time of the target's server and of this side.
type usage struct{ server, load cpuTime }

func (u usage) sub(o usage) usage { return usage{u.server.sub(o.server), u.load.sub(o.load)} }
func (u usage) add(o usage) usage { return usage{u.server.add(o.server), u.load.add(o.load)} }

// measure takes turns between the targets, slice by slice, so that what changes on the
// host in the meantime changes for all.
func (r *runner) measure(ctx context.Context) error {
	if err := r.pass(ctx, r.cfg.Settle, "settling", r.drawn); err != nil {
		return err
	}
	length, turns := r.cfg.Duration, 1
	if len(r.targets) > 1 {
		turns = max(1, int(r.cfg.Duration/sliceLength))
		length = r.cfg.Duration / time.Duration(turns)
	}
	var names []string
	for _, t := range r.targets {
		names = append(names, t.name)
	}
	for n := range r.cfg.Runs {
		sums := make([]slice, len(r.targets))
		for range turns {
			for i, t := range r.targets {
				s, err := r.watch(ctx, t, r.cfg.Rate, r.cfg.Talk, length)
				if err != nil {
					return err
				}
				sums[i].merge(&s)
			}
		}
		for i, t := range r.targets {
			w := r.judge(t, r.cfg.Rate, &sums[i])
			w.Run = n + 1
			r.report.Windows = append(r.report.Windows, w)
		}
	}
	r.report.Medians = medians(r.report.Windows, names)
	return nil
}

// watch measures one target for a time.
func (r *runner) watch(ctx context.Context, t *target, rate, talk float64, d time.Duration) (s slice, err error) {
	if err = r.crowd.begin(ctx, r.window(t.index, talk, rate)); err != nil {
		return s, err
	}
	if err = r.pass(ctx, min(warmUp, d/3), "", nil); err != nil {
		return s, err
	}
	if err = r.crowd.begin(ctx, r.window(t.index, talk, rate)); err != nil {
		return s, err
	}
	_, drops, err := r.crowd.count(ctx)
	if err != nil {
		return s, err
	}
	before, began := r.cpu(t), time.Now()
	if err = r.pass(ctx, d, t.name, r.drawn); err != nil {
		return s, err
	}
	if err = r.crowd.hush(ctx); err != nil {
		return s, err
	}
	s.talked = time.Since(began)
	if s.late, err = r.drain(ctx); err != nil {
		return s, err
	}
	s.used, s.wall = r.cpu(t).sub(before), time.Since(began)
	s.counters, s.drops, err = r.crowd.count(ctx)
	s.drops -= drops
	return s, err
}

// cpu reads what the target's server and this side have used so far. A server that
// is gone shows as cut WebSockets.
func (r *runner) cpu(t *target) (u usage) {
	if t.pid != 0 {
		u.server, _ = cpuOf(t.pid)
	}
	u.load, _ = cpuOfOne(os.Getpid()) // without the servers, which are its children
	return u
}

// judge says what a measurement means, and warns when this side was the limit.
func (r *runner) judge(t *target, rate float64, s *slice) Window {
	c := &s.counters
	w := Window{
		Target: t.name, Rate: rate, Seconds: s.talked.Seconds(),
		Sent: c.sent, Expected: c.expected, Received: c.received, Delivery: 1,
		PerSecond: float64(c.received) / (s.talked + s.late).Seconds(), Reordered: c.overtaken, Duplicates: c.duplicates,
		Corrupt: c.corrupt, Foreign: c.foreign, LoadDrops: s.drops, Slipped: c.slipped,
		DelayP50: millis(c.delay.quantile(0.5)), DelayP99: millis(c.delay.quantile(0.99)), DelayMax: millis(c.delay.max),
		LoadShare: s.used.load.total.Seconds() / s.wall.Seconds(),
	}
	if c.expected > 0 {
		w.Delivery = float64(c.received) / float64(c.expected)
		for _, q := range Curve {
			w.DelayCurve = append(w.DelayCurve, millis(c.delay.quantile(q)))
		}
	}
	if used := s.used.server; t.pid != 0 {
		w.CPUKnown, w.Share = true, used.total.Seconds()/s.wall.Seconds()
		if c.received > 0 {
			cost := float64(used.total.Nanoseconds()) / 1e3 / float64(c.received)
			w.User = cost * used.userShare()
			w.System = cost - w.User
		}
	}
	if w.limited() {
		r.warn("%s at %.0f packets/s: this side was the limit (%.0f%% of its core, %d dropped, %d not sent)",
			t.name, rate, 100*w.LoadShare, w.LoadDrops, w.Slipped)
	}
	return w
}
