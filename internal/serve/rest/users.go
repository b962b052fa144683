package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

func (s *Service) userRoutes() []route {
	return []route{
		{pattern: "GET /users/@me", handle: s.me},
		{pattern: "PATCH /users/@me", handle: s.updateMe},
		{pattern: "GET /users/{user}", handle: s.getUser},
		{pattern: "GET /users/@me/guilds", handle: s.myGuilds},
		{pattern: "DELETE /users/@me/guilds/{guild}", handle: s.leaveGuild},
		{pattern: "GET /users/@me/guilds/{guild}/member", handle: s.asMyself(guild.OpMemberGet)},
	}
}

// currentUser is a user as itself sees it.
type currentUser struct {
	proto.User
	MFAEnabled bool    `json:"mfa_enabled"`
	Locale     string  `json:"locale"`
	Verified   bool    `json:"verified"`
	Email      *string `json:"email"`
}

func asCurrent(u proto.User) currentUser {
	return currentUser{User: u, Locale: "en-US", Verified: true}
}

func (s *Service) me(r *request) (reply, error) { return ok(asCurrent(r.user.User)) }

func (s *Service) getUser(r *request) (reply, error) {
	user, err := s.knownUser(r.ctx, r.ids["user"])
	if err != nil {
		return reply{}, err
	}
	return ok(user.User)
}

// optional tells an absent field from a null one.
type optional[T any] struct {
	set   bool
	value *T // nil for null
}

// UnmarshalJSON marks the field as present.
func (o *optional[T]) UnmarshalJSON(b []byte) error {
	o.set = true
	return json.Unmarshal(b, &o.value)
}

func (s *Service) updateMe(r *request) (reply, error) {
	var body struct {
		Username   *string          `json:"username"`
		GlobalName optional[string] `json:"global_name"`
		Avatar     optional[string] `json:"avatar"`
	}
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	var f form
	user := r.user
	if body.Username != nil {
		user.Username = f.username(*body.Username)
	}
	if body.GlobalName.set {
		user.GlobalName = nil
		if body.GlobalName.value != nil {
			name := f.globalName(*body.GlobalName.value)
			user.GlobalName = &name
		}
	}
	if body.Avatar.value != nil {
		f.wrong("avatar", "AVATARS_UNSUPPORTED", "This server keeps no avatars.")
	}
	if err := f.err(); err != nil {
		return reply{}, err
	}
	if err := s.store.UpdateUser(r.ctx, user); err != nil {
		return reply{}, usernameFailure(err)
	}
	s.tellUser(user.ID, "USER_UPDATE", asCurrent(user.User))
	s.tellGuilds(r, user.User)
	return ok(asCurrent(user.User))
}

// tellUser sends an event to every session of a user.
func (s *Service) tellUser(user proto.Snowflake, event string, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		s.log.Error("event not encoded", "event", event, "err", err)
		return
	}
	s.broadcast(guild.GatewayMessage{User: &guild.UserEvent{User: user, Event: event, Data: raw}})
}

func (s *Service) broadcast(m guild.GatewayMessage) {
	if err := s.bus.Publish(guild.SubjectGatewayAll, m); err != nil {
		s.log.Error("broadcast not sent", "err", err)
	}
}

// tellGuilds gives a changed user to the guilds it is in. A guild that does not
// answer reads it from the store when it is loaded again.
func (s *Service) tellGuilds(r *request, user proto.User) {
	guilds, err := s.store.GuildIDsOfUser(r.ctx, user.ID)
	if err != nil {
		s.log.Warn("changed user not told to guilds", "err", err)
		return
	}
	for _, g := range guilds {
		if err := s.askFor(r.ctx, guild.Actor{User: user}, g, guild.OpMemberRefresh, nil, nil, nil); err != nil {
			s.log.Warn("changed user not told to guild", "guild", g, "err", err)
		}
	}
}

// asMyself hands the request to the guild with the caller as the user it is about.
func (s *Service) asMyself(op string) handler {
	call := s.call(op)
	return func(r *request) (reply, error) {
		r.ids["user"] = r.user.ID
		return call(r)
	}
}

func (s *Service) leaveGuild(r *request) (reply, error) {
	if _, err := s.asMyself(guild.OpMemberRemove)(r); err != nil {
		return reply{}, err
	}
	return noContent()
}

// partialGuild is a guild in the list of a user's own.
type partialGuild struct {
	ID          proto.Snowflake   `json:"id"`
	Name        string            `json:"name"`
	Icon        *string           `json:"icon"`
	Banner      *string           `json:"banner"`
	Owner       bool              `json:"owner"`
	Permissions proto.Permissions `json:"permissions"`
	Features    []string          `json:"features"`
	Members     int               `json:"approximate_member_count,omitempty"`
	Presences   int               `json:"approximate_presence_count,omitempty"`
}

