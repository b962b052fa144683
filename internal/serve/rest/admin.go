package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// adminRoutes are below /admin/v1. Most are the public ones in the operator's
// name, whom guilds refuse nothing.
func (s *Service) adminRoutes() []route {
	routes := []route{
		{pattern: "GET /guilds", handle: s.allGuilds},
		{pattern: "POST /guilds", handle: s.adminCreateGuild},
		{pattern: "DELETE /guilds/{guild}", handle: s.call(guild.OpGuildDelete)},
		{pattern: "GET /guilds/{guild}/channels", handle: s.call(guild.OpChannelList)},
		{pattern: "POST /guilds/{guild}/channels", handle: s.call(guild.OpChannelCreate)},
		{pattern: "GET /guilds/{guild}/roles", handle: s.call(guild.OpRoleList)},
		{pattern: "POST /guilds/{guild}/roles", handle: s.call(guild.OpRoleCreate)},
		{pattern: "PATCH /guilds/{guild}/roles/{role}", handle: s.call(guild.OpRoleUpdate)},
		{pattern: "POST /guilds/{guild}/invites", handle: s.adminCreateInvite},
		{pattern: "GET /guilds/{guild}/members", handle: s.call(guild.OpMemberList, "limit", "after")},
		{pattern: "GET /guilds/{guild}/members/search", handle: s.call(guild.OpMemberSearch, "query", "limit")},
		{pattern: "PATCH /guilds/{guild}/members/{user}", handle: s.call(guild.OpMemberUpdate)},
		{pattern: "PUT /guilds/{guild}/members/{user}", handle: s.adminAddMember},
		{pattern: "PUT /guilds/{guild}/members/{user}/roles/{role}", handle: s.call(guild.OpMemberRoleAdd)},
		{pattern: "DELETE /guilds/{guild}/members/{user}/roles/{role}", handle: s.call(guild.OpMemberRoleRemove)},
		{pattern: "GET /voice", handle: s.allVoice},
		{pattern: "POST /users", handle: s.adminCreateUser},
		{pattern: "GET /users/{name}", handle: s.findUser},
		{pattern: "POST /users/{user}/tokens", handle: s.adminCreateToken},
		{pattern: "DELETE /users/{user}/tokens", handle: s.adminRevokeTokens},
		{pattern: "POST /bots", handle: s.adminCreateBot},
	}
	for i := range routes {
		routes[i].auth = operator
	}
	return routes
}

func (s *Service) allGuilds(r *request) (reply, error) {
	ids, err := s.store.GuildIDs(r.ctx)
	if err != nil {
		return reply{}, err
	}
	guilds := make([]countedGuild, 0, len(ids))
	for _, id := range ids {
		var g countedGuild
		if err := s.askFor(r.ctx, r.actor(), id, guild.OpGuildGet, map[string]string{"with_counts": "true"}, nil, &g); err != nil {
			return reply{}, err
		}
		guilds = append(guilds, g)
	}
	return ok(guilds)
}

func (s *Service) adminCreateGuild(r *request) (reply, error) {
	var body struct {
		Name    string          `json:"name"`
		OwnerID proto.Snowflake `json:"owner_id"`
		Owner   *proto.User     `json:"owner,omitempty"`
	}
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	if body.Owner = nil; body.OwnerID != 0 {
		user, err := s.knownUser(r.ctx, body.OwnerID)
		if err != nil {
			return reply{}, err
		}
		body.Owner = &user.User
	}
	var g json.RawMessage
	if err := s.askFor(r.ctx, r.actor(), s.newID(), guild.OpGuildCreate, nil, body, &g); err != nil {
		return reply{}, err
	}
	return created(g)
}

func (s *Service) knownUser(ctx context.Context, id proto.Snowflake) (store.User, error) {
	user, err := s.store.UserByID(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return user, unknownUser()
	}
	return user, err
}

func unknownUser() error { return fail(http.StatusNotFound, proto.ErrUnknownUser, "Unknown User") }

// invitation is an invite with the link that people open.
type invitation struct {
	proto.Invite
	URL string `json:"url"`
}

// adminCreateInvite makes an invite to a channel, the guild's first that people
// can be in when none is named.
func (s *Service) adminCreateInvite(r *request) (reply, error) {
	var body struct {
		ChannelID proto.Snowflake `json:"channel_id"`
	}
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	if body.ChannelID == 0 {
		var channels []proto.Channel
		if err := s.askFor(r.ctx, r.actor(), r.ids["guild"], guild.OpChannelList, nil, nil, &channels); err != nil {
			return reply{}, err
		}
		for _, c := range channels {
			if c.Type != proto.ChannelCategory && (body.ChannelID == 0 || c.ID < body.ChannelID) {
				body.ChannelID = c.ID
			}
		}
	}
	result, err := s.ask(r, r.ids["guild"], guild.OpInviteCreate, map[string]string{"channel": body.ChannelID.String()}, r.body)
	if err != nil {
		return reply{}, err
	}
	var invite invitation
	if err := json.Unmarshal(result.Body, &invite.Invite); err != nil {
		return reply{}, err
	}
	base := strings.TrimSuffix(s.cfg.PublicURL, "/")
	if base == "" {
		base = "http://" + r.http.Host
	}
	invite.URL = base + "/invite/" + invite.Code
	return ok(invite)
}

