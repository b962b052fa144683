package voice

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/proto"
)

// The sources of the design say about 1,000 bytes for both directions together.
func TestNativeJoinIsSmall(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("?v=8")
	var hello proto.VoiceHello
	if c.expect(proto.VoiceOpHello, &hello); hello.V != 8 || hello.HeartbeatInterval != 41250 {
		t.Errorf("hello %+v", hello)
	}
	v := claims(7, 1)
	c.send(proto.VoiceOpIdentify, identify(v, v.Sign(testKey)))
	var ready proto.VoiceReady
	c.expect(proto.VoiceOpReady, &ready)
	if ready.IP != "127.0.0.1" || ready.Port != 50000 || len(ready.Modes) != 2 {
		t.Errorf("ready %+v", ready)
	}
	c.selectUDP(proto.ModeXChaCha20)
	var d proto.VoiceSessionDescription
	c.expect(proto.VoiceOpSessionDescription, &d)
	native := w.command(func(p posted) bool { return p.Native != nil }).Native
	if d.Mode != native.Mode || len(d.SecretKey) != 32 || d.SecretKey[31] != int(native.Key[31]) {
		t.Errorf("client and worker disagree: %+v, %+v", d, native)
	}
	t.Logf("native join: %d bytes in, %d bytes out", c.in, c.out)
	if c.in+c.out > 1150 {
		t.Errorf("a native join took %d + %d bytes", c.in, c.out)
	}
	report := receive(t, w.reports)
	if !report.Connected || report.Transport != proto.ProtocolUDP || report.Node != "n1" || report.User != 7 {
		t.Errorf("report %+v", report)
	}
}

// The sources say under 1,200 bytes.
func TestBrowserJoinIsSmall(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("?v=9")
	c.expect(proto.VoiceOpHello, nil)
	v := claims(7, 1)
	c.send(proto.VoiceOpIdentify, identify(v, v.Sign(testKey)))
	c.expect(proto.VoiceOpReady, nil)
	data, _ := json.Marshal("a=ice-ufrag:9WZo\na=ice-pwd:vcfFowC3gQI1KHu0Fm5ZTXum\n" +
		"a=fingerprint:sha-256 71:20:4C:BE:C2:D0:B7:9B:73:5B:4B:29:7C:32:41:25:D8:D2:BC:66:74:D3:93:98:B3:0D:01:F7:67:19:01:13\n" +
		"a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\na=rtpmap:111 opus/48000/2")
	c.send(proto.VoiceOpSelectProtocol, proto.VoiceSelectProtocol{
		Protocol: proto.ProtocolWebRTC, Data: data, RTCConnectionID: "d6b92f64-40df-48eb-8bce-7facb043149a",
		Codecs: []proto.VoiceCodec{{Name: "opus", Type: "audio", Priority: 1000, PayloadType: 111}},
	})
	var d proto.VoiceSessionDescription
	c.expect(proto.VoiceOpSessionDescription, &d)
	browser := w.command(func(p posted) bool { return p.Browser != nil }).Browser
	if !strings.Contains(d.SDP, "a=ice-ufrag:"+browser.LocalUfrag) || !strings.Contains(d.SDP, "127.0.0.1 50000 typ host") {
		t.Errorf("SDP %s", d.SDP)
	}
	t.Logf("browser join: %d bytes in, %d bytes out", c.in, c.out)
	if c.in >= 1200 || c.out >= 1200 {
		t.Errorf("a browser join took %d bytes in, %d out", c.in, c.out)
	}
}

