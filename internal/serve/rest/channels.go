package rest

import (
	"errors"
	"net/http"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

func (s *Service) channelRoutes() []route {
	changes := quota{20, 10 * time.Second}
	writes := quota{5, 5 * time.Second}
	return []route{
		{pattern: "GET /channels/{channel}", handle: s.call(guild.OpChannelGet)},
		{pattern: "PATCH /channels/{channel}", quota: changes, handle: s.call(guild.OpChannelUpdate)},
		{pattern: "DELETE /channels/{channel}", quota: changes, handle: s.call(guild.OpChannelDelete)},
		{pattern: "PUT /channels/{channel}/permissions/{target}", quota: changes, handle: s.call(guild.OpOverwritePut)},
		{pattern: "DELETE /channels/{channel}/permissions/{target}", quota: changes, handle: s.call(guild.OpOverwriteDelete)},

		{pattern: "GET /channels/{channel}/invites", handle: s.call(guild.OpInviteList)},
		{pattern: "POST /channels/{channel}/invites", quota: changes, handle: s.call(guild.OpInviteCreate)},

		{pattern: "GET /channels/{channel}/messages", handle: s.messages},
		{pattern: "POST /channels/{channel}/messages", quota: writes, handle: s.call(guild.OpMessageCreate)},
		{pattern: "GET /channels/{channel}/messages/{message}", handle: s.message},
		{pattern: "PATCH /channels/{channel}/messages/{message}", quota: writes, handle: s.call(guild.OpMessageEdit)},
		{pattern: "DELETE /channels/{channel}/messages/{message}", quota: writes, handle: s.call(guild.OpMessageDelete)},
		{pattern: "POST /channels/{channel}/typing", quota: writes, handle: s.call(guild.OpTyping)},
	}
}

// mayRead asks the channel's guild whether the caller may read its history,
// which is in the store.
func (s *Service) mayRead(r *request) error {
	g, err := s.guildOfChannel(r.ctx, r.ids["channel"])
	if err != nil {
		return err
	}
	_, err = s.ask(r, g, guild.OpMessageAccess, map[string]string{"channel": r.ids["channel"].String()}, nil)
	return err
}

func (s *Service) messages(r *request) (reply, error) {
	var q store.MessageQuery
	var errs [4]error
	q.Limit, errs[0] = r.number("limit", 1, 100, 50)
	q.Before, errs[1] = r.id("before")
	q.After, errs[2] = r.id("after")
	q.Around, errs[3] = r.id("around")
	if err := errors.Join(errs[:]...); err != nil {
		return reply{}, err
	}
	if err := s.mayRead(r); err != nil {
		return reply{}, err
	}
	messages, err := s.store.Messages(r.ctx, r.ids["channel"], q)
	if err != nil {
		return reply{}, err
	}
	return ok(messages)
}

func (s *Service) message(r *request) (reply, error) {
	if err := s.mayRead(r); err != nil {
		return reply{}, err
	}
	m, err := s.storedMessage(r, r.ids["channel"], r.ids["message"])
	if err != nil {
		return reply{}, err
	}
	return ok(m)
}

func (s *Service) storedMessage(r *request, channel, id proto.Snowflake) (proto.Message, error) {
	m, err := s.store.Message(r.ctx, channel, id)
	if errors.Is(err, store.ErrNotFound) {
		return m, fail(http.StatusNotFound, proto.ErrUnknownMessage, "Unknown Message")
	}
	return m, err
}
