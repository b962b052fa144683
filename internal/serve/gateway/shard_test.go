package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/proto"
)

// pipe is a bus that keeps what is published.
type pipe struct{ requests []guild.Request }

func (p *pipe) Publish(_ string, m any) error {
	p.requests = append(p.requests, m.(guild.Request))
	return nil
}

func (p *pipe) Subscribe(string, func(bus.Message)) (func(), error) { return func() {}, nil }

// filled returns a shard, not running, with so many sessions attached to guild 1,
// each waiting to be resumed.
func filled(n int) (*shard, *pipe) {
	p := new(pipe)
	g := New(Config{Node: "n", Shards: 1, Route: func(proto.Snowflake) string { return "x" }}, p, nil)
	sh := g.shards[0]
	for i := range n {
		c := &client{id: fmt.Sprint("session ", i), user: proto.Snowflake(i + 1), intents: ^proto.Intents(0), host: "example.org"}
		register{c}.deliver(sh, 1)
		sh.disconnect(1, c)
		open{client: c, guilds: []proto.Snowflake{1}, ready: new(proto.ReadyData)}.deliver(sh, 1)
		(&dispatch{guild: 1, sessions: []string{c.id}, body: session.Body("GUILD_CREATE", []byte("{}")), opens: true}).deliver(sh, 1)
	}
	return sh, p
}

// Sessions that missed events are ended, not left stale.
func TestOverrunEndsEverySession(t *testing.T) {
	sh, p := filled(3)
	for range busMail + 1 {
		sh.post(joined{})
	}
	if !sh.overrun.Load() {
		t.Fatal("the mailbox has no bound")
	}
	p.requests = nil
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	sh.clients.Post(stop{cancel})
	go func() { sh.run(ctx); close(done) }()
	<-done
	if len(sh.sessions)+len(sh.users)+len(sh.guilds) != 0 {
		t.Errorf("left: %d sessions, %d users, %d guilds", len(sh.sessions), len(sh.users), len(sh.guilds))
	}
	if len(p.requests) != 3 || p.requests[0].Detach == nil {
		t.Errorf("%d requests to the guild", len(p.requests))
	}
}

// stop ends a shard's goroutine once it has come to it.
type stop struct{ cancel context.CancelFunc }

func (m stop) deliver(*shard, clock.Time) { m.cancel() }

func TestEventsWhileOpeningWaitForReady(t *testing.T) {
	sh, p := filled(0)
	c := &client{id: "s", user: 9, intents: ^proto.Intents(0)}
	register{c}.deliver(sh, 1)
	sh.disconnect(1, c)
	joined{guild.Membership{User: 9, Guild: 5}}.deliver(sh, 1)
	userEvent{user: 9, body: session.Body("E", []byte("1"))}.deliver(sh, 1)
	if len(p.requests) != 0 || c.session.Seq() != 0 {
		t.Fatalf("%d requests and %d events before READY", len(p.requests), c.session.Seq())
	}
	ready := new(proto.ReadyData)
	open{client: c, guilds: []proto.Snowflake{4}, ready: ready}.deliver(sh, 1)
	if len(ready.Guilds) != 2 || len(p.requests) != 2 || c.session.Seq() != 1 {
		t.Errorf("%d guilds, %d requests, seq %d", len(ready.Guilds), len(p.requests), c.session.Seq())
	}
}

func TestEndForgetsEverything(t *testing.T) {
	sh, _ := filled(5)
	for _, c := range sh.sessions {
		sh.end(c)
	}
	if len(sh.sessions)+len(sh.users)+len(sh.guilds) != 0 {
		t.Errorf("left: %d sessions, %d users, %d guilds", len(sh.sessions), len(sh.users), len(sh.guilds))
	}
}

func TestDispatchAllocatesNothingPerSession(t *testing.T) {
	sh, _ := filled(200)
	m := &dispatch{guild: 1, body: session.Body("MESSAGE_CREATE", []byte("{}"))}
	for range 3 * replayFrames {
		m.deliver(sh, 1) // until the buffers are as long as they get
	}
	if n := testing.AllocsPerRun(50, func() { m.deliver(sh, 1) }); n != 0 {
		t.Errorf("%v allocations for 200 sessions", n)
	}
}

