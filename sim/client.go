package sim

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/proto"
)

const (
	// watchEvery is how often a client looks whether it is where its user wants it, and
	// patience how long it waits for that before it asks anew.
	watchEvery = time.Second
	patience   = 4 * time.Second
	maxTries   = 3
)

// client is one user with one program, which does what a Discord library does and, like
// its user, asks again when nothing comes.
type client struct {
	w      *world
	name   string
	user   proto.Snowflake
	home   proto.Snowflake // the guild in which it goes into voice
	online bool            // what the user wants

	link    *link
	at      int // gateway by number
	session string
	seq     uint64
	sum     uint64
	tries   int
	live    bool // READY or RESUMED has come on this connection
	acked   bool // the last heartbeat was
	guilds  map[proto.Snowflake]*seen

	want proto.Snowflake // channel, 0 for none
	mute bool
	// patient is one who asks at READY, and not again.
	patient bool
	ready   clock.Time // of this session
	since   clock.Time // when the user was last content, or asked
	voice   *voiceConn
	vtries  int
	vacked  int
}

// seen is a guild as a client was told of it.
type seen struct {
	channels map[proto.Snowflake]string
	voice    map[proto.Snowflake]seenVoice
}

// seenVoice is a voice state as far as it is compared.
type seenVoice struct {
	channel  proto.Snowflake
	session  string
	selfMute bool
	mute     bool
}

func newClient(w *world, i int, home proto.Snowflake) *client {
	c := &client{w: w, name: fmt.Sprintf("client%d", i), user: proto.Snowflake(1000 + i), home: home, guilds: map[proto.Snowflake]*seen{}, patient: w.opts.Patient && i%2 == 1}
	w.after(w.between(0, watchEvery), c.watch)
	return c
}

// watch is the user's own clock: heartbeats, and asking again.
func (c *client) watch() {
	w := c.w
	w.after(watchEvery, c.watch)
	c.beat()
	s := c.guilds[c.home]
	if c.link == nil || !c.live || s == nil {
		c.since = w.now
		return
	}
	told, in := s.voice[c.user]
	mine := in && told.session == c.session
	content := c.want == 0 && !mine && c.voice == nil ||
		c.want != 0 && mine && told.channel == c.want && told.selfMute == c.mute && c.voice != nil && c.voice.ready
	if content {
		c.since = w.now
		return
	}
	if w.now.Sub(c.since) > patience && !w.calm && !c.patient {
		w.trace("%s is impatient", c.name)
		c.ask(false)
	}
}

// beat sends the heartbeats; a connection whose last was not answered is given up.
func (c *client) beat() {
	w := c.w
	round := int(time.Duration(w.now) / watchEvery)
	if l := c.link; l != nil && l.open && round%3 == 0 {
		if !c.acked {
			w.trace("%s gives its gateway up", c.name)
			l.hangUp(1006)
			c.lost(l)
		} else {
			c.acked = false
			l.send(proto.OpHeartbeat, c.seq)
		}
	}
	if v := c.voice; v != nil && v.open && round%2 == 0 {
		v.send(proto.VoiceOpHeartbeat, map[string]any{"t": 1, "seq_ack": c.vacked})
	}
}

// ask sends op 4 for what the user wants; when it claims its voice connection, if it has
// one of another gateway session, to go on with it.
func (c *client) ask(claim bool) {
	c.since = c.w.now
	if c.link == nil || !c.live {
		return
	}
	d := proto.VoiceStateUpdateData{GuildID: c.home, SelfMute: c.mute}
	if c.want != 0 {
		channel := c.want
		d.ChannelID = &channel
	} else {
		c.hangUpVoice(1000)
	}
	if v := c.voice; claim && v != nil && v.ready && v.session != c.session {
		d.ConnectedAs = v.session
	}
	c.w.trace("%s asks for channel %d as %q", c.name, c.want, d.ConnectedAs)
	c.link.send(proto.OpVoiceStateUpdate, d)
}

// gateways returns the hosts that run gateways.
func (w *world) gateways() []*host {
	var list []*host
	for _, h := range w.hosts {
		if h.roles.Has(fleet.Gateway) {
			list = append(list, h)
		}
	}
	return list
}

// connect opens a gateway connection: to the gateway of the session, or to any.
func (c *client) connect() {
	w := c.w
	if !c.online || c.link != nil {
		return
	}
	gateways := w.gateways()
	if c.session == "" || c.tries >= maxTries {
		c.forget()
		c.at = w.rng.IntN(len(gateways))
	}
	c.tries++
	server := gateways[c.at].is
	if server == nil {
		w.after(w.between(200*time.Millisecond, time.Second), c.connect)
		return
	}
	if !server.discovery.joined || server.gateway.draining {
		w.after(w.between(200*time.Millisecond, time.Second), c.connect)
		return
	}
	l := &link{client: c, server: server, up: pipe{w: w}, down: pipe{w: w}, open: true}
	c.link, c.acked, c.live = l, true, false
	l.up.carry(func() { server.do(aMessage, l.accept) })
	if c.session != "" {
		l.send(proto.OpResume, proto.ResumeData{Token: "t", SessionID: c.session, Seq: c.seq})
		return
	}
	l.send(proto.OpIdentify, proto.IdentifyData{Token: "t"})
}