// discordgo names no version, sends its heartbeat bare, and knows speaking as a
// boolean.
func TestLegacyClient(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *fakeMedia) { c.Legacy = true })
	c := w.dial("")
	c.expect(proto.VoiceOpHello, nil)
	v := claims(7, 1)
	c.sendRaw(fmt.Sprintf(`{"op":0,"d":{"server_id":"%d","user_id":"7","session_id":"%s","token":"%s"}}`, v.Guild, v.Session, v.Sign(testKey)))
	var ready proto.VoiceReady
	c.expect(proto.VoiceOpReady, &ready)
	if ready.HeartbeatInterval == 0 || ready.Modes[len(ready.Modes)-1] != proto.ModeXSalsa20 {
		t.Errorf("ready %+v", ready)
	}
	c.sendRaw(`{"op":3,"d":1501184119}`)
	if f := c.expect(proto.VoiceOpHeartbeatACK, nil); string(f.D) != "1501184119" {
		t.Errorf("heartbeat answered with %s", f.D)
	}
	c.selectUDP(proto.ModeXSalsa20)
	c.expect(proto.VoiceOpSessionDescription, nil)
	c.sendRaw(`{"op":5,"d":{"speaking":true,"delay":0}}`)
	other, _, _ := w.join(9, claims(8, 1))
	other.sendRaw(`{"op":5,"d":{"speaking":1,"delay":0}}`)
	c.expect(proto.VoiceOpClientsConnect, nil)
	if f := c.expect(proto.VoiceOpSpeaking, nil); !strings.Contains(string(f.D), `"speaking":false`) {
		t.Errorf("speaking %s", f.D)
	}
}

func TestSpeakingReachesTheOthers(t *testing.T) {
	w := newWorld(t, nil)
	a, _, readyA := w.join(9, claims(1, 1))
	peer := w.command(func(p posted) bool { return p.Add != nil }).Add.Peer
	b, _, readyB := w.join(8, claims(2, 1))
	var speaking proto.VoiceSpeaking
	b.expect(proto.VoiceOpClientsConnect, nil)
	a.sendRaw(fmt.Sprintf(`{"op":5,"d":{"speaking":1,"delay":0,"ssrc":%d}}`, readyA.SSRC))
	b.sendRaw(fmt.Sprintf(`{"op":5,"d":{"speaking":1,"delay":0,"ssrc":%d}}`, readyB.SSRC))
	if b.expect(proto.VoiceOpSpeaking, &speaking); speaking.SSRC != readyA.SSRC || speaking.UserID != 1 {
		t.Errorf("newcomer learned %+v", speaking)
	}
	a.expect(proto.VoiceOpClientsConnect, nil)
	if a.expect(proto.VoiceOpSpeaking, &speaking); speaking.SSRC != readyB.SSRC || speaking.UserID != 2 {
		t.Errorf("the other learned %+v", speaking)
	}
	for _, on := range []bool{true, false} {
		w.service.Event(0, sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: peer, On: on}})
		if b.expect(proto.VoiceOpSpeaking, &speaking); (speaking.Speaking == proto.SpeakingVoice) != on || speaking.SSRC != readyA.SSRC {
			t.Errorf("on %t: %+v", on, speaking)
		}
	}
	_ = a.ws.Close(websocket.StatusNormalClosure, "")
	var gone proto.VoiceClientDisconnect
	if b.expect(proto.VoiceOpClientDisconnect, &gone); gone.UserID != 1 {
		t.Errorf("left: %+v", gone)
	}
}

