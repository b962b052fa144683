package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

func TestUserIdentifies(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("v=9&encoding=json")
	ready := p.identify(aliceKey, `,"presence":{"status":"dnd"}`, 1)
	host := strings.TrimPrefix(w.url, "http://")
	if ready.V != 9 || ready.User.ID != alice || len(ready.SessionID) != 32 || ready.ResumeGatewayURL != "ws://"+host+"/gateway" ||
		len(ready.Guilds) != 1 || ready.Guilds[0].ID != guildA || !ready.Guilds[0].Unavailable || ready.Application != nil {
		t.Errorf("READY %+v", ready)
	}
	at := w.asked(func(r guild.Request) bool { return r.Attach != nil })
	a := at.Attach
	if at.Guild != guildA || a.Gateway != "n1" || a.Session != ready.SessionID || a.User != alice || a.Bot ||
		a.Intents != ^proto.Intents(0) || a.Status == nil || a.Status.Status != "dnd" {
		t.Errorf("Attach %+v", a)
	}
	p.send(`{"op":1,"d":%d}`, p.last)
	p.want(proto.OpHeartbeatACK)
}

func TestBotIdentifiesWithSchemeIntentsAndShard(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("v=10")
	ready := p.identify("Bot "+robotKey, `,"intents":129,"shard":[1,2]`, 1)
	if len(ready.Guilds) != 1 || ready.Guilds[0].ID != guildB || ready.Shard == nil || *ready.Shard != [2]int{1, 2} ||
		ready.Application == nil || ready.Application.ID != robotsApp {
		t.Errorf("READY %+v", ready)
	}
	if a := w.asked(func(r guild.Request) bool { return r.Attach != nil }); a.Guild != guildB || !a.Attach.Bot || a.Attach.Intents != 129 {
		t.Errorf("Attach %+v", a.Attach)
	}
	// An interaction of a guild on the other shard is not for this session.
	for i, g := range []proto.Snowflake{guildA, guildB} {
		w.tellAll(guild.GatewayMessage{User: &guild.UserEvent{User: robot, Event: "INTERACTION_CREATE", Data: fmt.Appendf(nil, `{"guild_id":"%d","n":%d}`, g, i)}})
	}
	if f := p.want("INTERACTION_CREATE"); !strings.Contains(string(f.D), `"n":1`) {
		t.Errorf("got %s", f.D)
	}
}

func TestRequestsReachTheGuild(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("")
	ready := p.identify(aliceKey, "", 1)
	ref := guild.SessionRef{Gateway: "n1", Session: ready.SessionID, User: alice}

	p.send(`{"op":4,"d":{"guild_id":"%d","channel_id":"55","self_mute":true,"self_deaf":false}}`, guildA)
	r := w.asked(func(r guild.Request) bool { return r.Voice != nil })
	if v := r.Voice; r.Guild != guildA || v.SessionRef != ref || v.State.ChannelID == nil || *v.State.ChannelID != 55 || !v.State.SelfMute {
		t.Errorf("voice %+v", r.Voice)
	}
	p.send(`{"op":8,"d":{"guild_id":"%d","query":"a","limit":3,"nonce":"x"}}`, guildA)
	r = w.asked(func(r guild.Request) bool { return r.Members != nil })
	if m := r.Members; m.SessionRef != ref || *m.Query.Query != "a" || m.Query.Limit != 3 || m.Query.Nonce != "x" {
		t.Errorf("members %+v", m)
	}
	p.send(`{"op":3,"d":{"since":null,"activities":[{"name":"x","type":0}],"status":"idle","afk":false}}`)
	r = w.asked(func(r guild.Request) bool { return r.Presence != nil })
	if s := r.Presence; s.SessionRef != ref || s.Status.Status != "idle" || len(s.Status.Activities) != 1 {
		t.Errorf("presence %+v", s)
	}
	// A guild the session is not in is not asked.
	p.send(`{"op":4,"d":{"guild_id":"%d","channel_id":"1"}}`, guildB)
	p.send(`{"op":4,"d":{"guild_id":"%d","channel_id":null}}`, guildA)
	if r = w.asked(func(r guild.Request) bool { return r.Voice != nil }); r.Guild != guildA || r.Voice.State.ChannelID != nil {
		t.Errorf("voice %+v", r)
	}
}

