package signalling

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

func TestHello(t *testing.T) {
	for version, want := range map[int]string{
		1: `{"heartbeat_interval":13750}`,
		2: `{"heartbeat_interval":13750}`,
		3: `{"op":8,"d":{"v":3,"heartbeat_interval":13750}}`,
		9: `{"op":8,"d":{"v":9,"heartbeat_interval":13750}}`,
	} {
		if got := string(Hello(version, 13750)); got != want {
			t.Errorf("version %d: %s, want %s", version, got, want)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for v, want := range map[string]int{"": Legacy, "1": 1, "4": 4, "9": 9, "0": 0, "10": 0, "x": 0, "-1": 0} {
		got, ok := ParseVersion(v)
		if ok != (want != 0) || (ok && got != want) {
			t.Errorf("ParseVersion(%q) = %d, %t", v, got, ok)
		}
	}
}

func TestNativeJoin(t *testing.T) {
	r := newRoom(t)
	v := claims(7, 1)
	v.Mute, v.SelfDeaf = true, true
	conn := r.identify(9, v)
	x := r.session(7)
	r.expect(conn, fmt.Sprintf(`2 {"ssrc":%d,"ip":"192.0.2.7","port":50003,"modes":["aead_aes256_gcm_rtpsize","aead_xchacha20_poly1305_rtpsize"],"experiments":[],"streams":[]} #1`, x.ssrc))
	add := sfu.Command{Add: &sfu.AddPeer{Peer: x.peer, Channel: uint64(testChannel), SSRC: x.ssrc, Flags: sfu.Muted | sfu.Deafened}}
	if len(r.commands) != 1 || !reflect.DeepEqual(r.commands[0], add) {
		t.Fatalf("worker was told %+v, want %+v", r.commands, add)
	}
	if x.ssrc == 0 || x.ssrc&3 != 0 {
		t.Errorf("SSRC %d", x.ssrc)
	}

	r.frame(conn, proto.VoiceOpSelectProtocol, selectUDP)
	got := r.take(conn)
	if len(got) != 1 || got[0].Op != proto.VoiceOpSessionDescription || got[0].Seq != 2 {
		t.Fatalf("after Select Protocol: %v", got)
	}
	var d proto.VoiceSessionDescription
	if err := json.Unmarshal(got[0].D, &d); err != nil {
		t.Fatal(err)
	}
	native := r.commands[1].Native
	if native == nil || native.Mode != proto.ModeAES256GCM || len(d.SecretKey) != 32 {
		t.Fatalf("worker was told %+v, the client %+v", r.commands[1], d)
	}
	for i, b := range native.Key {
		if d.SecretKey[i] != int(b) {
			t.Fatal("worker and client have different keys")
		}
	}
	want := guild.VoiceReport{User: 7, Join: 1, Node: "node", Connected: true, Worker: 3, Transport: "udp",
		Channel: testChannel, Session: "session-7", Identified: "session-7", Flags: guild.VoiceFlags{Mute: true, SelfDeaf: true, Permissions: r.session(7).Permissions}}
	if len(r.reports) != 1 || r.reports[0].Guild != testGuild || r.reports[0].VoiceReport != want {
		t.Errorf("reports %+v", r.reports)
	}
	if len(r.joined) != 1 {
		t.Errorf("joined %+v", r.joined)
	}
	if list := r.shard.List(); len(list) != 1 || list[0] != (Info{3, testGuild, testChannel, 7, "udp", true}) {
		t.Errorf("list %+v", list)
	}
}

const fragment = "a=ice-ufrag:9WZo\na=ice-pwd:vcfFowC3gQI1KHu0Fm5ZTXum\n" +
	"a=fingerprint:sha-256 71:20:4C:BE:C2:D0:B7:9B:73:5B:4B:29:7C:32:41:25:D8:D2:BC:66:74:D3:93:98:B3:0D:01:F7:67:19:01:13\n" +
	"a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\na=rtpmap:111 opus/48000/2"

func selectWebRTC() string {
	data, _ := json.Marshal(fragment)
	return `{"protocol":"webrtc","data":` + string(data) + `}`
}

func TestBrowserJoin(t *testing.T) {
	r := newRoom(t)
	conn := r.identify(9, claims(7, 1))
	r.take(conn)
	r.frame(conn, proto.VoiceOpSelectProtocol, selectWebRTC())
	var d proto.VoiceSessionDescription
	if err := json.Unmarshal(r.take(conn)[0].D, &d); err != nil {
		t.Fatal(err)
	}
	b := r.commands[1].Browser
	if b == nil || b.RemoteUfrag != "9WZo" || b.OpusPT != 111 || b.AudioLevelID != 1 || !strings.HasPrefix(b.Fingerprint, "sha-256 71:20:4C") {
		t.Fatalf("worker was told %+v", r.commands[1])
	}
	for _, line := range []string{"a=ice-ufrag:" + b.LocalUfrag, "a=ice-pwd:" + b.LocalPwd, "192.0.2.7 50003", "192.0.2.8 50003"} {
		if !strings.Contains(d.SDP, line) {
			t.Errorf("SDP lacks %q:\n%s", line, d.SDP)
		}
	}
	if len(b.LocalUfrag) < 4 || len(b.LocalPwd) < 22 || d.Mode != "" || d.SecretKey != nil {
		t.Errorf("%+v, %+v", b, d)
	}

	// Selecting again gives new credentials, or another transport, and no second
	// entrance.
	r.frame(conn, proto.VoiceOpSelectProtocol, selectWebRTC())
	if again := r.commands[2].Browser; again.LocalUfrag == b.LocalUfrag || again.Peer != b.Peer {
		t.Errorf("second selection: %+v", again)
	}
	r.frame(conn, proto.VoiceOpSelectProtocol, selectUDP)
	if r.commands[3].Native == nil || len(r.joined) != 1 || len(r.session(7).channel.present) != 1 {
		t.Errorf("third selection: %+v, joined %d times", r.commands[3], len(r.joined))
	}
}

func TestNewcomerAndOthers(t *testing.T) {
	r := newRoom(t)
	modern, middle, legacy := r.join(9, 1), r.join(4, 2), r.join(Legacy, 3)
	r.speaks(2, true)
	r.expect(modern, fmt.Sprintf(`5 {"speaking":1,"ssrc":%d,"user_id":"2"} #5`, r.session(2).ssrc))
	r.expect(legacy, fmt.Sprintf(`5 {"speaking":true,"ssrc":%d,"user_id":"2"}`, r.session(2).ssrc))
	r.expect(middle)

	newcomer := r.identify(8, claims(4, 1))
	r.expect(modern) // not before it has a transport
	r.take(newcomer)
	r.frame(newcomer, proto.VoiceOpSelectProtocol, selectUDP)
	got := r.take(newcomer)[1:]
	ssrc := func(user proto.Snowflake) uint32 { return r.session(user).ssrc }
	// Of those who said nothing yet there is no SSRC to know.
	want := []string{
		`{"op":11,"d":{"user_ids":["1","2","3"]}}`,
		fmt.Sprintf(`{"op":5,"d":{"speaking":1,"ssrc":%d,"user_id":"2"},"seq":8}`, ssrc(2)),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("newcomer got %v, want %v", got, want)
	}
	r.expect(modern, `11 {"user_ids":["4"]} #9`)
	r.expect(middle, `11 {"user_ids":["4"]}`)
	r.expect(legacy, `11 {"user_ids":["4"]}`)

	// A client says that it is about to speak; its SSRC is known before it does.
	r.frame(newcomer, proto.VoiceOpSpeaking, fmt.Sprintf(`{"speaking":1,"delay":0,"ssrc":%d}`, ssrc(4)))
	r.expect(modern, fmt.Sprintf(`5 {"speaking":0,"ssrc":%d,"user_id":"4"} #10`, ssrc(4)))
	r.expect(middle, fmt.Sprintf(`5 {"speaking":0,"ssrc":%d,"user_id":"4"}`, ssrc(4)))
	r.expect(legacy, fmt.Sprintf(`5 {"speaking":false,"ssrc":%d,"user_id":"4"}`, ssrc(4)))

	r.shard.Closed(r.now, newcomer, 1000)
	r.drain()
	r.expect(modern, `13 {"user_id":"4"} #11`)
	if last := r.commands[len(r.commands)-1]; last.Remove == nil {
		t.Errorf("worker was told %+v last", last)
	}
	if last := r.reports[len(r.reports)-1]; last.User != 4 || last.Connected {
		t.Errorf("guild was told %+v last", last)
	}
}

func TestLegacyReadyHasHeartbeatInterval(t *testing.T) {
	r := newRoom(t)
	conn := r.identify(Legacy, claims(1, 1))
	if p := r.take(conn); len(p) != 1 || !strings.Contains(p[0].raw, `"heartbeat_interval":10000`) || p[0].Seq != 0 {
		t.Errorf("legacy Ready: %v", p)
	}
}

func TestHeartbeatEchoesTheNonceInItsShape(t *testing.T) {
	r := newRoom(t)
	old, legacy, modern := r.join(1, 1), r.join(Legacy, 2), r.join(8, 3)
	clear(r.inbox)
	r.frame(old, proto.VoiceOpHeartbeat, "5")
	r.frame(legacy, proto.VoiceOpHeartbeat, "1501184119561")
	r.frame(modern, proto.VoiceOpHeartbeat, `{"t":9,"seq_ack":10}`)
	r.expect(old, "3 5")
	r.expect(legacy, "6 1501184119561")
	r.expect(modern, `6 {"t":9}`)
	r.frame(modern, proto.VoiceOpHeartbeat, `{"t":{"much":"more"}}`)
	if r.closed[modern] != proto.VoiceCloseBadRequest {
		t.Errorf("an object for a nonce: closed with %d", r.closed[modern])
	}
}

func TestNewIdentifyReplacesTheOldSession(t *testing.T) {
	r := newRoom(t)
	other := r.join(9, 1)
	first := r.join(9, 2)
	oldPeer := r.session(2).peer
	clear(r.inbox)

	// The same join again, as disgo does after a cut.
	second := r.identify(9, claims(2, 1))
	if r.closed[first] != proto.VoiceCloseDisconnected || r.session(2).peer == oldPeer {
		t.Errorf("old connection closed with %d", r.closed[first])
	}
	r.expect(other, `13 {"user_id":"2"} #7`)
	if len(r.reports) != 0 {
		t.Errorf("the guild was told %+v of a session that goes on", r.reports)
	}
	// A new join, then the old one again.
	third := r.identify(9, claims(2, 2))
	if r.closed[second] != proto.VoiceCloseDisconnected {
		t.Errorf("second connection closed with %d", r.closed[second])
	}
	if late := r.identify(9, claims(2, 1)); r.closed[late] != proto.VoiceCloseSessionInvalid || r.closed[third] != 0 {
		t.Errorf("a stale join was closed with %d, the newer with %d", r.closed[late], r.closed[third])
	}
	r.shard.Closed(r.now, third, 1000)
	r.shard.Closed(r.now, other, 1001)
	r.drain()
	r.empty()
	// A join that its client ended is over.
	if late := r.identify(9, claims(2, 2)); r.closed[late] != proto.VoiceCloseSessionInvalid {
		t.Errorf("an ended join was closed with %d", r.closed[late])
	}
}

func TestExpiredTokenGoesOnWithItsOwnSessionOnly(t *testing.T) {
	r := newRoom(t)
	conn := r.join(9, 1)
	r.beat(11*time.Minute, conn)
	if again := r.identify(9, claims(1, 1)); r.closed[again] != 0 {
		t.Errorf("the session's own token was refused with %d", r.closed[again])
	}
	if other := r.identify(9, claims(2, 1)); r.closed[other] != proto.VoiceCloseAuthenticationFailed {
		t.Errorf("another's expired token: %d", r.closed[other])
	}
}
