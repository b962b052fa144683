package guild

import (
	"encoding/json"
	"time"

	"hubbub.dev/hubbub/proto"
)

// Request is one message to a guild's owner, on the subject of its node;
// exactly one field beside Guild is set. Only Call has a reply, a Result.
type Request struct {
	Guild    proto.Snowflake  `cbor:"1,keyasint"`
	Attach   *Attach          `cbor:"2,keyasint,omitempty"`
	Detach   *Detach          `cbor:"3,keyasint,omitempty"`
	Voice    *VoiceRequest    `cbor:"4,keyasint,omitempty"`
	Members  *MembersRequest  `cbor:"5,keyasint,omitempty"`
	Presence *PresenceRequest `cbor:"6,keyasint,omitempty"`
	Call     *Call            `cbor:"7,keyasint,omitempty"`
	Report   *VoiceReport     `cbor:"8,keyasint,omitempty"`
	Wake     *Wake            `cbor:"16,keyasint,omitempty"`
	Present  *Present         `cbor:"17,keyasint,omitempty"`
	Handover *Handover        `cbor:"20,keyasint,omitempty"`
	// Forwarded is set once the request has been passed on by a node that is not the
	// guild's owner; nobody passes it on again.
	Forwarded bool `cbor:"18,keyasint,omitempty"`
	// Claim is the generation of the Claimed that the request answers, 0 for none. An
	// answer is for that owner alone: to a later one it would come after newer words.
	Claim uint64 `cbor:"19,keyasint,omitempty"`
}

// SessionRef names a gateway session and the node that holds it.
type SessionRef struct {
	Gateway string          `cbor:"1,keyasint"`
	Session string          `cbor:"2,keyasint"`
	User    proto.Snowflake `cbor:"3,keyasint"`
	// Epoch is when the gateway's process began, in ms: another has other sessions.
	Epoch int64 `cbor:"32,keyasint,omitempty"`
}

// Attach asks for GUILD_CREATE and all later events of the guild for a session.
// A session attached twice is sent GUILD_CREATE again and counted once.
type Attach struct {
	SessionRef
	Bot     bool                `cbor:"4,keyasint,omitempty"`
	Intents proto.Intents       `cbor:"5,keyasint"` // all bits for users
	Status  *proto.PresenceData `cbor:"6,keyasint,omitempty"`
	Large   int                 `cbor:"7,keyasint,omitempty"` // large_threshold of a bot; 0 for users
	// Known is a session that had GUILD_CREATE from an earlier owner and is sent none.
	Known bool `cbor:"16,keyasint,omitempty"`
	// Voice is where the session is in voice, or asked to be, as far as its gateway knows:
	// the owner may not have heard it.
	Voice *proto.VoiceStateUpdateData `cbor:"17,keyasint,omitempty"`
	// Left is a session that was there lately and is no longer in voice.
	Left bool `cbor:"18,keyasint,omitempty"`
	// Waited is how long ago the session asked for the guild before, zero when it asks
	// for the first time. An answer that had half as long to arrive was lost.
	Waited time.Duration `cbor:"19,keyasint,omitempty"`
}

// Detach ends a session for good (not a resumable cut): its voice state ends
// too, and the user goes offline with its last session. Where it is the gateway that
// is Leaving, not the client, a call that is connected goes on without a session. A
// gateway that has no such session, and so does not know its user, leaves User out.
type Detach struct {
	SessionRef
	Leaving bool `cbor:"16,keyasint,omitempty"`
}

// VoiceRequest is op 4 of a session.
type VoiceRequest struct {
	SessionRef
	State proto.VoiceStateUpdateData `cbor:"4,keyasint"`
}

// MembersRequest is op 8 of a session; GUILD_MEMBERS_CHUNK answers.
type MembersRequest struct {
	SessionRef
	Query proto.RequestGuildMembersData `cbor:"4,keyasint"`
}

// PresenceRequest is op 3 of a session.
type PresenceRequest struct {
	SessionRef
	Status proto.PresenceData `cbor:"4,keyasint"`
}

// Actor is who makes a Call. Admin is the operator, who may do everything.
type Actor struct {
	User  proto.User `cbor:"1,keyasint"`
	Admin bool       `cbor:"2,keyasint,omitempty"`
}