func TestDispatchesFollowAttachmentIntentsAndNames(t *testing.T) {
	w := newWorld(t, defaults())
	a, b := w.dial(""), w.dial("")
	ra := a.identify(aliceKey, "", 1)
	b.identify(robotKey, robotIntents, 2)
	w.dispatch(guild.Dispatch{Guild: guildB, Event: "B_ONLY", Data: []byte(`{}`)})
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "TYPING_START", Intent: proto.IntentGuildTyping, Data: []byte(`{"x":1}`)})
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "A_ALONE", Sessions: []string{ra.SessionID}, Data: []byte(`{}`)})
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "A_NAMED", Sessions: []string{ra.SessionID, "nobody"}, Data: []byte(`{}`)})
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "VOICE_STATE_UPDATE", Intent: proto.IntentGuildVoice, Data: []byte(`{}`)})
	for _, event := range []string{"TYPING_START", "A_ALONE", "A_NAMED", "VOICE_STATE_UPDATE"} {
		a.want(event)
	}
	b.want("B_ONLY")
	b.want("VOICE_STATE_UPDATE")
}

func TestVoiceServerIsTheHostTheClientNamed(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("")
	ready := p.identify(aliceKey, "", 1)
	for _, at := range []string{"", "voice.example:4433"} {
		w.tell(guild.GatewayMessage{VoiceServer: &guild.VoiceServer{Guild: guildA, Session: ready.SessionID, Token: "secret", Endpoint: at}})
		var d proto.VoiceServerUpdateData
		if err := json.Unmarshal(p.want("VOICE_SERVER_UPDATE").D, &d); err != nil {
			t.Fatal(err)
		}
		if at == "" {
			at = strings.TrimPrefix(w.url, "http://")
		}
		if d.Endpoint == nil || *d.Endpoint != at || d.Token != "secret" || d.GuildID != guildA {
			t.Errorf("%+v", d)
		}
	}
}

func TestMembershipComesAndGoes(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("")
	p.identify(aliceKey, "", 1)
	w.tellAll(guild.GatewayMessage{Joined: &guild.Membership{User: alice, Guild: guildB}})
	if f := p.want("GUILD_CREATE"); !strings.Contains(string(f.D), guildB.String()) {
		t.Errorf("%s", f.D)
	}
	w.tellAll(guild.GatewayMessage{Left: &guild.Membership{User: alice, Guild: guildA}})
	if f := p.want("GUILD_DELETE"); string(f.D) != `{"id":"`+guildA.String()+`"}` {
		t.Errorf("%s", f.D)
	}
	if r := w.asked(isDetach); r.Guild != guildA || r.Detach.User != alice {
		t.Errorf("%+v", r)
	}
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "NOT_FOR_LEAVERS", Data: []byte(`{}`)})
	w.dispatch(guild.Dispatch{Guild: guildB, Event: "FOR_MEMBERS", Data: []byte(`{}`)})
	p.want("FOR_MEMBERS")
}

func TestRevokedTokenEndsItsSessionsOnly(t *testing.T) {
	w := newWorld(t, defaults())
	other := "MQ.AAAAAA.other"
	w.accounts.set(func() { w.accounts.tokens[token.Hash(other)] = w.accounts.tokens[token.Hash(aliceKey)] })
	p, q := w.dial(""), w.dial("")
	p.identify(aliceKey, "", 1)
	q.identify(other, "", 1)
	hash := token.Hash(aliceKey)
	w.tellAll(guild.GatewayMessage{Revoked: &guild.Revocation{User: alice, Hash: hash[:]}})
	p.wantClose(proto.CloseAuthenticationFailed)
	q.send(`{"op":1,"d":null}`)
	q.want(proto.OpHeartbeatACK)
	w.tellAll(guild.GatewayMessage{Revoked: &guild.Revocation{User: alice}})
	q.wantClose(proto.CloseAuthenticationFailed)
}

// cutTCP ends a client's connection without a close frame.
func (p *peer) cutTCP() { _ = p.ws.CloseNow() }

