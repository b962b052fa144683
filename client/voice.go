package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/proto"
)

const (
	packetQueue = 512
	// joinTimeout bounds a join whose context has no deadline: the server says
	// nothing at all when a channel is full or forbidden.
	joinTimeout = 10 * time.Second
	// moveGrace is how long after being disconnected a new voice server may be
	// named: a moderator moved us.
	moveGrace = 5 * time.Second
	// claimAnswer is how long a claim waits for its answer, and claimTries how often it is
	// made before the channel is joined anew.
	claimAnswer = 5 * time.Second
	claimTries  = 2
	// rejoinAsk is how long a rejoin waits for its answer before it asks again.
	rejoinAsk   = 5 * time.Second
	rejoinTries = 20
)

// Errors that end a Voice.
var (
	ErrDisconnected = errors.New("client: voice: disconnected by the server")
	ErrReplaced     = errors.New("client: voice: another session of this user joined")
)

// VoiceOptions says how to join. The zero value is a speaker who also listens,
// over the best encryption the server has.
type VoiceOptions struct {
	// Mode forces proto.ModeAES256GCM or proto.ModeXChaCha20.
	Mode               string
	SelfMute, SelfDeaf bool
	// OnSpeaking is told when another user begins or ends to speak, also while we are
	// deaf. It is called on the connection's own goroutine and must not block. The server
	// is asked to say so only if it is set.
	OnSpeaking func(user proto.Snowflake, flags proto.SpeakingFlags)
}

// Voice is one voice connection. It follows moves to another channel or voice
// server, and cuts, by itself, and stays at the old server of a channel until all of it
// are at the new one; it ends when Leave or Gateway.Close is called,
// when a moderator disconnects it, or when another session takes it over. It is
// safe for concurrent use.
type Voice struct {
	gw      *Gateway
	guild   proto.Snowflake
	options VoiceOptions

	ctx       context.Context
	cancel    context.CancelFunc
	done      chan struct{}
	connected chan struct{} // closed when media first flows
	packets   chan Packet
	wake      chan struct{} // a change below that the session goroutine must see
	transport atomic.Pointer[transport]
	handover  handover
	counters  counters
	traffic   traffic

	mu         sync.Mutex
	err        error
	target     voiceTarget
	fresh      bool        // target was not connected to yet
	held       voiceTarget // of the connection there is, none while there is none
	claim      *time.Timer // runs while a claim to it waits for its answer
	claims     int         // made by this gateway session
	needJoin   bool        // the gateway session is new: op 4 must be sent again
	unsettled  bool        // the gateway session is new, and nothing was heard by it yet
	cut        bool        // the voice session is being resumed
	wanted     proto.Snowflake
	mute, deaf bool
	speaking   proto.SpeakingFlags
}

// voiceTarget is what VOICE_STATE_UPDATE and VOICE_SERVER_UPDATE say together.
type voiceTarget struct {
	channel  proto.Snowflake
	session  string
	token    string
	endpoint string
}

// VoiceStats counts what a Voice sent and received since it was made, at both servers
// while a channel goes over from one to another.
type VoiceStats struct {
	Sent, Received uint64        // packets
	Malformed      uint64        // datagrams dropped because they did not open or parse
	Replayed       uint64        // datagrams dropped because they came before
	Overflow       uint64        // packets dropped because nobody read Packets
	RTT            time.Duration // of the latest UDP ping, zero before the first
	// Signalling is what the voice WebSocket took.
	Signalling Traffic
}

