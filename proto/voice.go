package proto

import "encoding/json"

// VoiceOpcode is the op field of a voice gateway payload.
type VoiceOpcode int

// Voice opcodes ("Opcodes and Status Codes", "Voice").
const (
	VoiceOpIdentify           VoiceOpcode = 0
	VoiceOpSelectProtocol     VoiceOpcode = 1
	VoiceOpReady              VoiceOpcode = 2
	VoiceOpHeartbeat          VoiceOpcode = 3
	VoiceOpSessionDescription VoiceOpcode = 4
	VoiceOpSpeaking           VoiceOpcode = 5
	VoiceOpHeartbeatACK       VoiceOpcode = 6
	VoiceOpResume             VoiceOpcode = 7
	VoiceOpHello              VoiceOpcode = 8
	VoiceOpResumed            VoiceOpcode = 9
	VoiceOpClientsConnect     VoiceOpcode = 11
	VoiceOpVideo              VoiceOpcode = 12
	VoiceOpClientDisconnect   VoiceOpcode = 13
	VoiceOpSessionUpdate      VoiceOpcode = 14
	VoiceOpMediaSinkWants     VoiceOpcode = 15
	VoiceOpBackendVersion     VoiceOpcode = 16
	VoiceOpClientFlags        VoiceOpcode = 18
	VoiceOpClientPlatform     VoiceOpcode = 20
	VoiceOpDAVEReady          VoiceOpcode = 23
	VoiceOpMLSKeyPackage      VoiceOpcode = 26
	VoiceOpMLSCommitWelcome   VoiceOpcode = 28
	VoiceOpMLSInvalidCommit   VoiceOpcode = 31
	VoiceOpNoRoute            VoiceOpcode = 32
)

// Voice close codes.
const (
	VoiceCloseUnknownOpcode         CloseCode = 4001
	VoiceCloseDecodeError           CloseCode = 4002
	VoiceCloseNotAuthenticated      CloseCode = 4003
	VoiceCloseAuthenticationFailed  CloseCode = 4004
	VoiceCloseAlreadyAuthenticated  CloseCode = 4005
	VoiceCloseSessionInvalid        CloseCode = 4006
	VoiceCloseSessionTimeout        CloseCode = 4009
	VoiceCloseServerNotFound        CloseCode = 4011
	VoiceCloseUnknownProtocol       CloseCode = 4012
	VoiceCloseDisconnected          CloseCode = 4014
	VoiceCloseServerCrashed         CloseCode = 4015
	VoiceCloseUnknownEncryptionMode CloseCode = 4016
	VoiceCloseBadRequest            CloseCode = 4020
	VoiceCloseRateLimited           CloseCode = 4021
	VoiceCloseCallTerminated        CloseCode = 4022
)

// Transport encryption modes of the native transport.
const (
	ModeAES256GCM  = "aead_aes256_gcm_rtpsize"
	ModeXChaCha20  = "aead_xchacha20_poly1305_rtpsize"
	ModeXSalsa20   = "xsalsa20_poly1305"
	ProtocolUDP    = "udp"
	ProtocolWebRTC = "webrtc"
)

// SpeakingFlags is a user's speaking state. Versions below 4 used a boolean,
// and discordgo still sends one; both are decoded.
type SpeakingFlags int

// Speaking flags.
const (
	SpeakingVoice      SpeakingFlags = 1 << 0
	SpeakingSoundshare SpeakingFlags = 1 << 1
	SpeakingPriority   SpeakingFlags = 1 << 2
)

// UnmarshalJSON decodes a bitmask or a boolean.
func (f *SpeakingFlags) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "true":
		*f = SpeakingVoice
		return nil
	case "false", "null":
		*f = 0
		return nil
	}
	return json.Unmarshal(b, (*int)(f))
}

// VoiceFrame is the envelope of every voice gateway payload. Seq is set from
// version 8 on, on payloads that a resume replays.
type VoiceFrame struct {
	Op  VoiceOpcode     `json:"op"`
	D   json.RawMessage `json:"d"`
	Seq *int            `json:"seq,omitempty"`
}

// VoiceHello is the first payload; the interval is in ms.
type VoiceHello struct {
	V                 int `json:"v"`
	HeartbeatInterval int `json:"heartbeat_interval"`
}

// VoiceIdentify starts a voice session.
type VoiceIdentify struct {
	ServerID               Snowflake     `json:"server_id"`
	ChannelID              Snowflake     `json:"channel_id"`
	UserID                 Snowflake     `json:"user_id"`
	SessionID              string        `json:"session_id"`
	Token                  string        `json:"token"`
	Video                  bool          `json:"video"`
	Streams                []VoiceStream `json:"streams"`
	MaxDAVEProtocolVersion int           `json:"max_dave_protocol_version"`
	// SpeakingEvents is Hubbub's own: asks for a Speaking whenever somebody begins or
	// ends to speak, as browsers get unasked. Without it a native client gets one of
	// an SSRC when it is first heard, and another when its kind changes, as from
	// Discord.
	SpeakingEvents bool `json:"speaking_events,omitempty"`
}

