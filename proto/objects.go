package proto

import (
	"encoding/json"
	"time"
)

// User is an account or a bot (Resources, "User").
type User struct {
	ID            Snowflake `json:"id"`
	Username      string    `json:"username"`
	Discriminator string    `json:"discriminator"`
	GlobalName    *string   `json:"global_name"`
	Avatar        *string   `json:"avatar"`
	Bot           bool      `json:"bot,omitempty"`
	System        bool      `json:"system,omitempty"`
	PublicFlags   int       `json:"public_flags"`
	Flags         int       `json:"flags"`
	// Guest marks an account without a password that entered by an invite.
	Guest bool `json:"guest,omitempty"`
}

// ChannelType says what a channel carries (Resources, "Channel Types").
type ChannelType int

// The channel types Hubbub has.
const (
	ChannelText     ChannelType = 0
	ChannelVoice    ChannelType = 2
	ChannelCategory ChannelType = 4
	ChannelStage    ChannelType = 13
)

// IsVoice reports whether people can connect to channels of type t.
func (t ChannelType) IsVoice() bool { return t == ChannelVoice || t == ChannelStage }

// OverwriteType says whether an overwrite is for a role or for a member.
type OverwriteType int

// The two overwrite types.
const (
	OverwriteRole   OverwriteType = 0
	OverwriteMember OverwriteType = 1
)

// Overwrite allows and denies permissions in one channel.
type Overwrite struct {
	ID    Snowflake     `json:"id"`
	Type  OverwriteType `json:"type"`
	Allow Permissions   `json:"allow"`
	Deny  Permissions   `json:"deny"`
}

// Channel is a room of a guild (Resources, "Channel"). Bitrate is in bit/s,
// UserLimit 0 means none.
type Channel struct {
	ID                   Snowflake   `json:"id"`
	Type                 ChannelType `json:"type"`
	GuildID              Snowflake   `json:"guild_id"`
	Position             int         `json:"position"`
	PermissionOverwrites []Overwrite `json:"permission_overwrites"`
	Name                 string      `json:"name"`
	Topic                *string     `json:"topic"`
	NSFW                 bool        `json:"nsfw"`
	LastMessageID        *Snowflake  `json:"last_message_id"`
	Bitrate              int         `json:"bitrate,omitempty"`
	UserLimit            int         `json:"user_limit"`
	RateLimitPerUser     int         `json:"rate_limit_per_user"`
	ParentID             *Snowflake  `json:"parent_id"`
	RTCRegion            *string     `json:"rtc_region"`
	Flags                int         `json:"flags"`
}

// Role is a named set of permissions of a guild.
type Role struct {
	ID          Snowflake   `json:"id"`
	Name        string      `json:"name"`
	Color       int         `json:"color"`
	Hoist       bool        `json:"hoist"`
	Icon        *string     `json:"icon"`
	Position    int         `json:"position"`
	Permissions Permissions `json:"permissions"`
	Managed     bool        `json:"managed"`
	Mentionable bool        `json:"mentionable"`
	Flags       int         `json:"flags"`
}

// Member is a user in a guild (Resources, "Guild Member").
type Member struct {
	User                       *User       `json:"user,omitempty"`
	Nick                       *string     `json:"nick"`
	Avatar                     *string     `json:"avatar"`
	Roles                      []Snowflake `json:"roles"`
	JoinedAt                   time.Time   `json:"joined_at"`
	PremiumSince               *time.Time  `json:"premium_since"`
	Deaf                       bool        `json:"deaf"`
	Mute                       bool        `json:"mute"`
	Flags                      int         `json:"flags"`
	Pending                    bool        `json:"pending"`
	CommunicationDisabledUntil *time.Time  `json:"communication_disabled_until"`
}

