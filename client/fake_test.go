package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"hubbub.dev/hubbub/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	fakeUser    proto.Snowflake = 100
	fakeSpeaker proto.Snowflake = 101
	fakeGuild   proto.Snowflake = 200
	fakeChannel proto.Snowflake = 300
	fakeSSRC                    = 4000
	speakerSSRC                 = 5000
)

// fakeServer is gateway, voice gateway and media worker for one client. It tells
// what the client does as lines on did, and does on request what servers do.
type fakeServer struct {
	t    *testing.T
	http *httptest.Server
	udp  *net.UDPConn
	did  chan string
	rtp  chan []byte // opened packets
	byes chan string // how connections ended: their path and close code
	key  [32]byte
	tune func(*Client) // each client before it is used

	mu       sync.Mutex
	session  int
	seq      uint64
	buffer   [][]byte // dispatches for a resume
	gateway  *websocket.Conn
	voice    *websocket.Conn
	voiceSeq int
	join     int
	silent   bool // op 4 gets no answer
	adopts   bool // op 4 that claims a connection gets it
	ignores  bool // op 4 that claims one gets no answer
	late     bool // op 4 is answered with the end of an old voice state first
	modes    []string
	mode     string
	refuse   proto.CloseCode // every identify is closed with it
	client   *net.UDPAddr
	nonce    uint32
	opener   *opener
}

func newFake(t *testing.T) *fakeServer {
	t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{
		t: t, udp: udp, did: make(chan string, 256), rtp: make(chan []byte, 1024), byes: make(chan string, 256),
		modes: []string{proto.ModeAES256GCM, proto.ModeXChaCha20},
	}
	for i := range f.key {
		f.key[i] = byte(i)
	}
	f.http = httptest.NewServer(f)
	var tasks sync.WaitGroup
	tasks.Go(f.media)
	t.Cleanup(func() {
		_ = udp.Close()
		tasks.Wait()
		f.http.CloseClientConnections()
		f.http.Close()
	})
	return f
}

