// Package harness gives the end-to-end tests a running server, people in it,
// sound for their microphones, and connections that can be cut. It knows the
// server by its public interfaces and its admin API only.
package harness

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/internal/serve/node"
	"hubbub.dev/hubbub/proto"
)

// Timeout bounds every single step of a test.
const Timeout = 20 * time.Second

// Server is a whole platform in this process, on ports of its own.
type Server struct {
	*node.Node
	Guild proto.Snowflake
	// Lounge and Den are two voice channels, Chat a text channel.
	Lounge, Den, Chat proto.Snowflake
	cfg               node.Config
}

// Start runs a server until the test ends. change may set its configuration.
func Start(t testing.TB, change ...func(*node.Config)) *Server {
	t.Helper()
	cfg := node.Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1, Registration: "open",
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	for _, f := range change {
		f(&cfg)
	}
	n, err := node.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("server: %v", err)
	}
	s := &Server{Node: n, cfg: cfg}
	t.Cleanup(func() { s.Close(context.Background()) })
	s.Guild = s.admin().Guild(t, "Test")
	s.Lounge = s.Channel(t, "lounge", proto.ChannelVoice)
	s.Den = s.Channel(t, "den", proto.ChannelVoice)
	s.Chat = s.Channel(t, "chat", proto.ChannelText)
	return s
}

// Restart ends the server and starts another on the same data and TCP port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.cfg.HTTP = strings.TrimPrefix(s.URL(), "http://")
	s.Close(t.Context())
	n, err := node.Start(t.Context(), s.cfg)
	if err != nil {
		t.Fatalf("server: %v", err)
	}
	s.Node = n
}

// Admin makes a call to the admin API, which must succeed.
func (s *Server) Admin(t testing.TB, method, path string, body, answer any) {
	t.Helper()
	s.admin().Call(t, method, path, body, answer)
}

func (s *Server) admin() Admin { return Admin{URL: s.URL(), Token: s.AdminToken()} }

// Channel makes a channel in the server's guild.
func (s *Server) Channel(t testing.TB, name string, kind proto.ChannelType) proto.Snowflake {
	t.Helper()
	return s.admin().Channel(t, s.Guild, name, kind, "")
}

// Bot makes a bot.
func (s *Server) Bot(t testing.TB, name string) Account {
	t.Helper()
	return s.admin().Bot(t, s.Guild, name)
}

// Invite makes an invite to a channel and returns its code.
func (s *Server) Invite(t testing.TB, channel proto.Snowflake) string {
	t.Helper()
	var made proto.Invite
	s.Admin(t, http.MethodPost, "/guilds/"+s.Guild.String()+"/invites", map[string]any{"channel_id": channel, "max_age": 0}, &made)
	return made.Code
}

// Moderate changes a member as the operator: mute, deaf or channel_id.
func (s *Server) Moderate(t testing.TB, user proto.Snowflake, change map[string]any) {
	t.Helper()
	s.Admin(t, http.MethodPatch, "/guilds/"+s.Guild.String()+"/members/"+user.String(), change, nil)
}

// Client returns a client for a token, over TLS. Where base is not empty it is
// the URL of a proxy in front of the server.
func (s *Server) Client(t testing.TB, token, base string) *client.Client {
	t.Helper()
	if base == "" {
		base = s.HTTPSURL()
	}
	c, err := client.New(client.Config{
		BaseURL: base, Token: token, CAFile: s.CAFile(),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)).With("client", token[max(0, len(token)-4):]),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Connect opens a gateway session until the test ends.
func (s *Server) Connect(t testing.TB, c *client.Client) *client.Gateway {
	t.Helper()
	g := c.Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice | proto.IntentGuildMessages | proto.IntentMessageContent})
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	if err := g.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// Join makes a bot that is in a voice channel until the test ends.
func (s *Server) Join(t testing.TB, name string, channel proto.Snowflake, o client.VoiceOptions) (Account, *client.Voice) {
	t.Helper()
	bot := s.Bot(t, name)
	return bot, s.JoinAs(t, s.Connect(t, s.Client(t, bot.Token, "")), channel, o)
}

// JoinAs joins a voice channel with a gateway session.
func (s *Server) JoinAs(t testing.TB, g *client.Gateway, channel proto.Snowflake, o client.VoiceOptions) *client.Voice {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	v, err := g.JoinVoice(ctx, s.Guild, channel, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