func TestResumeAfterACutReplaysWhatWasMissed(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("")
	ready := p.identify(aliceKey, "", 1)
	seen := p.last
	p.cutTCP()
	for i := range 5 {
		w.dispatch(guild.Dispatch{Guild: guildA, Event: "MESSAGE_CREATE", Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	q := w.dial("")
	q.want(proto.OpHello)
	q.last = seen
	q.send(`{"op":6,"d":{"token":"Bot %s","session_id":%q,"seq":%d}}`, aliceKey, ready.SessionID, seen)
	// Those dispatched before the resume are replayed, later ones follow RESUMED.
	for n, resumed := 0, false; n < 5 || !resumed; {
		switch f := q.want(nil); f.T {
		case "RESUMED":
			resumed = true
		case "MESSAGE_CREATE":
			if want := fmt.Sprintf(`{"n":%d}`, n); string(f.D) != want {
				t.Fatalf("got %s, want %s", f.D, want)
			}
			n++
		default:
			t.Fatalf("got op %d %s", f.Op, f.T)
		}
	}
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "AFTER", Data: []byte(`{}`)})
	q.want("AFTER")
	q.send(`{"op":1,"d":%d}`, q.last)
	q.want(proto.OpHeartbeatACK)
}

func TestResumeTakesAConnectionOver(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("")
	ready := p.identify(aliceKey, "", 1)
	q := w.dial("")
	q.want(proto.OpHello)
	q.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, aliceKey, ready.SessionID, p.last)
	q.want("RESUMED")
	p.wantClose(proto.CloseUnknownError)
	// The end of the old connection does not end the session.
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "STILL_HERE", Data: []byte(`{}`)})
	q.want("STILL_HERE")
}

func TestResumeRefusals(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("")
	ready := p.identify(aliceKey, "", 1)
	p.cutTCP()
	for _, c := range []struct {
		name, key, session string
		seq                uint64
		code               proto.CloseCode // 0: op 9
	}{
		{"unknown session", aliceKey, "0123", 1, 0},
		{"another's token", robotKey, ready.SessionID, 1, proto.CloseAuthenticationFailed},
		{"seq from the future", aliceKey, ready.SessionID, 1000, proto.CloseInvalidSeq},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := w.dial("")
			q.want(proto.OpHello)
			q.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, c.key, c.session, c.seq)
			if c.code != 0 {
				q.wantClose(c.code)
				return
			}
			if f := q.want(proto.OpInvalidSession); string(f.D) != "false" {
				t.Errorf("d is %s", f.D)
			}
			q.send(`{"op":2,"d":{"token":%q,"properties":{}}}`, aliceKey)
			q.readyWith(1)
		})
	}
}

func TestSessionOutlivesACutForTheWindowOnly(t *testing.T) {
	cfg := defaults()
	cfg.ResumeWindow = 200 * time.Millisecond
	w := newWorld(t, cfg)
	p := w.dial("")
	ready := p.identify(aliceKey, "", 1)
	p.cutTCP()
	if r := w.asked(isDetach); r.Detach.Session != ready.SessionID || r.Guild != guildA {
		t.Errorf("%+v", r.Detach)
	}
	q := w.dial("")
	q.want(proto.OpHello)
	q.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":1}}`, aliceKey, ready.SessionID)
	q.want(proto.OpInvalidSession)
}

func TestCleanCloseEndsTheSessionAtOnce(t *testing.T) {
	w := newWorld(t, defaults()) // with a window of a minute
	p := w.dial("")
	ready := p.identify(aliceKey, "", 1)
	_ = p.ws.Close(1000, "")
	if r := w.asked(isDetach); r.Detach.Session != ready.SessionID {
		t.Errorf("%+v", r.Detach)
	}
}

func TestMissedHeartbeatIsAskedForThenCloses(t *testing.T) {
	cfg := defaults()
	cfg.Heartbeat = 400 * time.Millisecond
	w := newWorld(t, cfg)
	p := w.dial("")
	p.identify(aliceKey, "", 1)
	p.want(proto.OpHeartbeat)
	p.send(`{"op":1,"d":%d}`, p.last)
	p.want(proto.OpHeartbeatACK)
	p.want(proto.OpHeartbeat)
	p.wantClose(proto.CloseSessionTimedOut)
}

