package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

const (
	// joinTimeout bounds a client's whole way from dialling to media.
	joinTimeout = 30 * time.Second
	frameLimit  = 64 << 20
	// bigFrame is longer than any payload that a join waits for.
	bigFrame = 64 << 10
)

// socket is one WebSocket of a client. While the client joins it is read by the
// joining goroutine, afterwards by one that throws all frames away.
type socket struct {
	conn     *websocket.Conn
	interval time.Duration // of heartbeats
	beat     string        // a heartbeat, with a verb for the sequence number
	seq      atomic.Int64  // last sequence number, -1 for none
	read     chan struct{} // closed when the reader has ended; nil before
	left     atomic.Bool   // this side has closed it
}

// Heartbeats of the two gateways.
const (
	gatewayBeat = `{"op":1,"d":%s}`
	voiceBeat   = `{"op":3,"d":{"t":0,"seq_ack":%s}}`
)

func (a *admin) dial(ctx context.Context, url, beat string) (*socket, error) {
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &a.http, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(frameLimit)
	s := &socket{conn: conn, beat: beat}
	s.seq.Store(-1)
	return s, nil
}

func (s *socket) write(ctx context.Context, op, d any) error {
	data, err := json.Marshal(struct {
		Op any `json:"op"`
		D  any `json:"d"`
	}{op, d})
	if err != nil {
		return err
	}
	return s.conn.Write(ctx, websocket.MessageText, data)
}

// envelope is a payload of either gateway.
type envelope struct {
	Op  int             `json:"op"`
	D   json.RawMessage `json:"d"`
	S   *int64          `json:"s"`
	T   string          `json:"t"`
	Seq *int64          `json:"seq"`
}

// expect reads up to the first payload that is wanted and decodes it into d.
func (s *socket) expect(ctx context.Context, wanted func(envelope) bool, d any) error {
	for {
		_, data, err := s.conn.Read(ctx)
		if err != nil {
			return err
		}
		var e envelope
		if len(data) > bigFrame {
			// A whole guild. Nobody waits for one, and there is one in each join.
			number(data[:numberWithin], `"s":`, &s.seq)
			continue
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		s.number(e)
		if wanted(e) {
			return json.Unmarshal(e.D, d)
		}
	}
}

// number notes a payload's sequence number, which heartbeats acknowledge, so that
// the server can forget what it keeps for a resume.
func (s *socket) number(e envelope) {
	for _, n := range []*int64{e.S, e.Seq} {
		if n != nil {
			s.seq.Store(*n)
		}
	}
}

func opcode[T ~int](op T) func(envelope) bool {
	return func(e envelope) bool { return e.Op == int(op) }
}

func event(name string) func(envelope) bool {
	return func(e envelope) bool { return e.T == name }
}

// drain reads on until the connection ends, and counts an end that was not asked for.
func (s *socket) drain(g *run.Group, cuts *atomic.Int64) {
	s.read = make(chan struct{})
	g.Go("load websocket", func(ctx context.Context) {
		defer close(s.read)
		buffer := make([]byte, skimBuffer)
		for {
			_, r, err := s.conn.Reader(ctx)
			if err == nil {
				err = skim(r, buffer, &s.seq)
			}
			if err != nil {
				if ctx.Err() == nil && !s.left.Load() {
					cuts.Add(1)
				}
				return
			}
		}
	})
}

// member is one client of a Hubbub server.
type member struct {
	room    room
	token   string
	userID  proto.Snowflake
	session string // of the gateway

	gateway, voice *socket
	seat           *seat

	asked time.Time     // when op 4 was sent
	ready time.Duration // from then to the Session Description
}

// party is what the members of one measurement have in common.
type party struct {
	cfg   *Config
	admin *admin
	group *run.Group
	// The two gateways ask for different intervals.
	gatewayHeart, voiceHeart heart
	cuts                     atomic.Int64 // WebSockets that the server or the network ended
}

// connect opens the gateway session.
func (p *party) connect(ctx context.Context, m *member) (err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if m.gateway, err = p.admin.dial(ctx, p.admin.webSocket(p.admin.host()+"/gateway?v=10&encoding=json"), gatewayBeat); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	var hello proto.HelloData
	if err := m.gateway.expect(ctx, opcode(proto.OpHello), &hello); err != nil {
		return fmt.Errorf("gateway: Hello: %w", err)
	}
	m.gateway.interval = time.Duration(hello.HeartbeatInterval) * time.Millisecond
	intents := proto.Intents(0)
	if p.cfg.Events {
		intents = proto.IntentGuilds | proto.IntentGuildVoice
	}
	identify := map[string]any{"token": m.token, "intents": intents, "properties": map[string]string{"os": "linux", "browser": "hubbub load", "device": ""}}
	if err := m.gateway.write(ctx, proto.OpIdentify, identify); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	var ready proto.ReadyData
	if err := m.gateway.expect(ctx, event("READY"), &ready); err != nil {
		return fmt.Errorf("gateway: READY: %w", err)
	}
	m.userID, m.session = ready.User.ID, ready.SessionID
	return nil
}

// join goes from op 4 to a transport that is ready for media.
func (p *party) join(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	m.asked = time.Now()
	state := proto.VoiceStateUpdateData{GuildID: m.room.guild, ChannelID: &m.room.channel, SelfMute: !m.seat.speaks, SelfDeaf: !m.seat.hears}
	if err := m.gateway.write(ctx, proto.OpVoiceStateUpdate, state); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	var server proto.VoiceServerUpdateData
	if err := m.gateway.expect(ctx, event("VOICE_SERVER_UPDATE"), &server); err != nil {
		return fmt.Errorf("gateway: VOICE_SERVER_UPDATE: %w", err)
	}
	m.gateway.drain(p.group, &p.cuts)
	if server.Endpoint == nil {
		return errors.New("gateway: no voice server is to be had")
	}
	if err := p.joinVoice(ctx, m, server.Token, *server.Endpoint); err != nil {
		return fmt.Errorf("voice: %w", err)
	}
	m.ready = time.Since(m.asked)
	m.voice.drain(p.group, &p.cuts)
	p.gatewayHeart.add(m.gateway)
	p.voiceHeart.add(m.voice)
	return nil
}

func (p *party) joinVoice(ctx context.Context, m *member, token, endpoint string) (err error) {
	if m.voice, err = p.admin.dial(ctx, p.admin.webSocket(endpoint+"/?v=8"), voiceBeat); err != nil {
		return err
	}
	var hello proto.VoiceHello
	if err := m.voice.expect(ctx, opcode(proto.VoiceOpHello), &hello); err != nil {
		return fmt.Errorf("awaiting Hello: %w", err)
	}
	m.voice.interval = time.Duration(hello.HeartbeatInterval) * time.Millisecond
	err = m.voice.write(ctx, proto.VoiceOpIdentify, proto.VoiceIdentify{
		ServerID: m.room.guild, ChannelID: m.room.channel, UserID: m.userID, SessionID: m.session, Token: token,
	})
	if err != nil {
		return err
	}
	var ready proto.VoiceReady
	if err := m.voice.expect(ctx, opcode(proto.VoiceOpReady), &ready); err != nil {
		return fmt.Errorf("awaiting Ready: %w", err)
	}
	addr, err := netip.ParseAddr(ready.IP)
	if err != nil {
		return fmt.Errorf("awaiting Ready: %w", err)
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, uint16(ready.Port))))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if p.cfg.Browser {
		err = p.selectBrowser(ctx, m, conn)
	} else {
		err = p.selectNative(ctx, m, conn, ready)
	}
	if err != nil {
		return err
	}
	m.seat.fd, err = takeDescriptor(conn)
	return err
}

