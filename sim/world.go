package sim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
)

// Options of a run. Zero counts and durations take the defaults named.
type Options struct {
	Gateways, GuildNodes, VoiceNodes int           // 3 of each
	Guilds                           int           // 3
	Clients                          int           // 12
	Length                           time.Duration // of the time with faults: 20 s
	// Faults are what may go wrong; zero is AllFaults.
	Faults Faults
	// Trace gets a line for all that happens; nil for none.
	Trace io.Writer

	// Patient makes every second client ask for its channel as soon as it is ready, and
	// not again when nothing comes.
	Patient bool

	// Strict also holds runs to what is known not to hold yet: see ADR 0019.
	Strict bool

	bug string // planted, to see that the checks find it
}

func (o *Options) complete() {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Gateways, 3)
	def(&o.GuildNodes, 3)
	def(&o.VoiceNodes, 3)
	def(&o.Guilds, 3)
	def(&o.Clients, 12)
	if o.Length == 0 {
		o.Length = 20 * time.Second
	}
	if o.Faults == 0 {
		o.Faults = AllFaults
	}
}

// Result says what a run came to.
type Result struct {
	Seed       uint64
	Violations []string // of what must hold; none when all is well
	Faults     int      // that were injected
	Events     int      // of the queue
	Messages   int      // that the bus brought
	Frames     int      // that clients got
	Takes      int      // guilds that were taken by an owner
	Fenced     int      // writes that the database refused
	Lost       int      // messages about guilds that the bus lost, with nobody told
	Untold     int      // writes whose owner ended before it told anybody
	Cut        int      // voice connections that the servers closed, or that broke
	Adopted    int      // calls that went on by another gateway session
	// Waited is the longest that a client waited for its guild with a new session.
	Waited time.Duration
	Hash   uint64 // of all that happened
}

// maxViolations bounds what one run reports: the first says what went wrong.
const maxViolations = 12

// world is one run.
type world struct {
	opts   Options
	rng    *rand.Rand
	now    clock.Time
	order  uint64
	queue  events
	result Result
	digest interface {
		io.Writer
		Sum64() uint64
	}

	hosts   []*host
	bus     bus
	db      database
	clients []*client
	checks  checks
	calm    bool  // nobody does anything but what is looked at
	killed  *host // in the end, while all else is well
	crowded bool  // more comes at once than queues are made for
}

func newWorld(seed uint64, o Options) *world {
	o.complete()
	w := &world{
		opts: o, rng: rand.New(rand.NewPCG(seed, 0x68756262)), now: 1,
		result: Result{Seed: seed}, digest: fnv.New64a(),
	}
	w.bus = newBus(w)
	w.db = newDatabase(w)
	w.checks = newChecks()
	regions := []string{"east", "west"}
	add := func(prefix string, n int, roles fleet.Roles) {
		for i := range n {
			h := &host{w: w, index: len(w.hosts), name: fmt.Sprintf("%s%d", prefix, i+1), roles: roles}
			if roles.Has(fleet.Voice) {
				h.region = regions[i%2]
			}
			h.skew = time.Duration(w.rng.IntN(100)) * time.Millisecond
			w.hosts = append(w.hosts, h)
		}
	}
	add("gw", o.Gateways, fleet.Gateway)
	add("guild", o.GuildNodes, fleet.Guilds)
	add("voice", o.VoiceNodes, fleet.Voice)
	return w
}

// host is where a process of one name runs, one after the other.
type host struct {
	w      *world
	index  int
	name   string
	region string
	roles  fleet.Roles
	skew   time.Duration // of its wall clock
	is     *process      // nil while there is none
}

// process is one life of a node.
type process struct {
	*host
	epoch   int64
	dead    bool
	stopped bool
	// frozen is what comes while the process is stopped: its timers, and all else.
	frozen [2][]func()
	subs   map[string]func(any)

	discovery *discovery
	guilds    *guildService
	gateway   *gatewayService
	voice     *voiceService
}

// start begins a life of the host's node.
func (h *host) start() {
	if h.is != nil {
		return // another fault's end has started it
	}
	p := &process{host: h, epoch: h.wall().UnixMilli(), subs: map[string]func(any){}}
	h.is = p
	h.w.trace("%s starts", h.name)
	p.discovery = newDiscovery(p)
	switch {
	case h.roles.Has(fleet.Guilds):
		p.guilds = newGuildService(p)
	case h.roles.Has(fleet.Gateway):
		p.gateway = newGatewayService(p)
	case h.roles.Has(fleet.Voice):
		p.voice = newVoiceService(p)
	}
	p.discovery.start()
}