func TestBadInputGetsItsCode(t *testing.T) {
	w := newWorld(t, defaults())
	identify := fmt.Sprintf(`{"op":2,"d":{"token":%q,"properties":{}%s}}`, robotKey, robotIntents)
	for _, c := range []struct {
		name   string
		query  string
		frames []string
		code   proto.CloseCode
	}{
		{"version", "v=8", nil, proto.CloseInvalidAPIVersion},
		{"encoding", "encoding=etf", nil, proto.CloseDecodeError},
		{"compression", "compress=lzma", nil, proto.CloseDecodeError},
		{"no JSON", "", []string{"hello"}, proto.CloseDecodeError},
		{"no opcode", "", []string{`{"d":{}}`}, proto.CloseDecodeError},
		{"opcode of the wrong type", "", []string{`{"op":"2"}`}, proto.CloseDecodeError},
		{"unknown opcode", "", []string{`{"op":99,"d":null}`}, proto.CloseUnknownOpcode},
		{"server's opcode", "", []string{`{"op":0,"d":null}`}, proto.CloseUnknownOpcode},
		{"before identify", "", []string{`{"op":4,"d":{"guild_id":"1"}}`}, proto.CloseNotAuthenticated},
		{"identify is no object", "", []string{`{"op":2,"d":[]}`}, proto.CloseDecodeError},
		{"no token", "", []string{`{"op":2,"d":{}}`}, proto.CloseAuthenticationFailed},
		{"wrong token", "", []string{`{"op":2,"d":{"token":"MQ.AAAAAA.guess","intents":1}}`}, proto.CloseAuthenticationFailed},
		{"shard outside", "", []string{`{"op":2,"d":{"token":"x","shard":[2,2]}}`}, proto.CloseInvalidShard},
		{"negative shard", "", []string{`{"op":2,"d":{"token":"x","shard":[-1,2]}}`}, proto.CloseInvalidShard},
		{"no shards", "", []string{`{"op":2,"d":{"token":"x","shard":[0,0]}}`}, proto.CloseInvalidShard},
		{"bot without intents", "", []string{fmt.Sprintf(`{"op":2,"d":{"token":%q}}`, robotKey)}, proto.CloseInvalidIntents},
		{"unknown intent", "", []string{fmt.Sprintf(`{"op":2,"d":{"token":%q,"intents":%d}}`, robotKey, 1<<40)}, proto.CloseInvalidIntents},
		{"presence", "", []string{`{"op":2,"d":{"token":"x","presence":{"status":"here"}}}`}, proto.CloseDecodeError},
		{"twice", "", []string{identify, identify}, proto.CloseAlreadyAuthenticated},
		{"resume when identified", "", []string{identify, `{"op":6,"d":{}}`}, proto.CloseAlreadyAuthenticated},
		{"no JSON when identified", "", []string{identify, `]`}, proto.CloseDecodeError},
		{"heartbeat is no number", "", []string{identify, `{"op":1,"d":"x"}`}, proto.CloseDecodeError},
		{"presence when identified", "", []string{identify, `{"op":3,"d":{"status":5}}`}, proto.CloseDecodeError},
		{"voice is no object", "", []string{identify, `{"op":4,"d":4}`}, proto.CloseDecodeError},
		{"members is no object", "", []string{identify, `{"op":8,"d":"all"}`}, proto.CloseDecodeError},
		{"unknown opcode when identified", "", []string{identify, `{"op":12}`}, proto.CloseUnknownOpcode},
		{"oversize", "", []string{`{"op":1,"d":null,"pad":"` + strings.Repeat("x", 4096) + `"}`}, proto.CloseDecodeError},
		{"oversize when identified", "", []string{identify, strings.Repeat("x", 1<<20)}, proto.CloseDecodeError},
		{"too many", "", slicesOf(`{"op":1,"d":null}`, 121), proto.CloseRateLimited},
		{"too many when identified", "", append([]string{identify}, slicesOf(`{"op":1,"d":null}`, 120)...), proto.CloseRateLimited},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := w.dial(c.query)
			p.t = t
			for _, f := range c.frames {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_ = p.ws.Write(ctx, websocket.MessageText, []byte(f)) // the last ones may meet a closed connection
				cancel()
			}
			p.wantClose(c.code)
		})
	}
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestStoreTroubleIsNotTheClientsFault(t *testing.T) {
	w := newWorld(t, defaults())
	w.accounts.set(func() { w.accounts.err = errors.New("disk on fire") })
	p := w.dial("")
	p.want(proto.OpHello)
	p.send(`{"op":2,"d":{"token":%q}}`, aliceKey)
	p.wantClose(proto.CloseUnknownError)
}

func TestCloseSendsEveryoneAwayResumably(t *testing.T) {
	w := newWorld(t, defaults())
	p, q := w.dial(""), w.dial("")
	p.identify(aliceKey, "", 1)
	q.want(proto.OpHello)
	closed := make(chan struct{})
	go func() { w.service.Close(context.Background()); close(closed) }()
	for _, peer := range []*peer{p, q} {
		peer.want(proto.OpReconnect)
		peer.wantClose(proto.CloseUnknownError)
	}
	select {
	case <-closed:
	case <-time.After(3 * time.Second):
		t.Fatal("Close takes more than 3 s")
	}
	if _, err := w.tryDial(""); err == nil {
		t.Error("a closed gateway accepts")
	}
	w.asked(isDetach)
	if n := w.metric("hubbub_gateway_connections"); n != 0 {
		t.Errorf("%v connections are left", n)
	}
}
