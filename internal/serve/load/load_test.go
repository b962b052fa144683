//go:build linux

package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/serve/node"
)

// floorProcess makes the test's own binary the process of a minimal forwarder.
const floorProcess = "floor-process"

// serverProcess makes it a server, which spawn gives its flags.
const serverProcess = "server-process"

func TestMain(m *testing.M) {
	if len(os.Args) > 5 && os.Args[1] == serverProcess {
		if err := serve(os.Args[3], os.Args[5]); err != nil {
			panic(err)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == floorProcess {
		cfg := FloorConfig{Addr: netip.MustParseAddr(os.Args[3]), Segment: len(os.Args) > 4}
		if cfg.Segment {
			cfg.Wait = 5 * time.Millisecond
		}
		if err := RunFloor(cfg, os.Stdin, os.Stdout); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// small is a load that any machine bears, against a server in this process.
func small(t *testing.T, change ...func(*node.Config)) Config {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	nc := node.Config{DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1, Log: log}
	for _, f := range change {
		f(&nc)
	}
	n, err := node.Start(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(context.Background()) })
	return Config{
		URL: n.URL(), Token: n.AdminToken(), PID: os.Getpid(), FloorCommand: []string{os.Args[0], floorProcess},
		Speakers: 5, Listeners: 5, Talk: 1, Rate: 50, Size: 140, Duration: 500 * time.Millisecond, Joins: 4, Events: true, Log: log,
	}
}

// whole checks that everything came once, and as it was sent.
func whole(t *testing.T, w *Window, listeners uint64) {
	t.Helper()
	if w.Sent == 0 || w.Expected != w.Sent*listeners {
		t.Errorf("%s: %d sent, %d expected", w.Target, w.Sent, w.Expected)
	}
	if w.Received != w.Expected || w.Delivery != 1 || w.Duplicates+w.Corrupt+w.Foreign != 0 {
		t.Errorf("%s: %d of %d received, %d duplicates, %d corrupt, %d of other channels",
			w.Target, w.Received, w.Expected, w.Duplicates, w.Corrupt, w.Foreign)
	}
	if w.DelayP50 <= 0 || w.DelayP99 < w.DelayP50 || w.DelayMax < w.DelayP99 {
		t.Errorf("%s: delays %v, %v, %v", w.Target, w.DelayP50, w.DelayP99, w.DelayMax)
	}
}

func TestEveryKindOfClientHearsEverything(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"aes":           func(c *Config) { c.Mode = ModeAES },
		"xchacha":       func(c *Config) { c.Mode = ModeXChaCha },
		"browser":       func(c *Config) { c.Browser = true },
		"many browsers": func(c *Config) { c.Browser, c.Speakers = true, sourcesPerInbound+2 },
		"spurts":        func(c *Config) { c.Talk = 0.5 },
		"burst":         func(c *Config) { c.Phase = PhaseBurst },
		"settled":       func(c *Config) { c.Settle = 200 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := small(t)
			change(&cfg)
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Windows) != 1 {
				t.Fatalf("%d windows", len(r.Windows))
			}
			whole(t, &r.Windows[0], 5)
			if j := r.Join; j.Clients != 5 || j.Heard != 5 || j.FirstP50 <= 0 || j.Cuts != 0 {
				t.Errorf("joins: %+v", j)
			}
			if m := r.Memory; m.Before <= 0 || m.After <= 0 {
				t.Errorf("memory: %+v", m)
			}
		})
	}
}

func TestChannelsAreApart(t *testing.T) {
	cfg := small(t)
	cfg.Speakers, cfg.Listeners, cfg.Channels, cfg.Guilds, cfg.Loops = 2, 9, 3, 2, 2
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	whole(t, &r.Windows[0], 3)
}