func TestResumeAcrossACutConnection(t *testing.T) {
	w := newWorld(t, nil)
	a, signed, _ := w.join(9, claims(1, 1))
	b, _, _ := w.join(9, claims(2, 1))
	a.expect(proto.VoiceOpClientsConnect, nil)
	b.sendRaw(`{"op":5,"d":{"speaking":1,"delay":0}}`)
	last := a.expect(proto.VoiceOpSpeaking, nil)
	add := w.command(func(p posted) bool { return p.Add != nil })
	w.command(func(p posted) bool { return p.Native != nil })
	w.command(func(p posted) bool { return p.Native != nil })

	a.cut()
	w.until(func(list []signalling.Info) bool {
		for _, s := range list {
			if s.User == 1 {
				return !s.Connected
			}
		}
		return false
	})
	_ = b.ws.Close(websocket.StatusNormalClosure, "")
	w.command(func(p posted) bool { return p.Remove != nil })

	again := w.dial("?v=9")
	again.expect(proto.VoiceOpHello, nil)
	again.send(proto.VoiceOpResume, proto.VoiceResume{
		ServerID: testGuild, ChannelID: testChannel, SessionID: claims(1, 1).Session, Token: signed, SeqAck: last.Seq,
	})
	again.expect(proto.VoiceOpResumed, nil)
	var gone proto.VoiceClientDisconnect
	if f := again.expect(proto.VoiceOpClientDisconnect, &gone); gone.UserID != 2 || *f.Seq != *last.Seq+1 {
		t.Errorf("replayed %+v with %d after %d", gone, *f.Seq, *last.Seq)
	}
	w.settle()
	select {
	case c := <-w.media.commands:
		t.Errorf("the worker was told %+v about peer %d", c, add.Add.Peer)
	default:
	}
}

// until waits for a state of the shards, which do their part as they are asked.
func (w *world) until(f func([]signalling.Info) bool) {
	w.t.Helper()
	for end := time.Now().Add(deadline); !f(w.settle()); runtime.Gosched() {
		if time.Now().After(end) {
			w.t.Fatalf("sessions stay %+v", w.settle())
		}
	}
}

func TestGuildCommands(t *testing.T) {
	w := newWorld(t, nil)
	a, _, _ := w.join(9, claims(1, 1))
	w.publish(guild.VoiceCommand{Guild: testGuild, User: 1, Join: 1, Update: &guild.VoiceFlags{Mute: true}})
	if c := w.command(func(p posted) bool { return p.Update != nil }); c.Update.Flags != sfu.Muted {
		t.Errorf("worker was told %+v", c)
	}
	w.publish(guild.VoiceCommand{Guild: testGuild, User: 1, Join: 1, End: true, Code: proto.VoiceCloseDisconnected})
	w.command(func(p posted) bool { return p.Remove != nil })
	a.expectClose(proto.VoiceCloseDisconnected)
	if err := w.bus.Publish(guild.VoiceSubject("n1"), "no command"); err != nil {
		t.Fatal(err)
	}
	b, _, _ := w.join(9, claims(2, 1))
	w.publish(guild.VoiceCommand{Guild: testGuild, User: 2, Join: 1, End: true, Code: proto.VoiceCloseCallTerminated})
	b.expectClose(proto.VoiceCloseCallTerminated)
}

// Only when no shard has a join, its guild is told that it is over.
func TestGuildsVerifyJoins(t *testing.T) {
	w := newWorld(t, nil)
	w.join(9, claims(1, 1))
	receive(w.t, w.reports)
	for _, user := range []proto.Snowflake{1, 2} {
		w.publish(guild.VoiceCommand{Guild: testGuild, User: user, Join: 1, Verify: true})
	}
	if r := receive(w.t, w.reports); r.User != 2 || r.Join != 1 || r.Node != "n1" || r.Connected {
		t.Errorf("%+v", r)
	}
}

