package sim

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
)

var (
	seeds   = flag.Int("seeds", 0, "schedules that TestSchedules plays; 0 is a few hundred")
	seed0   = flag.Uint64("seed0", 1, "the first of their seeds")
	only    = flag.Uint("faults", 0, "a set of Faults, as a number; 0 is all")
	strict  = flag.Bool("strict", false, "hold runs to what is known not to hold yet, too")
	patient = flag.Bool("patient", false, "every second client asks once for what it wants")
	traced  = flag.Bool("trace", false, "print all that happens")
)

func TestSchedules(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = scheduled
	}
	o := Options{Faults: Faults(*only), Strict: *strict, Patient: *patient}
	if *traced {
		o.Trace = os.Stdout
	}
	var all Result
	failed := 0
	for seed := *seed0; seed < *seed0+uint64(n); seed++ {
		r := Run(seed, o)
		all.add(&r)
		if len(r.Violations) == 0 {
			continue
		}
		t.Errorf("%s\nreplay: go test ./sim -run Schedules -seeds 1 -seed0 %d -faults %d -trace", &r, seed, *only)
		if failed++; failed == 5 {
			t.Fatal("enough")
		}
	}
	t.Logf("%d schedules from %s", n, &all)
	if *seeds == 0 && *only == 0 && (all.Takes < n || all.Fenced == 0 || all.Lost == 0 || all.Cut < n/10 || all.Adopted < n/10) {
		t.Error("the schedules do not try what they are to try")
	}
}

// add sums up.
func (r *Result) add(o *Result) {
	if r.Seed == 0 {
		r.Seed = o.Seed
	}
	r.Faults += o.Faults
	r.Events += o.Events
	r.Messages += o.Messages
	r.Frames += o.Frames
	r.Takes += o.Takes
	r.Fenced += o.Fenced
	r.Lost += o.Lost
	r.Untold += o.Untold
	r.Cut += o.Cut
	r.Adopted += o.Adopted
}

// TestABusThatIsBack has every node find the bus at its own time, and clients that ask once.
func TestABusThatIsBack(t *testing.T) {
	var all Result
	for seed := uint64(1); seed <= scheduled/5; seed++ {
		r := Run(seed, Options{Faults: RestartBus, Patient: true})
		all.add(&r)
		if len(r.Violations) > 0 {
			t.Errorf("%s\nreplay: go test ./sim -run Schedules -seeds 1 -seed0 %d -faults %d -patient -trace", &r, seed, RestartBus)
		}
	}
	if all.Lost == 0 || all.Takes == 0 {
		t.Errorf("nothing was lost: %s", &all)
	}
}

// TestALostGuildComesWithTheSecondRequest loses each first GUILD_CREATE.
func TestALostGuildComesWithTheSecondRequest(t *testing.T) {
	for bug, want := range map[string][2]time.Duration{
		"":                             {askAgain, askAgain + time.Second},
		"ask as if for the first time": {3 * askAgain, 4 * askAgain},
	} {
		w := newWorld(1, Options{bug: bug})
		w.begin()
		lost := 0
		w.bus.loses = func(m any) bool {
			g, is := m.(guild.GatewayMessage)
			is = is && g.Dispatch != nil && g.Dispatch.Event == "GUILD_CREATE" && w.now < clock.Time(5*time.Second)
			if is {
				lost++
			}
			return is
		}
		w.runUntil(clock.Time(40 * time.Second))
		if d := w.result.Waited; d < want[0] || d > want[1] || lost == 0 {
			t.Errorf("%q: a client waited for %v, after %d losses", bug, d, lost)
		}
	}
}

// TestSeedsReplay shows that a seed gives one run.
func TestSeedsReplay(t *testing.T) {
	for seed := range uint64(3) {
		var runs [2]strings.Builder
		for i := range runs {
			Run(seed, Options{Trace: &runs[i]})
		}
		a, b := strings.Split(runs[0].String(), "\n"), strings.Split(runs[1].String(), "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("seed %d: %q, and then %q", seed, a[i], b[i])
			}
		}
		if len(a) != len(b) || len(a) < 100 {
			t.Fatalf("seed %d: %d and %d lines", seed, len(a), len(b))
		}
	}
}

// bugs are planted in the glue, each with faults that bring it out and a seed to begin
// with. The last ones are how the nodes behaved before a run of the simulation failed.
// Other bugs that it found have become harmless, since what mended another one mends
// what they break.
var bugs = []struct {
	name   string
	faults Faults
	from   uint64
}{
	{"no fence", AllFaults, 1},
	{"no generations", AllFaults, 1},
	{"forget claims", AllFaults, 1},
	{"keep released guilds", LeaveNode | KillGuilds, 750},
	{"nothing was missed", LoseBus, 1},
	{"voice forgets Present", AllFaults, 1},
	{"gateway forgets Present", AllFaults, 1},

	{"learn from claims alone", StopNode | LoseBus, 20},
	{"mourn in silence", SplitBus, 1},
	{"take late answers", StopNode | SplitBus, 40},
	{"keep strangers", AllFaults, 310},
	{"ask once", LoseBus, 190},
	{"wait without a wish", RestartBus, 10},
}

func TestPlantedBugsAreFound(t *testing.T) {
	for _, b := range bugs {
		found := uint64(0)
		for seed := b.from; seed < b.from+40 && found == 0; seed++ {
			if r := Run(seed, Options{Faults: b.faults, Patient: b.faults&RestartBus != 0, bug: b.name}); len(r.Violations) > 0 {
				found = seed
				t.Logf("%s: found by seed %d: %s", b.name, seed, r.Violations[0])
			}
		}
		if found == 0 {
			t.Errorf("%s: not found", b.name)
		}
	}
}

// TestOneEventForACrowd is the bar of fan-out: a guild of 100,000 members online, one
// event, delivered to all with at most one message of the bus for each gateway node.
func TestOneEventForACrowd(t *testing.T) {
	const members, gateways = 100_000, 10
	c, err := RunCrowd(members, gateways)
	if err != nil {
		t.Fatal(err)
	}
	if c.Sessions != members || c.Delivered != members || len(c.Messages) != gateways {
		t.Errorf("%d sessions, %d got the event from %d gateways", c.Sessions, c.Delivered, len(c.Messages))
	}
	for node, n := range c.Messages {
		if n > 1 {
			t.Errorf("%s got %d messages for one event", node, n)
		}
	}
}
