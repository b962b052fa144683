package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// askTimeout bounds how long a request waits for a guild's owner.
const askTimeout = 5 * time.Second

// askAgain is how long it is before a guild without an owner is asked for again.
const askAgain = 250 * time.Millisecond

// request is one call of a route after authentication, limits and the check of
// its path and body.
type request struct {
	ctx    context.Context
	http   *http.Request
	client netip.Addr                 // for limits only: never logged, never sent
	user   store.User                 // zero where the route needs nobody
	token  [32]byte                   // hash of the bearer token
	bearer string                     // the token itself
	admin  bool                       // the operator
	ids    map[string]proto.Snowflake // path variables that are ids
	body   json.RawMessage
}

// reply is an HTTP status and the body to encode; nil for none.
type reply struct {
	status int
	body   any
}

// handler answers one route. An error that is no *proto.APIError is answered
// with 500 and logged.
type handler func(*request) (reply, error)

func ok(body any) (reply, error)      { return reply{http.StatusOK, body}, nil }
func created(body any) (reply, error) { return reply{http.StatusCreated, body}, nil }
func noContent() (reply, error)       { return reply{status: http.StatusNoContent}, nil }

// text returns a path variable that is no id.
func (r *request) text(name string) string { return r.http.PathValue(name) }

// number reads an integer of the query between least and most, or fallback.
func (r *request) number(name string, least, most, fallback int) (int, error) {
	v := r.http.URL.Query().Get(name)
	if v == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, invalid(name, "NUMBER_TYPE_COERCE", "Value must be an integer from "+strconv.Itoa(least)+" to "+strconv.Itoa(most)+".")
	}
	return n, nil
}

// id reads an id of the query; zero when it is absent.
func (r *request) id(name string) (proto.Snowflake, error) {
	v := r.http.URL.Query().Get(name)
	if v == "" {
		return 0, nil
	}
	id, err := proto.ParseSnowflake(v)
	if err != nil {
		return 0, notSnowflake(name, v)
	}
	return id, nil
}

// flag reads a boolean of the query.
func (r *request) flag(name string) bool {
	on, _ := strconv.ParseBool(r.http.URL.Query().Get(name))
	return on
}

func notSnowflake(name, v string) error {
	if len(v) > 64 {
		v = v[:64]
	}
	return invalid(name, "NUMBER_TYPE_COERCE", `Value "`+v+`" is not snowflake.`)
}

// call returns a handler that hands the request to the guild of the path: its
// path variables and the named parts of its query are the call's params, its
// body the call's body.
func (s *Service) call(op string, query ...string) handler {
	return func(r *request) (reply, error) {
		g, err := s.guildOf(r)
		if err != nil {
			return reply{}, err
		}
		params := make(map[string]string, len(r.ids)+len(query)+1)
		for name, id := range r.ids {
			params[name] = id.String()
		}
		if code := r.text("code"); code != "" {
			params["code"] = code
		}
		for _, name := range query {
			if v := r.http.URL.Query().Get(name); v != "" {
				params[name] = v
			}
		}
		result, err := s.ask(r, g, op, params, r.body)
		if err != nil {
			return reply{}, err
		}
		if len(result.Body) == 0 {
			return reply{status: result.Status}, nil
		}
		return reply{result.Status, result.Body}, nil
	}
}

// guildOf returns the guild that the path names: itself, by a channel of it, or
// by an invite to it.
func (s *Service) guildOf(r *request) (proto.Snowflake, error) {
	if g, ok := r.ids["guild"]; ok {
		return g, nil
	}
	if c, ok := r.ids["channel"]; ok {
		return s.guildOfChannel(r.ctx, c)
	}
	return s.guildOfInvite(r.ctx, r.text("code"))
}

// ask makes a call in the name of the request's user. A refusal is an error.
func (s *Service) ask(r *request, g proto.Snowflake, op string, params map[string]string, body json.RawMessage) (guild.Result, error) {
	return s.askAs(r.ctx, r.actor(), g, op, params, body)
}

func (s *Service) askAs(ctx context.Context, who guild.Actor, g proto.Snowflake, op string, params map[string]string, body json.RawMessage) (guild.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	call := guild.Request{Guild: g, Call: &guild.Call{Op: op, Actor: who, Params: params, Body: body}}
	var result guild.Result
	if err := s.request(ctx, call, &result); err != nil {
		s.log.Warn("guild did not answer", "guild", g, "op", op, "err", err)
		return result, unavailable()
	}
	if result.Status >= http.StatusBadRequest {
		refusal := &proto.APIError{Status: result.Status}
		if err := json.Unmarshal(result.Body, &refusal.ErrorBody); err != nil {
			return result, plain(result.Status)
		}
		return result, refusal
	}
	return result, nil
}

// request asks a guild's owner. While there is none, because a node has just died or
// the guild moves, it asks again.
func (s *Service) request(ctx context.Context, call guild.Request, result *guild.Result) error {
	for {
		*result = guild.Result{}
		err := s.bus.Request(ctx, s.cfg.Route(call.Guild), call, result)
		if !errors.Is(err, bus.ErrNoResponders) && (err != nil || !result.Misplaced) {
			return err
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return err
		}
	}
}

// askFor is askAs with the answer decoded into v.
func (s *Service) askFor(ctx context.Context, who guild.Actor, g proto.Snowflake, op string, params map[string]string, body any, v any) error {
	var raw json.RawMessage
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	result, err := s.askAs(ctx, who, g, op, params, raw)
	if err != nil || v == nil {
		return err
	}
	return json.Unmarshal(result.Body, v)
}

// actor is who makes the request.
func (r *request) actor() guild.Actor { return guild.Actor{User: r.user.User, Admin: r.admin} }
