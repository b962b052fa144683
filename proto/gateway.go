package proto

import (
	"encoding/json"
	"strconv"
)

// GatewayOpcode is the op field of a gateway payload.
type GatewayOpcode int

// Gateway opcodes ("Opcodes and Status Codes").
const (
	OpDispatch            GatewayOpcode = 0
	OpHeartbeat           GatewayOpcode = 1
	OpIdentify            GatewayOpcode = 2
	OpPresenceUpdate      GatewayOpcode = 3
	OpVoiceStateUpdate    GatewayOpcode = 4
	OpResume              GatewayOpcode = 6
	OpReconnect           GatewayOpcode = 7
	OpRequestGuildMembers GatewayOpcode = 8
	OpInvalidSession      GatewayOpcode = 9
	OpHello               GatewayOpcode = 10
	OpHeartbeatACK        GatewayOpcode = 11
)

// CloseCode is a WebSocket close code of the gateway or the voice gateway.
type CloseCode int

// Gateway close codes.
const (
	CloseUnknownError         CloseCode = 4000
	CloseUnknownOpcode        CloseCode = 4001
	CloseDecodeError          CloseCode = 4002
	CloseNotAuthenticated     CloseCode = 4003
	CloseAuthenticationFailed CloseCode = 4004
	CloseAlreadyAuthenticated CloseCode = 4005
	CloseInvalidSeq           CloseCode = 4007
	CloseRateLimited          CloseCode = 4008
	CloseSessionTimedOut      CloseCode = 4009
	CloseInvalidShard         CloseCode = 4010
	CloseShardingRequired     CloseCode = 4011
	CloseInvalidAPIVersion    CloseCode = 4012
	CloseInvalidIntents       CloseCode = 4013
	CloseDisallowedIntents    CloseCode = 4014
)

// Intents is the set of event groups a bot asks for.
type Intents uint64

// The intents whose events Hubbub sends.
const (
	IntentGuilds         Intents = 1 << 0
	IntentGuildMembers   Intents = 1 << 1
	IntentGuildVoice     Intents = 1 << 7
	IntentGuildPresences Intents = 1 << 8
	IntentGuildMessages  Intents = 1 << 9
	IntentGuildTyping    Intents = 1 << 11
	IntentMessageContent Intents = 1 << 15

	// IntentsKnown has every bit that Discord documents; others are refused
	// with CloseInvalidIntents.
	IntentsKnown Intents = 1<<26 - 1
)

// GatewayFrame is the envelope of every gateway payload. S and T are set on
// dispatches only.
type GatewayFrame struct {
	Op GatewayOpcode   `json:"op"`
	D  json.RawMessage `json:"d"`
	S  *uint64         `json:"s"`
	T  *string         `json:"t"`
}

// HelloData is the first payload of a connection; the interval is in ms.
type HelloData struct {
	HeartbeatInterval int      `json:"heartbeat_interval"`
	Trace             []string `json:"_trace,omitempty"`
}

// IdentifyData starts a session.
type IdentifyData struct {
	Token          string          `json:"token"`
	Properties     json.RawMessage `json:"properties"`
	Compress       bool            `json:"compress"`
	LargeThreshold int             `json:"large_threshold"`
	Shard          *[2]int         `json:"shard"`
	Presence       *PresenceData   `json:"presence"`
	Intents        *Intents        `json:"intents"`
}

// PresenceData is what a client says of its own presence (op 3).
type PresenceData struct {
	Since      *int64            `json:"since"`
	Activities []json.RawMessage `json:"activities"`
	Status     string            `json:"status"`
	AFK        bool              `json:"afk"`
}

// ResumeData asks to go on with a session.
type ResumeData struct {
	Token     string `json:"token"`
	SessionID string `json:"session_id"`
	Seq       uint64 `json:"seq"`
}

// VoiceStateUpdateData joins, moves, leaves (null channel) or sets self mute
// and deaf (op 4).
type VoiceStateUpdateData struct {
	GuildID   Snowflake  `json:"guild_id"`
	ChannelID *Snowflake `json:"channel_id"`
	SelfMute  bool       `json:"self_mute"`
	SelfDeaf  bool       `json:"self_deaf"`
	SelfVideo bool       `json:"self_video"`
	// ConnectedAs is Hubbub's own: the session_id that the client identified with at
	// the voice server where it is still connected, in this channel. If that is so, the
	// call becomes this gateway session's and goes on untouched: VOICE_STATE_UPDATE
	// answers alone. Otherwise, and when it is empty, the client joins anew.
	ConnectedAs string `json:"connected_as,omitempty"`
}

// RequestGuildMembersData asks for GUILD_MEMBERS_CHUNK (op 8). UserIDs may be
// one id or a list.
type RequestGuildMembersData struct {
	GuildID   Snowflake    `json:"guild_id"`
	Query     *string      `json:"query"`
	Limit     int          `json:"limit"`
	Presences bool         `json:"presences"`
	UserIDs   SnowflakeSet `json:"user_ids"`
	Nonce     string       `json:"nonce"`
}