// Two runs share a channel: one has the speakers, and both have listeners.
func TestListenersHearSpeakersOfAnotherProcess(t *testing.T) {
	cfg := small(t)
	a, err := newAdmin(cfg.URL, cfg.Token, "")
	if err != nil {
		t.Fatal(err)
	}
	defer a.http.CloseIdleConnections()
	g, err := a.prepare(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer g.remove(context.Background())
	cfg.Channel = g.rooms[0].channel
	talking := cfg
	talking.Speakers, talking.Listeners, talking.Duration = 2, 1, time.Hour
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		_, err := Run(ctx, talking)
		over <- err
	}()
	cfg.Speakers, cfg.Hear = 0, 2
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("the speakers: %v", err)
	}
	if w := r.Windows[0]; w.Sent != 0 || w.Received < 100 || w.Received != w.Expected || w.Duplicates+w.Corrupt+w.Foreign != 0 {
		t.Errorf("%+v", w)
	}
	if j := r.Join; j.Clients != 5 || j.Heard != 5 || j.Cuts != 0 {
		t.Errorf("joins: %+v", j)
	}
}

func TestChannelThatIsNotThere(t *testing.T) {
	cfg := small(t)
	cfg.Channel = 1
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "--channel") {
		t.Errorf("got %v", err)
	}
	for name, change := range map[string]func(*Config){
		"channels": func(c *Config) { c.Channel, c.Channels = 1, 2 },
		"hear":     func(c *Config) { c.Speakers, c.Hear = 0, 1 },
		"speakers": func(c *Config) { c.Channel, c.Hear = 1, 1 },
		"settle":   func(c *Config) { c.Settle = -1 },
	} {
		cfg := cfg
		cfg.Channel = 0
		change(&cfg)
		if err := cfg.check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestFollowingCountsWhatIsMissing(t *testing.T) {
	l, s := &loop{}, &seat{afar: true, hears: true, heard: make([]stream, 1)}
	for _, c := range []struct {
		round, index       uint32
		expected, received uint64
	}{
		{3, 10, 1, 1}, {3, 9, 1, 1}, {3, 12, 3, 2}, {3, 11, 3, 3}, {3, 13, 4, 4},
		{2, 14, 4, 4}, {4, 0, 5, 5}, {4, 2, 7, 6},
	} {
		l.follow(s, stamp{round: c.round, index: c.index}, 0)
		if l.expected != c.expected || l.received != c.received {
			t.Errorf("after %d of round %d: %d of %d", c.index, c.round, l.received, l.expected)
		}
	}
	if l.hushed = true; l.stale != 2 {
		t.Errorf("%d too old", l.stale)
	}
	if l.follow(s, stamp{round: 4, index: 3}, 0); l.received != 6 {
		t.Error("counts after the end")
	}
}

func TestNobodyTalksBeforeAllListen(t *testing.T) {
	heard := []stream{{next: 7}}
	l := &loop{seats: []*seat{
		{hears: true, heard: heard}, {speaks: true, speech: newSpeech(1)}, {target: 1, speaks: true, speech: newSpeech(2)},
	}}
	w := window{round: 3, talk: 1, rate: 50, burst: true}
	l.counters.sent = 5
	if speakers := l.listen(w); speakers != 1 || len(l.queue) != 0 {
		t.Errorf("%d speakers, %d of them talk", speakers, len(l.queue))
	}
	if l.window != w || heard[0].next != 0 || l.sent != 0 {
		t.Error("counts what was before")
	}
	if next := l.begin(4, 6); next != 5 || len(l.queue) != 1 || l.queue[0].seat != l.seats[1] {
		t.Errorf("after number %d: %+v", next, l.queue)
	}
}

func TestFloorsForwardTheSame(t *testing.T) {
	cfg := small(t)
	cfg.Floor, cfg.FloorWait, cfg.Runs, cfg.Phase = true, 5*time.Millisecond, 2, PhaseBurst
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Windows) != 6 || len(r.Medians) != 3 {
		t.Fatalf("%d windows, %d medians", len(r.Windows), len(r.Medians))
	}
	for i, target := range []string{"hubbub", "floor", "floor+GSO"} {
		whole(t, &r.Windows[i], 5)
		if r.Windows[i].Target != target || r.Windows[i+3].Target != target || r.Windows[i+3].Run != 2 {
			t.Errorf("window %d is of %s, its second run of %s", i, r.Windows[i].Target, r.Windows[i+3].Target)
		}
	}
}

