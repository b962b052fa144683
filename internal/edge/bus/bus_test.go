package bus_test

import (
	"context"
	"errors"
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
