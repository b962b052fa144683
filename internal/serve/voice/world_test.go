package voice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/bus/bustest"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testGuild   proto.Snowflake = 41771983423143937
	testChannel proto.Snowflake = 127121515262115840
	deadline                    = 20 * time.Second
)

var testKey = []byte("a key for tests")

// fakeMedia keeps what workers are told.
type fakeMedia struct {
	commands chan posted
	refuse   atomic.Bool
	gate     chan struct{} // when not nil, Post waits for it to be closed
	waits    chan struct{} // gets a token when it does
}

type posted struct {
	worker int
	sfu.Command
}

func (m *fakeMedia) Workers() int           { return 2 }
func (m *fakeMedia) Port(worker int) uint16 { return uint16(50000 + worker) }
func (m *fakeMedia) Addr(worker int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), m.Port(worker))
}
func (m *fakeMedia) Fingerprint() string {
	return "sha-256 71:20:4C:BE:C2:D0:B7:9B:73:5B:4B:29:7C:32:41:25:D8:D2:BC:66:74:D3:93:98:B3:0D:01:F7:67:19:01:13"
}

func (m *fakeMedia) Post(worker int, c sfu.Command) bool {
	if m.gate != nil {
		select {
		case m.waits <- struct{}{}:
		default:
		}
		<-m.gate
	}
	if m.refuse.Load() {
		return false
	}
	select {
	case m.commands <- posted{worker, c}:
	default: // nobody looks
	}
	return true
}

// world is a voice node with its bus and a fake of its workers.
type world struct {
	t       *testing.T
	bus     *bus.Bus
	media   *fakeMedia
	service *Service
	server  *httptest.Server
	reports chan guild.VoiceReport
}

func newWorld(t *testing.T, change func(*Config, *fakeMedia)) *world {
	t.Helper()
	w := &world{
		t: t, bus: bustest.New(t), media: &fakeMedia{commands: make(chan posted, 1024), waits: make(chan struct{}, 1)},
		reports: make(chan guild.VoiceReport, 1024),
	}
	cfg := Config{Node: "n1", Route: func(proto.Snowflake) string { return guild.OwnerSubject("guilds") }, Key: testKey, Version: "1.2.3"}
	if change != nil {
		change(&cfg, w.media)
	}
	var err error
	if w.service, err = New(cfg, w.bus, w.media); err != nil {
		t.Fatal(err)
	}
	subscribe(w, guild.OwnerSubject("guilds"), func(r guild.Request) { w.reports <- *r.Report })
	group := run.NewGroup(context.Background(), slog.New(slog.DiscardHandler))
	if err := w.service.Start(group); err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(w.service)
	t.Cleanup(func() {
		group.Stop()
		group.Wait()
		w.server.Close()
	})
	return w
}

func subscribe[T any](w *world, subject string, f func(T)) {
	w.t.Helper()
	stop, err := w.bus.Subscribe(subject, func(m bus.Message) {
		var v T
		if err := m.Decode(&v); err != nil {
			w.t.Error(err)
		}
		f(v)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(stop)
}

// receive waits for one value.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(deadline):
		t.Fatalf("no %T came", *new(T))
		panic("unreachable")
	}
}

// command waits until a worker is told something that f likes.
func (w *world) command(f func(posted) bool) posted {
	w.t.Helper()
	for {
		if c := receive(w.t, w.media.commands); f(c) {
			return c
		}
	}
}

func (w *world) publish(c guild.VoiceCommand) {
	w.t.Helper()
	if err := w.bus.Publish(guild.VoiceSubject("n1"), c); err != nil {
		w.t.Fatal(err)
	}
}

// settle waits until every shard has dealt with what it was told before.
func (w *world) settle() []signalling.Info {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	list, err := w.service.List(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// placed checks how many peers each worker has.
func (w *world) placed(want ...int) {
	w.t.Helper()
	for worker, n := range want {
		if got := w.service.placement.core.Peers(worker); got != n {
			w.t.Errorf("worker %d has %d peers, want %d", worker, got, n)
		}
	}
}

// voiceClient is one WebSocket of a client, with the TCP connection under it.
type voiceClient struct {
	w       *world
	ws      *websocket.Conn
	tcp     net.Conn
	ctx     context.Context
	in, out int // bytes of payloads
}

func (w *world) dial(query string) *voiceClient {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	w.t.Cleanup(cancel)
	c := &voiceClient{w: w, ctx: ctx}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		var err error
		c.tcp, err = d.DialContext(ctx, network, address)
		return c.tcp, err
	}}
	var err error
	c.ws, _, err = websocket.Dial(ctx, w.server.URL+"/"+query, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		w.t.Fatal(err)
	}
	c.ws.SetReadLimit(1 << 20)
	w.t.Cleanup(func() { _ = c.ws.CloseNow() })
	return c
}