func TestCloseCodes(t *testing.T) {
	w := newWorld(t, nil)
	v := claims(7, 1)
	good := identify(v, v.Sign(testKey))
	payload := func(op proto.VoiceOpcode, d any) string {
		raw, _ := json.Marshal(d)
		return fmt.Sprintf(`{"op":%d,"d":%s}`, op, raw)
	}
	forged, unknown, elsewhere := good, good, good
	forged.Token, unknown.SessionID, elsewhere.ServerID = v.Sign([]byte("other")), "x", 9
	join := payload(proto.VoiceOpIdentify, good)
	for _, c := range []struct {
		query string
		sends []string
		code  proto.CloseCode
	}{
		{"?v=10", nil, 4020},
		{"?v=four", nil, 4020},
		{"?v=9", []string{`{"op":1,"d":{}}`}, 4003},
		{"?v=9", []string{`{"op":`}, 4002},
		{"?v=9", []string{`{"op":0,"d":{}}`}, 4020},
		{"?v=9", []string{`{"op":0,"d":{"token":"` + strings.Repeat("x", signalling.MaxFrame) + `"}}`}, 4002},
		{"?v=9", []string{payload(proto.VoiceOpIdentify, forged)}, 4004},
		{"?v=9", []string{payload(proto.VoiceOpIdentify, unknown)}, 4006},
		{"?v=9", []string{payload(proto.VoiceOpIdentify, elsewhere)}, 4011},
		{"?v=9", []string{payload(proto.VoiceOpResume, good)}, 4006},
		{"?v=9", []string{join, `{"op":99,"d":{}}`}, 4001},
		{"?v=9", []string{join, `nonsense`}, 4002},
		{"?v=9", []string{join, join}, 4005},
		{"?v=9", []string{join, `{"op":1,"d":{"protocol":"pigeon"}}`}, 4012},
		{"?v=9", []string{join, `{"op":1,"d":{"protocol":"udp","data":{"mode":"none"}}}`}, 4016},
		{"?v=9", []string{join, `{"op":1,"d":[]}`}, 4020},
		{"?v=9", []string{join, `{"op":3,"d":"` + strings.Repeat("x", signalling.MaxFrame) + `"}`}, 4002},
	} {
		client := w.dial(c.query)
		for _, s := range c.sends {
			client.sendRaw(s)
		}
		client.expectClose(c.code)
	}
	client := w.dial("?v=9")
	if err := client.ws.Write(client.ctx, websocket.MessageBinary, []byte{3, 0}); err != nil {
		t.Fatal(err)
	}
	client.expectClose(proto.VoiceCloseDecodeError)
}

func TestTooManyPayloads(t *testing.T) {
	w := newWorld(t, nil)
	c, _, _ := w.join(9, claims(1, 1))
	for range messageLimit {
		if c.ws.Write(c.ctx, websocket.MessageText, []byte(`{"op":3,"d":1}`)) != nil {
			break // closed already
		}
	}
	c.expectClose(proto.VoiceCloseRateLimited)
}

func TestWorkerThatRefusesEndsTheSession(t *testing.T) {
	w := newWorld(t, nil)
	c, _, _ := w.join(9, claims(1, 1))
	receive(t, w.reports)
	w.media.refuse.Store(true)
	c.selectUDP(proto.ModeAES256GCM)
	c.expectClose(proto.VoiceCloseServerCrashed)
	for r := receive(t, w.reports); r.Connected; r = receive(t, w.reports) {
	}
	if list := w.settle(); len(list) != 0 {
		t.Errorf("sessions %+v", list)
	}
}

func TestOverloadedShardCutsClientsOff(t *testing.T) {
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	w := newWorld(t, func(_ *Config, m *fakeMedia) { m.gate = gate })
	t.Cleanup(open)
	v := claims(1, 1)
	c := w.dial("?v=9")
	c.send(proto.VoiceOpIdentify, identify(v, v.Sign(testKey)))
	receive(t, w.media.waits)
	stuck := &client{id: 1 << 40, service: w.service}
	for w.service.shards[0].post(input{client: stuck, data: []byte(`{"op":3}`)}) {
	}
	d := w.dial("?v=9")
	v = claims(2, 1)
	d.send(proto.VoiceOpIdentify, identify(v, v.Sign(testKey)))
	d.expectClose(proto.VoiceCloseServerCrashed)
	open()
	c.expect(proto.VoiceOpHello, nil)
	c.expect(proto.VoiceOpReady, nil)
	w.placed(1, 0)
}