func TestSilentClientsAreKept(t *testing.T) {
	cfg := small(t)
	cfg.Speakers = 0
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Windows[0]; w.Sent != 0 || w.Received != 0 || w.Delivery != 1 {
		t.Errorf("%+v", w)
	}
	if r.Join.Clients != 5 || r.Join.Cuts != 0 {
		t.Errorf("joins: %+v", r.Join)
	}
}

func TestNothingIsLeftOnTheServer(t *testing.T) {
	cfg := small(t)
	cfg.Duration = 100 * time.Millisecond
	if _, err := Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	a, err := newAdmin(cfg.URL, cfg.Token, "")
	if err != nil {
		t.Fatal(err)
	}
	defer a.http.CloseIdleConnections()
	var guilds []struct{ Name string }
	if err := a.call(t.Context(), "GET", "/guilds", nil, &guilds); err != nil {
		t.Fatal(err)
	}
	for _, g := range guilds {
		if strings.HasPrefix(g.Name, "Load") {
			t.Errorf("guild %q is still there", g.Name)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	cfg := small(t)
	cfg.Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Progress = cancelAtFirst{cancel}
	if _, err := Run(ctx, cfg); err == nil {
		t.Error("no error")
	}
}

// cancelAtFirst is a progress line whose reader has seen enough.
type cancelAtFirst struct{ cancel func() }

func (c cancelAtFirst) Write(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}

func TestWrongTokenIsNamed(t *testing.T) {
	cfg := small(t)
	cfg.Token = "wrong"
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "--token") {
		t.Errorf("got %v", err)
	}
}

func TestReportReads(t *testing.T) {
	r := &Report{
		Settings: Settings{Clients: "native aes", Speakers: 5, Channels: 1, Listeners: 100},
		Windows: []Window{
			{Target: "hubbub", Run: 1, Expected: 100, Received: 100, Delivery: 1, CPUKnown: true, User: 1, System: 3, DelayCurve: make([]float64, len(Curve))},
			{Target: "<floor>", Run: 1, Expected: 100, Received: 100, Delivery: 1, CPUKnown: true, User: 1, System: 1, DelayCurve: make([]float64, len(Curve))},
		},
		Join:     &Join{Clients: 100, Heard: 100, FirstP50: 12, FirstCurve: make([]float64, len(Curve))},
		Memory:   &Memory{Before: 1 << 20, After: 2 << 20, PerClient: 1 << 10},
		Ramps:    []Ramp{{Target: "hubbub", Most: 12345, Steps: []Window{{Target: "hubbub", Rate: 50, Seconds: 1}}}},
		Warnings: []string{"a warning"},
	}
	r.Medians = medians(r.Windows, []string{"hubbub", "<floor>"})
	var table, text, html bytes.Buffer
	for _, err := range []error{r.WriteTable(&table), r.WriteJSON(&text), r.WriteHTML(&html)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"hubbub costs 2.00 × this", "4.00", "12345", "a warning", "1.0 KiB"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in:\n%s", want, table.String())
		}
	}
	var back Report
	if err := json.Unmarshal(text.Bytes(), &back); err != nil || back.Medians[1].Ratio != 2 {
		t.Errorf("%v, %+v", err, back.Medians)
	}
	page := html.String()
	if strings.Count(page, "<svg") != 5 || strings.Contains(page, "<floor>") || strings.Contains(page, "ZgotmplZ") || !strings.Contains(page, "&lt;floor&gt;") {
		t.Errorf("%d plots in:\n%s", strings.Count(page, "<svg"), page)
	}
}
