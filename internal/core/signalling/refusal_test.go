package signalling

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		data   string
		binary bool
		op     proto.VoiceOpcode
		code   proto.CloseCode
	}{
		{`{"op":3,"d":5}`, false, proto.VoiceOpHeartbeat, 0},
		{`{"op":16}`, false, proto.VoiceOpBackendVersion, 0},
		{`{"op":99}`, false, 99, 0},
		{``, false, 0, proto.VoiceCloseDecodeError},
		{`{`, false, 0, proto.VoiceCloseDecodeError},
		{`[]`, false, 0, proto.VoiceCloseDecodeError},
		{`{}`, false, 0, proto.VoiceCloseDecodeError},
		{`{"op":"3"}`, false, 0, proto.VoiceCloseDecodeError},
		{`{"op":null,"d":1}`, false, 0, proto.VoiceCloseDecodeError},
		{`{"op":3}x`, false, 0, proto.VoiceCloseDecodeError},
		{"\xff\xfe", false, 0, proto.VoiceCloseDecodeError},
		{`{"op":3}`, true, 0, proto.VoiceCloseDecodeError},
		{``, true, 0, proto.VoiceCloseDecodeError},
		{"\x1akey package", true, proto.VoiceOpMLSKeyPackage, 0},
	} {
		f, code := Decode([]byte(c.data), c.binary)
		if f.Op != c.op || code != c.code {
			t.Errorf("Decode(%q) = %d, %d", c.data, f.Op, code)
		}
	}
}

func TestGreetRefuses(t *testing.T) {
	v := claims(7, 1)
	signed := v.Sign(testKey)
	good := map[string]any{
		"server_id": v.Guild, "channel_id": v.Channel, "user_id": v.User, "session_id": v.Session, "token": signed,
	}
	with := func(changes ...any) string {
		d := map[string]any{}
		for k, v := range good {
			d[k] = v
		}
		for i := 0; i < len(changes); i += 2 {
			if changes[i+1] == nil {
				delete(d, changes[i].(string))
			} else {
				d[changes[i].(string)] = changes[i+1]
			}
		}
		b, _ := json.Marshal(d)
		return string(b)
	}
	forged := v.Sign([]byte("another key"))
	const identify, resume = proto.VoiceOpIdentify, proto.VoiceOpResume
	for name, c := range map[string]struct {
		version int
		op      proto.VoiceOpcode
		d       string
		code    proto.CloseCode
	}{
		"good":                    {9, identify, with(), 0},
		"no channel before 9":     {8, identify, with("channel_id", nil), 0},
		"no channel":              {9, identify, with("channel_id", nil), proto.VoiceCloseBadRequest},
		"no token":                {9, identify, with("token", nil), proto.VoiceCloseBadRequest},
		"no user":                 {9, identify, with("user_id", nil), proto.VoiceCloseBadRequest},
		"no session":              {9, identify, with("session_id", nil), proto.VoiceCloseBadRequest},
		"no guild":                {9, identify, with("server_id", nil), proto.VoiceCloseBadRequest},
		"no object":               {9, identify, `"x"`, proto.VoiceCloseBadRequest},
		"null":                    {9, identify, `null`, proto.VoiceCloseBadRequest},
		"nothing":                 {9, identify, ``, proto.VoiceCloseBadRequest},
		"no snowflake":            {9, identify, with("user_id", "me"), proto.VoiceCloseBadRequest},
		"forged":                  {9, identify, with("token", forged), proto.VoiceCloseAuthenticationFailed},
		"no voice token":          {9, identify, with("token", "abc"), proto.VoiceCloseAuthenticationFailed},
		"another user":            {9, identify, with("user_id", "8"), proto.VoiceCloseAuthenticationFailed},
		"another session":         {9, identify, with("session_id", "x"), proto.VoiceCloseSessionInvalid},
		"another guild":           {9, identify, with("server_id", "8"), proto.VoiceCloseServerNotFound},
		"another channel":         {9, identify, with("channel_id", "8"), proto.VoiceCloseServerNotFound},
		"another channel, old":    {4, identify, with("channel_id", "8"), proto.VoiceCloseServerNotFound},
		"resume":                  {9, resume, with("seq_ack", -1), 0},
		"resume, no token":        {9, resume, with("token", nil), proto.VoiceCloseBadRequest},
		"resume, forged":          {9, resume, with("token", forged), proto.VoiceCloseAuthenticationFailed},
		"resume, another session": {9, resume, with("session_id", "x"), proto.VoiceCloseSessionInvalid},
		"resume, another guild":   {9, resume, with("server_id", "8"), proto.VoiceCloseSessionInvalid},
		"resume, absurd number":   {9, resume, with("seq_ack", 1e30), proto.VoiceCloseBadRequest},
		"before identify":         {9, proto.VoiceOpSelectProtocol, selectUDP, proto.VoiceCloseNotAuthenticated},
		"unknown before identify": {9, 99, `{}`, proto.VoiceCloseNotAuthenticated},
		"bad heartbeat":           {9, proto.VoiceOpHeartbeat, `[]`, proto.VoiceCloseBadRequest},
	} {
		step := Greet(testKey, testWall, c.version, Frame{Op: c.op, D: json.RawMessage(c.d)})
		if step.Close != c.code || (step.Admit != nil) != (c.code == 0) {
			t.Errorf("%s: %+v, want %d", name, step, c.code)
		}
	}
	if step := Greet(testKey, testWall, 9, Frame{Op: proto.VoiceOpHeartbeat, D: json.RawMessage(`{"t":4}`)}); string(step.Reply) != `{"op":6,"d":{"t":4}}` {
		t.Errorf("heartbeat before identify: %+v", step)
	}
	late := Greet(testKey, testWall.Add(token.VoiceLifetime+1), 9, Frame{Op: identify, D: json.RawMessage(with())})
	if late.Admit == nil || !late.Admit.Expired {
		t.Errorf("an expired token is for the shard to judge: %+v", late)
	}
}