// Guild is a community (Resources, "Guild"). Presence of the slices that only
// GUILD_CREATE carries is up to GuildCreate.
type Guild struct {
	ID                          Snowflake         `json:"id"`
	Name                        string            `json:"name"`
	Icon                        *string           `json:"icon"`
	Splash                      *string           `json:"splash"`
	DiscoverySplash             *string           `json:"discovery_splash"`
	Banner                      *string           `json:"banner"`
	Description                 *string           `json:"description"`
	VanityURLCode               *string           `json:"vanity_url_code"`
	OwnerID                     Snowflake         `json:"owner_id"`
	Region                      string            `json:"region"`
	AFKChannelID                *Snowflake        `json:"afk_channel_id"`
	AFKTimeout                  int               `json:"afk_timeout"`
	VerificationLevel           int               `json:"verification_level"`
	DefaultMessageNotifications int               `json:"default_message_notifications"`
	ExplicitContentFilter       int               `json:"explicit_content_filter"`
	Roles                       []Role            `json:"roles"`
	Emojis                      []json.RawMessage `json:"emojis"`
	Stickers                    []json.RawMessage `json:"stickers"`
	Features                    []string          `json:"features"`
	MFALevel                    int               `json:"mfa_level"`
	ApplicationID               *Snowflake        `json:"application_id"`
	SystemChannelID             *Snowflake        `json:"system_channel_id"`
	SystemChannelFlags          int               `json:"system_channel_flags"`
	RulesChannelID              *Snowflake        `json:"rules_channel_id"`
	PublicUpdatesChannelID      *Snowflake        `json:"public_updates_channel_id"`
	SafetyAlertsChannelID       *Snowflake        `json:"safety_alerts_channel_id"`
	MaxMembers                  int               `json:"max_members"`
	MaxVideoChannelUsers        int               `json:"max_video_channel_users"`
	PremiumTier                 int               `json:"premium_tier"`
	PremiumSubscriptionCount    int               `json:"premium_subscription_count"`
	PremiumProgressBarEnabled   bool              `json:"premium_progress_bar_enabled"`
	PreferredLocale             string            `json:"preferred_locale"`
	NSFWLevel                   int               `json:"nsfw_level"`
	NSFW                        bool              `json:"nsfw"`
}

// GuildCreate is the payload of GUILD_CREATE: the guild and everything of it
// that the receiver may see.
type GuildCreate struct {
	Guild
	JoinedAt             time.Time         `json:"joined_at"`
	Large                bool              `json:"large"`
	Unavailable          bool              `json:"unavailable"`
	MemberCount          int               `json:"member_count"`
	VoiceStates          []VoiceState      `json:"voice_states"`
	Members              []Member          `json:"members"`
	Channels             []Channel         `json:"channels"`
	Threads              []json.RawMessage `json:"threads"`
	Presences            []Presence        `json:"presences"`
	StageInstances       []json.RawMessage `json:"stage_instances"`
	GuildScheduledEvents []json.RawMessage `json:"guild_scheduled_events"`
	SoundboardSounds     []json.RawMessage `json:"soundboard_sounds"`
}

// UnavailableGuild stands for a guild in READY and GUILD_DELETE. Unavailable is
// false only when the user left it.
type UnavailableGuild struct {
	ID          Snowflake `json:"id"`
	Unavailable bool      `json:"unavailable,omitempty"`
}

// VoiceState is one user's voice connection in a guild (Resources, "Voice").
type VoiceState struct {
	GuildID                 Snowflake  `json:"guild_id,omitempty"`
	ChannelID               *Snowflake `json:"channel_id"`
	UserID                  Snowflake  `json:"user_id"`
	Member                  *Member    `json:"member,omitempty"`
	SessionID               string     `json:"session_id"`
	Deaf                    bool       `json:"deaf"`
	Mute                    bool       `json:"mute"`
	SelfDeaf                bool       `json:"self_deaf"`
	SelfMute                bool       `json:"self_mute"`
	SelfStream              bool       `json:"self_stream,omitempty"`
	SelfVideo               bool       `json:"self_video"`
	Suppress                bool       `json:"suppress"`
	RequestToSpeakTimestamp *time.Time `json:"request_to_speak_timestamp"`
}

// Presence is whether a user is online and doing what.
type Presence struct {
	User         PresenceUser      `json:"user"`
	GuildID      Snowflake         `json:"guild_id,omitempty"`
	Status       string            `json:"status"`
	Activities   []json.RawMessage `json:"activities"`
	ClientStatus map[string]string `json:"client_status"`
}

// PresenceUser is the partial user of a presence: its id alone.
type PresenceUser struct {
	ID Snowflake `json:"id"`
}

