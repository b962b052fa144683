package guild

import (
	"encoding/json"
	"io"
	"slices"
	"time"

	"hubbub.dev/hubbub/proto"
)

// Config is what a guild needs from outside. All of it belongs to the guild's
// shard and may be shared by the shard's guilds.
type Config struct {
	IDs      IDs       // makes ids
	Random   io.Reader // for invite codes
	TokenKey []byte    // signs voice tokens
	Nodes    *Nodes    // the voice servers there are
}

// IDs makes snowflakes; proto.Generator does.
type IDs interface {
	Next(now time.Time) proto.Snowflake
}

// Input is one request and the time of its arrival; a guild has no deadlines, so
// the wall clock is all it takes. Message is the stored
// message that NeedsMessage named, nil when there is none.
type Input struct {
	Wall    time.Time
	Request Request
	Message *proto.Message
}

// Output is what one input asks for; it is valid until the next. Writes come first, all or none: when they
// fail, the guild is rolled back and nothing is sent. Then Messages, in order,
// then Reply, which is set for a Call only.
type Output struct {
	Writes   []Write
	Messages []Message
	Reply    *Result
}

// Write is one change to what is stored of a guild; exactly one field is set.
// Guild goes without its roles, which are written one by one. DeleteChannel
// takes the channel's messages along, DeleteGuild everything.
type Write struct {
	Guild   *proto.Guild
	Channel *proto.Channel
	Role    *proto.Role
	Member  *proto.Member
	Invite  *proto.Invite
	Message *proto.Message

	DeleteGuild   bool
	DeleteChannel proto.Snowflake
	DeleteRole    proto.Snowflake
	DeleteMember  proto.Snowflake
	DeleteInvite  string
	DeleteMessage [2]proto.Snowflake // channel and id
}

// Message is a GatewayMessage or a VoiceCommand and the subject it goes to.
type Message struct {
	Subject string
	Gateway *GatewayMessage
	Voice   *VoiceCommand
}

// Record is a guild as it is stored; every member carries its user.
type Record struct {
	Guild    proto.Guild
	Channels []proto.Channel
	Members  []proto.Member
	Invites  []proto.Invite
}

// Guild is one guild. What its maps point to is never changed in place but
// replaced, by set and unset, so that a change can be undone. It is not safe for
// concurrent use.
type Guild struct {
	cfg Config
	id  proto.Snowflake

	info     *proto.Guild // without roles; nil while the guild does not exist
	roles    map[proto.Snowflake]*proto.Role
	channels map[proto.Snowflake]*proto.Channel
	members  map[proto.Snowflake]*proto.Member
	invites  map[string]*proto.Invite

	sessions map[string]*session
	online   map[proto.Snowflake][]*session // by user, never empty
	gateways map[string]int                 // sessions on each gateway node
	// hidden names, for each user online, the channels that its sessions were
	// not told of, if there are any. It follows the permissions in reconcile, so that choosing who
	// gets an event costs a map look-up and no permission arithmetic.
	hidden map[proto.Snowflake]map[proto.Snowflake]bool

	voice      map[proto.Snowflake]*voiceState // by user
	lastJoin   uint64
	generation uint64    // of its owner, 0 of the first
	gathered   *gathered // while it is being rebuilt

	// What follows from the above (index.go), and how it was last encoded.
	rooms        map[proto.Snowflake]map[proto.Snowflake]*voiceState // voice, by channel and user
	blind        map[proto.Snowflake]int                             // users online from whom a channel is hidden
	tuned        map[proto.Intents]int                               // sessions by their intents
	order        []proto.Snowflake                                   // of the members, when it was asked for
	memberJSON   encodings[proto.Member]
	stateJSON    encodings[voiceState]
	presenceJSON encodings[*session]
	scratch      []byte // of snapshots

	in   Input
	out  Output
	undo []func()
}

// New returns a guild that does not exist yet: all it takes is OpGuildCreate.
func New(id proto.Snowflake, cfg Config) *Guild {
	return &Guild{
		cfg:      cfg,
		id:       id,
		roles:    map[proto.Snowflake]*proto.Role{},
		channels: map[proto.Snowflake]*proto.Channel{},
		members:  map[proto.Snowflake]*proto.Member{},
		invites:  map[string]*proto.Invite{},
		sessions: map[string]*session{},
		online:   map[proto.Snowflake][]*session{},
		gateways: map[string]int{},
		hidden:   map[proto.Snowflake]map[proto.Snowflake]bool{},
		voice:    map[proto.Snowflake]*voiceState{},
		rooms:    map[proto.Snowflake]map[proto.Snowflake]*voiceState{},
		blind:    map[proto.Snowflake]int{},
		tuned:    map[proto.Intents]int{},

		memberJSON:   encodings[proto.Member]{},
		stateJSON:    encodings[voiceState]{},
		presenceJSON: encodings[*session]{},
	}
}

