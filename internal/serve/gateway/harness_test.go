package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/bus/bustest"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/serve/gateway"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

func TestMain(m *testing.M) {
	// The library's heartbeat does not end when its connection does before it has begun.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/disgoorg/disgo/gateway.(*gatewayImpl).heartbeat"))
}

const (
	patience  = 10 * time.Second
	guildA    = proto.Snowflake(1000 << 22)
	guildB    = proto.Snowflake(1001 << 22)
	alice     = proto.Snowflake(1)
	robot     = proto.Snowflake(2)
	aliceKey  = "MQ.AAAAAA.alice"
	robotKey  = "Mg.AAAAAA.robot"
	robotsApp = proto.Snowflake(77)
)

// accounts is a store of two users.
type accounts struct {
	mu     sync.Mutex
	tokens map[[32]byte]store.User
	guilds map[proto.Snowflake][]proto.Snowflake
	err    error
}

func newAccounts() *accounts {
	return &accounts{
		tokens: map[[32]byte]store.User{
			token.Hash(aliceKey): {User: proto.User{ID: alice, Username: "alice", Discriminator: "0"}},
			token.Hash(robotKey): {User: proto.User{ID: robot, Username: "robot", Discriminator: "0", Bot: true}},
		},
		guilds: map[proto.Snowflake][]proto.Snowflake{alice: {guildA}, robot: {guildA, guildB}},
	}
}

func (a *accounts) UserByToken(_ context.Context, hash [32]byte) (store.User, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return store.User{}, a.err
	}
	u, ok := a.tokens[hash]
	if !ok {
		return store.User{}, store.ErrNotFound
	}
	return u, nil
}

func (a *accounts) ApplicationByBot(_ context.Context, bot proto.Snowflake) (store.Application, error) {
	if bot != robot {
		return store.Application{}, store.ErrNotFound
	}
	return store.Application{Application: proto.Application{ID: robotsApp}, BotID: robot}, nil
}

func (a *accounts) GuildIDsOfUser(_ context.Context, user proto.Snowflake) ([]proto.Snowflake, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.guilds[user], nil
}

func (a *accounts) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// world is a gateway with a bus, a store, and somebody who owns every guild.
type world struct {
	t        *testing.T
	service  *gateway.Service
	bus      *bus.Bus
	accounts *accounts
	url      string
	metrics  *prometheus.Registry
	requests chan guild.Request // what guild owners were asked, Attach included
}

func defaults() gateway.Config {
	return gateway.Config{Node: "n1", Region: "test", Shards: 2, Route: toOwner}
}

// toOwner is where the world owns every guild.
func toOwner(proto.Snowflake) string { return guild.OwnerSubject("guilds") }

func newWorld(t *testing.T, cfg gateway.Config) *world {
	t.Helper()
	w := &world{
		t: t, bus: bustest.New(t), accounts: newAccounts(), metrics: prometheus.NewRegistry(),
		requests: make(chan guild.Request, 10_000),
	}
	cfg.Log, cfg.Metrics = slog.New(slog.DiscardHandler), w.metrics
	unsub, err := w.bus.Subscribe(guild.OwnerSubject("guilds"), w.own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unsub)
	w.service = gateway.New(cfg, w.bus, w.accounts)
	group := run.NewGroup(context.Background(), cfg.Log)
	if err := w.service.Start(group); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.service)
	w.url = server.URL
	t.Cleanup(func() {
		w.service.Close(context.Background())
		group.Stop()
		group.Wait()
		server.Close()
	})
	return w
}

// own answers for every guild: it welcomes whoever attaches.
func (w *world) own(m bus.Message) {
	var r guild.Request
	if err := m.Decode(&r); err != nil {
		w.t.Error(err)
		return
	}
	w.requests <- r
	if r.Attach != nil {
		w.dispatch(guild.Dispatch{
			Guild: r.Guild, Event: "GUILD_CREATE", Intent: proto.IntentGuilds, Sessions: []string{r.Attach.Session},
			Data: fmt.Appendf(nil, `{"id":"%d","name":"guild"}`, r.Guild),
		})
	}
}

