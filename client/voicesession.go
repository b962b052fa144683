package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/proto"
)

// resumeTries is enough for the minute that a server keeps a session.
const resumeTries = 12

// unknownFlags stands for an announcement that a cut may have swallowed.
const unknownFlags proto.SpeakingFlags = -1

// Reasons why a voice session hands back to Voice.run.
var (
	errRetarget = errors.New("client: voice: another voice server was named")
	errRejoin   = errors.New("client: voice: the session is lost")
)

// after says what follows the end of a voice session.
type after uint8

const (
	afterResume after = iota // the session may live: resume it
	afterRejoin              // it does not: ask for a new one by op 4
	afterGrace               // we were disconnected, or are being moved
	afterEnd                 // trying again would end the same way
)

// afterClose classes the voice close codes; cuts and codes not listed resume.
var afterClose = map[proto.CloseCode]after{
	proto.VoiceCloseUnknownOpcode:         afterEnd,
	proto.VoiceCloseDecodeError:           afterEnd,
	proto.VoiceCloseNotAuthenticated:      afterEnd,
	proto.VoiceCloseAuthenticationFailed:  afterEnd,
	proto.VoiceCloseAlreadyAuthenticated:  afterEnd,
	proto.VoiceCloseSessionInvalid:        afterRejoin,
	proto.VoiceCloseSessionTimeout:        afterRejoin,
	proto.VoiceCloseServerNotFound:        afterRejoin,
	proto.VoiceCloseUnknownProtocol:       afterEnd,
	proto.VoiceCloseDisconnected:          afterGrace,
	proto.VoiceCloseUnknownEncryptionMode: afterEnd,
	proto.VoiceCloseBadRequest:            afterEnd,
	proto.VoiceCloseRateLimited:           afterEnd,
	proto.VoiceCloseCallTerminated:        afterGrace,
}

// run is the goroutine of a Voice: it connects to each voice server that the
// gateway names.
func (v *Voice) run() {
	defer v.finish()
	next := afterGrace
	for {
		target, err := v.await(next)
		if err != nil {
			v.end(err)
			return
		}
		err = v.session(target)
		v.hold(voiceTarget{})
		if v.ctx.Err() != nil {
			return
		}
		next = afterClose[closeCode(err)]
		switch {
		case errors.Is(err, errRetarget):
			next = afterGrace
		case next == afterEnd, !v.wasConnected() && next != afterGrace:
			v.end(fmt.Errorf("client: voice: %w", err))
			return
		case next == afterResume:
			next = afterRejoin
		}
		v.gw.c.log.Info("voice session ended", "guild", v.guild, "error", err)
	}
}

func (v *Voice) finish() {
	v.cancel()
	v.handover.tasks.Wait()
	v.mu.Lock()
	v.answeredLocked()
	if v.err == nil {
		v.err = v.gw.Err()
	}
	v.mu.Unlock()
	if t := v.transport.Swap(nil); t != nil {
		t.close()
	}
	v.gw.mu.Lock()
	delete(v.gw.voices, v.guild)
	v.gw.mu.Unlock()
	close(v.packets)
	close(v.done)
}

func (v *Voice) wasConnected() bool {
	select {
	case <-v.connected:
		return true
	default:
		return false
	}
}

// await returns the next voice server to connect to. In a grace it gives up after
// moveGrace, unless the gateway is away, which then brings the news; in a rejoin
// it asks for one by op 4 until there is an answer.
func (v *Voice) await(next after) (voiceTarget, error) {
	span := moveGrace
	if next == afterRejoin {
		span = rejoinAsk
		v.rejoin()
	}
	for try := 0; ; {
		if target, ok := v.take(); ok {
			return target, nil
		}
		if v.askAgain() {
			next, span = afterRejoin, rejoinAsk
			try++
		}
		timer := time.NewTimer(span)
		select {
		case <-v.wake:
		case <-timer.C:
			switch {
			case !v.wasConnected(): // JoinVoice has its own deadline
			case next == afterRejoin && try >= rejoinTries:
				return voiceTarget{}, errRejoin
			case next == afterRejoin || !v.gw.lively.Load():
				v.rejoin()
			default:
				return voiceTarget{}, ErrDisconnected
			}
		case <-v.ctx.Done():
			timer.Stop()
			return voiceTarget{}, v.ctx.Err()
		}
		timer.Stop()
	}
}

