package signalling

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

// handler does what a payload asks for, or returns the code to close with.
type handler func(s *Shard, now clock.Time, x *session, d json.RawMessage) proto.CloseCode

// handlers has what an admitted client may send.
var handlers = map[proto.VoiceOpcode]handler{
	proto.VoiceOpIdentify:       alreadyAuthenticated,
	proto.VoiceOpResume:         alreadyAuthenticated,
	proto.VoiceOpSelectProtocol: (*Shard).selectProtocol,
	proto.VoiceOpHeartbeat:      (*Shard).heartbeat,
	proto.VoiceOpSpeaking:       (*Shard).clientSpeaking,
	proto.VoiceOpBackendVersion: (*Shard).backendVersion,
	proto.VoiceOpClientFlags:    (*Shard).clientFlags,
	proto.VoiceOpClientPlatform: (*Shard).clientPlatform,
	// The server has no video and no DAVE to negotiate with these.
	proto.VoiceOpVideo:            ignore,
	proto.VoiceOpSessionUpdate:    ignore,
	proto.VoiceOpMediaSinkWants:   ignore,
	proto.VoiceOpDAVEReady:        ignore,
	proto.VoiceOpMLSKeyPackage:    ignore,
	proto.VoiceOpMLSCommitWelcome: ignore,
	proto.VoiceOpMLSInvalidCommit: ignore,
	// The client says that no media gets through; it knows what to do next.
	proto.VoiceOpNoRoute: ignore,
}

func alreadyAuthenticated(*Shard, clock.Time, *session, json.RawMessage) proto.CloseCode {
	return proto.VoiceCloseAlreadyAuthenticated
}

func ignore(*Shard, clock.Time, *session, json.RawMessage) proto.CloseCode { return 0 }

func (s *Shard) heartbeat(now clock.Time, x *session, d json.RawMessage) proto.CloseCode {
	answer, ok := answerHeartbeat(x.version, d)
	if !ok {
		return proto.VoiceCloseBadRequest
	}
	x.heartbeatBy = s.nextHeartbeat(now)
	s.emit(Output{Conn: x.conn, Frame: answer})
	return 0
}

func (s *Shard) backendVersion(_ clock.Time, x *session, _ json.RawMessage) proto.CloseCode {
	body := encodeObject(proto.VoiceOpBackendVersion, proto.VoiceBackendVersion{
		Voice: s.cfg.Version, RTCWorker: s.cfg.Version,
	})
	s.emit(Output{Conn: x.conn, Frame: seal(body, 0)})
	return 0
}

// clientSpeaking takes the kind of what the client sends. That it sends is for the
// worker to say, except that a client may say sooner that it has ended.
func (s *Shard) clientSpeaking(now clock.Time, x *session, d json.RawMessage) proto.CloseCode {
	var in proto.VoiceSpeaking
	if !decode(d, &in) {
		return proto.VoiceCloseBadRequest
	}
	// A browser names the SSRC of its own offer, and discordgo none.
	if x.transport == proto.ProtocolUDP && in.SSRC != 0 && in.SSRC != x.ssrc {
		return proto.VoiceCloseBadRequest
	}
	x.hushed = in.Speaking == 0
	if !x.hushed {
		x.declared = in.Speaking
	}
	s.refresh(now, x)
	return 0
}

func (s *Shard) clientFlags(_ clock.Time, x *session, d json.RawMessage) proto.CloseCode {
	var in proto.VoiceClientFlags
	if !decode(d, &in) || in.Flags == nil {
		return proto.VoiceCloseBadRequest
	}
	x.flags = in.Flags
	if x.present && !x.isNewcomer() {
		s.tell(x, func(int) []byte { return encodeFlags(x) })
	}
	return 0
}

func (s *Shard) clientPlatform(_ clock.Time, x *session, d json.RawMessage) proto.CloseCode {
	var in proto.VoiceClientPlatform
	if !decode(d, &in) || in.Platform == nil {
		return proto.VoiceCloseBadRequest
	}
	x.platform = in.Platform
	if x.present && !x.isNewcomer() {
		s.tell(x, func(int) []byte { return encodePlatform(x) })
	}
	return 0
}

// selectProtocol gives the session a transport, or another one.
func (s *Shard) selectProtocol(now clock.Time, x *session, d json.RawMessage) proto.CloseCode {
	var in proto.VoiceSelectProtocol
	if !decode(d, &in) || in.Protocol == "" {
		return proto.VoiceCloseBadRequest
	}
	out := proto.VoiceSessionDescription{AudioCodec: "opus", MediaSessionID: hex.EncodeToString(s.random(8))}
	code := proto.VoiceCloseUnknownProtocol
	switch in.Protocol {
	case proto.ProtocolUDP:
		code = s.selectNative(x, in.Data, &out)
	case proto.ProtocolWebRTC:
		code = s.selectBrowser(x, in.Data, &out)
	}
	if code != 0 {
		return code
	}
	first := !x.present
	x.transport, x.selectBy = in.Protocol, 0
	s.send(x, encodeObject(proto.VoiceOpSessionDescription, out))
	if first {
		s.emit(Output{Joined: &Joined{Conn: x.conn, Transport: x.transport, After: now.Sub(x.identified)}})
		s.enter(now, x)
	}
	// Not when media comes: somebody who only listens may never send any.
	s.report(x, true)
	return 0
}

func (s *Shard) selectNative(x *session, data json.RawMessage, out *proto.VoiceSessionDescription) proto.CloseCode {
	var in proto.VoiceUDPData
	if !decode(data, &in) {
		return proto.VoiceCloseBadRequest
	}
	if !slices.Contains(s.cfg.Modes, in.Mode) {
		return proto.VoiceCloseUnknownEncryptionMode
	}
	c := sfu.SetNative{Peer: x.peer, Mode: in.Mode}
	s.cfg.Random(c.Key[:])
	out.Mode, out.SecretKey = in.Mode, make([]int, len(c.Key))
	for i, b := range c.Key {
		out.SecretKey[i] = int(b)
	}
	s.post(x.worker, sfu.Command{Native: &c})
	return 0
}

func (s *Shard) selectBrowser(x *session, data json.RawMessage, out *proto.VoiceSessionDescription) proto.CloseCode {
	var fragment string
	if json.Unmarshal(data, &fragment) != nil {
		return proto.VoiceCloseBadRequest
	}
	remote, err := browser.ParseFragment(fragment)
	if err != nil {
		return proto.VoiceCloseBadRequest
	}
	// RFC 8445 section 5.3: at least 24 and 128 random bits. 48 bits of a ufrag
	// make it unique on the node.
	ufrag, password := base64.StdEncoding.EncodeToString(s.random(6)), base64.StdEncoding.EncodeToString(s.random(18))
	s.post(x.worker, sfu.Command{Browser: &sfu.SetBrowser{
		Peer: x.peer, LocalUfrag: ufrag, LocalPwd: password, RemoteUfrag: remote.Ufrag,
		Fingerprint: remote.Fingerprint.String(), OpusPT: remote.Opus, AudioLevelID: remote.AudioLevel,
	}})
	answer := browser.AnswerParams{Ufrag: ufrag, Password: password, Fingerprint: s.cfg.Fingerprint}
	for _, a := range x.addresses {
		answer.Addresses = append(answer.Addresses, netip.AddrPortFrom(a, s.cfg.Workers[x.worker].Port))
	}
	out.SDP = browser.Answer(answer)
	return 0
}

func (s *Shard) random(n int) []byte {
	b := make([]byte, n)
	s.cfg.Random(b)
	return b
}