func TestFramesRefused(t *testing.T) {
	long, _ := json.Marshal("a=" + strings.Repeat("x", 8<<10))
	for _, c := range []struct {
		op   proto.VoiceOpcode
		d    string
		code proto.CloseCode
	}{
		{proto.VoiceOpIdentify, `{}`, proto.VoiceCloseAlreadyAuthenticated},
		{proto.VoiceOpResume, `{}`, proto.VoiceCloseAlreadyAuthenticated},
		{99, `{}`, proto.VoiceCloseUnknownOpcode},
		{-1, `{}`, proto.VoiceCloseUnknownOpcode},
		{proto.VoiceOpReady, `{}`, proto.VoiceCloseUnknownOpcode},
		{proto.VoiceOpSelectProtocol, ``, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSelectProtocol, `null`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSelectProtocol, `{}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSelectProtocol, `{"protocol":"webrtc-p2p","data":{}}`, proto.VoiceCloseUnknownProtocol},
		{proto.VoiceOpSelectProtocol, `{"protocol":"udp"}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSelectProtocol, `{"protocol":"udp","data":null}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSelectProtocol, `{"protocol":"udp","data":{"mode":"plain"}}`, proto.VoiceCloseUnknownEncryptionMode},
		{proto.VoiceOpSelectProtocol, `{"protocol":"udp","data":{"mode":"xsalsa20_poly1305"}}`, proto.VoiceCloseUnknownEncryptionMode},
		{proto.VoiceOpSelectProtocol, `{"protocol":"webrtc","data":{}}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSelectProtocol, `{"protocol":"webrtc","data":"a=ice-ufrag:x"}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSelectProtocol, `{"protocol":"webrtc","data":` + string(long) + `}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSpeaking, `null`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSpeaking, `{"speaking":"loud"}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpSpeaking, `{"speaking":1,"ssrc":1}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpHeartbeat, `[1]`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpHeartbeat, `"` + strings.Repeat("9", maxNonce) + `"`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpClientFlags, `{}`, proto.VoiceCloseBadRequest},
		{proto.VoiceOpClientPlatform, `{"platform":"x"}`, proto.VoiceCloseBadRequest},
	} {
		r := newRoom(t)
		a := r.join(9, 1)
		r.frame(a, c.op, c.d)
		if r.closed[a] != c.code {
			t.Errorf("op %d %.60s: closed with %d, want %d", c.op, c.d, r.closed[a], c.code)
		}
		// It was a cut, not an end.
		if again := r.resume(9, claims(1, 1), 2); r.closed[again] != 0 || len(r.commands) != 0 {
			t.Errorf("op %d %.60s: not resumable: %d, %+v", c.op, c.d, r.closed[again], r.commands)
		}
	}
}