func TestChannelsSpreadOverWorkers(t *testing.T) {
	w := newWorld(t, nil)
	first, _, readyFirst := w.join(9, claims(1, 1))
	elsewhere := claims(2, 1)
	elsewhere.Channel++
	second, _, readySecond := w.join(9, elsewhere)
	_, _, readyThird := w.join(9, claims(3, 1))
	if readyFirst.Port != 50000 || readySecond.Port != 50001 || readyThird.Port != 50000 {
		t.Errorf("ports %d, %d, %d", readyFirst.Port, readySecond.Port, readyThird.Port)
	}
	for _, s := range w.settle() {
		if (s.Worker == 1) != (s.Channel == elsewhere.Channel) {
			t.Errorf("session %+v", s)
		}
	}
	_ = first.ws.Close(websocket.StatusNormalClosure, "")
	_ = second.ws.Close(websocket.StatusGoingAway, "")
	w.until(func(list []signalling.Info) bool { return len(list) == 1 })
	w.placed(1, 0)
	if n := w.service.placement.core.Channels(); n != 1 {
		t.Errorf("%d channels are placed", n)
	}
}

// A channel may be placed on another worker by the time that a token comes again.
func TestEndedJoinIsRefusedOnEveryWorker(t *testing.T) {
	w := newWorld(t, nil)
	v := claims(1, 1)
	c, signed, _ := w.join(9, v)
	_ = c.ws.Close(websocket.StatusNormalClosure, "")
	w.until(func(list []signalling.Info) bool { return len(list) == 0 })
	elsewhere := claims(2, 1)
	elsewhere.Channel++
	if _, _, ready := w.join(9, elsewhere); ready.Port != 50000 {
		t.Fatalf("port %d", ready.Port)
	}
	again := w.dial("?v=9")
	again.send(proto.VoiceOpIdentify, identify(v, signed))
	again.expectClose(proto.VoiceCloseSessionInvalid)
}

func TestClose(t *testing.T) {
	w := newWorld(t, nil)
	joined, _, _ := w.join(9, claims(1, 1))
	waiting := w.dial("?v=9")
	waiting.expect(proto.VoiceOpHello, nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		w.service.Close(ctx)
		if ctx.Err() != nil {
			t.Error("Close took too long")
		}
	}()
	joined.expectClose(proto.VoiceCloseServerCrashed)
	waiting.expectClose(proto.VoiceCloseServerCrashed)
	receive(t, ended)
	response, err := http.Get(w.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after Close: %s", response.Status)
	}
	w.service.Close(context.Background())
}

// Connections that do wrong leave nothing behind.
func TestBadConnectionsLeaveNothing(t *testing.T) {
	w := newWorld(t, nil)
	v := claims(1, 1)
	forged, _ := json.Marshal(identify(v, v.Sign([]byte("other"))))
	bad := []string{
		`{"op":`, `{"op":1,"d":{}}`, `{"op":0,"d":` + string(forged) + `}`, strings.Repeat("x", signalling.MaxFrame+1),
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	round := func(n int) uint64 {
		for i := range n {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			c, _, err := websocket.Dial(ctx, w.server.URL+"/?v=9", &websocket.DialOptions{HTTPClient: client})
			if err != nil {
				t.Fatal(err)
			}
			if i%5 < 4 {
				_ = c.Write(ctx, websocket.MessageText, []byte(bad[i%5]))
				for err == nil {
					_, _, err = c.Read(ctx)
				}
			}
			_ = c.CloseNow()
			cancel()
		}
		for end := time.Now().Add(deadline); w.service.open.Load() > 0 || len(w.service.lobby.all()) > 0; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%d connections are still open", w.service.open.Load())
			}
		}
		runtime.GC()
		runtime.GC() // what pools held goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := round(500)
	after := round(2500)
	if after > before+1<<20 {
		t.Errorf("heap grew from %d to %d bytes", before, after)
	}
	l := &w.service.lobby
	if len(l.deadlines)+len(l.addresses)+w.service.placement.core.Channels() != 0 {
		t.Errorf("left over: %d waiting, %d addresses, %d channels", len(l.deadlines), len(l.addresses), w.service.placement.core.Channels())
	}
}