// JoinVoice joins a voice channel and returns when media can flow. The server
// answers nothing when the channel is full or not permitted: then ctx, or a limit
// of 10 s, ends the wait. One gateway session has one Voice in a guild; to change
// channel, use Voice.Move.
func (g *Gateway) JoinVoice(ctx context.Context, guild, channel proto.Snowflake, o VoiceOptions) (*Voice, error) {
	if guild == 0 || channel == 0 {
		return nil, errors.New("client: voice: guild and channel must be given")
	}
	if _, ok := ctx.Deadline(); !ok {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, joinTimeout)
		defer done()
	}
	life, cancel := context.WithCancel(g.ctx)
	v := &Voice{
		gw: g, guild: guild, options: o,
		ctx: life, cancel: cancel,
		done:      make(chan struct{}),
		connected: make(chan struct{}),
		packets:   make(chan Packet, packetQueue),
		wake:      make(chan struct{}, 1),
		wanted:    channel, mute: o.SelfMute, deaf: o.SelfDeaf,
	}
	if err := g.adopt(v); err != nil {
		cancel()
		return nil, err
	}
	go v.run()
	if err := v.sendState(channel); err != nil {
		v.end(err)
	}
	select {
	case <-v.connected:
		return v, nil
	case <-v.done:
		return nil, v.Err()
	case <-ctx.Done():
		_ = v.sendState(0)
		v.end(fmt.Errorf("client: voice: not joined (is the channel full, or not permitted?): %w", ctx.Err()))
		<-v.done
		return nil, v.Err()
	}
}

func (g *Gateway) adopt(v *Voice) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	if g.session == "" {
		return errors.New("client: voice: the gateway is not connected")
	}
	if g.voices[v.guild] != nil {
		return errors.New("client: voice: already in voice in this guild")
	}
	g.voices[v.guild] = v
	return nil
}

