package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/bus/bustest"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// TestMain looks for leaks; disgo never ends the goroutine of its rate limiter.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/disgoorg/disgo/rest.(*rateLimiterImpl).cleanup"))
}

const adminToken = "the operator's token"

// rig is the API over a real bus and store, with an HTTP server before it.
type rig struct {
	t       *testing.T
	service *Service
	bus     *bus.Bus
	store   *store.Store
	url     string
	log     *bytes.Buffer
	metrics *prometheus.Registry
	now     atomic.Int64
}

// pass lets virtual time go by.
func (r *rig) pass(d time.Duration) { r.now.Add(int64(d)) }

func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	st, err := store.Open(context.Background(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	r := &rig{t: t, bus: bustest.New(t), store: st, log: &bytes.Buffer{}, metrics: prometheus.NewRegistry()}
	cfg := Config{
		Node: "n1", Route: func(proto.Snowflake) string { return guild.OwnerSubject("n1") }, Name: "Test", Version: "1", Region: "here", Registration: RegistrationOpen, AdminToken: adminToken,
		Log: slog.New(slog.NewTextHandler(r.log, nil)), Metrics: r.metrics,
	}
	for _, f := range change {
		f(&cfg)
	}
	r.service = New(cfg, r.bus, st)
	r.now.Store(1)
	r.service.now = func() clock.Time { return clock.Time(r.now.Load()) }
	server := httptest.NewServer(r.service)
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	r.url = server.URL
	return r
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) code(t *testing.T) int {
	t.Helper()
	var e proto.ErrorBody
	if err := json.Unmarshal(a.body, &e); err != nil || e.Message == "" {
		t.Fatalf("%d %s is no error body", a.status, a.body)
	}
	return e.Code
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if a.status >= 400 {
		t.Fatalf("refused: %d %s", a.status, a.body)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// do makes a request; a string body is sent as it is, all else as JSON.
func (r *rig) do(method, path, auth string, body any) answer {
	r.t.Helper()
	var payload io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		payload = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			r.t.Fatal(err)
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, r.url+path, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return r.send(req)
}

func (r *rig) send(req *http.Request) answer {
	r.t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, raw}
}

// account makes a user by the admin API and returns it with its token.
func (r *rig) account(name string) (proto.User, string) {
	r.t.Helper()
	var c credentials
	r.do("POST", "/admin/v1/users", "Bearer "+adminToken, map[string]string{"username": name}).into(r.t, &c)
	return c.User, c.Token
}

// bot makes a bot by the admin API, in a guild unless that is 0.
func (r *rig) bot(name string, in proto.Snowflake) (credentials, string) {
	r.t.Helper()
	var c credentials
	r.do("POST", "/admin/v1/bots", "Bearer "+adminToken, map[string]any{"name": name, "guild_id": in}).into(r.t, &c)
	return c, "Bot " + c.Token
}

// owner stands in for the guilds: it records every call and answers it with what
// the test says.
type owner struct {
	mu     sync.Mutex
	calls  []guild.Request
	answer func(guild.Request) guild.Result
}

func (r *rig) fakeGuilds(answer func(guild.Request) guild.Result) *owner {
	r.t.Helper()
	o := &owner{answer: answer}
	stop, err := r.bus.Subscribe(guild.OwnerSubject("n1"), func(m bus.Message) {
		var q guild.Request
		if err := m.Decode(&q); err != nil {
			r.t.Error(err)
			return
		}
		o.mu.Lock()
		o.calls = append(o.calls, q)
		o.mu.Unlock()
		if err := m.Respond(o.answer(q)); err != nil {
			r.t.Error(err)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(stop)
	return o
}

func (o *owner) last() guild.Call {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.calls) == 0 {
		return guild.Call{}
	}
	return *o.calls[len(o.calls)-1].Call
}

func (o *owner) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.calls)
}

func result(status int, v any) guild.Result {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return guild.Result{Status: status, Body: raw}
}

// events collects what is broadcast to the gateways.
func (r *rig) events() <-chan guild.GatewayMessage {
	r.t.Helper()
	got := make(chan guild.GatewayMessage, 64)
	stop, err := r.bus.Subscribe(guild.SubjectGatewayAll, func(m bus.Message) {
		var g guild.GatewayMessage
		if err := m.Decode(&g); err != nil {
			r.t.Error(err)
			return
		}
		got <- g
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(stop)
	return got
}

// next returns the next of c, or fails after a while.
func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came in 10 s")
		panic("unreachable")
	}
}

// seedGuild stores a guild with a text channel and its members, as the guilds
// service would.
func (r *rig) seedGuild(members ...proto.User) (g, channel proto.Snowflake) {
	r.t.Helper()
	g, channel = r.service.newID(), r.service.newID()
	writes := []store.Write{
		{Guild: &proto.Guild{ID: g, Name: "G"}},
		{Role: &proto.Role{ID: g, Name: "@everyone", Permissions: proto.PermDefault}},
		{Channel: &proto.Channel{ID: channel, GuildID: g, Name: "general"}},
		{Invite: &proto.Invite{Code: "letmein", GuildID: g, ChannelID: channel}},
	}
	for _, m := range members {
		writes = append(writes, store.Write{Member: &proto.Member{User: &m, Roles: []proto.Snowflake{}}})
	}
	if err := r.store.Apply(context.Background(), g, store.Tenure{Owner: "guilds"}, writes); err != nil {
		r.t.Fatal(err)
	}
	return g, channel
}
