package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type note struct {
	N    int    `cbor:"1,keyasint"`
	Text string `cbor:"2,keyasint,omitempty"`
}

func TestPublishKeepsOrder(t *testing.T) {
	b := bustest.New(t)
	got := make(chan note, 100)
	stop, err := b.Subscribe("guild.*.in", func(m bus.Message) {
		var n note
		if err := m.Decode(&n); err != nil {
			t.Error(err)
		}
		got <- n
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := b.Publish("guild.7.in", note{N: i}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		select {
		case n := <-got:
			if n.N != i {
				t.Fatalf("message %d came as number %d", n.N, i)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("message %d did not come", i)
		}
	}
	stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := b.Request(ctx, "guild.7.in", note{}, &note{}); !errors.Is(err, bus.ErrNoResponders) {
		t.Fatalf("request after unsubscribe: %v, want ErrNoResponders", err)
	}
}

func TestRequestIsAnswered(t *testing.T) {
	b := bustest.New(t)
	if _, err := b.Subscribe("echo", func(m bus.Message) {
		var n note
		if err := m.Decode(&n); err != nil {
			t.Error(err)
		}
		n.N++
		if err := m.Respond(n); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var reply note
	if err := b.Request(ctx, "echo", note{N: 41, Text: "x"}, &reply); err != nil {
		t.Fatal(err)
	}
	if reply.N != 42 || reply.Text != "x" {
		t.Fatalf("reply %+v", reply)
	}
}

func TestTwoProcessesShareAListeningBus(t *testing.T) {
	a, err := bus.Start(bus.Config{Name: "a", Listen: "127.0.0.1:-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := bus.Start(bus.Config{Name: "b", URL: a.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got := make(chan struct{})
	if _, err := b.Subscribe("x", func(bus.Message) { close(got) }); err != nil {
		t.Fatal(err)
	}
	if err := a.Publish("x", note{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-got:
	case <-time.After(5 * time.Second):
		t.Fatal("not delivered across processes")
	}
}

func TestEmbeddedServersFormACluster(t *testing.T) {
	a, err := bus.Start(bus.Config{Name: "a", Cluster: "127.0.0.1:-1", Secret: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := bus.Start(bus.Config{Name: "b", Cluster: "127.0.0.1:-1", Peers: []string{a.ClusterAddr()}, Secret: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	stranger, err := bus.Start(bus.Config{Name: "c", Cluster: "127.0.0.1:-1", Peers: []string{a.ClusterAddr()}, Secret: "guess"})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	answer := func(m bus.Message) {
		var n note
		if err := m.Decode(&n); err != nil {
			t.Error(err)
		}
		if err := m.Respond(note{N: n.N + 1}); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Subscribe("x.a", answer); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Subscribe("x.b", func(m bus.Message) {
		if err := b.Forward(m, "x.a", note{N: 10}); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ask := func(from *bus.Bus, subject string) (n note) {
		for {
			err := from.Request(ctx, subject, note{}, &n)
			if errors.Is(err, bus.ErrNoResponders) && ctx.Err() == nil {
				continue // the route is not up yet
			}
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	if n := ask(b, "x.a"); n.N != 1 {
		t.Errorf("answer %d", n.N)
	}
	if n := ask(a, "x.b"); n.N != 11 {
		t.Errorf("forwarded, answer %d", n.N)
	}
	if err := stranger.Request(ctx, "x.a", note{}, &note{}); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("a server without the secret: %v", err)
	}
}

func TestAReturnIsTold(t *testing.T) {
	a, err := bus.Start(bus.Config{Name: "a", Listen: "127.0.0.1:-1"})
	if err != nil {
		t.Fatal(err)
	}
	at := strings.TrimPrefix(a.ClientURL(), "nats://")
	b, err := bus.Start(bus.Config{Name: "b", URL: a.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	back := make(chan struct{}, 1)
	b.OnReturn(func() { back <- struct{}{} })
	a.Close()
	if a, err = bus.Start(bus.Config{Name: "a", Listen: at}); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	select {
	case <-back:
	case <-time.After(20 * time.Second):
		t.Fatal("the connection is not back")
	}
	if !b.Connected() {
		t.Error("back and not connected")
	}
}
