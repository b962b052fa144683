package test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// wire is a raw WebSocket to the server.
type wire struct {
	t    *testing.T
	conn *websocket.Conn
	ctx  context.Context
}

// dial opens a WebSocket at a path of an http URL.
func dial(t *testing.T, base, path string) *wire {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(base, "http")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	return &wire{t, conn, ctx}
}

func (w *wire) send(frames ...string) {
	w.t.Helper()
	for _, f := range frames {
		// The server may have closed already, which is what the test waits for.
		_ = w.conn.Write(w.ctx, websocket.MessageText, []byte(f))
	}
}

// until reads frames up to one with the opcode and returns its d.
func (w *wire) until(op int) json.RawMessage {
	w.t.Helper()
	for {
		_, data, err := w.conn.Read(w.ctx)
		if err != nil {
			w.t.Fatalf("waiting for op %d: %v", op, err)
		}
		var f struct {
			Op int             `json:"op"`
			D  json.RawMessage `json:"d"`
		}
		if err := json.Unmarshal(data, &f); err != nil {
			w.t.Fatal(err)
		}
		if f.Op == op {
			return f.D
		}
	}
}

// closed reads up to the end and returns the close code.
func (w *wire) closed() proto.CloseCode {
	w.t.Helper()
	for {
		if _, _, err := w.conn.Read(w.ctx); err != nil {
			if code := websocket.CloseStatus(err); code > 0 {
				return proto.CloseCode(code)
			}
			w.t.Fatalf("the connection ended with %v and no close code", err)
		}
	}
}

type badFrames struct {
	name   string
	path   string
	frames []string
	want   proto.CloseCode
}

func tryBadFrames(t *testing.T, base string, cases []badFrames) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := dial(t, base, c.path)
			w.send(c.frames...)
			if got := w.closed(); got != c.want {
				t.Errorf("closed with %d, want %d", got, c.want)
			}
		})
	}
}

func bare(a harness.Account) string { return strings.TrimPrefix(a.Token, "Bot ") }

func TestBadInputOnTheGateway(t *testing.T) {
	s := harness.Start(t)
	bot := s.Bot(t, "bot")
	const path = "/gateway?v=10&encoding=json"
	identify := fmt.Sprintf(`{"op":2,"d":{"token":%q,"properties":{},"intents":1}}`, bare(bot))
	heartbeats := make([]string, 200)
	for i := range heartbeats {
		heartbeats[i] = `{"op":1,"d":null}`
	}
	tryBadFrames(t, s.URL(), []badFrames{
		{"no JSON", path, []string{"hello"}, proto.CloseDecodeError},
		{"wrong types", path, []string{`{"op":2,"d":[]}`}, proto.CloseDecodeError},
		{"op of text", path, []string{`{"op":"two"}`}, proto.CloseDecodeError},
		{"oversize", path, []string{`{"op":1,"d":"` + strings.Repeat("x", 5000) + `"}`}, proto.CloseDecodeError},
		{"deep", path, []string{`{"op":2,"d":` + strings.Repeat("[", 4000) + `}`}, proto.CloseDecodeError},
		{"unknown opcode", path, []string{identify, `{"op":77,"d":null}`}, proto.CloseUnknownOpcode},
		{"before identify", path, []string{`{"op":4,"d":{"guild_id":"1"}}`}, proto.CloseNotAuthenticated},
		{"wrong token", path, []string{`{"op":2,"d":{"token":"MTIz.AAAA.bbbb","properties":{},"intents":1}}`}, proto.CloseAuthenticationFailed},
		{"empty token", path, []string{`{"op":2,"d":{"token":"","properties":{},"intents":1}}`}, proto.CloseAuthenticationFailed},
		{"twice", path, []string{identify, identify}, proto.CloseAlreadyAuthenticated},
		{"invalid intents", path, []string{strings.Replace(identify, `"intents":1`, `"intents":1099511627776`, 1)}, proto.CloseInvalidIntents},
		{"invalid shard", path, []string{strings.Replace(identify, `"intents":1`, `"intents":1,"shard":[5,2]`, 1)}, proto.CloseInvalidShard},
		{"flood", path, append([]string{identify}, heartbeats...), proto.CloseRateLimited},
		{"version", "/gateway?v=3&encoding=json", nil, proto.CloseInvalidAPIVersion},
	})
	t.Run("wrong session", func(t *testing.T) {
		w := dial(t, s.URL(), path)
		w.send(fmt.Sprintf(`{"op":6,"d":{"token":%q,"session_id":"none","seq":3}}`, bare(bot)))
		if d := w.until(9); string(d) != "false" {
			t.Errorf("invalid session %s, want false", d)
		}
	})
}