// Load returns the guild of a record, with nobody online.
func Load(r Record, cfg Config) *Guild {
	g := New(r.Guild.ID, cfg)
	for i := range r.Guild.Roles {
		role := r.Guild.Roles[i]
		g.roles[role.ID] = &role
	}
	r.Guild.Roles = nil
	info := withLists(r.Guild)
	g.info = &info
	for i := range r.Channels {
		ch := r.Channels[i]
		ch.PermissionOverwrites = orEmpty(ch.PermissionOverwrites)
		g.channels[ch.ID] = &ch
	}
	for i := range r.Members {
		m := r.Members[i]
		m.Roles = orEmpty(m.Roles)
		g.members[m.User.ID] = &m
	}
	for i := range r.Invites {
		v := r.Invites[i]
		g.invites[v.Code] = &v
	}
	return g
}

// orEmpty makes a list encode as [] where clients do not expect null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func withLists(info proto.Guild) proto.Guild {
	info.Emojis = orEmpty(info.Emojis)
	info.Stickers = orEmpty(info.Stickers)
	info.Features = orEmpty(info.Features)
	return info
}

// Exists reports whether the guild was created and not deleted.
func (g *Guild) Exists() bool { return g.info != nil }

// Idle reports whether nobody is online or in voice, so that all there is to the
// guild is in the store.
func (g *Guild) Idle() bool { return len(g.sessions) == 0 && len(g.voice) == 0 }

// Handle takes one request. Requests that make no sense (an unknown session, a
// stale join, a guild that does not exist) cost a look-up and yield nothing; a
// Call always yields a Reply.
func (g *Guild) Handle(in Input) Output {
	g.begin(in)
	r := &in.Request
	switch {
	case r.Call != nil:
		g.call(r.Call)
	case g.info == nil:
	case r.Attach != nil:
		g.attach(r.Attach)
	case r.Detach != nil:
		g.detach(r.Detach)
	case r.Voice != nil:
		g.voiceRequest(r.Voice)
	case r.Members != nil:
		g.membersRequest(r.Members)
	case r.Presence != nil:
		g.presenceRequest(r.Presence)
	case r.Report != nil:
		g.voiceReport(r.Report)
	case r.Handover != nil:
		g.handOver(r.Handover)
	}
	return g.out
}

func (g *Guild) begin(in Input) { g.in, g.out, g.undo = in, Output{}, nil }

// Rollback takes back what the last input changed, because its writes failed.
func (g *Guild) Rollback() {
	for _, undo := range slices.Backward(g.undo) {
		undo()
	}
	g.undo, g.order = nil, nil
}

// set replaces or adds one entry, and remembers how to undo that.
func set[K comparable, V any](g *Guild, m map[K]V, k K, v V) {
	old, had := m[k]
	m[k] = v
	g.undo = append(g.undo, func() { restore(m, k, old, had) })
}

// unset removes one entry, and remembers how to undo that.
func unset[K comparable, V any](g *Guild, m map[K]V, k K) {
	old, had := m[k]
	delete(m, k)
	g.undo = append(g.undo, func() { restore(m, k, old, had) })
}

func restore[K comparable, V any](m map[K]V, k K, old V, had bool) {
	if had {
		m[k] = old
	} else {
		delete(m, k)
	}
}

func (g *Guild) write(w Write) { g.out.Writes = append(g.out.Writes, w) }

func (g *Guild) setInfo(info *proto.Guild) {
	old := g.info
	g.info = info
	g.undo = append(g.undo, func() { g.info = old })
	if info != nil {
		g.write(Write{Guild: info})
	} else {
		g.write(Write{DeleteGuild: true})
	}
}

func (g *Guild) setRole(r *proto.Role) {
	set(g, g.roles, r.ID, r)
	g.write(Write{Role: r})
}

func (g *Guild) setChannel(ch *proto.Channel) {
	set(g, g.channels, ch.ID, ch)
	g.write(Write{Channel: ch})
}

func (g *Guild) setMember(m *proto.Member) {
	set(g, g.members, m.User.ID, m)
	g.place(m.User.ID)
	g.write(Write{Member: m})
}

func (g *Guild) setInvite(v *proto.Invite) {
	set(g, g.invites, v.Code, v)
	g.write(Write{Invite: v})
}

func (g *Guild) dropInvite(code string) {
	unset(g, g.invites, code)
	g.write(Write{DeleteInvite: code})
}

func (g *Guild) nextID() proto.Snowflake { return g.cfg.IDs.Next(g.in.Wall) }

// encode returns v as JSON, nil when it cannot be: the raw JSON that payloads
// carry was decoded from valid JSON before it came here.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

// sortedRoles returns the roles from the lowest up, @everyone first.
func (g *Guild) sortedRoles() []proto.Role {
	roles := make([]proto.Role, 0, len(g.roles))
	for _, r := range g.roles {
		roles = append(roles, *r)
	}
	slices.SortFunc(roles, func(a, b proto.Role) int {
		return compareRoles(&a, &b)
	})
	return roles
}

// object returns the guild as clients see it.
func (g *Guild) object() proto.Guild {
	info := *g.info
	info.Roles = g.sortedRoles()
	return info
}
