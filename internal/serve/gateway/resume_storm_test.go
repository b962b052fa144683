package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/serve/gateway"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// silentBus has nobody at the other end.
type silentBus struct{}

func (silentBus) Publish(string, any) error                           { return nil }
func (silentBus) Subscribe(string, func(bus.Message)) (func(), error) { return func() {}, nil }

// pipes is a network in memory: what is dialled is accepted.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) DialContext(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.accept <- far
	return near, nil
}

// stormClient is one of the cut: it connects again and again, each time after another
// while, until it has its session back.
type stormClient struct {
	dial    pipes
	session string
	seq     uint64
	conn    *websocket.Conn
}

// connect goes on until READY or RESUMED.
func (c *stormClient) connect(ctx context.Context) {
	for wait := time.Second; ; wait = min(2*wait, 5*time.Second) {
		if c.attempt(ctx) == nil || ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		}
	}
}

var errTurnedAway = errors.New("turned away")

func (c *stormClient) attempt(ctx context.Context) error {
	transport := &http.Transport{DialContext: c.dial.DialContext, DisableKeepAlives: true}
	conn, _, err := websocket.Dial(ctx, "ws://storm/gateway", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return err
	}
	message := map[string]any{"op": 2, "d": map[string]any{"token": aliceKey, "properties": struct{}{}}}
	if c.session != "" {
		message = map[string]any{"op": 6, "d": map[string]any{"token": aliceKey, "session_id": c.session, "seq": c.seq}}
	}
	data, err := json.Marshal(message)
	if err == nil {
		err = conn.Write(ctx, websocket.MessageText, data)
	}
	for err == nil {
		var f frame
		if _, data, err = conn.Read(ctx); err == nil {
			err = json.Unmarshal(data, &f)
		}
		switch {
		case f.Op == int(proto.OpReconnect), f.Op == int(proto.OpInvalidSession):
			err = errTurnedAway
		case f.T == "READY", f.T == "RESUMED":
			var ready proto.ReadyData
			if f.T == "READY" && json.Unmarshal(f.D, &ready) == nil {
				c.session = ready.SessionID
			}
			c.seq, c.conn = f.S, conn
			return nil
		}
	}
	_ = conn.CloseNow()
	return err
}

// TestStormOfResumes cuts 4,000 sessions at one instant on a gateway that takes 200 a
// second: all are back within a bounded time, and never do more wait than may.
func TestStormOfResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			clients = 4000
			rate    = 200
			most    = rate * 10 // as many turns as there are in the longest wait
		)
		// A bubble's time begins in 2000, before the process did.
		<-time.After(100 * 365 * 24 * time.Hour)
		registry := prometheus.NewRegistry()
		accounts := newAccounts()
		accounts.guilds = nil
		cfg := defaults()
		cfg.AdmitPerSecond, cfg.PendingPerAddress, cfg.Metrics = rate, clients, registry
		service := gateway.New(cfg, silentBus{}, accounts)
		group := run.NewGroup(context.Background(), slog.New(slog.DiscardHandler))
		if err := service.Start(group); err != nil {
			t.Fatal(err)
		}
		network := pipes{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: service, ReadHeaderTimeout: time.Minute}
		var tasks sync.WaitGroup
		tasks.Go(func() { _ = server.Serve(network) })

		w := &world{t: t, metrics: registry}
		crowd := make([]*stormClient, clients)
		all := func() (took time.Duration, longest float64) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			var storm sync.WaitGroup
			begin := time.Now()
			for _, c := range crowd {
				storm.Go(func() { c.connect(ctx) })
			}
			back := make(chan struct{})
			tasks.Go(func() { storm.Wait(); close(back) })
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-back:
					return time.Since(begin), longest
				case <-tick.C:
					longest = max(longest, w.metric("hubbub_gateway_waiting"))
				}
			}
		}
		for i := range crowd {
			crowd[i] = &stormClient{dial: network}
		}
		took, longest := all()
		t.Logf("%d identified within %v, at most %v waited", clients, took, longest)

		sessions := map[string]bool{}
		for _, c := range crowd {
			sessions[c.session] = true
			_ = c.conn.CloseNow()
		}
		took, longest = all()
		t.Logf("%d resumed within %v, at most %v waited, %v were turned away since the start", clients, took, longest,
			w.metric("hubbub_gateway_turned_away_total"))
		if took > clients*time.Second/rate+15*time.Second {
			t.Errorf("the last is back after %v", took)
		}
		if longest > most+1 {
			t.Errorf("%v wait at once", longest)
		}
		for _, c := range crowd {
			if !sessions[c.session] {
				t.Fatal("a session is lost")
			}
			_ = c.conn.CloseNow()
		}
		if n := w.metric("hubbub_gateway_sessions"); n != clients {
			t.Errorf("%v sessions", n)
		}
		service.Close(context.Background())
		group.Stop()
		group.Wait()
		_ = server.Close()
		tasks.Wait()
	})
}
