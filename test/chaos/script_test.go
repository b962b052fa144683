//go:build linux

package chaos

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

// result is what one client heard, at worst of one speaker, while a fault lasted.
type result struct {
	Client string        `json:"client"`
	Of     string        `json:"of"` // the speaker with the longest gap
	Gap    time.Duration `json:"gap_ns"`
	Lost   int           `json:"lost"`
	Share  float64       `json:"share"` // of the packets of that speaker that are lost
}

// row is what a fault did.
type row struct {
	Name    string        `json:"fault"`
	Says    string        `json:"says"`
	Note    string        `json:"note"`
	Began   time.Duration `json:"began_ns"`
	Healed  time.Duration `json:"healed_ns"`  // when the cause was gone
	Settled time.Duration `json:"settled_ns"` // when all was right again
	MadeUp  time.Duration `json:"made_up_ns"` // audio that the browser's decoder invented
	Natives []result      `json:"natives"`    // worst first
	Browser *result       `json:"browser"`    // nil without one
	Host    time.Duration `json:"host_ns"`    // the longest time without audio that is the machine's own
	NotRun  string        `json:"not_run,omitempty"`
	bar     bar
}

// script runs faults in the order of a seed.
type script struct {
	w       *world
	rows    []row
	control *control
	page    []gapMark // of the browser
}

// picked returns the faults of this run in the order of the seed.
func picked(all []fault, r *rand.Rand) (chosen []fault) {
	for _, f := range all {
		if *only != "" && !matches(f.name, *only) || *only == "" && !*full && !f.short {
			continue
		}
		chosen = append(chosen, f)
	}
	r.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return chosen
}