// offer asks for a voice token and does not use it. at is the URL of the voice gateway
// that it is for.
func offer(t *testing.T, s *harness.Server, name string) (user proto.Snowflake, session, token, at string) {
	t.Helper()
	bot := s.Bot(t, name)
	g := s.Connect(t, s.Client(t, bot.Token, ""))
	offers := make(chan proto.VoiceServerUpdateData, 1)
	client.On(g, client.VoiceServerUpdate, func(u proto.VoiceServerUpdateData) { offers <- u })
	if err := g.Send(proto.OpVoiceStateUpdate, proto.VoiceStateUpdateData{GuildID: s.Guild, ChannelID: &s.Lounge}); err != nil {
		t.Fatal(err)
	}
	select {
	case o := <-offers:
		if o.Endpoint == nil {
			t.Fatal("no voice endpoint")
		}
		return bot.ID, g.SessionID(), o.Token, "http://" + *o.Endpoint
	case <-time.After(harness.Timeout):
		t.Fatal("no voice token")
	}
	return 0, "", "", ""
}

// identifyVoice returns what a client of the voice gateway says first.
func identifyVoice(guild, channel, user proto.Snowflake, session, token string) string {
	return fmt.Sprintf(`{"op":0,"d":{"server_id":"%d","channel_id":"%d","user_id":"%d","session_id":%q,"token":%q}}`, guild, channel, user, session, token)
}

func TestBadInputOnTheVoiceGateway(t *testing.T) {
	s := harness.Start(t)
	user, session, token, at := offer(t, s, "bot")
	good := identifyVoice(s.Guild, s.Lounge, user, session, token)
	const path = "/?v=9"
	heartbeats := make([]string, 300)
	for i := range heartbeats {
		heartbeats[i] = `{"op":3,"d":{"t":1,"seq_ack":0}}`
	}
	tryBadFrames(t, at, []badFrames{
		{"no JSON", path, []string{"hello"}, proto.VoiceCloseDecodeError},
		{"wrong types", path, []string{`{"op":0,"d":7}`}, proto.VoiceCloseBadRequest},
		{"oversize", path, []string{`{"op":0,"d":"` + strings.Repeat("x", 40000) + `"}`}, proto.VoiceCloseDecodeError},
		{"before identify", path, []string{`{"op":5,"d":{"speaking":1,"ssrc":1,"delay":0}}`}, proto.VoiceCloseNotAuthenticated},
		{"wrong token", path, []string{identifyVoice(s.Guild, s.Lounge, user, session, "wrong")}, proto.VoiceCloseAuthenticationFailed},
		{"token changed", path, []string{identifyVoice(s.Guild, s.Lounge, user, session, token[:40]+"AAAA"+token[44:])}, proto.VoiceCloseAuthenticationFailed},
		{"other user", path, []string{identifyVoice(s.Guild, s.Lounge, user+1, session, token)}, proto.VoiceCloseAuthenticationFailed},
		{"wrong session", path, []string{identifyVoice(s.Guild, s.Lounge, user, "none", token)}, proto.VoiceCloseSessionInvalid},
		{"resume of nothing", path, []string{fmt.Sprintf(`{"op":7,"d":{"server_id":"%d","channel_id":"%d","session_id":"none","token":%q,"seq_ack":1}}`, s.Guild, s.Lounge, token)}, proto.VoiceCloseSessionInvalid},
		{"unknown opcode", path, []string{good, `{"op":99,"d":{}}`}, proto.VoiceCloseUnknownOpcode},
		{"twice", path, []string{good, good}, proto.VoiceCloseAlreadyAuthenticated},
		{"unknown protocol", path, []string{good, `{"op":1,"d":{"protocol":"carrier-pigeon","data":{}}}`}, proto.VoiceCloseUnknownProtocol},
		{"unknown mode", path, []string{good, `{"op":1,"d":{"protocol":"udp","data":{"address":"127.0.0.1","port":1,"mode":"rot13"}}}`}, proto.VoiceCloseUnknownEncryptionMode},
		{"flood", path, append([]string{good}, heartbeats...), proto.VoiceCloseRateLimited},
	})
}

