package harness

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
)

// shared is the fleet that Start has servers on; nil while each is a process's own.
var shared *sharedFleet

// sharedFleet is a fleet for one test after another, each with guilds of its own.
type sharedFleet struct {
	*Fleet
	dir     string
	proxies []*Proxy     // that clients reach the voice nodes through
	bots    atomic.Int32 // made so far
}

// UseFleet starts a fleet of nine and has all servers on it until it is closed. The
// voice node of its second region has all of Settings.
func UseFleet() (closer func(), err error) {
	dir, err := os.MkdirTemp("", "hubbub-fleet")
	if err != nil {
		return nil, err
	}
	f := &sharedFleet{dir: dir}
	if err := f.open(); err != nil {
		f.close()
		return nil, err
	}
	shared = f
	return func() { shared = nil; f.close() }, nil
}

func (f *sharedFleet) open() error {
	specs := Nine()
	for i := range specs {
		spec := &specs[i]
		if err := spec.place(i); err != nil {
			return err
		}
		if spec.Region == "" {
			continue
		}
		p, err := openProxy(spec.HTTP)
		if err != nil {
			return err
		}
		f.proxies = append(f.proxies, p)
		spec.Flags = append(spec.Flags, "--voice-endpoint", p.Addr())
		if spec.Region == RegionSouth {
			spec.Flags = append(spec.Flags, "--workers", "2", "--spread-from", "2", "--legacy-encryption")
		}
	}
	began := time.Now()
	nodes, err := NewFleet(FleetConfig{Dir: f.dir, Nodes: specs})
	if err != nil {
		return err
	}
	f.Fleet = nodes
	fmt.Printf("a fleet of %d nodes serves after %v\n", len(nodes.Nodes), time.Since(began).Round(time.Millisecond))
	return nil
}

func (f *sharedFleet) close() {
	if f.Fleet != nil {
		f.Fleet.Close()
	}
	for _, p := range f.proxies {
		p.close()
	}
	_ = os.RemoveAll(f.dir)
}

// starved are in the log of a node that its host did not run for seconds, or of one that
// others then took for dead. What nodes complain of in such a time is no fault of theirs.
var starved = []string{"was stopped for long enough to be taken for dead", "took this gateway for dead"}

// watch fails a test in whose time a node complained or ended, and when a test fails
// prints what the nodes logged in its time.
func (f *sharedFleet) watch(t testing.TB) {
	before := make([]int, len(f.Nodes))
	for i, n := range f.Nodes {
		before[i] = n.Log.Len()
	}
	t.Cleanup(func() {
		logs := make([]string, len(f.Nodes))
		complaints := []string{"panic", "level=ERROR"}
		for i, n := range f.Nodes {
			logs[i] = string(n.Log.Bytes()[before[i]:])
			for _, sign := range starved {
				if strings.Contains(logs[i], sign) {
					t.Logf("%s %s", n.Name, sign)
					complaints = []string{"panic"}
				}
			}
		}
		for i, n := range f.Nodes {
			if !n.Running() {
				t.Errorf("%s has ended", n.Name)
			}
			for _, complaint := range complaints {
				if strings.Contains(logs[i], complaint) {
					t.Errorf("%s in the log of %s", complaint, n.Name)
				}
			}
		}
		if t.Failed() {
			for i, n := range f.Nodes {
				t.Logf("%s:\n%s", n.Name, logs[i])
			}
		}
	})
}

// resident returns how many bytes of memory gateways and voice nodes have, with their
// media processes.
func (f *sharedFleet) resident(t testing.TB) (sum uint64) {
	t.Helper()
	for _, n := range f.With(fleet.Gateway | fleet.Voice) {
		pids, err := n.Children()
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range append(pids, n.Pid()) {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
			if err != nil {
				t.Fatal(err)
			}
			pages, err := strconv.ParseUint(strings.Fields(string(text))[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += pages * uint64(os.Getpagesize())
		}
	}
	return sum
}