func (c *voiceClient) send(op proto.VoiceOpcode, d any) {
	c.w.t.Helper()
	raw, err := json.Marshal(d)
	if err != nil {
		c.w.t.Fatal(err)
	}
	c.sendRaw(fmt.Sprintf(`{"op":%d,"d":%s}`, op, raw))
}

func (c *voiceClient) sendRaw(text string) {
	c.w.t.Helper()
	c.out += len(text)
	if err := c.ws.Write(c.ctx, websocket.MessageText, []byte(text)); err != nil {
		c.w.t.Fatal(err)
	}
}

func (c *voiceClient) read() (proto.VoiceFrame, error) {
	_, data, err := c.ws.Read(c.ctx)
	if err != nil {
		return proto.VoiceFrame{}, err
	}
	c.in += len(data)
	var f proto.VoiceFrame
	return f, json.Unmarshal(data, &f)
}

// expect reads the next payload, which has to have an opcode.
func (c *voiceClient) expect(op proto.VoiceOpcode, d any) proto.VoiceFrame {
	c.w.t.Helper()
	f, err := c.read()
	if err != nil {
		c.w.t.Fatal(err)
	}
	if f.Op != op {
		c.w.t.Fatalf("got op %d %s, want op %d", f.Op, f.D, op)
	}
	if d != nil {
		if err := json.Unmarshal(f.D, d); err != nil {
			c.w.t.Fatal(err)
		}
	}
	return f
}

// expectClose reads on until the server closes.
func (c *voiceClient) expectClose(code proto.CloseCode) {
	c.w.t.Helper()
	for {
		if _, err := c.read(); err != nil {
			var closed websocket.CloseError
			if !errors.As(err, &closed) || proto.CloseCode(closed.Code) != code {
				c.w.t.Fatalf("connection ended with %v, want close code %d", err, code)
			}
			if closed.Reason == "" {
				c.w.t.Errorf("close code %d without a reason", code)
			}
			return
		}
	}
}

// cut ends the TCP connection without a word.
func (c *voiceClient) cut() { _ = c.tcp.Close() }

func claims(user proto.Snowflake, join uint64) token.Voice {
	return token.Voice{
		Guild: testGuild, Channel: testChannel, User: user, Join: join, Permissions: proto.PermDefault,
		Expires: time.Now().Add(token.VoiceLifetime), Session: "30f32c5d54ae86130fc4a215c7474263",
	}
}

func identify(v token.Voice, signed string) proto.VoiceIdentify {
	return proto.VoiceIdentify{
		ServerID: v.Guild, ChannelID: v.Channel, UserID: v.User, SessionID: v.Session, Token: signed, Streams: []proto.VoiceStream{},
		SpeakingEvents: true,
	}
}

// join brings a user into its channel over UDP.
func (w *world) join(version int, v token.Voice) (*voiceClient, string, proto.VoiceReady) {
	w.t.Helper()
	c := w.dial("?v=" + strconv.Itoa(version))
	signed := v.Sign(testKey)
	c.expect(proto.VoiceOpHello, nil)
	c.send(proto.VoiceOpIdentify, identify(v, signed))
	var ready proto.VoiceReady
	c.expect(proto.VoiceOpReady, &ready)
	c.selectUDP(proto.ModeAES256GCM)
	c.expect(proto.VoiceOpSessionDescription, nil)
	return c, signed, ready
}

func (c *voiceClient) selectUDP(mode string) {
	c.w.t.Helper()
	data, _ := json.Marshal(proto.VoiceUDPData{Address: "127.0.0.1", Port: 1337, Mode: mode})
	c.send(proto.VoiceOpSelectProtocol, proto.VoiceSelectProtocol{Protocol: proto.ProtocolUDP, Data: data})
}