func TestBadInputOnREST(t *testing.T) {
	s := harness.Start(t)
	bot := s.Bot(t, "bot")
	messages := "/api/v10/channels/" + s.Chat.String() + "/messages"
	for name, c := range map[string]struct {
		method, path, token, body string
		status, code              int
	}{
		"no token":        {"GET", "/api/v10/users/@me", "", "", 401, 0},
		"wrong token":     {"GET", "/api/v10/users/@me", "Bot MTIz.AAAA.bbbb", "", 401, 0},
		"huge token":      {"GET", "/api/v10/users/@me", "Bot " + strings.Repeat("a", 4000), "", 401, 0},
		"no JSON":         {"POST", messages, bot.Token, "hello", 400, proto.ErrInvalidJSON},
		"wrong types":     {"POST", messages, bot.Token, `{"content":{"a":1}}`, 400, proto.ErrInvalidFormBody},
		"empty":           {"POST", messages, bot.Token, `{"content":""}`, 400, proto.ErrEmptyMessage},
		"too long":        {"POST", messages, bot.Token, `{"content":"` + strings.Repeat("x", 2001) + `"}`, 400, proto.ErrInvalidFormBody},
		"oversize":        {"POST", messages, bot.Token, `{"content":"` + strings.Repeat("x", 1<<20) + `"}`, 413, proto.ErrTooLarge},
		"unknown channel": {"GET", "/api/v10/channels/1", bot.Token, "", 404, proto.ErrUnknownChannel},
		"no id":           {"GET", "/api/v10/channels/x", bot.Token, "", 400, proto.ErrInvalidFormBody},
		"unknown route":   {"GET", "/api/v10/nothing/here", bot.Token, "", 404, 0},
		"version":         {"GET", "/api/v3/gateway", bot.Token, "", 400, proto.ErrInvalidAPIVersion},
		"not allowed":     {"PATCH", "/api/v10/guilds/" + s.Guild.String(), bot.Token, `{"name":"mine"}`, 403, proto.ErrMissingPermissions},
		"admin":           {"GET", "/admin/v1/guilds", "Bearer guess", "", 401, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, c.method, s.URL()+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", c.token)
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer http.DefaultClient.CloseIdleConnections()
			data, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			var body proto.ErrorBody
			if err := json.Unmarshal(data, &body); err != nil || body.Message == "" {
				t.Errorf("body %q", data)
			}
			if resp.StatusCode != c.status || body.Code != c.code {
				t.Errorf("answered %d %s, want %d with code %d", resp.StatusCode, data, c.status, c.code)
			}
		})
	}
}

// rawPeer is a native client by hand, for packets that the SDK would not send.
type rawPeer struct {
	udp   net.Conn
	ssrc  uint32
	aead  cipher.AEAD
	nonce uint32
	user  proto.Snowflake
}

