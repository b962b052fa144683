package client

import (
	"context"
	"net"
	"sync"
	"testing"
)

// TestDialOpensEverything joins over connections of the program's own.
func TestDialOpensEverything(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	opened := map[string]int{}
	c, err := New(Config{BaseURL: f.http.URL, Token: "Bot token", Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		opened[network]++
		mu.Unlock()
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	g := c.Gateway(GatewayOptions{})
	if err := g.Connect(deadline(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	if _, err := g.JoinVoice(deadline(t), fakeGuild, fakeChannel, VoiceOptions{}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if opened["tcp"] < 2 || opened["udp"] != 1 || len(opened) != 2 {
		t.Errorf("opened %v", opened)
	}
}