// forget gives a session up.
func (c *client) forget() {
	c.session, c.seq, c.sum, c.tries = "", 0, 0, 0
	c.guilds = map[proto.Snowflake]*seen{}
}

// lost deals with a connection that has ended.
func (c *client) lost(l *link) {
	l.open = false
	if c.link != l {
		return
	}
	c.link = nil
	c.w.after(c.w.between(100*time.Millisecond, 1500*time.Millisecond), c.connect)
}

func (c *client) closed(l *link, code proto.CloseCode) {
	if l.open {
		c.w.trace("%s is closed with %d", c.name, code)
		c.lost(l)
	}
}

// hostGone learns, a little later, that what it is connected to is dead.
func (c *client) hostGone(p *process) {
	w := c.w
	if l := c.link; l != nil && l.server == p {
		w.after(w.between(time.Millisecond, 500*time.Millisecond), func() { c.closed(l, 1006) })
	}
	if v := c.voice; v != nil && v.server == p {
		w.after(w.between(time.Millisecond, 500*time.Millisecond), func() { c.voiceClosed(v, 1006) })
	}
}

// frame takes what the gateway sent.
func (c *client) frame(l *link, data []byte) {
	var f struct {
		Op proto.GatewayOpcode `json:"op"`
		S  uint64              `json:"s"`
		T  string              `json:"t"`
		D  json.RawMessage     `json:"d"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		c.w.violate("%s got %q", c.name, data)
		return
	}
	c.w.result.Frames++
	switch f.Op {
	case proto.OpHeartbeatACK:
		c.acked = true
	case proto.OpInvalidSession:
		c.w.trace("%s has lost its session", c.name)
		c.live = false
		c.forget()
		l.send(proto.OpIdentify, proto.IdentifyData{Token: "t"})
	case proto.OpDispatch:
		c.dispatched(f.S, f.T, f.D, data)
	}
}

func (c *client) dispatched(seq uint64, event string, d json.RawMessage, frame []byte) {
	if seq != c.seq+1 {
		c.w.violate("%s got event %d, %s, after %d", c.name, seq, event, c.seq)
	}
	c.seq = seq
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d", c.sum)
	_, _ = h.Write(frame[indexOf(frame, `"t":`):])
	c.sum = h.Sum64()
	if handle := eventHandlers[event]; handle != nil {
		handle(c, d)
	}
}

func indexOf(b []byte, s string) int {
	for i := range b {
		if len(b)-i >= len(s) && string(b[i:i+len(s)]) == s {
			return i
		}
	}
	return 0
}

var eventHandlers map[string]func(*client, json.RawMessage)

// The handlers lead to more events, hence to the table.
func init() {
	eventHandlers = map[string]func(*client, json.RawMessage){
		"READY":               (*client).onReady,
		"RESUMED":             (*client).onResumed,
		"GUILD_CREATE":        (*client).onGuild,
		"CHANNEL_CREATE":      (*client).onChannel,
		"CHANNEL_UPDATE":      (*client).onChannel,
		"CHANNEL_DELETE":      (*client).onChannelGone,
		"VOICE_STATE_UPDATE":  (*client).onVoiceState,
		"VOICE_SERVER_UPDATE": (*client).onVoiceServer,
	}
}

// read decodes what a server of this fleet encoded.
func read[T any](c *client, d json.RawMessage) T {
	var v T
	if err := json.Unmarshal(d, &v); err != nil {
		c.w.violate("%s got %q", c.name, d)
	}
	return v
}

func (c *client) onReady(d json.RawMessage) {
	c.session = read[proto.ReadyData](c, d).SessionID
	c.tries, c.live, c.ready = 0, true, c.w.now
	c.w.trace("%s is ready as %s", c.name, c.session)
	if c.patient && c.want != 0 {
		c.ask(true)
	}
}

func (c *client) onResumed(json.RawMessage) {
	c.tries, c.live = 0, true
	c.w.trace("%s has resumed %s", c.name, c.session)
}

func (c *client) onGuild(d json.RawMessage) {
	g := read[proto.GuildCreate](c, d)
	c.guilds[g.ID] = seenOf(&g)
	if g.ID != c.home {
		return
	}
	c.w.result.Waited = max(c.w.result.Waited, c.w.now.Sub(c.ready))
	if _, still := c.guilds[g.ID].channels[c.want]; !still {
		c.want = 0
	}
	// The patient have asked at READY, and leave what they are in when its place is gone.
	if c.want != 0 && !c.patient || c.voice != nil && (!c.patient || c.want == 0) {
		c.ask(true) // a new session takes the call over
	}
}

func seenOf(g *proto.GuildCreate) *seen {
	s := &seen{channels: map[proto.Snowflake]string{}, voice: map[proto.Snowflake]seenVoice{}}
	for _, ch := range g.Channels {
		s.channels[ch.ID] = ch.Name
	}
	for i := range g.VoiceStates {
		s.note(&g.VoiceStates[i])
	}
	return s
}

func (s *seen) note(v *proto.VoiceState) {
	if v.ChannelID == nil || *v.ChannelID == 0 {
		delete(s.voice, v.UserID)
		return
	}
	s.voice[v.UserID] = seenVoice{*v.ChannelID, v.SessionID, v.SelfMute, v.Mute}
}

func (c *client) onChannel(d json.RawMessage) {
	ch := read[proto.Channel](c, d)
	if s := c.guilds[ch.GuildID]; s != nil {
		s.channels[ch.ID] = ch.Name
	}
}

func (c *client) onChannelGone(d json.RawMessage) {
	ch := read[proto.Channel](c, d)
	if s := c.guilds[ch.GuildID]; s != nil {
		delete(s.channels, ch.ID)
	}
	if c.want == ch.ID {
		c.want = 0
		c.hangUpVoice(1000)
	}
}

func (c *client) onVoiceState(d json.RawMessage) {
	v := read[proto.VoiceState](c, d)
	s := c.guilds[v.GuildID]
	if s == nil {
		c.w.violate("%s hears of voice in guild %d, which it does not know", c.name, v.GuildID)
		return
	}
	s.note(&v)
	if v.UserID == c.user && v.SessionID == c.session && v.ChannelID != nil && c.want != 0 {
		c.want = *v.ChannelID // a moderator has moved it
		if c.voice != nil && c.voice.session != c.session {
			c.w.trace("%s goes on by %s", c.name, c.session)
			c.w.result.Adopted++
		}
	}
}

func (c *client) onVoiceServer(d json.RawMessage) {
	v := read[proto.VoiceServerUpdateData](c, d)
	if c.want == 0 {
		return
	}
	c.hangUpVoice(1000)
	c.vtries = 0
	c.openVoice(c.session, v.Token, *v.Endpoint, false)
}

// openVoice connects to a voice server, to identify or to resume.
func (c *client) openVoice(session, token, endpoint string, resume bool) {
	w := c.w
	var server *process
	for _, h := range w.hosts {
		if h.name == endpoint {
			server = h.is
		}
	}
	if server == nil {
		return // refused; the user is impatient soon
	}
	server.voice.last++
	v := &voiceConn{client: c, server: server, id: server.voice.last, up: pipe{w: w}, down: pipe{w: w}, open: true, session: session, token: token}
	c.voice, c.vacked = v, -1
	if resume {
		v.send(proto.VoiceOpResume, map[string]any{
			"server_id": c.home, "session_id": session, "token": token,
		})
		return
	}
	v.send(proto.VoiceOpIdentify, proto.VoiceIdentify{ServerID: c.home, UserID: c.user, SessionID: session, Token: token})
}

func (c *client) hangUpVoice(code proto.CloseCode) {
	if v := c.voice; v != nil {
		c.voice = nil
		v.hangUp(code)
	}
}

func (c *client) voiceFrame(v *voiceConn, data []byte) {
	if c.voice != v {
		return
	}
	var f struct {
		Op  proto.VoiceOpcode `json:"op"`
		Seq *int              `json:"seq"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		c.w.violate("%s got %q", c.name, data)
		return
	}
	if f.Seq != nil {
		c.vacked = *f.Seq
	}
	switch f.Op {
	case proto.VoiceOpReady:
		v.send(proto.VoiceOpSelectProtocol, proto.VoiceSelectProtocol{
			Protocol: proto.ProtocolUDP, Data: encode(proto.VoiceUDPData{Address: "127.0.0.1", Port: 9, Mode: proto.ModeAES256GCM}),
		})
	case proto.VoiceOpSessionDescription, proto.VoiceOpResumed:
		c.w.trace("%s is in voice at %s", c.name, v.server.name)
		v.ready = true
		c.vtries = 0
	}
}

// voiceClosed deals with a voice connection that has ended: from a cut it resumes, from
// all else the user asks anew.
func (c *client) voiceClosed(v *voiceConn, code proto.CloseCode) {
	if !v.open {
		return
	}
	v.open = false
	c.w.result.Cut++
	c.w.trace("%s is closed by %s with %d", c.name, v.server.name, code)
	if c.voice != v {
		return
	}
	c.voice = nil
	resumable := code == 1006 || code == proto.VoiceCloseServerCrashed || code == proto.VoiceCloseSessionTimeout
	if resumable && c.vtries < maxTries {
		c.vtries++
		c.w.after(c.w.between(100*time.Millisecond, 800*time.Millisecond), func() {
			if c.voice == nil && c.want != 0 {
				c.openVoice(v.session, v.token, v.server.name, true)
			}
		})
	}
}