// Call is a request of the REST or admin API to a guild. Op is one of the Op
// constants, Params the path variables and query it names, Body the JSON body.
type Call struct {
	Op     string            `cbor:"1,keyasint"`
	Actor  Actor             `cbor:"2,keyasint"`
	Params map[string]string `cbor:"3,keyasint,omitempty"`
	Body   json.RawMessage   `cbor:"4,keyasint,omitempty"`
}

// Result answers a Call: an HTTP status and the JSON body, which for a status of
// 400 and above is a proto.ErrorBody.
type Result struct {
	Status int             `cbor:"1,keyasint"`
	Body   json.RawMessage `cbor:"2,keyasint,omitempty"`
	// Misplaced says that the guild has another owner, who may be asked again at once.
	Misplaced bool `cbor:"3,keyasint,omitempty"`
}

// The operations of Call. Each names its params (p:) and body (b:); the result
// body is what the REST route of the same kind answers, with status 200, 201 or
// 204. Ops check the actor's permissions themselves.
const (
	OpGuildCreate   = "guild.create"   // b: {name, owner_id, owner?, channels?: [{name,type,user_limit,bitrate}]}; admin or the owner-to-be; to a fresh id. The owner becomes a member when it is the actor, or when the operator sends it as owner (a User)
	OpGuildGet      = "guild.get"      // p: with_counts (optional) → Guild
	OpGuildSnapshot = "guild.snapshot" // → GuildCreate as the actor sees it
	OpGuildUpdate   = "guild.update"   // b: partial Guild
	OpGuildDelete   = "guild.delete"

	OpChannelList      = "channel.list"
	OpChannelGet       = "channel.get"              // p: channel
	OpChannelCreate    = "channel.create"           // b: partial Channel
	OpChannelUpdate    = "channel.update"           // p: channel; b: partial Channel
	OpChannelDelete    = "channel.delete"           // p: channel
	OpChannelPositions = "channel.positions"        // b: [{id, position, parent_id?}]
	OpOverwritePut     = "channel.overwrite.put"    // p: channel, target; b: Overwrite
	OpOverwriteDelete  = "channel.overwrite.delete" // p: channel, target

	OpRoleList      = "role.list"
	OpRoleCreate    = "role.create"    // b: partial Role
	OpRoleUpdate    = "role.update"    // p: role; b: partial Role
	OpRoleDelete    = "role.delete"    // p: role
	OpRolePositions = "role.positions" // b: [{id, position}] → [Role]

	OpMemberList       = "member.list"        // p: limit, after
	OpMemberSearch     = "member.search"      // p: query, limit
	OpMemberGet        = "member.get"         // p: user
	OpMemberJoin       = "member.join"        // p: code (an invite of this guild; admins need none); the actor joins → {guild, channel, new_member} as an Invite
	OpMemberAdd        = "member.add"         // b: User; admin only: adds that user (used for bots)
	OpMemberUpdate     = "member.update"      // p: user; b: {nick?, roles?, mute?, deaf?, channel_id?}
	OpMemberRefresh    = "member.refresh"     // the actor's own user object has changed
	OpMemberRemove     = "member.remove"      // p: user (kick; one's own id: leave)
	OpMemberRoleAdd    = "member.role.add"    // p: user, role
	OpMemberRoleRemove = "member.role.remove" // p: user, role

	OpMessageAccess = "message.access" // p: channel → 204 when the actor may read the history
	OpMessageCreate = "message.create" // p: channel, and for the answer to an interaction application and interaction (its metadata in JSON); b: {content, nonce, tts, embeds, message_reference, components, flags}
	OpMessageEdit   = "message.edit"   // p: channel, message; b: {content, embeds, components}
	OpMessageDelete = "message.delete" // p: channel, message
	OpTyping        = "typing"         // p: channel

	OpInviteCreate = "invite.create" // p: channel; b: {max_age, max_uses, unique, role_ids}
	OpInviteList   = "invite.list"   // p: channel (optional)
	OpInviteGet    = "invite.get"    // p: code → Invite with counts; no permission needed
	OpInviteDelete = "invite.delete" // p: code

	OpVoiceGet    = "voice.get"    // p: user → VoiceState, 404 code 10065 when not connected
	OpVoiceUpdate = "voice.update" // p: user; b: {channel_id?, suppress?, request_to_speak_timestamp?}
	OpVoiceList   = "voice.list"   // admin → [VoiceListEntry]

	OpInteractionContext = "interaction.context" // p: channel, app (bot's user id) → {channel, member with permissions, app_permissions}; needs USE_APPLICATION_COMMANDS
)