// Leave disconnects, and waits until everything has ended or ctx does.
func (v *Voice) Leave(ctx context.Context) error {
	err := v.sendState(0)
	v.end(ErrClosed)
	select {
	case <-v.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done is closed when the connection has ended for good; Err says why.
func (v *Voice) Done() <-chan struct{} { return v.done }

// Err returns nil while the connection lives.
func (v *Voice) Err() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

// Channel returns the channel of the moment: a moderator may move us.
func (v *Voice) Channel() proto.Snowflake {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.target.channel
}

// Packets returns what others say. Up to ten seconds of one speaker wait in it;
// when nobody reads, the oldest are dropped. It is closed when the Voice ends.
func (v *Voice) Packets() <-chan Packet { return v.packets }

// Stats returns the counters of the moment.
func (v *Voice) Stats() VoiceStats {
	return VoiceStats{
		Sent: v.counters.sent.Load(), Received: v.counters.received.Load(),
		Malformed: v.counters.malformed.Load(), Replayed: v.counters.replayed.Load(),
		Overflow:   v.counters.overflow.Load(),
		RTT:        time.Duration(v.counters.rtt.Load()),
		Signalling: v.traffic.total(),
	}
}

// SetSelf changes self mute and self deaf.
func (v *Voice) SetSelf(mute, deaf bool) error {
	v.mu.Lock()
	v.mute, v.deaf = mute, deaf
	channel := v.wanted
	v.mu.Unlock()
	return v.sendState(channel)
}

// Move asks to change to another channel of the guild. Media follows when the
// server agrees; Channel tells.
func (v *Voice) Move(channel proto.Snowflake) error {
	if channel == 0 {
		return errors.New("client: voice: channel must be given")
	}
	v.mu.Lock()
	v.wanted = channel
	v.mu.Unlock()
	return v.sendState(channel)
}

// Speaking announces how we speak: a microphone, shared sound, with priority, or
// not at all (zero). Send announces SpeakingVoice by itself.
func (v *Voice) Speaking(flags proto.SpeakingFlags) {
	v.mu.Lock()
	changed := v.speaking != flags
	v.speaking = flags
	v.mu.Unlock()
	if changed {
		v.notify()
	}
}

// Send sends one Opus packet of 2.5 to 120 ms now. The caller paces: Play does it
// for whole recordings. What is sent while the connection moves to another voice
// server is lost, as live audio should be.
func (v *Voice) Send(frame []byte) error {
	if v.ctx.Err() != nil {
		return v.endError()
	}
	v.mu.Lock()
	if v.speaking == 0 {
		v.speaking = proto.SpeakingVoice
		v.notify()
	}
	v.mu.Unlock()
	t := v.transport.Load()
	if t == nil {
		return nil
	}
	if former := v.handover.former.Load(); former != nil && former.transport != t {
		_ = former.transport.send(frame) // it may have ended
	}
	err := t.send(frame)
	if err != nil && v.transport.Load() != t {
		return nil
	}
	return err
}

// endError waits for the reason that a cancelled context stands for.
func (v *Voice) endError() error {
	<-v.done
	return v.Err()
}

func (v *Voice) sendState(channel proto.Snowflake) error {
	v.mu.Lock()
	d := proto.VoiceStateUpdateData{GuildID: v.guild, SelfMute: v.mute, SelfDeaf: v.deaf, ConnectedAs: v.claimsLocked(channel)}
	v.mu.Unlock()
	if channel != 0 {
		d.ChannelID = &channel
	}
	return v.gw.Send(proto.OpVoiceStateUpdate, d)
}

// end asks the session goroutine to end; the first reason given stays.
func (v *Voice) end(err error) {
	v.mu.Lock()
	if v.err == nil {
		v.err = err
	}
	v.mu.Unlock()
	v.cancel()
}

func (v *Voice) notify() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// stateUpdate takes in a VOICE_STATE_UPDATE of our own user.
func (v *Voice) stateUpdate(s proto.VoiceState, ours bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case !ours && v.unsettled && s.SessionID == v.target.session:
		// Of the session before, which the server has not heard the last of.
	case !ours && s.ChannelID != nil:
		v.endLocked(ErrReplaced)
	case !ours:
		// The end of a session that this one followed.
	case s.ChannelID != nil:
		v.target.channel, v.target.session = *s.ChannelID, s.SessionID
		v.wanted = *s.ChannelID
		if v.claim != nil {
			v.answeredLocked()
			v.unsettled = false
		}
		v.completeLocked()
	case v.target.channel == 0:
		// The end of an earlier Voice, which was left just before.
	case v.unsettled || v.cut:
		// The server gave up on a connection that was cut; we do not.
		v.answeredLocked()
		v.needJoin, v.held = true, voiceTarget{}
		v.notify()
	default:
		v.endLocked(ErrDisconnected)
	}
}

// serverUpdate takes in a VOICE_SERVER_UPDATE. Without an endpoint there is no
// voice server to be had yet, and another one follows.
func (v *Voice) serverUpdate(s proto.VoiceServerUpdateData) {
	if s.Endpoint == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.target.token, v.target.endpoint = s.Token, *s.Endpoint
	v.fresh, v.needJoin = true, false
	v.answeredLocked()
	v.completeLocked()
}

func (v *Voice) completeLocked() {
	if v.fresh && v.target.channel != 0 {
		v.notify()
	}
}

func (v *Voice) endLocked(err error) {
	if v.err == nil {
		v.err = err
	}
	v.cancel()
}

// rejoin is called when the gateway session was lost, and the voice state may be with
// it, or when the voice session was. Media flows on until the server answers.
func (v *Voice) rejoin() {
	v.mu.Lock()
	v.needJoin, v.unsettled, v.claims = true, true, 0
	v.mu.Unlock()
	v.notify()
}

// take returns the target when there is one that was not connected to yet.
func (v *Voice) take() (voiceTarget, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.fresh || v.target.channel == 0 {
		return voiceTarget{}, false
	}
	v.fresh = false
	return v.target, true
}

// deliver queues a packet for the reader, dropping the oldest when it is full.
func (v *Voice) deliver(p Packet) {
	for {
		select {
		case v.packets <- p:
			return
		default:
		}
		select {
		case <-v.packets:
			v.counters.overflow.Add(1)
		default:
		}
	}
}