func (w *world) dispatch(d guild.Dispatch) { w.tell(guild.GatewayMessage{Dispatch: &d}) }

func (w *world) tell(m guild.GatewayMessage) {
	// A request may be answered when the test is over, and the bus.
	if err := w.bus.Publish(guild.GatewaySubject("n1"), m); err != nil && w.t.Context().Err() == nil {
		w.t.Error(err)
	}
}

func (w *world) tellAll(m guild.GatewayMessage) {
	if err := w.bus.Publish(guild.SubjectGatewayAll, m); err != nil {
		w.t.Error(err)
	}
}

// asked waits for the next request that fits.
func (w *world) asked(fits func(guild.Request) bool) guild.Request {
	w.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case r := <-w.requests:
			if fits(r) {
				return r
			}
		case <-timeout.C:
			w.t.Fatal("no such request to a guild")
		}
	}
}

// metric returns the sum of a counter's or gauge's series.
func (w *world) metric(name string) (sum float64) {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		return sum
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}

func isDetach(r guild.Request) bool { return r.Detach != nil }

// frame is a gateway payload as a client reads it.
type frame struct {
	Op int
	S  uint64
	T  string
	D  json.RawMessage
}

// peer is a client.
type peer struct {
	t    *testing.T
	ws   *websocket.Conn
	last uint64
	// decode undoes the transport compression; nil for none.
	decode func(typ websocket.MessageType, data []byte) ([]byte, error)
}

// dial connects and reads hello.
func (w *world) dial(query string) *peer {
	w.t.Helper()
	p, err := w.tryDial(query)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) tryDial(query string) (*peer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(w.url, "http")+"/gateway?"+query, nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(64 << 20)
	w.t.Cleanup(func() { _ = conn.CloseNow() })
	return &peer{t: w.t, ws: conn}, nil
}

// read returns the next frame, or the error of a connection that ended.
func (p *peer) read() (frame, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	typ, data, err := p.ws.Read(ctx)
	if err != nil {
		return frame{}, err
	}
	if p.decode != nil {
		if data, err = p.decode(typ, data); err != nil {
			return frame{}, err
		}
	}
	var f frame
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("%q: %w", data, err)
	}
	if f.Op == 0 {
		if p.last != 0 && f.S != p.last+1 {
			p.t.Errorf("%s has s %d after %d", f.T, f.S, p.last)
		}
		p.last = f.S
	}
	return f, nil
}

// want reads the next frame and checks its opcode or, for a dispatch, its event.
func (p *peer) want(what any) frame {
	p.t.Helper()
	f, err := p.read()
	if err != nil {
		p.t.Fatalf("waiting for %v: %v", what, err)
	}
	switch what := what.(type) {
	case proto.GatewayOpcode:
		if f.Op != int(what) {
			p.t.Fatalf("got op %d %s %s, want op %d", f.Op, f.T, f.D, what)
		}
	case string:
		if f.T != what {
			p.t.Fatalf("got op %d %s %s, want %s", f.Op, f.T, f.D, what)
		}
	}
	return f
}

// wantClose reads to the end and checks the close code.
func (p *peer) wantClose(code proto.CloseCode) {
	p.t.Helper()
	for {
		_, err := p.read()
		if err == nil {
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || proto.CloseCode(closed.Code) != code {
			p.t.Fatalf("ended with %v, want %d", err, code)
		}
		return
	}
}

func (p *peer) send(format string, args ...any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		p.t.Fatal(err)
	}
}

// identify goes from hello to the GUILD_CREATEs of so many guilds.
func (p *peer) identify(key, extra string, guilds int) proto.ReadyData {
	p.t.Helper()
	p.want(proto.OpHello)
	p.send(`{"op":2,"d":{"token":%q,"properties":{}%s}}`, key, extra)
	return p.readyWith(guilds)
}

func (p *peer) readyWith(guilds int) (ready proto.ReadyData) {
	p.t.Helper()
	if err := json.Unmarshal(p.want("READY").D, &ready); err != nil {
		p.t.Fatal(err)
	}
	for range guilds {
		p.want("GUILD_CREATE")
	}
	return ready
}

const robotIntents = `,"intents":129` // GUILDS and GUILD_VOICE_STATES