func (s *Service) adminAddMember(r *request) (reply, error) {
	user, err := s.knownUser(r.ctx, r.ids["user"])
	if err != nil {
		return reply{}, err
	}
	if err := s.askFor(r.ctx, r.actor(), r.ids["guild"], guild.OpMemberAdd, nil, user.User, nil); err != nil {
		return reply{}, err
	}
	return noContent()
}

// allVoice lists everybody who is in a call.
func (s *Service) allVoice(r *request) (reply, error) {
	ids, err := s.store.GuildIDs(r.ctx)
	if err != nil {
		return reply{}, err
	}
	entries := []guild.VoiceListEntry{}
	for _, id := range ids {
		var some []guild.VoiceListEntry
		if err := s.askFor(r.ctx, r.actor(), id, guild.OpVoiceList, nil, nil, &some); err != nil {
			return reply{}, err
		}
		entries = append(entries, some...)
	}
	return ok(entries)
}

// credentials is a user that the operator made or gave a token to.
type credentials struct {
	User        proto.User         `json:"user"`
	Application *proto.Application `json:"application,omitempty"`
	Token       string             `json:"token"`
}

func (s *Service) adminCreateUser(r *request) (reply, error) {
	var body registration
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	var f form
	user := store.User{CreatedAt: time.Now()}
	user.Username = f.username(body.Username)
	if body.GlobalName != "" {
		name := f.globalName(body.GlobalName)
		user.GlobalName = &name
	}
	if body.Password != "" {
		f.length("password", len(body.Password), minPassword, maxPassword)
	}
	if err := f.err(); err != nil {
		return reply{}, err
	}
	if err := s.createAccount(r.ctx, &user, body.Password); err != nil {
		return reply{}, err
	}
	return s.credentials(r, user.User, nil)
}

// credentials answers with a fresh token of user.
func (s *Service) credentials(r *request, user proto.User, app *proto.Application) (reply, error) {
	bearer, err := s.newToken(r.ctx, user.ID)
	if err != nil {
		return reply{}, err
	}
	return created(credentials{user, app, bearer})
}

// findUser finds a user by id or by name.
func (s *Service) findUser(r *request) (reply, error) {
	if id, err := proto.ParseSnowflake(r.text("name")); err == nil {
		user, err := s.store.UserByID(r.ctx, id)
		if err == nil {
			return ok(user.User)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return reply{}, err
		}
	}
	user, err := s.store.UserByUsername(r.ctx, r.text("name"))
	if errors.Is(err, store.ErrNotFound) {
		return reply{}, unknownUser()
	}
	if err != nil {
		return reply{}, err
	}
	return ok(user.User)
}

func (s *Service) adminCreateToken(r *request) (reply, error) {
	user, err := s.knownUser(r.ctx, r.ids["user"])
	if err != nil {
		return reply{}, err
	}
	return s.credentials(r, user.User, nil)
}

// adminRevokeTokens makes every token of a user invalid and ends its sessions.
func (s *Service) adminRevokeTokens(r *request) (reply, error) {
	if _, err := s.knownUser(r.ctx, r.ids["user"]); err != nil {
		return reply{}, err
	}
	if err := s.store.DeleteTokens(r.ctx, r.ids["user"]); err != nil {
		return reply{}, err
	}
	s.broadcast(guild.GatewayMessage{Revoked: &guild.Revocation{User: r.ids["user"]}})
	return noContent()
}

// adminCreateBot makes an application with its bot, whose id is the
// application's as with Discord, and adds the bot to a guild.
func (s *Service) adminCreateBot(r *request) (reply, error) {
	var body struct {
		Name    string          `json:"name"`
		GuildID proto.Snowflake `json:"guild_id"`
		OwnerID proto.Snowflake `json:"owner_id"`
	}
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	name := strings.TrimSpace(body.Name)
	var f form
	f.length("name", utf8.RuneCountInString(name), minUsername, maxUsername)
	if strings.ContainsFunc(name, unprintable) {
		f.wrong("name", "USERNAME_INVALID_CHARACTERS", "Please use characters that can be seen.")
	}
	if err := f.err(); err != nil {
		return reply{}, err
	}
	if body.GuildID != 0 {
		// A guild that is not there must not leave a bot behind.
		if err := s.askFor(r.ctx, r.actor(), body.GuildID, guild.OpGuildGet, nil, nil, nil); err != nil {
			return reply{}, err
		}
	}
	user := store.User{CreatedAt: time.Now()}
	user.ID, user.Username, user.Discriminator, user.Bot = s.newID(), name, "0", true
	if err := s.store.CreateUser(r.ctx, user); err != nil {
		return reply{}, usernameFailure(err)
	}
	app := store.Application{BotID: user.ID, OwnerID: body.OwnerID}
	app.ID, app.Name, app.BotPublic, app.VerifyKey = user.ID, name, true, strings.Repeat("0", 64)
	if err := s.store.PutApplication(r.ctx, app); err != nil {
		return reply{}, err
	}
	if body.GuildID != 0 {
		if err := s.askFor(r.ctx, r.actor(), body.GuildID, guild.OpMemberAdd, nil, user.User, nil); err != nil {
			return reply{}, err
		}
	}
	return s.credentials(r, user.User, &app.Application)
}