func newRawPeer(t *testing.T, s *harness.Server, name string) *rawPeer {
	t.Helper()
	user, session, token, at := offer(t, s, name)
	w := dial(t, at, "/?v=9")
	w.send(identifyVoice(s.Guild, s.Lounge, user, session, token))
	var ready proto.VoiceReady
	if err := json.Unmarshal(w.until(2), &ready); err != nil {
		t.Fatal(err)
	}
	udp, err := net.Dial("udp", net.JoinHostPort(ready.IP, fmt.Sprint(ready.Port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	w.send(fmt.Sprintf(`{"op":1,"d":{"protocol":"udp","data":{"address":"127.0.0.1","port":%d,"mode":%q}}}`, udp.LocalAddr().(*net.UDPAddr).Port, proto.ModeAES256GCM))
	var d proto.VoiceSessionDescription
	if err := json.Unmarshal(w.until(4), &d); err != nil {
		t.Fatal(err)
	}
	key := make([]byte, len(d.SecretKey))
	for i, b := range d.SecretKey {
		key[i] = byte(b)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &rawPeer{udp: udp, ssrc: ready.SSRC, aead: aead, user: user}
}

// packet seals an Opus packet.
func (p *rawPeer) packet(sequence uint16, opus []byte) []byte {
	header := make([]byte, 12)
	header[0], header[1] = 0x80, 0x78
	binary.BigEndian.PutUint16(header[2:], sequence)
	binary.BigEndian.PutUint32(header[4:], uint32(sequence)*960)
	binary.BigEndian.PutUint32(header[8:], p.ssrc)
	var nonce [12]byte
	binary.BigEndian.PutUint32(nonce[:], p.nonce)
	p.nonce++
	return append(p.aead.Seal(header, nonce[:], opus, header), nonce[:4]...)
}

func (p *rawPeer) send(t *testing.T, packets ...[]byte) {
	t.Helper()
	for _, b := range packets {
		if _, err := p.udp.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}

// A packet that is sent again, or was changed on the way, is not heard.
func TestReplayedAndForgedPackets(t *testing.T) {
	s := harness.Start(t)
	_, v := s.Join(t, "listener", s.Lounge, client.VoiceOptions{})
	p := newRawPeer(t, s, "raw")
	var sequence uint16
	next := func(n byte) []byte {
		sequence++
		return p.packet(sequence, []byte{0xF8, n, 1, 2, 3})
	}
	heard := p.heardBy(v)
	// The worker may learn the key a moment after the client.
	const hello = 255
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit, there := time.After(harness.Timeout), false; !there; {
		p.send(t, next(hello))
		select {
		case <-heard:
			there = true
		case <-tick.C:
		case <-limit:
			t.Fatal("nothing arrives")
		}
	}
	var sent [][]byte
	for i := range byte(20) {
		b := next(i)
		sent = append(sent, b)
		forged := bytes.Clone(b)
		forged[len(forged)-10] ^= 1
		p.send(t, forged, b)
	}
	p.send(t, sent...)
	p.send(t, sent...)
	// One more packet, which comes after all of those were dealt with.
	p.send(t, next(20))
	limit := time.After(harness.Timeout)
	for want := byte(0); want <= 20; {
		select {
		case got := <-heard:
			switch {
			case got == hello && want == 0:
			case got != want:
				t.Fatalf("heard packet %d, want %d", got, want)
			default:
				want++
			}
		case <-limit:
			t.Fatalf("packet %d did not arrive", want)
		}
	}
}

// heardBy returns the numbers of the peer's packets that a listener hears, until the
// listener leaves.
func (p *rawPeer) heardBy(v *client.Voice) <-chan byte {
	heard := make(chan byte, 1000)
	go func() {
		for got := range v.Packets() {
			if got.UserID == p.user {
				heard <- got.Opus[1]
			}
		}
	}()
	return heard
}

// flat fails if f leaves the server bigger: f runs once to warm up, and then again.
func flat(t *testing.T, s *harness.Server, f func()) {
	t.Helper()
	f()
	before, slack := s.Memory(t)
	f()
	end, tick := time.After(harness.Timeout), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for { // goroutines of closed connections take a moment
		after, _ := s.Memory(t)
		if after < before+slack {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Errorf("memory grew from %d to %d KiB", before>>10, after>>10)
			return
		}
	}
}

// Floods of datagrams from nobody are met with silence, and a call goes on.
func TestUDPFlood(t *testing.T) {
	s := harness.Start(t)
	speaker, a := s.Join(t, "speaker", s.Lounge, client.VoiceOptions{})
	_, b := s.Join(t, "listener", s.Lounge, client.VoiceOptions{})
	harness.Speak(t, a, harness.JFK)
	addr := s.MediaAddr(t, speaker.ID)
	random := rand.New(rand.NewPCG(1, 2))
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	flat(t, s, func() {
		pkt := make([]byte, 1200)
		for range 20000 {
			n := 1 + random.IntN(len(pkt))
			for i := range min(n, 40) {
				pkt[i] = byte(random.Uint32())
			}
			switch random.IntN(5) {
			case 0: // looks like RTP
				pkt[0], pkt[1] = 0x80, 0x78
			case 1: // like STUN
				pkt[0], pkt[1] = 0, 1
				copy(pkt[4:], []byte{0x21, 0x12, 0xA4, 0x42})
			case 2: // like DTLS
				pkt[0] = 22
			case 3: // like IP discovery
				n = 74
				copy(pkt, []byte{0, 1, 0, 70})
			}
			_, _ = conn.Write(pkt[:n])
		}
	})
	harness.Listen(t, b, speaker.ID, 1)
	// Whoever asks without being known is not answered: no echo, no amplifier.
	if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 2048)); err == nil {
		t.Errorf("the flood was answered with %d bytes", n)
	}
}

// Thousands of connections that misbehave leave nothing behind.
func TestBadConnectionsLeaveNothing(t *testing.T) {
	s := harness.Start(t)
	bot := s.Bot(t, "bot")
	attempt := func(base, path string, frames ...string) {
		ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout)
		defer cancel()
		conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(base, "http")+path, nil)
		if err != nil {
			return // a limit on connections is an answer too
		}
		for _, f := range frames {
			_ = conn.Write(ctx, websocket.MessageText, []byte(f))
		}
		for {
			if _, _, err := conn.Read(ctx); err != nil {
				_ = conn.CloseNow()
				return
			}
		}
	}
	flat(t, s, func() {
		for range 300 {
			attempt(s.URL(), "/gateway?v=10&encoding=json", "nonsense")
			attempt(s.URL(), "/gateway?v=10&encoding=json", `{"op":2,"d":{"token":"MTIz.AAAA.bbbb","properties":{},"intents":1}}`)
			attempt(s.VoiceURL(), "/?v=9", "nonsense")
			attempt(s.VoiceURL(), "/?v=9", `{"op":0,"d":{"server_id":"1","channel_id":"2","user_id":"3","session_id":"s","token":"t"}}`)
		}
	})
	// After all that, the server still serves.
	v := s.JoinAs(t, s.Connect(t, s.Client(t, bot.Token, "")), s.Lounge, client.VoiceOptions{})
	if v.Channel() != s.Lounge {
		t.Fatalf("in channel %d", v.Channel())
	}
}

// A TLS client that does not trust the CA, and one that speaks nonsense, harm
// nobody.
func TestBadTLS(t *testing.T) {
	s := harness.Start(t)
	host := strings.TrimPrefix(s.URL(), "http://")
	if conn, err := tls.Dial("tcp", host, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}); err == nil {
		_ = conn.Close()
		t.Error("a certificate of our own is trusted by all")
	}
	for _, hello := range []string{"\x16\x03\x01\xff\xff", "\x16", "\x00\x00\x00\x00", "GET / HTTP/9.9\r\n\r\n", ""} {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, hello)
		_ = conn.Close()
	}
	pem, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	conn, err := tls.Dial("tcp", host, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
