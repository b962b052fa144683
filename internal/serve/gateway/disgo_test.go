//go:build !race

// disgo v0.19.6 races with itself when it reconnects (its heartbeat's cancel
// function has no lock), so that this file is left out under the race detector.

package gateway_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	disgo "github.com/disgoorg/disgo/gateway"
	gorilla "github.com/gorilla/websocket"

	"hubbub.dev/hubbub/internal/core/guild"
)

// cuttable is a connection that a test can cut as a network would: disgo takes an
// error that says "closed" for its own doing and stays away.
type cuttable struct {
	net.Conn
	isCut atomic.Bool
}

func (c *cuttable) cut() {
	c.isCut.Store(true)
	_ = c.Conn.Close()
}

func (c *cuttable) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.isCut.Load() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// TestDisgo runs disgo's gateway client as it is: it logs in, asks for voice,
// loses its TCP connection, and resumes without missing an event.
func TestDisgo(t *testing.T) {
	for _, compression := range []disgo.CompressionType{
		disgo.CompressionZstdStream, disgo.CompressionZlibStream, disgo.CompressionZlibPayload, disgo.CompressionNone,
	} {
		t.Run(string(compression), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, defaults())
			events := make(chan string, 100)
			var latest atomic.Pointer[cuttable]
			dialer := &gorilla.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				c := &cuttable{Conn: conn}
				latest.Store(c)
				return c, nil
			}}
			g := disgo.New(robotKey, func(_ disgo.Gateway, typ disgo.EventType, _ int, e disgo.EventData) {
				if raw, ok := e.(disgo.EventRaw); ok {
					events <- string(raw.EventType)
				}
			}, disgo.WithURL("ws"+strings.TrimPrefix(w.url, "http")+"/gateway"), disgo.WithCompression(compression), disgo.WithDialer(dialer),
				disgo.WithIntents(disgo.IntentGuilds|disgo.IntentGuildVoiceStates), disgo.WithEnableRawEvents(true),
				disgo.WithLogger(slog.New(slog.DiscardHandler)))
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := g.Open(ctx); err != nil {
				t.Fatal(err)
			}
			defer g.Close(ctx)
			want := func(event string) {
				t.Helper()
				select {
				case got := <-events:
					if got != event {
						t.Fatalf("got %s, want %s", got, event)
					}
				case <-time.After(patience):
					t.Fatalf("no %s", event)
				}
			}
			want("READY")
			want("GUILD_CREATE")
			want("GUILD_CREATE")
			if err := g.Send(ctx, disgo.OpcodeVoiceStateUpdate, disgo.MessageDataVoiceStateUpdate{GuildID: 1000 << 22}); err != nil {
				t.Fatal(err)
			}
			w.asked(func(r guild.Request) bool { return r.Voice != nil && r.Guild == guildA })
			latest.Load().cut()
			w.dispatch(guild.Dispatch{Guild: guildA, Event: "HUBBUB_TEST", Data: []byte(`{}`)})
			want("HUBBUB_TEST")
			want("RESUMED")
		})
	}
}