func matches(name, prefixes string) bool {
	for p := range strings.SplitSeq(prefixes, ",") {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// dice are a fault's own, so that leaving one out changes no other.
func dice(name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return rand.New(rand.NewPCG(*seed, h.Sum64()))
}

// afterwards is how long everybody is listened to after all is right.
const afterwards = time.Second

// run lets one fault happen and measures what it did.
func (s *script) run(f fault) {
	w := s.w
	w.t.Helper()
	r := dice(f.name)
	res := row{Name: f.name, Says: f.says, bar: f.bar}
	if f.apart && !w.net.apart {
		res.NotRun = "no network namespaces"
		s.rows = append(s.rows, res)
		return
	}
	for _, p := range w.people {
		p.ears.begin()
	}
	s.control.ears.begin()
	if w.visitor != nil {
		w.visitor.begin()
	}
	w.hold(between(r, 200*time.Millisecond, time.Second))
	res.Began = w.now()
	res.Note = f.strike(w, r)
	res.Healed = w.now()
	var ok bool
	if res.Settled, ok = w.settle(f.name); !ok && w.visitor != nil {
		w.visitor.comeBack()
	}
	w.hold(afterwards)
	s.measure(&res)
	s.rows = append(s.rows, res)
	w.t.Logf("%6.1fs %s: %s; right again %.1f s after it was over", res.Began.Seconds(), f.says, res.Note, (res.Settled - res.Healed).Seconds())
	if twice := w.nonces.twice.Load(); twice > 0 {
		w.t.Errorf("%s: %d nonces were used twice with a key", f.name, twice)
	}
}

// measure collects what everybody heard. What natives hear of the browser counts as the
// browser's.
func (s *script) measure(res *row) {
	w := s.w
	names := map[proto.Snowflake]string{}
	for _, p := range w.people {
		names[p.id] = p.name
	}
	b := result{Client: "browser"}
	for _, g := range w.guilds {
		for _, p := range g.people {
			worst := result{Client: p.name}
			for user, h := range p.ears.end(w.now()) {
				if h.Doubled > 0 {
					w.t.Errorf("%s: %s heard %d packets of %s twice", res.Name, p.name, h.Doubled, names[user])
				}
				if w.visitor != nil && user == w.visitor.id {
					b.add("itself, at "+p.name, h)
				} else {
					worst.add(names[user], h)
				}
			}
			res.Natives = append(res.Natives, worst)
		}
	}
	slices.SortFunc(res.Natives, worseFirst)
	res.Host = s.control.end().Gap
	if w.visitor == nil {
		return
	}
	got := w.visitor.end()
	packets := int(float64(len(w.visitor.guild.people)) * float64(w.now()-res.Began) / float64(frameTime))
	b.add("all", heard{Lost: got.Lost, Packets: packets})
	for user, ms := range got.Gaps {
		id, _ := proto.ParseSnowflake(user)
		b.add(names[id], heard{Gap: time.Duration(ms*float64(time.Millisecond)) - pagePoll})
	}
	res.Browser, res.MadeUp = &b, time.Duration(got.Concealed*float64(time.Millisecond))
	for _, m := range got.Marks {
		from := time.Duration(m.From*float64(time.Millisecond)) - time.Duration(w.began.UnixNano())
		s.page = append(s.page, gapMark{from, from + time.Duration((m.To-m.From)*float64(time.Millisecond))})
	}
}

// add takes in what was heard of one speaker.
func (r *result) add(speaker string, h heard) {
	if h.Gap > r.Gap {
		r.Gap, r.Of = h.Gap, speaker
	}
	r.Lost = max(r.Lost, h.Lost)
	if all := h.Lost + h.Packets; all > 0 {
		r.Share = max(r.Share, float64(h.Lost)/float64(all))
	}
}

// met says whether a client was within a bar.
func (b bar) met(r *result) bool {
	switch {
	case b.gap > 0 && r.Gap > b.gap:
		return false
	case b.share > 0:
		return r.Share <= b.share
	}
	return b.lost < 0 || r.Lost <= b.lost
}

func (b bar) String() string {
	var parts []string
	if b.gap > 0 {
		parts = append(parts, fmt.Sprintf("≤ %d ms", b.gap.Milliseconds()))
	}
	switch {
	case b.share > 0:
		parts = append(parts, fmt.Sprintf("≤ %g %% lost", 100*b.share))
	case b.lost >= 0:
		parts = append(parts, fmt.Sprintf("≤ %d lost", b.lost))
	}
	return strings.Join(parts, ", ")
}

// met says whether everybody was within the bar.
func (r *row) met() bool { return r.metBut(0) }

// metBut says whether everybody would have been, but for a pause of the machine.
func (r *row) metBut(pause time.Duration) bool {
	bar := r.bar
	bar.gap += pause
	if pause > 0 && bar.lost >= 0 {
		bar.lost += int(pause / frameTime) // what found no room in a socket meanwhile
	}
	for _, c := range r.Natives {
		if !bar.met(&c) {
			return false
		}
	}
	return r.Browser == nil || bar.met(r.Browser)
}

// bound is what fails the test: the bar, on a machine that is busy with other things.
func (b bar) bound() time.Duration { return 10*time.Second + 5*b.gap }

func worseFirst(a, b result) int {
	return cmp.Or(cmp.Compare(b.Gap, a.Gap), cmp.Compare(b.Lost, a.Lost), cmp.Compare(a.Client, b.Client))
}

// TestChaos does to a fleet what the seed says.
func TestChaos(t *testing.T) {
	dir := *out
	if dir == "" {
		dir = t.ArtifactDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	of := five()
	if *full {
		of = nine()
	}
	w := newWorld(t, of, dir)
	w.visit()
	if _, ok := w.settle("the start"); !ok {
		return
	}
	t.Logf("%d nodes, %d guilds, %d sessions, seed %d", len(of.nodes), len(w.guilds), len(w.people), *seed)
	s := &script{w: w, control: w.controlled()}
	for _, f := range picked(faults, rand.New(rand.NewPCG(*seed, 0))) {
		s.run(f)
		s.write(t, filepath.Join(dir, "chaos")) // each time: the run may be ended from outside
		w.writeLogs()
	}
	var text strings.Builder
	s.table(&text)
	t.Logf("seed %d\n%s\n%d packets under %d keys, no nonce twice: %t\nplot: %s", *seed, text.String(),
		w.nonces.packets.Load(), w.nonces.keys.Load(), w.nonces.twice.Load() == 0, filepath.Join(dir, "chaos.html"))
	for _, r := range s.rows {
		for _, c := range r.Natives {
			if c.Gap > r.bar.bound() {
				t.Errorf("%s: %s was without audio for %v", r.Name, c.Client, c.Gap)
			}
		}
	}
	for _, n := range w.fleet.Nodes {
		if strings.Contains(n.Log.String(), "panic") {
			t.Errorf("%s panicked", n.Name)
		}
	}
}