// askAgain sends op 4 once if a rejoin is due and the gateway can take it.
func (v *Voice) askAgain() bool {
	v.mu.Lock()
	due, channel := v.needJoin && v.gw.lively.Load(), v.wanted
	claims := v.claimsLocked(channel) != ""
	if due {
		v.needJoin = false
	}
	v.mu.Unlock()
	if due && claims {
		v.awaitClaim()
	}
	return due && v.sendState(channel) == nil
}

// voiceSession is one session with a voice server: a WebSocket that may be cut
// and resumed, and the transport that outlives the cuts. It belongs to the
// goroutine of its Voice.
type voiceSession struct {
	v         *Voice
	target    voiceTarget
	socket    *socket
	interval  time.Duration
	seq       int
	nonce     int64
	announced proto.SpeakingFlags
	transport *transport // nil until media can flow
	speakers  *speakers

	following atomic.Bool        // another session takes its place
	end       context.CancelFunc // set with following
}

// session runs one voice session from Identify to its end.
func (v *Voice) session(target voiceTarget) error {
	s := &voiceSession{v: v, target: target, seq: -1, speakers: newSpeakers()}
	err := s.identify()
	if err == nil {
		err = s.serve()
	}
	for s.resumable(err) {
		v.gw.c.log.Info("voice gateway cut", "guild", v.guild, "error", err)
		s.hangUp(0)
		if err = s.resume(); err == nil {
			err = s.serve()
		}
	}
	if !errors.Is(err, errRetarget) || !v.handOver(s) {
		s.hangUp(1000)
	}
	return err
}

func (s *voiceSession) resumable(err error) bool {
	return s.transport != nil && s.v.ctx.Err() == nil &&
		!errors.Is(err, errRetarget) && !errors.Is(err, errRejoin) &&
		afterClose[closeCode(err)] == afterResume
}

func (s *voiceSession) hangUp(code proto.CloseCode) {
	if s.socket != nil {
		s.socket.close(code, "")
		s.socket = nil
	}
}

func (s *voiceSession) serve() error {
	if err := s.announce(s.v.ctx); err != nil {
		return err
	}
	return s.socket.serve(s.v.ctx, s.interval, nil, s.v.wake, s)
}

// dial connects and takes the Hello.
func (s *voiceSession) dial() error {
	v := s.v
	socket, err := dialSocket(v.ctx, v.gw.c, v.gw.c.webSocketURL(s.target.endpoint, "v=9"), &v.traffic)
	if err != nil {
		return err
	}
	s.socket = socket
	var hello proto.VoiceHello
	if err := s.expect(proto.VoiceOpHello, &hello); err != nil {
		return err
	}
	if hello.HeartbeatInterval <= 0 {
		return errors.New("client: voice: Hello has no interval")
	}
	s.interval = time.Duration(hello.HeartbeatInterval) * time.Millisecond
	return nil
}

// expect reads frames up to the first with the given opcode and decodes it into
// d, unless d is nil. Frames before it are handled as at any time.
func (s *voiceSession) expect(op proto.VoiceOpcode, d any) error {
	for {
		data, err := s.socket.next(s.v.ctx)
		if err != nil {
			return err
		}
		var f proto.VoiceFrame
		if err := json.Unmarshal(data, &f); err != nil {
			return fmt.Errorf("client: voice: %w", err)
		}
		if f.Op != op {
			if err := s.frame(s.v.ctx, data); err != nil {
				return err
			}
			continue
		}
		s.number(f)
		if d == nil {
			return nil
		}
		if err := json.Unmarshal(f.D, d); err != nil {
			return fmt.Errorf("client: voice: op %d: %w", op, err)
		}
		return nil
	}
}