// kill ends the process at once. Whoever is connected to it learns it a little later.
func (p *process) kill() {
	p.w.trace("%s is killed", p.name)
	p.dead, p.frozen = true, [2][]func(){}
	p.is = nil
	if p.guilds != nil {
		p.guilds.abandon()
	}
	for _, c := range p.w.clients {
		c.hostGone(p)
	}
}

// stop freezes the process; what comes for it waits.
func (p *process) stop() {
	p.w.trace("%s is stopped", p.name)
	p.stopped = true
}

// wake lets a stopped process go on. Whether its timers or its messages come first is
// chance, as it is for goroutines that select.
func (p *process) wake() {
	p.w.trace("%s wakes", p.name)
	p.stopped = false
	first := p.w.rng.IntN(2)
	waiting := append(slices.Clone(p.frozen[first]), p.frozen[1-first]...)
	p.frozen = [2][]func(){}
	for _, f := range waiting {
		if !p.dead {
			f()
		}
	}
}

// returned tells the roles that the bus, or the others' belief in this node, was away.
func (p *process) returned() {
	if p.w.bug("nothing was missed") {
		return
	}
	p.w.trace("%s was away", p.name)
	switch {
	case p.guilds != nil:
		p.guilds.returned()
	case p.gateway != nil:
		p.gateway.returned()
	case p.voice != nil:
		p.voice.returned()
	}
}

const (
	aTimer   = 0
	aMessage = 1
)

// do runs f in the process: now, when it wakes, or never.
func (p *process) do(kind int, f func()) {
	switch {
	case p.dead:
	case p.stopped:
		p.frozen[kind] = append(p.frozen[kind], f)
		p.w.bound(p.name+" frozen", len(p.frozen[kind]), 1<<16)
	default:
		f()
	}
}

// every runs f each d until the process ends. A timer that the process slept through
// fires once.
func (p *process) every(d time.Duration, f func()) {
	p.w.after(d, func() {
		p.do(aTimer, func() {
			f()
			p.every(d, f)
		})
	})
}

func (h *host) wall() time.Time {
	return time.UnixMilli(1_700_000_000_000).Add(time.Duration(h.w.now) + h.skew)
}

// mailbox is a queue between two goroutines of a process: what is posted is done in
// order, a little later.
type mailbox struct {
	p     *process
	last  clock.Time
	depth int
}

func (m *mailbox) post(f func()) {
	w := m.p.w
	m.depth++
	w.bound(m.p.name+" mailbox", m.depth, 8192)
	m.last = max(m.last, w.now.Add(time.Duration(w.rng.IntN(200))*time.Microsecond))
	w.at(m.last, func() {
		m.p.do(aMessage, func() {
			m.depth--
			f()
		})
	})
}

// event is something that happens at a time; of two at one time the first scheduled.
type event struct {
	at    clock.Time
	order uint64
	do    func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = event{}
	*q = (*q)[:last]
	return e
}

func (w *world) at(t clock.Time, f func()) {
	w.order++
	heap.Push(&w.queue, event{max(t, w.now), w.order, f})
}

func (w *world) after(d time.Duration, f func()) { w.at(w.now.Add(d), f) }

// runUntil lets happen what happens until t.
func (w *world) runUntil(t clock.Time) {
	for len(w.queue) > 0 && w.queue[0].at <= t {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.result.Events++
		e.do()
		if len(w.result.Violations) >= maxViolations {
			return
		}
	}
	w.now = t
}

// between returns a random duration.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// trace notes what happens, for the reader and for the hash that shows that two runs
// are one.
func (w *world) trace(format string, args ...any) {
	if w.opts.Trace == nil {
		// The hash needs no more than what was said and when.
		var at [8]byte
		for i := range at {
			at[i] = byte(w.now >> (8 * i))
		}
		_, _ = w.digest.Write(at[:])
		_, _ = io.WriteString(w.digest, format)
		return
	}
	_, _ = fmt.Fprintf(w.opts.Trace, "%9.4f "+format+"\n", append([]any{time.Duration(w.now).Seconds()}, args...)...)
}

func (w *world) violate(format string, args ...any) {
	v := fmt.Sprintf("%.4f s: ", time.Duration(w.now).Seconds()) + fmt.Sprintf(format, args...)
	w.trace("VIOLATION %s", v)
	if len(w.result.Violations) < maxViolations {
		w.result.Violations = append(w.result.Violations, v)
	}
}

// bound reports a queue that has grown beyond what it may.
func (w *world) bound(name string, n, limit int) {
	if n == limit+1 && !w.crowded {
		w.violate("%s has more than %d entries", name, limit)
	}
}

// bug reports whether a fault of this name was planted in the glue.
func (w *world) bug(name string) bool { return w.opts.bug == name }

func names[T ~uint64](ids []T) string {
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, " %d", id)
	}
	return b.String()
}
