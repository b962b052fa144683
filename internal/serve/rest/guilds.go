package rest

import (
	"net/http"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

func (s *Service) guildRoutes() []route {
	changes := quota{20, 10 * time.Second}
	return []route{
		{pattern: "POST /guilds", quota: quota{10, time.Minute}, handle: s.createGuild},
		{pattern: "GET /guilds/{guild}", handle: s.call(guild.OpGuildGet, "with_counts")},
		{pattern: "PATCH /guilds/{guild}", quota: changes, handle: s.call(guild.OpGuildUpdate)},
		{pattern: "DELETE /guilds/{guild}", quota: changes, handle: s.call(guild.OpGuildDelete)},

		{pattern: "GET /guilds/{guild}/channels", handle: s.call(guild.OpChannelList)},
		{pattern: "POST /guilds/{guild}/channels", quota: changes, handle: s.call(guild.OpChannelCreate)},
		{pattern: "PATCH /guilds/{guild}/channels", quota: changes, handle: s.call(guild.OpChannelPositions)},

		{pattern: "GET /guilds/{guild}/roles", handle: s.call(guild.OpRoleList)},
		{pattern: "POST /guilds/{guild}/roles", quota: changes, handle: s.call(guild.OpRoleCreate)},
		{pattern: "PATCH /guilds/{guild}/roles", quota: changes, handle: s.call(guild.OpRolePositions)},
		{pattern: "GET /guilds/{guild}/roles/{role}", handle: s.getRole},
		{pattern: "PATCH /guilds/{guild}/roles/{role}", quota: changes, handle: s.call(guild.OpRoleUpdate)},
		{pattern: "DELETE /guilds/{guild}/roles/{role}", quota: changes, handle: s.call(guild.OpRoleDelete)},

		{pattern: "GET /guilds/{guild}/members", handle: s.call(guild.OpMemberList, "limit", "after")},
		{pattern: "GET /guilds/{guild}/members/search", handle: s.call(guild.OpMemberSearch, "query", "limit")},
		{pattern: "GET /guilds/{guild}/members/{user}", handle: s.call(guild.OpMemberGet)},
		{pattern: "PATCH /guilds/{guild}/members/{user}", handle: s.call(guild.OpMemberUpdate)},
		// The older form of changing one's own nickname, which discordgo uses.
		{pattern: "PATCH /guilds/{guild}/members/@me/nick", handle: s.asMyself(guild.OpMemberUpdate)},
		{pattern: "DELETE /guilds/{guild}/members/{user}", handle: s.call(guild.OpMemberRemove)},
		{pattern: "PUT /guilds/{guild}/members/{user}/roles/{role}", handle: s.call(guild.OpMemberRoleAdd)},
		{pattern: "DELETE /guilds/{guild}/members/{user}/roles/{role}", handle: s.call(guild.OpMemberRoleRemove)},

		{pattern: "GET /guilds/{guild}/voice-states/{user}", handle: s.call(guild.OpVoiceGet)},
		{pattern: "PATCH /guilds/{guild}/voice-states/{user}", handle: s.call(guild.OpVoiceUpdate)},

		{pattern: "GET /guilds/{guild}/invites", handle: s.call(guild.OpInviteList)},
		{pattern: "GET /invites/{code}", auth: anybody, handle: s.call(guild.OpInviteGet, "with_counts", "with_expiration")},
		{pattern: "POST /invites/{code}", auth: person, quota: changes, handle: s.acceptInvite},
		{pattern: "DELETE /invites/{code}", quota: changes, handle: s.call(guild.OpInviteDelete)},
	}
}

// maxGuilds is how many guilds a user may be in.
const maxGuilds = 200

// roomToJoin fails when the caller is in as many guilds as it may be.
func (s *Service) roomToJoin(r *request) error {
	guilds, err := s.store.GuildIDsOfUser(r.ctx, r.user.ID)
	if err == nil && len(guilds) >= maxGuilds {
		return fail(http.StatusBadRequest, proto.ErrMaxGuilds, "Maximum number of guilds reached (200)")
	}
	return err
}

func (s *Service) createGuild(r *request) (reply, error) {
	if r.user.Guest {
		return reply{}, fail(http.StatusForbidden, proto.ErrUnauthorized, "You need to claim your account to make a guild")
	}
	if err := s.roomToJoin(r); err != nil {
		return reply{}, err
	}
	result, err := s.ask(r, s.newID(), guild.OpGuildCreate, nil, r.body)
	if err != nil {
		return reply{}, err
	}
	return created(result.Body)
}

func (s *Service) acceptInvite(r *request) (reply, error) {
	if err := s.roomToJoin(r); err != nil {
		return reply{}, err
	}
	return s.call(guild.OpMemberJoin)(r)
}

func (s *Service) getRole(r *request) (reply, error) {
	var roles []proto.Role
	if err := s.askFor(r.ctx, r.actor(), r.ids["guild"], guild.OpRoleList, nil, nil, &roles); err != nil {
		return reply{}, err
	}
	for _, role := range roles {
		if role.ID == r.ids["role"] {
			return ok(role)
		}
	}
	return reply{}, fail(http.StatusNotFound, proto.ErrUnknownRole, "Unknown Role")
}