func BenchmarkDispatchTo1000Sessions(b *testing.B) {
	sh, _ := filled(1000)
	m := &dispatch{guild: 1, body: session.Body("MESSAGE_CREATE", []byte("{}"))}
	b.ReportAllocs()
	now := clock.Time(1)
	for b.Loop() {
		now = now.Add(time.Second)
		m.deliver(sh, now)
	}
}

func TestEndpointHasAPort(t *testing.T) {
	for _, c := range []struct {
		host   string
		secure bool
		want   string
	}{
		{"example.org", false, "example.org:80"}, {"example.org", true, "example.org:443"}, {"example.org:8080", true, "example.org:8080"},
		{"[::1]", true, "[::1]:443"}, {"[::1]:8080", false, "[::1]:8080"}, {"127.0.0.1", false, "127.0.0.1:80"},
	} {
		if got := endpoint(c.host, c.secure); got != c.want {
			t.Errorf("endpoint(%q, %v) = %q, want %q", c.host, c.secure, got, c.want)
		}
	}
}

func TestLimitsCountHouseholds(t *testing.T) {
	proxied := &Service{public: &url.URL{Scheme: "https", Host: "talk.example"}}
	for _, c := range []struct {
		service      *Service
		remote, hops string
		want         string
	}{
		{new(Service), "192.0.2.1:5", "", "192.0.2.1"},
		{new(Service), "[::ffff:192.0.2.1]:5", "", "192.0.2.1"},
		{new(Service), "[2001:db8::1234:5678]:5", "", "2001:db8::"},
		{new(Service), "[fe80::1%eth0]:5", "", "fe80::"},
		{new(Service), "127.0.0.1:5", "198.51.100.7", "127.0.0.1"},
		{proxied, "127.0.0.1:5", "198.51.100.7", "198.51.100.7"},
		{proxied, "10.0.0.2:5", "192.0.2.9, 2001:db8::1234:1", "2001:db8::"},
		{proxied, "10.0.0.2:5", "nonsense", "10.0.0.2"},
		{proxied, "192.0.2.1:5", "198.51.100.7", "192.0.2.1"}, // is no proxy of ours
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": {c.hops}}}
		if got := c.service.limitAddr(r); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s for %q counts as %v, want %s", c.remote, c.hops, got, c.want)
		}
	}
}

func TestFailuresShutTheDoorForAMinute(t *testing.T) {
	d := newDoor(10, 3)
	bad, good, now := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), clock.Time(1)
	for range 3 {
		if d.knock(bad, now) != 0 {
			t.Fatal("refused before the limit")
		}
		d.giveUp(bad)
		d.failed(bad, now)
	}
	if d.knock(bad, now.Add(59*time.Second)) != http.StatusTooManyRequests {
		t.Error("a fourth try is let in")
	}
	if d.knock(good, now) != 0 {
		t.Error("another address is refused")
	}
	if d.knock(bad, now.Add(time.Minute)) != 0 {
		t.Error("refused after the minute")
	}
	loop := netip.MustParseAddr("127.0.0.1")
	for range 10 {
		d.failed(loop, now)
	}
	if d.knock(loop, now) != 0 {
		t.Error("a proxy on this host is refused")
	}
}

func TestMemoryOfFailuresIsBounded(t *testing.T) {
	d := newDoor(10, 3)
	addr := netip.MustParseAddr("10.0.0.1")
	for range 3 * maxGrudges {
		d.failed(addr, 1)
		addr = addr.Next()
	}
	if len(d.grudges) > maxGrudges {
		t.Errorf("%d addresses are remembered", len(d.grudges))
	}
}

func TestQueriesWithoutVersionAreTheNewest(t *testing.T) {
	v, e, code := parseQuery(nil)
	if v != 10 || e != nil || code != 0 {
		t.Errorf("%d, %v, %d", v, e, code)
	}
}