// VoiceListEntry is one connected user as the operator sees it.
type VoiceListEntry struct {
	Guild     proto.Snowflake `json:"guild_id"`
	Channel   proto.Snowflake `json:"channel_id"`
	Name      string          `json:"channel_name"`
	User      proto.Snowflake `json:"user_id"`
	Username  string          `json:"username"`
	Node      string          `json:"node"`
	Worker    int             `json:"worker"`
	Transport string          `json:"transport"` // "udp", "webrtc", or "" while connecting
	Mute      bool            `json:"mute"`
	Deaf      bool            `json:"deaf"`
	SelfMute  bool            `json:"self_mute"`
	SelfDeaf  bool            `json:"self_deaf"`
}

// GatewayMessage is one message to a gateway node (its own subject) or to all of
// them (the broadcast subject); exactly one field is set.
type GatewayMessage struct {
	Dispatch    *Dispatch    `cbor:"1,keyasint,omitempty"`
	VoiceServer *VoiceServer `cbor:"2,keyasint,omitempty"`
	User        *UserEvent   `cbor:"3,keyasint,omitempty"` // broadcast
	Joined      *Membership  `cbor:"4,keyasint,omitempty"` // broadcast: attach the user's sessions
	Left        *Membership  `cbor:"5,keyasint,omitempty"` // broadcast: detach them, GUILD_DELETE
	Revoked     *Revocation  `cbor:"6,keyasint,omitempty"` // broadcast
	Claimed     *Claimed     `cbor:"16,keyasint,omitempty"`
	VoiceEnded  *VoiceEnded  `cbor:"17,keyasint,omitempty"`
	Mourned     *Mourned     `cbor:"18,keyasint,omitempty"`
	HandedOver  *HandedOver  `cbor:"19,keyasint,omitempty"`
}

// Dispatch is one event for sessions of one gateway node: for those listed, or
// for all of the node's sessions attached to the guild when Sessions is empty,
// less those in Except and those whose intents miss Intent. Data is encoded once.
// Where an event for all may wait for others (session.Pace), Prompt is the session
// that it does not wait for, be it on this node or not.
type Dispatch struct {
	Guild    proto.Snowflake `cbor:"1,keyasint"`
	Event    string          `cbor:"2,keyasint"`
	Intent   proto.Intents   `cbor:"3,keyasint"`
	Sessions []string        `cbor:"4,keyasint,omitempty"`
	Data     json.RawMessage `cbor:"5,keyasint"`
	Except   []string        `cbor:"6,keyasint,omitempty"`
	Prompt   string          `cbor:"7,keyasint,omitempty"`
	// Generation is the owner's: events of an owner before the latest are dropped.
	Generation uint64 `cbor:"16,keyasint,omitempty"`
}

// VoiceServer becomes VOICE_SERVER_UPDATE for one session, which is in Channel now.
// An empty Endpoint is the host that the session's own connection was made to, for a
// voice server that shares the gateway's port.
type VoiceServer struct {
	Guild    proto.Snowflake `cbor:"1,keyasint"`
	Session  string          `cbor:"2,keyasint"`
	Token    string          `cbor:"3,keyasint"`
	Endpoint string          `cbor:"4,keyasint,omitempty"`
	Channel  proto.Snowflake `cbor:"16,keyasint,omitempty"`
	Node     string          `cbor:"17,keyasint,omitempty"`
	// Generation as in Dispatch.
	Generation uint64 `cbor:"18,keyasint,omitempty"`
}

// UserEvent is an event for every session of a user, such as INTERACTION_CREATE.
type UserEvent struct {
	User  proto.Snowflake `cbor:"1,keyasint"`
	Event string          `cbor:"2,keyasint"`
	Data  json.RawMessage `cbor:"3,keyasint"`
}

// Membership says that a user came into or left a guild.
type Membership struct {
	User  proto.Snowflake `cbor:"1,keyasint"`
	Guild proto.Snowflake `cbor:"2,keyasint"`
}