// maxGuildPage is how many guilds one page lists.
const maxGuildPage = 200

func (s *Service) myGuilds(r *request) (reply, error) {
	limit, err := r.number("limit", 1, maxGuildPage, maxGuildPage)
	if err != nil {
		return reply{}, err
	}
	before, err := r.id("before")
	if err != nil {
		return reply{}, err
	}
	after, err := r.id("after")
	if err != nil {
		return reply{}, err
	}
	ids, err := s.store.GuildIDsOfUser(r.ctx, r.user.ID)
	if err != nil {
		return reply{}, err
	}
	page := make([]partialGuild, 0, min(limit, len(ids)))
	for _, id := range guildPage(ids, before, after, limit) {
		g, err := s.partialGuild(r, id)
		if api, isAPI := errors.AsType[*proto.APIError](err); isAPI && api.Status != http.StatusServiceUnavailable {
			continue // left or deleted since the list was read
		}
		if err != nil {
			return reply{}, err
		}
		page = append(page, g)
	}
	return ok(page)
}

// guildPage cuts one page out of ids, which it sorts: the first after an id, or
// the last before one.
func guildPage(ids []proto.Snowflake, before, after proto.Snowflake, limit int) []proto.Snowflake {
	slices.Sort(ids)
	if after != 0 {
		i, _ := slices.BinarySearch(ids, after+1)
		ids = ids[i:]
	}
	if before != 0 {
		i, _ := slices.BinarySearch(ids, before)
		ids = ids[:i]
		if after == 0 {
			return ids[max(0, len(ids)-limit):]
		}
	}
	return ids[:min(limit, len(ids))]
}

// countedGuild is a guild with the counts that with_counts asks for.
type countedGuild struct {
	proto.Guild
	Members   int `json:"approximate_member_count"`
	Presences int `json:"approximate_presence_count"`
}

func (s *Service) partialGuild(r *request, id proto.Snowflake) (partialGuild, error) {
	var g countedGuild
	params := map[string]string{}
	if r.flag("with_counts") {
		params["with_counts"] = "true"
	}
	if err := s.askFor(r.ctx, r.actor(), id, guild.OpGuildGet, params, nil, &g); err != nil {
		return partialGuild{}, err
	}
	var m proto.Member
	if err := s.askFor(r.ctx, r.actor(), id, guild.OpMemberGet, map[string]string{"user": r.user.ID.String()}, nil, &m); err != nil {
		return partialGuild{}, err
	}
	features := g.Features
	if features == nil {
		features = []string{}
	}
	return partialGuild{ID: g.ID, Name: g.Name, Icon: g.Icon, Banner: g.Banner, Owner: g.OwnerID == r.user.ID,
		Permissions: basePermissions(g.Guild, r.user.ID, m.Roles), Features: features,
		Members: g.Members, Presences: g.Presences}, nil
}

// basePermissions is what a member may do in the guild at large, before any
// channel's overwrites (Topics, "Permissions").
func basePermissions(g proto.Guild, user proto.Snowflake, roles []proto.Snowflake) proto.Permissions {
	if g.OwnerID == user {
		return proto.PermAll
	}
	var p proto.Permissions
	for _, role := range g.Roles {
		if role.ID == g.ID || slices.Contains(roles, role.ID) {
			p |= role.Permissions
		}
	}
	if p.Has(proto.PermAdministrator) {
		return proto.PermAll
	}
	return p
}

// Bounds of names.
const (
	minUsername   = 2
	maxUsername   = 32
	maxGlobalName = 32
	minPassword   = 8
	maxPassword   = 128
)

const usernameLetters = "abcdefghijklmnopqrstuvwxyz0123456789_."

// username checks a username and returns it in lower case, in which it is kept.
func (f *form) username(v string) string {
	v = strings.ToLower(strings.TrimSpace(v))
	switch {
	case len(v) < minUsername || len(v) > maxUsername:
		f.length("username", len(v), minUsername, maxUsername)
	case strings.Trim(v, usernameLetters) != "" || strings.Contains(v, ".."):
		f.wrong("username", "USERNAME_INVALID_CHARACTERS",
			"Please only use numbers, letters, underscores _ or periods, and no two periods in a row.")
	}
	return v
}

// globalName checks a name for display and returns it without outer space.
func (f *form) globalName(v string) string {
	v = strings.TrimSpace(v)
	f.length("global_name", len([]rune(v)), 1, maxGlobalName)
	if strings.ContainsFunc(v, unprintable) {
		f.wrong("global_name", "GLOBAL_NAME_INVALID_CHARACTERS", "Please use characters that can be seen.")
	}
	return v
}

// usernameFailure turns a taken username into its failure.
func usernameFailure(err error) error {
	if errors.Is(err, store.ErrTaken) {
		return invalid("username", "USERNAME_ALREADY_TAKEN", "Username is already taken.")
	}
	return err
}