func (f *fakeServer) client0(t *testing.T) *Client {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := New(Config{BaseURL: f.http.URL, Token: "Bot token", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	c.backoff = backoff{min: 2 * time.Millisecond, max: 20 * time.Millisecond}
	if f.tune != nil {
		f.tune(c)
	}
	t.Cleanup(c.Close)
	return c
}

// connected returns a gateway that is ready.
func (f *fakeServer) connected(t *testing.T) *Gateway {
	t.Helper()
	g := f.client0(t).Gateway(GatewayOptions{Intents: proto.IntentGuildVoice})
	if err := g.Connect(deadline(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	f.expect("identify token")
	return g
}

func (f *fakeServer) joined(t *testing.T, o VoiceOptions) (*Gateway, *Voice) {
	t.Helper()
	g := f.connected(t)
	v, err := g.JoinVoice(deadline(t), fakeGuild, fakeChannel, o)
	if err != nil {
		t.Fatal(err)
	}
	f.expect("op4 300", "voice identify 300 token-1", "select")
	select {
	case <-f.rtp: // the silence that opens the path
	case <-time.After(10 * time.Second):
		t.Fatal("the client does not open the path")
	}
	return g, v
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// expect waits until the client has done these things, in this order.
func (f *fakeServer) expect(want ...string) {
	f.t.Helper()
	limit := time.After(10 * time.Second)
	for _, w := range want {
		select {
		case got := <-f.did:
			if got != w {
				f.t.Fatalf("the client did %q, want %q", got, w)
			}
		case <-limit:
			f.t.Fatalf("the client did not %q", w)
		}
	}
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v10/gateway" {
		_, _ = fmt.Fprintf(w, `{"url":"ws://%s/gateway"}`, r.Host)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	hello := `{"op":10,"d":{"heartbeat_interval":40000}}`
	handle := f.gatewayFrame
	if r.URL.Path == "/" {
		if r.URL.RawQuery != "v=9" {
			f.t.Errorf("voice query %q", r.URL.RawQuery)
		}
		hello, handle = `{"op":8,"d":{"v":9,"heartbeat_interval":40000}}`, f.voiceFrame
	}
	f.write(conn, "%s", hello)
	for {
		_, data, err := conn.Read(r.Context())
		if err != nil {
			f.byes <- fmt.Sprint(r.URL.Path, " ", int(websocket.CloseStatus(err)))
			return
		}
		var frame struct {
			Op int             `json:"op"`
			D  json.RawMessage `json:"d"`
		}
		if err := json.Unmarshal(data, &frame); err != nil {
			f.t.Errorf("client sent %q", data)
			return
		}
		f.mu.Lock()
		handle(conn, frame.Op, frame.D)
		f.mu.Unlock()
	}
}

func (f *fakeServer) write(conn *websocket.Conn, format string, args ...any) {
	ctx, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	_ = conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, format, args...))
}

func (f *fakeServer) gatewayFrame(conn *websocket.Conn, op int, d json.RawMessage) {
	switch proto.GatewayOpcode(op) {
	case proto.OpHeartbeat:
		f.write(conn, `{"op":11}`)
	case proto.OpIdentify:
		var p proto.IdentifyData
		_ = json.Unmarshal(d, &p)
		f.did <- "identify " + p.Token
		if f.refuse != 0 {
			_ = conn.Close(websocket.StatusCode(f.refuse), "refused")
			return
		}
		f.session++
		f.gateway, f.seq, f.buffer = conn, 0, nil
		f.dispatch("READY", `{"user":{"id":"%d"},"session_id":"s%d","resume_gateway_url":"ws://%s/gateway"}`, fakeUser, f.session, f.http.Listener.Addr())
	case proto.OpResume:
		var p proto.ResumeData
		_ = json.Unmarshal(d, &p)
		f.did <- fmt.Sprintf("resume %s %d", p.SessionID, p.Seq)
		if p.SessionID != fmt.Sprintf("s%d", f.session) || f.session == 0 {
			f.write(conn, `{"op":9,"d":false}`)
			return
		}
		f.gateway = conn
		for _, frame := range f.buffer[p.Seq:] {
			f.write(conn, "%s", frame)
		}
		f.dispatch("RESUMED", `null`)
	case proto.OpVoiceStateUpdate:
		var p proto.VoiceStateUpdateData
		_ = json.Unmarshal(d, &p)
		if p.ChannelID == nil {
			f.did <- "op4 null"
			return
		}
		as := ""
		if p.ConnectedAs != "" {
			as = " as " + p.ConnectedAs
		}
		f.did <- fmt.Sprintf("op4 %d%s", *p.ChannelID, as)
		if f.late {
			f.dispatch("VOICE_STATE_UPDATE", `{"guild_id":"%d","channel_id":null,"user_id":"%d","session_id":"s%d"}`, fakeGuild, fakeUser, f.session)
		}
		switch {
		case f.silent, f.ignores && as != "":
		case f.adopts && as != "":
			f.state(*p.ChannelID, f.session)
		default:
			f.place(*p.ChannelID)
		}
	}
}

// dispatch sends an event and keeps it for a resume; f.mu is held.
func (f *fakeServer) dispatch(name, format string, args ...any) {
	f.seq++
	frame := fmt.Appendf(nil, `{"op":0,"s":%d,"t":%q,"d":%s}`, f.seq, name, fmt.Sprintf(format, args...))
	f.buffer = append(f.buffer, frame)
	if f.gateway != nil {
		f.write(f.gateway, "%s", frame)
	}
}

// state says in which channel the client is, by one of its sessions; f.mu is held.
func (f *fakeServer) state(channel proto.Snowflake, session int) {
	f.dispatch("VOICE_STATE_UPDATE", `{"guild_id":"%d","channel_id":"%d","user_id":"%d","session_id":"s%d"}`, fakeGuild, channel, fakeUser, session)
}

// place puts the client into a channel with a fresh voice token; f.mu is held.
func (f *fakeServer) place(channel proto.Snowflake) {
	f.join++
	f.state(channel, f.session)
	f.dispatch("VOICE_SERVER_UPDATE", `{"guild_id":"%d","token":"token-%d","endpoint":%q}`, fakeGuild, f.join, f.http.Listener.Addr())
}

func (f *fakeServer) voiceFrame(conn *websocket.Conn, op int, d json.RawMessage) {
	switch proto.VoiceOpcode(op) {
	case proto.VoiceOpHeartbeat:
		f.write(conn, `{"op":6,"d":%s}`, d)
	case proto.VoiceOpIdentify:
		var p proto.VoiceIdentify
		_ = json.Unmarshal(d, &p)
		f.did <- fmt.Sprintf("voice identify %d %s", p.ChannelID, p.Token)
		f.voice = conn
		modes, _ := json.Marshal(f.modes)
		port := f.udp.LocalAddr().(*net.UDPAddr).Port
		f.write(conn, `{"op":2,"d":{"ssrc":%d,"ip":"127.0.0.1","port":%d,"modes":%s}}`, fakeSSRC+f.join, port, modes)
	case proto.VoiceOpSelectProtocol:
		var p proto.VoiceSelectProtocol
		var u proto.VoiceUDPData
		_ = json.Unmarshal(d, &p)
		_ = json.Unmarshal(p.Data, &u)
		f.did <- "select"
		f.mode, f.nonce = u.Mode, 0
		aead, err := newAEAD(f.mode, f.key[:])
		if err != nil {
			f.t.Error(err)
			return
		}
		f.opener = &opener{aead: aead}
		key := strings.Join(strings.Fields(fmt.Sprint(f.key)), ",")
		f.write(conn, `{"op":4,"d":{"audio_codec":"opus","media_session_id":"m","mode":%q,"secret_key":%s}}`, f.mode, key)
		f.voiceSeq++
		f.write(conn, `{"op":5,"d":{"speaking":0,"delay":0,"ssrc":%d,"user_id":"%d"},"seq":%d}`, speakerSSRC, fakeSpeaker, f.voiceSeq)
	case proto.VoiceOpSpeaking:
		var p proto.VoiceSpeaking
		_ = json.Unmarshal(d, &p)
		f.did <- fmt.Sprintf("speaking %d", p.Speaking)
	case proto.VoiceOpResume:
		var p proto.VoiceResume
		_ = json.Unmarshal(d, &p)
		f.did <- fmt.Sprintf("voice resume %s seq %d", p.Token, *p.SeqAck)
		f.voice = conn
		f.write(conn, `{"op":9,"d":null}`)
	}
}

// media is the UDP side: it answers discovery and pings and opens the rest.
func (f *fakeServer) media() {
	buf := make([]byte, 2048)
	for {
		n, from, err := f.udp.ReadFromUDP(buf)
		if err != nil {
			return
		}
		pkt := buf[:n]
		switch {
		case n == discoverySize && pkt[1] == 1:
			pkt[1] = 2
			clear(pkt[8:72])
			copy(pkt[8:], from.IP.String())
			binary.BigEndian.PutUint16(pkt[72:], uint16(from.Port))
			_, _ = f.udp.WriteToUDP(pkt, from)
		case n == pingSize:
			binary.BigEndian.PutUint32(pkt, pingResponse)
			_, _ = f.udp.WriteToUDP(pkt, from)
		default:
			f.mediaPacket(append([]byte(nil), pkt...), from)
		}
	}
}

func (f *fakeServer) mediaPacket(pkt []byte, from *net.UDPAddr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := rtpHeaderSize
	if classify(pkt) == kindRTCP {
		size = rtcpHeaderSize
	}
	plain, err := f.opener.open(pkt, size)
	if err != nil {
		f.t.Errorf("packet of the client does not open: %v", err)
		return
	}
	f.client = from
	if size == rtpHeaderSize {
		f.rtp <- plain
	}
}

// speak sends one packet of the other speaker to the client and returns it
// sealed, for replays.
func (f *fakeServer) speak(sequence uint16, opus string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	aead, err := newAEAD(f.mode, f.key[:])
	if err != nil {
		f.t.Fatal(err)
	}
	s := sealer{aead: aead, next: uint64(f.nonce)}
	f.nonce++
	var header [rtpHeaderSize + 4]byte
	putRTPHeader((*[rtpHeaderSize]byte)(header[:]), sequence, uint32(sequence)*960, speakerSSRC)
	header[0] |= 0x10
	copy(header[rtpHeaderSize:], []byte{0xBE, 0xDE, 0, 1})
	pkt, err := s.seal(nil, header[:], append([]byte{audioLevelID << 4, 0x80 | 30, 0, 0}, opus...))
	if err != nil {
		f.t.Fatal(err)
	}
	f.send(pkt)
	return pkt
}

// send sends a packet to the client; f.mu is held.
func (f *fakeServer) send(pkt []byte) {
	if _, err := f.udp.WriteToUDP(pkt, f.client); err != nil {
		f.t.Error(err)
	}
}

// cutGateway and cutVoice drop the TCP connection without a close frame.
func (f *fakeServer) cutGateway() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.gateway.CloseNow()
	f.gateway = nil
}

func (f *fakeServer) cutVoice() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.voice.CloseNow()
}

func (f *fakeServer) closeVoice(code proto.CloseCode) {
	f.mu.Lock()
	conn := f.voice
	f.mu.Unlock()
	_ = conn.Close(websocket.StatusCode(code), "")
}

// nextRTP returns the next opened packet of the client.
func (f *fakeServer) nextRTP() []byte {
	f.t.Helper()
	select {
	case pkt := <-f.rtp:
		return pkt
	case <-time.After(10 * time.Second):
		f.t.Fatal("no packet of the client")
	}
	return nil
}

func nextPacket(t *testing.T, v *Voice) Packet {
	t.Helper()
	select {
	case p, ok := <-v.Packets():
		if !ok {
			t.Fatalf("voice ended: %v", v.Err())
		}
		return p
	case <-time.After(10 * time.Second):
		t.Fatal("no packet")
	}
	return Packet{}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	name := t.TempDir() + "/file.pem"
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// nopConn lets a test implement the part of net.Conn it needs.
type nopConn struct{ net.Conn }