// Revocation ends the sessions of a user that identified with a token: the one
// with this hash, or every one when the hash is empty.
type Revocation struct {
	User proto.Snowflake `cbor:"1,keyasint"`
	Hash []byte          `cbor:"2,keyasint,omitempty"`
}

// VoiceCommand is what a guild tells a voice node about one join.
type VoiceCommand struct {
	Guild proto.Snowflake `cbor:"1,keyasint"`
	User  proto.Snowflake `cbor:"2,keyasint"`
	Join  uint64          `cbor:"3,keyasint"`
	// Update changes what is forwarded; nil leaves it.
	Update *VoiceFlags `cbor:"4,keyasint,omitempty"`
	// End silences the peer at once and closes its WebSocket with Code: now, or
	// after a grace of 5 s when Moved, in which the client itself goes over.
	End   bool            `cbor:"5,keyasint,omitempty"`
	Moved bool            `cbor:"6,keyasint,omitempty"`
	Code  proto.CloseCode `cbor:"7,keyasint,omitempty"`
	// Verify asks whether the join is there; a node that has it not reports that it has
	// ended.
	Verify bool `cbor:"17,keyasint,omitempty"`
	// Linger, with End, lets the peer hear and be heard on: its channel goes over to
	// another voice server, where not all are yet. It ends with the next End, 2 s after
	// one that is Moved, with its WebSocket, or after 10 s.
	Linger bool `cbor:"16,keyasint,omitempty"`
	// Session is the gateway session that the join is of from now on; "" leaves it.
	Session string `cbor:"18,keyasint,omitempty"`
}

// VoiceFlags is what a guild knows of a join that changes what is forwarded.
type VoiceFlags struct {
	Mute        bool              `cbor:"1,keyasint"` // server mute, suppressed, or no SPEAK
	Deaf        bool              `cbor:"2,keyasint"`
	SelfDeaf    bool              `cbor:"3,keyasint"`
	Permissions proto.Permissions `cbor:"4,keyasint"`
}

// VoiceReport is what a voice node tells a guild about one join, in words that are
// enough for an owner who knows nothing of it.
type VoiceReport struct {
	User proto.Snowflake `cbor:"1,keyasint"`
	Join uint64          `cbor:"2,keyasint"`
	Node string          `cbor:"3,keyasint"`
	// Connected names worker and transport; otherwise the join has ended.
	Connected bool   `cbor:"4,keyasint"`
	Worker    int    `cbor:"5,keyasint"`
	Transport string `cbor:"6,keyasint,omitempty"`

	Channel proto.Snowflake `cbor:"16,keyasint,omitempty"`
	Session string          `cbor:"17,keyasint,omitempty"` // of the gateway, which it is of now
	Flags   VoiceFlags      `cbor:"18,keyasint,omitempty"` // what is enforced now
	// Identified is the session that its token names.
	Identified string `cbor:"19,keyasint,omitempty"`
}

// VoiceNode is a voice server as guilds see it.
type VoiceNode struct {
	Node     string
	Region   string
	Endpoint string // host:port, or empty for the gateway's own
	Peers    int
	Load     float64 // 0 idle to 1 full
	// Ailing takes nothing new. Draining takes nothing new either, and what it has is to
	// go elsewhere; so has what an Attacked one has, which takes what has no better place.
	Ailing, Draining, Attacked bool
}

func (v *VoiceNode) open() bool    { return !v.Draining && !v.Ailing }
func (v *VoiceNode) leaving() bool { return v.Draining || v.Attacked }

// Subjects of the bus.
const (
	SubjectGatewayAll = "gateway.all"
	SubjectClaimed    = "guilds.claimed" // for gateways, voice nodes and guild nodes
)

// OwnerSubject returns where a guild node takes the requests to all of its guilds. An
// empty name is that of no node, to whose subject nobody listens.
func OwnerSubject(node string) string {
	if node == "" {
		node = "-"
	}
	return "guilds." + node + ".in"
}

// GatewaySubject returns where messages to a gateway node go.
func GatewaySubject(node string) string { return "gateway." + node + ".in" }

// VoiceSubject returns where commands to a voice node go.
func VoiceSubject(node string) string { return "voice." + node + ".in" }