func TestSlowClientIsCutOff(t *testing.T) {
	w := newWorld(t, nil)
	slow, _, _ := w.join(9, claims(1, 1))
	_, _, _ = w.join(9, claims(2, 1))
	w.command(func(p posted) bool { return p.Add != nil })
	peer := w.command(func(p posted) bool { return p.Add != nil }).Add.Peer
	// slow reads nothing: what the kernel does not take waits, up to a bound.
	connected := func() bool {
		for _, s := range w.settle() {
			if s.User == 1 {
				return s.Connected
			}
		}
		return false
	}
	for batch := 0; connected(); batch++ {
		if batch == 1000 {
			t.Fatal("4,000,000 events are waiting for a client that reads nothing")
		}
		for i := range 4000 {
			w.service.Event(0, sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: peer, On: i%2 == 0}})
		}
	}
	_ = slow
}

func TestMetricsRegister(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config, _ *fakeMedia) { c.Metrics = registry })
	_, _, _ = w.join(9, claims(1, 1))
	w.settle()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
	}
	for _, name := range []string{"hubbub_voice_sessions", "hubbub_voice_identifies_total", "hubbub_voice_join_bytes", "hubbub_voice_join_seconds"} {
		if !found[name] {
			t.Errorf("no %s", name)
		}
	}
	if _, err := New(Config{Metrics: registry}, w.bus, w.media); err == nil {
		t.Error("a second service registered the same metrics")
	}
}

// A plain heartbeat is answered by the connection's reader, and the shard learns of it
// when it looks.
func TestReaderAnswersHeartbeats(t *testing.T) {
	w := newWorld(t, nil)
	c, _, _ := w.join(8, claims(7, 1))
	beats := make(chan clock.Time, 1)
	last := func() clock.Time {
		for _, h := range w.service.shards {
			h.tell(control{ask: func() {
				for conn := range h.clients {
					beats <- h.beat(conn)
				}
			}})
		}
		return receive(t, beats)
	}
	if at := last(); at != 0 {
		t.Errorf("a heartbeat at %v, before any", at)
	}
	began := monotonic.Now()
	c.sendRaw(`{"op":3,"d":{"t":1501184119561,"seq_ack":1}}`)
	if f := c.expect(proto.VoiceOpHeartbeatACK, nil); string(f.D) != `{"t":1501184119561}` {
		t.Errorf("answered with %s", f.D)
	}
	if at := last(); at < began {
		t.Errorf("a heartbeat at %v, after %v", at, began)
	}
	// What libraries do not write is the shard's, and answered all the same.
	c.sendRaw(`{ "op": 3, "d": {"seq_ack": 1, "t": 5} }`)
	if f := c.expect(proto.VoiceOpHeartbeatACK, nil); string(f.D) != `{"t":5}` {
		t.Errorf("answered with %s", f.D)
	}
}

// A client whose media is silent is pinged, and its library's answer reaches the shard.
func TestQuietClientIsPinged(t *testing.T) {
	w := newWorld(t, nil)
	c, _, _ := w.join(8, claims(7, 1))
	add := w.command(func(p posted) bool { return p.Add != nil })
	w.service.Event(add.worker, sfu.Event{Quiet: &sfu.PeerQuiet{Peer: add.Add.Peer}})
	states := make(chan bool, 1)
	asked := func() bool {
		w.service.shards[signalling.HomeOf(add.Add.Peer)].tell(control{ask: func() {
			for _, c := range w.service.shards[signalling.HomeOf(add.Add.Peer)].clients {
				states <- c.asked.Load()
			}
		}})
		return receive(t, states)
	}
	if !asked() {
		t.Fatal("not asked")
	}
	// Reading answers the ping, before what is sent after it.
	c.sendRaw(`{"op":3,"d":1}`)
	c.expect(proto.VoiceOpHeartbeatACK, nil)
	c.sendRaw(`{"op":3,"d":2}`)
	c.expect(proto.VoiceOpHeartbeatACK, nil)
	if asked() {
		t.Error("the answer is not there")
	}
}