// SnowflakeSet decodes one id or a list of ids.
type SnowflakeSet []Snowflake

// UnmarshalJSON decodes one id or a list of ids.
func (s *SnowflakeSet) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var list []Snowflake
		if err := json.Unmarshal(b, &list); err != nil {
			return err
		}
		*s = list
		return nil
	}
	var one Snowflake
	if err := one.UnmarshalJSON(b); err != nil {
		return err
	}
	if one != 0 {
		*s = SnowflakeSet{one}
	}
	return nil
}

// ReadyData opens a session.
type ReadyData struct {
	V                int                 `json:"v"`
	User             User                `json:"user"`
	Guilds           []UnavailableGuild  `json:"guilds"`
	SessionID        string              `json:"session_id"`
	ResumeGatewayURL string              `json:"resume_gateway_url"`
	Shard            *[2]int             `json:"shard,omitempty"`
	Application      *ApplicationPartial `json:"application,omitempty"`
	PrivateChannels  []json.RawMessage   `json:"private_channels"`
	Relationships    []json.RawMessage   `json:"relationships"`
	SessionType      string              `json:"session_type"`
	Trace            []string            `json:"_trace"`
}

// ApplicationPartial is the application as READY names it.
type ApplicationPartial struct {
	ID    Snowflake `json:"id"`
	Flags int       `json:"flags"`
}

// VoiceServerUpdateData tells one session where its voice server is. Endpoint
// is host:port without a scheme, or null while none is to be had.
type VoiceServerUpdateData struct {
	Token    string    `json:"token"`
	GuildID  Snowflake `json:"guild_id"`
	Endpoint *string   `json:"endpoint"`
}

// GuildMembersChunk answers op 8.
type GuildMembersChunk struct {
	GuildID    Snowflake   `json:"guild_id"`
	Members    []Member    `json:"members"`
	ChunkIndex int         `json:"chunk_index"`
	ChunkCount int         `json:"chunk_count"`
	NotFound   []Snowflake `json:"not_found,omitempty"`
	Presences  []Presence  `json:"presences,omitempty"`
	Nonce      string      `json:"nonce,omitempty"`
}

// ShardOf returns which of count shards a guild belongs to
// (Gateway, "Sharding").
func ShardOf(guild Snowflake, count int) int {
	if count <= 1 {
		return 0
	}
	return int(uint64(guild>>22) % uint64(count))
}

// ErrorBody is the body of every REST error (Reference, "Error Messages").
// Errors nests by field name down to {"_errors": [{code, message}]}.
type ErrorBody struct {
	Code    int            `json:"code"`
	Message string         `json:"message"`
	Errors  map[string]any `json:"errors,omitempty"`
}

// RateLimitBody is the body of a 429; RetryAfter is in seconds.
type RateLimitBody struct {
	Message    string  `json:"message"`
	RetryAfter float64 `json:"retry_after"`
	Global     bool    `json:"global"`
	Code       int     `json:"code,omitempty"`
}

// JSON error codes that Hubbub answers ("Opcodes and Status Codes").
const (
	ErrGeneral              = 0
	ErrUnknownApplication   = 10002
	ErrUnknownChannel       = 10003
	ErrUnknownGuild         = 10004
	ErrUnknownInvite        = 10006
	ErrUnknownMember        = 10007
	ErrUnknownMessage       = 10008
	ErrUnknownOverwrite     = 10009
	ErrUnknownRole          = 10011
	ErrUnknownToken         = 10012
	ErrUnknownUser          = 10013
	ErrUnknownWebhook       = 10015
	ErrUnknownInteraction   = 10062
	ErrUnknownCommand       = 10063
	ErrUnknownVoiceState    = 10065
	ErrBotsOnly             = 20002
	ErrMaxGuilds            = 30001
	ErrMaxInvites           = 30016
	ErrMaxChannels          = 30013
	ErrMaxRoles             = 30005
	ErrUnauthorized         = 40001
	ErrTooLarge             = 40005
	ErrNotConnectedToVoice  = 40032
	ErrInteractionAnswered  = 40060
	ErrMissingAccess        = 50001
	ErrNotOnThisChannelType = 50024
	ErrCannotEditOthers     = 50005
	ErrEmptyMessage         = 50006
	ErrCannotSendInNonText  = 50008
	ErrMissingPermissions   = 50013
	ErrInvalidToken         = 50014
	ErrInvalidRole          = 50028
	ErrInvalidFormBody      = 50035
	ErrInviteAccepted       = 50036
	ErrInvalidAPIVersion    = 50041
	ErrInvalidJSON          = 50109
	ErrHierarchy            = 50013
	ErrRegistrationClosed   = 40007
	ErrServiceUnavailable   = 130000
)

// APIError is an error that has an HTTP status and a JSON body.
type APIError struct {
	Status int `json:"status"`
	ErrorBody
}

// Error returns the status, the code and the message.
func (e *APIError) Error() string {
	return strconv.Itoa(e.Status) + " " + strconv.Itoa(e.Code) + ": " + e.Message
}