func TestFramesWithoutEffect(t *testing.T) {
	r := newRoom(t)
	a := r.join(9, 1)
	for _, op := range []proto.VoiceOpcode{
		proto.VoiceOpVideo, proto.VoiceOpSessionUpdate, proto.VoiceOpMediaSinkWants, proto.VoiceOpNoRoute,
		proto.VoiceOpDAVEReady, proto.VoiceOpMLSKeyPackage, proto.VoiceOpMLSCommitWelcome, proto.VoiceOpMLSInvalidCommit,
	} {
		r.frame(a, op, `{"any":50}`)
	}
	r.frame(a, proto.VoiceOpBackendVersion, `{}`)
	r.expect(a, `16 {"voice":"1.2.3","rtc_worker":"1.2.3"}`)
	if r.closed[a] != 0 || len(r.commands) != 0 {
		t.Errorf("closed with %d, told %+v", r.closed[a], r.commands)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(9, []byte(`{"op":1,"d":`+selectUDP+`}`))
	f.Add(9, []byte(`{"op":1,"d":`+selectWebRTC()+`}`))
	f.Add(8, []byte(`{"op":5,"d":{"speaking":1,"delay":0,"ssrc":0}}`))
	f.Add(3, []byte(`{"op":5,"d":{"speaking":true}}`))
	f.Add(4, []byte(`{"op":3,"d":{"t":1,"seq_ack":-1}}`))
	f.Add(4, []byte(`{"op":18,"d":{"flags":3}}`))
	f.Fuzz(func(t *testing.T, seed int, data []byte) {
		version := oldest + int(uint(seed)%newest)
		frame, code := Decode(data, false)
		if code != 0 {
			return
		}
		Greet(testKey, testWall, version, frame)
		r := newRoom(t)
		r.join(9, 1)
		b := r.join(version, 2)
		r.speaks(2, true)
		// room checks that every payload is JSON and comes before any close.
		r.shard.Frame(r.now, b, frame)
		r.drain()
		if r.closed[b] == 0 {
			r.shard.Frame(r.now, b, frame)
			r.drain()
		}
		if n := len(r.shard.channels[testChannel].present); n != 2 {
			t.Errorf("%d are present", n)
		}
	})
}

func FuzzGreet(f *testing.F) {
	v := claims(7, 1)
	f.Add([]byte(fmt.Sprintf(`{"op":0,"d":{"server_id":"%d","user_id":"7","session_id":"%s","token":"%s"}}`, v.Guild, v.Session, v.Sign(testKey))))
	f.Add([]byte(fmt.Sprintf(`{"op":7,"d":{"server_id":"%d","session_id":"%s","token":"%s","seq_ack":3}}`, v.Guild, v.Session, v.Sign(testKey))))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, code := Decode(data, false)
		if code != 0 {
			return
		}
		step := Greet(testKey, testWall, 8, frame)
		if step.Admit != nil && step.Admit.Claims.User != 7 {
			t.Errorf("admitted %+v", step.Admit)
		}
		if step.Admit == nil && step.Close == 0 && step.Reply == nil {
			t.Error("a frame led to nothing")
		}
	})
}