func (s *voiceSession) number(f proto.VoiceFrame) {
	if f.Seq != nil {
		s.seq = *f.Seq
	}
}

type voiceIdentify struct {
	ServerID  proto.Snowflake `json:"server_id"`
	ChannelID proto.Snowflake `json:"channel_id"`
	UserID    proto.Snowflake `json:"user_id"`
	SessionID string          `json:"session_id"`
	Token     string          `json:"token"`
	Speaking  bool            `json:"speaking_events,omitempty"`
}

// identify goes from the dial to flowing media.
func (s *voiceSession) identify() error {
	v, t := s.v, s.target
	if err := s.dial(); err != nil {
		return err
	}
	err := s.socket.write(v.ctx, command{proto.VoiceOpIdentify, voiceIdentify{
		ServerID: v.guild, ChannelID: t.channel, UserID: v.gw.User().ID, SessionID: t.session, Token: t.token,
		Speaking: v.options.OnSpeaking != nil,
	}})
	if err != nil {
		return err
	}
	var ready proto.VoiceReady
	if err := s.expect(proto.VoiceOpReady, &ready); err != nil {
		return err
	}
	mode, err := v.chooseMode(ready.Modes)
	if err != nil {
		return err
	}
	media, err := v.gw.c.dialTransport(v.ctx, ready)
	if err != nil {
		return err
	}
	if err := s.establish(media, mode); err != nil {
		media.close()
		return err
	}
	s.transport = media
	v.carry(media)
	v.hold(t)
	v.settled()
	return nil
}

// establish agrees on address and key and starts the transport.
func (s *voiceSession) establish(media *transport, mode string) error {
	own, err := media.discover(s.v.ctx)
	if err != nil {
		return err
	}
	data, err := json.Marshal(proto.VoiceUDPData{Address: own.Addr().String(), Port: int(own.Port()), Mode: mode})
	if err != nil {
		return err
	}
	err = s.socket.write(s.v.ctx, command{proto.VoiceOpSelectProtocol, proto.VoiceSelectProtocol{Protocol: proto.ProtocolUDP, Data: data}})
	if err != nil {
		return err
	}
	var d proto.VoiceSessionDescription
	if err := s.expect(proto.VoiceOpSessionDescription, &d); err != nil {
		return err
	}
	key := make([]byte, len(d.SecretKey))
	for i, b := range d.SecretKey {
		key[i] = byte(b)
	}
	if len(key) != 32 || d.Mode != mode {
		return fmt.Errorf("client: voice: session description with %d bytes of key for %q", len(key), d.Mode)
	}
	aead, err := newAEAD(mode, key)
	if err != nil {
		return err
	}
	return media.start(aead, s.speakers, s.hear, &s.v.counters)
}

// chooseMode prefers AES, which most processors do in hardware.
func (v *Voice) chooseMode(offered []string) (string, error) {
	wanted := []string{proto.ModeAES256GCM, proto.ModeXChaCha20}
	if v.options.Mode != "" {
		wanted = []string{v.options.Mode}
	}
	for _, mode := range wanted {
		if slices.Contains(offered, mode) {
			return mode, nil
		}
	}
	return "", fmt.Errorf("client: voice: the server offers none of %q", wanted)
}

// settled notes that media can flow: the end of the voice state is no accident
// of a broken connection from here on.
func (v *Voice) settled() {
	v.mu.Lock()
	v.cut = false
	if v.claim == nil && !v.needJoin {
		v.unsettled = false
	}
	v.mu.Unlock()
	if !v.wasConnected() {
		close(v.connected)
	}
}

// resume goes on with the session over a new WebSocket while media flows.
func (s *voiceSession) resume() error {
	v := s.v
	v.mu.Lock()
	v.cut = true
	v.mu.Unlock()
	wait := v.gw.c.backoff
	for range resumeTries {
		timer := time.NewTimer(wait.next())
		select {
		case <-timer.C:
		case <-v.wake:
		case <-v.ctx.Done():
		}
		timer.Stop()
		if v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		if err := v.overtaken(); err != nil {
			return err
		}
		v.askAgain()
		err := s.resumeOnce()
		if err == nil {
			s.announced = unknownFlags
			v.settled()
			return nil
		}
		s.hangUp(0)
		if afterClose[closeCode(err)] != afterResume {
			return err
		}
	}
	return errRejoin
}