// Message is one text message (Resources, "Message").
type Message struct {
	ID               Snowflake         `json:"id"`
	ChannelID        Snowflake         `json:"channel_id"`
	GuildID          Snowflake         `json:"guild_id,omitempty"`
	Author           User              `json:"author"`
	Member           *Member           `json:"member,omitempty"`
	Content          string            `json:"content"`
	Timestamp        time.Time         `json:"timestamp"`
	EditedTimestamp  *time.Time        `json:"edited_timestamp"`
	TTS              bool              `json:"tts"`
	MentionEveryone  bool              `json:"mention_everyone"`
	Mentions         []User            `json:"mentions"`
	MentionRoles     []Snowflake       `json:"mention_roles"`
	Attachments      []json.RawMessage `json:"attachments"`
	Embeds           []json.RawMessage `json:"embeds"`
	Components       []json.RawMessage `json:"components"`
	Reactions        []json.RawMessage `json:"reactions,omitempty"`
	Nonce            json.RawMessage   `json:"nonce,omitempty"`
	Pinned           bool              `json:"pinned"`
	Type             int               `json:"type"`
	Flags            int               `json:"flags"`
	ApplicationID    Snowflake         `json:"application_id,omitempty"`
	MessageReference json.RawMessage   `json:"message_reference,omitempty"`
	// InteractionMetadata says which use of a command or component the message
	// answers.
	InteractionMetadata json.RawMessage `json:"interaction_metadata,omitempty"`
}

// Invite lets people into a guild (Resources, "Invite").
type Invite struct {
	Code                     string    `json:"code"`
	Type                     int       `json:"type"`
	GuildID                  Snowflake `json:"guild_id"`
	Guild                    *Guild    `json:"guild,omitempty"`
	ChannelID                Snowflake `json:"channel_id"`
	Channel                  *Channel  `json:"channel"`
	Inviter                  *User     `json:"inviter,omitempty"`
	InviterID                Snowflake `json:"-"`
	ApproximateMemberCount   int       `json:"approximate_member_count,omitempty"`
	ApproximatePresenceCount int       `json:"approximate_presence_count,omitempty"`
	// RoleIDs are given to whoever enters by this invite.
	RoleIDs   []Snowflake `json:"role_ids,omitempty"`
	Uses      int         `json:"uses"`
	MaxUses   int         `json:"max_uses"`
	MaxAge    int         `json:"max_age"`
	Temporary bool        `json:"temporary"`
	CreatedAt time.Time   `json:"created_at"`
	ExpiresAt *time.Time  `json:"expires_at"`
}

// Application is what a bot belongs to (Resources, "Application").
type Application struct {
	ID                  Snowflake `json:"id"`
	Name                string    `json:"name"`
	Icon                *string   `json:"icon"`
	Description         string    `json:"description"`
	BotPublic           bool      `json:"bot_public"`
	BotRequireCodeGrant bool      `json:"bot_require_code_grant"`
	Bot                 *User     `json:"bot,omitempty"`
	Owner               *User     `json:"owner,omitempty"`
	Summary             string    `json:"summary"`
	VerifyKey           string    `json:"verify_key"`
	Flags               int       `json:"flags"`
}

// ApplicationCommand is a registered slash command. Options and the localised
// texts are carried as they came.
type ApplicationCommand struct {
	ID                       Snowflake       `json:"id"`
	Type                     int             `json:"type"`
	ApplicationID            Snowflake       `json:"application_id"`
	GuildID                  Snowflake       `json:"guild_id,omitempty"`
	Name                     string          `json:"name"`
	NameLocalizations        json.RawMessage `json:"name_localizations,omitempty"`
	Description              string          `json:"description"`
	DescriptionLocalizations json.RawMessage `json:"description_localizations,omitempty"`
	Options                  json.RawMessage `json:"options,omitempty"`
	DefaultMemberPermissions *string         `json:"default_member_permissions"`
	DMPermission             *bool           `json:"dm_permission,omitempty"`
	NSFW                     bool            `json:"nsfw"`
	IntegrationTypes         json.RawMessage `json:"integration_types,omitempty"`
	Contexts                 json.RawMessage `json:"contexts,omitempty"`
	Version                  Snowflake       `json:"version"`
}

// Interaction is a user's use of a command (Interactions, "Receiving").
type Interaction struct {
	ID             Snowflake       `json:"id"`
	ApplicationID  Snowflake       `json:"application_id"`
	Type           int             `json:"type"`
	Data           json.RawMessage `json:"data,omitempty"`
	GuildID        Snowflake       `json:"guild_id,omitempty"`
	ChannelID      Snowflake       `json:"channel_id,omitempty"`
	Channel        *Channel        `json:"channel,omitempty"`
	Member         *Member         `json:"member,omitempty"`
	Token          string          `json:"token"`
	Version        int             `json:"version"`
	AppPermissions Permissions     `json:"app_permissions"`
	Locale         string          `json:"locale"`
	GuildLocale    string          `json:"guild_locale,omitempty"`
	Entitlements   []any           `json:"entitlements"`
}

// VoiceRegion is a place that voice servers stand in.
type VoiceRegion struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Optimal    bool   `json:"optimal"`
	Deprecated bool   `json:"deprecated"`
	Custom     bool   `json:"custom"`
}