func (p *party) selectProtocol(ctx context.Context, m *member, protocol string, data any) (proto.VoiceSessionDescription, error) {
	var d proto.VoiceSessionDescription
	err := m.voice.write(ctx, proto.VoiceOpSelectProtocol, map[string]any{"protocol": protocol, "data": data})
	if err == nil {
		err = m.voice.expect(ctx, opcode(proto.VoiceOpSessionDescription), &d)
	}
	if err != nil {
		return d, fmt.Errorf("awaiting Session Description: %w", err)
	}
	return d, nil
}

func (p *party) selectNative(ctx context.Context, m *member, conn *net.UDPConn, ready proto.VoiceReady) error {
	mode := proto.ModeAES256GCM
	if p.cfg.Mode == ModeXChaCha {
		mode = proto.ModeXChaCha20
	}
	if !slices.Contains(ready.Modes, mode) {
		return fmt.Errorf("the server offers no %s, but %q", mode, ready.Modes)
	}
	own, err := discover(ctx, conn, ready.SSRC)
	if err != nil {
		return fmt.Errorf("IP discovery: %w", err)
	}
	d, err := p.selectProtocol(ctx, m, proto.ProtocolUDP, proto.VoiceUDPData{Address: own.Addr().String(), Port: int(own.Port()), Mode: mode})
	if err != nil {
		return err
	}
	var key [32]byte
	if len(d.SecretKey) != len(key) {
		return fmt.Errorf("a key of %d bytes", len(d.SecretKey))
	}
	for i, b := range d.SecretKey {
		key[i] = byte(b)
	}
	m.seat.ssrc = ready.SSRC
	m.seat.link, err = newNativeLink(native.Mode(mode), key)
	return err
}

// leave ends both sessions for good.
func (m *member) leave() {
	for _, s := range []*socket{m.voice, m.gateway} {
		if s == nil {
			continue
		}
		s.left.Store(true)
		_ = s.conn.Close(websocket.StatusNormalClosure, "")
		if s.read != nil {
			<-s.read
		}
	}
}

// heart sends the heartbeats of one kind of WebSocket, each at the interval that the
// server asked for. One that cannot be sent shows as a cut.
type heart struct {
	mu    sync.Mutex
	beats []beat // the next first: all have one interval
}

type beat struct {
	socket *socket
	at     time.Time
}

// pulse is how often a heart sends those that are due.
const pulse = 10 * time.Millisecond

func (h *heart) add(s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beats = append(h.beats, beat{s, time.Now().Add(s.interval)})
}

// due returns the sockets whose time has come, and sets their next.
func (h *heart) due(now time.Time) []*socket {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*socket
	for len(h.beats) > 0 && !now.Before(h.beats[0].at) {
		s := h.beats[0].socket
		out = append(out, s)
		h.beats = append(h.beats[1:], beat{s, now.Add(max(s.interval, pulse))})
	}
	return out
}

func (h *heart) run(ctx context.Context) {
	run.Every(ctx, pulse, func() {
		for _, s := range h.due(time.Now()) {
			seq := "null"
			if n := s.seq.Load(); n >= 0 {
				seq = strconv.FormatInt(n, 10)
			}
			limited, cancel := context.WithTimeout(ctx, time.Second)
			_ = s.conn.Write(limited, websocket.MessageText, fmt.Appendf(nil, s.beat, seq))
			cancel()
		}
	})
}