type voiceResume struct {
	ServerID  proto.Snowflake `json:"server_id"`
	ChannelID proto.Snowflake `json:"channel_id"`
	SessionID string          `json:"session_id"`
	Token     string          `json:"token"`
	SeqAck    int             `json:"seq_ack"`
}

func (s *voiceSession) resumeOnce() error {
	if err := s.dial(); err != nil {
		return err
	}
	t := s.target
	err := s.socket.write(s.v.ctx, command{proto.VoiceOpResume, voiceResume{s.v.guild, t.channel, t.session, t.token, s.seq}})
	if err != nil {
		return err
	}
	return s.expect(proto.VoiceOpResumed, nil)
}

// overtaken returns why resuming is pointless: a new server was named, or there is
// nothing left that could be claimed.
func (v *Voice) overtaken() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.fresh && v.target.channel != 0:
		return errRetarget
	case v.needJoin && v.held.session == "":
		return errRejoin
	}
	return nil
}

func (s *voiceSession) heartbeat() any {
	s.nonce++
	return command{proto.VoiceOpHeartbeat, struct {
		T      int64 `json:"t"`
		SeqAck int   `json:"seq_ack"`
	}{s.nonce, s.seq}}
}

// woken sees to what changed in the Voice.
func (s *voiceSession) woken(ctx context.Context) error {
	if err := s.v.overtaken(); errors.Is(err, errRetarget) {
		return err
	}
	s.v.askAgain()
	return s.announce(ctx)
}

// announce sends op 5 when we speak otherwise than the server knows.
func (s *voiceSession) announce(ctx context.Context) error {
	s.v.mu.Lock()
	flags := s.v.speaking
	s.v.mu.Unlock()
	if flags == s.announced {
		return nil
	}
	s.announced = flags
	return s.socket.write(ctx, command{proto.VoiceOpSpeaking, proto.VoiceSpeaking{Speaking: flags, SSRC: s.transport.ssrc}})
}

// frame handles one voice gateway payload.
func (s *voiceSession) frame(ctx context.Context, data []byte) error {
	var f proto.VoiceFrame
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("client: voice: %w", err)
	}
	s.number(f)
	handle, ok := voiceHandlers[f.Op]
	if !ok {
		return nil
	}
	if err := handle(s, ctx, f.D); err != nil {
		return fmt.Errorf("client: voice: op %d: %w", f.Op, err)
	}
	return nil
}

var voiceHandlers = map[proto.VoiceOpcode]func(*voiceSession, context.Context, json.RawMessage) error{
	proto.VoiceOpHeartbeat: func(s *voiceSession, ctx context.Context, _ json.RawMessage) error {
		return s.socket.write(ctx, s.heartbeat())
	},
	proto.VoiceOpHeartbeatACK: func(s *voiceSession, _ context.Context, _ json.RawMessage) error {
		s.socket.acked = true
		return nil
	},
	proto.VoiceOpSpeaking: func(s *voiceSession, _ context.Context, d json.RawMessage) error {
		var p proto.VoiceSpeaking
		if err := json.Unmarshal(d, &p); err != nil {
			return err
		}
		for _, waited := range s.speakers.set(p.SSRC, p.UserID) {
			s.hear(waited)
		}
		if f := s.v.options.OnSpeaking; f != nil && !s.following.Load() {
			f(p.UserID, p.Speaking)
		}
		return nil
	},
	proto.VoiceOpClientDisconnect: func(s *voiceSession, _ context.Context, d json.RawMessage) error {
		var p proto.VoiceClientDisconnect
		if err := json.Unmarshal(d, &p); err != nil {
			return err
		}
		s.speakers.remove(p.UserID)
		return nil
	},
}
