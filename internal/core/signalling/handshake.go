package signalling

import (
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

// Admission is what a connection has proved: an Identify or a Resume with a token
// that this platform signed and that fits what was sent beside it. Whether the
// session exists is for the shard to say.
type Admission struct {
	Version int
	Claims  token.Voice
	Token   string
	// Expired is set on a token past its lifetime: only a session that began with
	// this very token goes on with it.
	Expired bool
	Resume  bool
	SeqAck  int64 // of Resume: the last number received, or -1
	// SpeakingEvents is what Identify asked for.
	SpeakingEvents bool
	// Addresses are where this client reaches the workers' host, the one for
	// Ready first, From is where it is itself, if that is known, and Worker is where
	// its peer is placed if it identifies. The service fills them in.
	Addresses []netip.Addr
	From      netip.Addr
	Worker    int
}

// Step is what a frame before admission leads to. At most one field is set: a
// payload to send, a code to close with, or the admission.
type Step struct {
	Reply []byte
	Close proto.CloseCode
	Admit *Admission
}

// Greet takes a frame of a connection that has not been admitted yet: Identify,
// Resume, or a heartbeat, which some clients send first.
func Greet(key []byte, wall time.Time, version int, f Frame) Step {
	switch f.Op {
	case proto.VoiceOpIdentify:
		return identify(key, wall, version, f.D)
	case proto.VoiceOpResume:
		return resume(key, wall, version, f.D)
	case proto.VoiceOpHeartbeat:
		if answer, ok := answerHeartbeat(version, f.D); ok {
			return Step{Reply: answer}
		}
		return Step{Close: proto.VoiceCloseBadRequest}
	}
	return Step{Close: proto.VoiceCloseNotAuthenticated}
}

func identify(key []byte, wall time.Time, version int, d json.RawMessage) Step {
	var in proto.VoiceIdentify
	if !decode(d, &in) || in.ServerID == 0 || in.UserID == 0 || in.SessionID == "" || in.Token == "" ||
		(version >= versionChannel && in.ChannelID == 0) {
		return Step{Close: proto.VoiceCloseBadRequest}
	}
	claims, expired, ok := verify(key, in.Token, wall)
	switch {
	case !ok || claims.User != in.UserID:
		return Step{Close: proto.VoiceCloseAuthenticationFailed}
	case claims.Session != in.SessionID:
		return Step{Close: proto.VoiceCloseSessionInvalid}
	case claims.Guild != in.ServerID || (in.ChannelID != 0 && claims.Channel != in.ChannelID):
		return Step{Close: proto.VoiceCloseServerNotFound}
	}
	return Step{Admit: &Admission{Version: version, Claims: claims, Token: in.Token, Expired: expired, SeqAck: -1, SpeakingEvents: in.SpeakingEvents}}
}

func resume(key []byte, wall time.Time, version int, d json.RawMessage) Step {
	var in proto.VoiceResume
	if !decode(d, &in) || in.ServerID == 0 || in.SessionID == "" || in.Token == "" {
		return Step{Close: proto.VoiceCloseBadRequest}
	}
	claims, expired, ok := verify(key, in.Token, wall)
	switch {
	case !ok:
		return Step{Close: proto.VoiceCloseAuthenticationFailed}
	case claims.Session != in.SessionID || claims.Guild != in.ServerID || (in.ChannelID != 0 && claims.Channel != in.ChannelID):
		return Step{Close: proto.VoiceCloseSessionInvalid}
	}
	a := &Admission{Version: version, Claims: claims, Token: in.Token, Expired: expired, Resume: true, SeqAck: -1}
	if in.SeqAck != nil && *in.SeqAck >= 0 {
		a.SeqAck = int64(*in.SeqAck)
	}
	return Step{Admit: a}
}

func verify(key []byte, signed string, wall time.Time) (claims token.Voice, expired, ok bool) {
	claims, err := token.VerifyVoice(key, signed, wall)
	expired = errors.Is(err, token.ErrExpired)
	return claims, expired, err == nil || expired
}
