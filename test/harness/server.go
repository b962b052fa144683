// Package harness gives the end-to-end tests a running server, people in it,
// sound for their microphones, and connections that can be cut. It knows the
// server by its public interfaces and its admin API only.
package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/serve/node"
	"hubbub.dev/hubbub/proto"
)

// Timeout bounds every single step of a test.
const Timeout = 20 * time.Second

// Settings are what a test may want otherwise than usual.
type Settings struct {
	LegacyEncryption bool
	// Spread has two media workers, and the third of a channel on the second.
	Spread bool
}

// place is a node that clients come to: one of a fleet, or this process's.
type place interface {
	URL() string
	HTTPSURL() string
	CAFile() string
	AdminToken() string
}

// Server is a whole platform with a guild of the test's own: in this process, on ports
// of its own, or after UseFleet a fleet that all tests share. Clients of a fleet come
// to its gateways in turn, and so do calls of the admin API.
type Server struct {
	Guild proto.Snowflake
	// Lounge and Den are two voice channels, Chat a text channel. In a fleet the voice
	// channels are in different regions, and so on different voice nodes.
	Lounge, Den, Chat proto.Snowflake

	node  *node.Node // nil for a fleet
	cfg   node.Config
	fleet *sharedFleet // nil for one process
	turn  atomic.Uint32
}

// Start runs a server until the test ends.
func Start(t testing.TB, settings ...Settings) *Server {
	t.Helper()
	var want Settings
	if len(settings) > 0 {
		want = settings[0]
	}
	s := &Server{fleet: shared}
	lounge, den := "", ""
	if s.fleet != nil {
		s.fleet.watch(t)
		lounge, den = RegionNorth, RegionSouth
		if want != (Settings{}) {
			lounge = RegionSouth // whose node has all of them
		}
	} else {
		s.start(t, want)
	}
	s.Guild = s.admin().Guild(t, "Test")
	s.Lounge = s.admin().Channel(t, s.Guild, "lounge", proto.ChannelVoice, lounge)
	s.Den = s.admin().Channel(t, s.Guild, "den", proto.ChannelVoice, den)
	s.Chat = s.admin().Channel(t, s.Guild, "chat", proto.ChannelText, "")
	return s
}

// start runs the server in this process.
func (s *Server) start(t testing.TB, want Settings) {
	t.Helper()
	s.cfg = node.Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1, Registration: "open",
		LegacyEncryption: want.LegacyEncryption,
		Log:              slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	if want.Spread {
		s.cfg.Workers, s.cfg.SpreadFrom = 2, 2
	}
	n, err := node.Start(t.Context(), s.cfg)
	if err != nil {
		t.Fatalf("server: %v", err)
	}
	s.node = n
	t.Cleanup(func() { s.node.Close(context.Background()) })
}

// Restart ends the server and starts another on the same data and TCP port. All nodes
// of a fleet end at once and start at once.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if s.fleet != nil {
		if err := errors.Join(s.fleet.Stop(s.fleet.Nodes...), s.fleet.Start(s.fleet.Nodes...)); err != nil {
			t.Fatal(err)
		}
		return
	}
	s.cfg.HTTP = strings.TrimPrefix(s.URL(), "http://")
	s.node.Close(t.Context())
	n, err := node.Start(t.Context(), s.cfg)
	if err != nil {
		t.Fatalf("server: %v", err)
	}
	s.node = n
}

// front returns the node whose turn it is to be a client's.
func (s *Server) front() place {
	if s.fleet == nil {
		return s.node
	}
	fronts := s.fleet.With(fleet.Gateway)
	return fronts[int(s.turn.Add(1))%len(fronts)]
}

// URL returns where clients come to in plain HTTP: of a fleet the next gateway's.
func (s *Server) URL() string { return s.front().URL() }

// HTTPSURL returns the same over TLS.
func (s *Server) HTTPSURL() string { return s.front().HTTPSURL() }

// CAFile returns the certificate of the authority that all of the server is trusted by.
func (s *Server) CAFile() string { return s.front().CAFile() }

// voice returns the node that a user is in voice on.
func (s *Server) voice(t testing.TB, user proto.Snowflake) place {
	t.Helper()
	if s.fleet == nil {
		return s.node
	}
	var list []guild.VoiceListEntry
	s.Admin(t, http.MethodGet, "/voice", nil, &list)
	for _, e := range list {
		if e.User == user {
			return s.fleet.Node(e.Node)
		}
	}
	t.Fatalf("%d is not in voice", user)
	return nil
}

// VoiceURL returns where clients reach a voice gateway in plain HTTP: of a fleet any.
func (s *Server) VoiceURL() string {
	if s.fleet == nil {
		return s.URL()
	}
	return s.fleet.With(fleet.Voice)[0].URL()
}

// MediaAddr returns where the first media worker of the node is that a user is in
// voice on.
func (s *Server) MediaAddr(t testing.TB, user proto.Snowflake) string {
	t.Helper()
	port := 0
	switch n := s.voice(t, user).(type) {
	case *node.Node:
		port = int(n.MediaPort(0))
	case *FleetNode:
		port = n.MediaPorts()[0]
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// VoiceMetrics returns the metrics of the node that a user is in voice on, as text.
func (s *Server) VoiceMetrics(t testing.TB, user proto.Snowflake) string {
	t.Helper()
	n := s.voice(t, user)
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.AdminToken())
	resp, err := once.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v", resp.Status, err)
	}
	return string(text)
}

// Memory returns how many bytes the server takes, and by how many that may rise and
// fall while nothing grows. Of this process it is the heap and stacks in use after a
// collection; of a fleet, whose collections nobody can ask for, what is resident.
func (s *Server) Memory(t testing.TB) (bytes, slack uint64) {
	t.Helper()
	if s.fleet != nil {
		return s.fleet.resident(t), 32 << 20
	}
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse, 2 << 20
}

// Proxies are what a client comes to the server through.
type Proxies []*Proxy

// Proxy returns a proxy to the server that cuts, with the connections to itself, those
// to voice gateways: of a fleet they have proxies of their own, for all clients.
func (s *Server) Proxy(t testing.TB) Proxies {
	t.Helper()
	p := NewProxy(t, s.URL())
	if s.fleet == nil {
		return Proxies{p}
	}
	return append(Proxies{p}, s.fleet.proxies...)
}

// Addr is the host and port to dial instead of the server.
func (p Proxies) Addr() string { return p[0].Addr() }

// Cut drops every connection of the moment.
func (p Proxies) Cut() {
	for _, one := range p {
		one.Cut()
	}
}

// Accepted returns how many connections were ever made.
func (p Proxies) Accepted() (sum int) {
	for _, one := range p {
		sum += one.Accepted()
	}
	return sum
}

// Admin makes a call to the admin API, which must succeed.
func (s *Server) Admin(t testing.TB, method, path string, body, answer any) {
	t.Helper()
	s.admin().Call(t, method, path, body, answer)
}

func (s *Server) admin() Admin {
	n := s.front()
	return Admin{URL: n.URL(), Token: n.AdminToken()}
}

// Bot makes a bot. In a fleet, which has bots of other tests, its name is longer.
func (s *Server) Bot(t testing.TB, name string) Account {
	t.Helper()
	if s.fleet != nil {
		bots := s.fleet.bots.Add(1)
		name = fmt.Sprintf("%s %d", name, bots)
	}
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