// VoiceStream is one simulcast layer.
type VoiceStream struct {
	Type    string `json:"type"`
	RID     string `json:"rid"`
	Quality int    `json:"quality,omitempty"`
	Active  bool   `json:"active"`
	SSRC    uint32 `json:"ssrc,omitempty"`
	RTXSSRC uint32 `json:"rtx_ssrc,omitempty"`
}

// VoiceReady answers Identify. HeartbeatInterval repeats Hello's for libraries
// of the legacy version, which take it from here.
type VoiceReady struct {
	SSRC              uint32        `json:"ssrc"`
	IP                string        `json:"ip"`
	Port              int           `json:"port"`
	Modes             []string      `json:"modes"`
	Experiments       []string      `json:"experiments"`
	Streams           []VoiceStream `json:"streams"`
	HeartbeatInterval int           `json:"heartbeat_interval,omitempty"`
}

// VoiceSelectProtocol chooses the transport. Data is a VoiceUDPData object for
// "udp" and an SDP fragment string for "webrtc".
type VoiceSelectProtocol struct {
	Protocol        string          `json:"protocol"`
	Data            json.RawMessage `json:"data"`
	RTCConnectionID string          `json:"rtc_connection_id,omitempty"`
	Codecs          []VoiceCodec    `json:"codecs,omitempty"`
}

// VoiceUDPData is what a native client selects.
type VoiceUDPData struct {
	Address string `json:"address"`
	Port    int    `json:"port"`
	Mode    string `json:"mode"`
}

// VoiceCodec is one codec of Select Protocol or Session Update.
type VoiceCodec struct {
	Name           string `json:"name"`
	Type           string `json:"type"`
	Priority       int    `json:"priority"`
	PayloadType    int    `json:"payload_type"`
	RTXPayloadType *int   `json:"rtx_payload_type,omitempty"`
	Encode         *bool  `json:"encode,omitempty"`
	Decode         *bool  `json:"decode,omitempty"`
}

// VoiceSessionDescription ends the handshake: keys for "udp", SDP for "webrtc".
// SecretKey is 32 numbers, as Discord encodes it.
type VoiceSessionDescription struct {
	AudioCodec          string `json:"audio_codec"`
	VideoCodec          string `json:"video_codec,omitempty"`
	MediaSessionID      string `json:"media_session_id"`
	Mode                string `json:"mode,omitempty"`
	SecretKey           []int  `json:"secret_key,omitempty"`
	SDP                 string `json:"sdp,omitempty"`
	DAVEProtocolVersion int    `json:"dave_protocol_version"`
}

// VoiceSpeaking is sent both ways; UserID only by the server, Delay only by
// clients.
type VoiceSpeaking struct {
	Speaking SpeakingFlags `json:"speaking"`
	Delay    int           `json:"delay"`
	SSRC     uint32        `json:"ssrc"`
	UserID   Snowflake     `json:"user_id,omitempty"`
}

// VoiceResume asks to go on with a voice session. SeqAck is the last sequence
// number received, -1 or absent for none.
type VoiceResume struct {
	ServerID  Snowflake `json:"server_id"`
	ChannelID Snowflake `json:"channel_id"`
	SessionID string    `json:"session_id"`
	Token     string    `json:"token"`
	SeqAck    *int      `json:"seq_ack"`
}

// VoiceHeartbeat is the version 8 heartbeat; before it, D is the bare nonce.
type VoiceHeartbeat struct {
	T      json.RawMessage `json:"t"`
	SeqAck *int            `json:"seq_ack,omitempty"`
}

// VoiceClientsConnect names users who are connected.
type VoiceClientsConnect struct {
	UserIDs []Snowflake `json:"user_ids"`
}

// VoiceClientDisconnect names a user who left.
type VoiceClientDisconnect struct {
	UserID Snowflake `json:"user_id"`
}

// VoiceClientFlags carries a user's voice flags.
type VoiceClientFlags struct {
	UserID Snowflake `json:"user_id"`
	Flags  *int      `json:"flags"`
}

// VoiceClientPlatform carries the kind of client a user has.
type VoiceClientPlatform struct {
	UserID   Snowflake `json:"user_id"`
	Platform *int      `json:"platform"`
}

// VoiceBackendVersion answers op 16.
type VoiceBackendVersion struct {
	Voice     string `json:"voice"`
	RTCWorker string `json:"rtc_worker"`
}
