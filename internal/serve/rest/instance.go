package rest

import (
	"errors"
	"net/http"
	"net/url"

	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

func (s *Service) instanceRoutes() []route {
	return []route{
		{pattern: "GET /instance", auth: anybody, handle: s.instance},
		{pattern: "GET /gateway", auth: anybody, handle: s.gateway},
		{pattern: "GET /gateway/bot", handle: s.gatewayBot},
		{pattern: "GET /voice/regions", auth: anybody, handle: s.listRegions},
		{pattern: "GET /guilds/{guild}/regions", handle: s.listRegions},
		{pattern: "GET /applications/@me", auth: bot, handle: s.application},
		{pattern: "GET /oauth2/applications/@me", auth: bot, handle: s.application},
	}
}

// instanceInfo is Hubbub's own: what a client shows before anybody signs in.
type instanceInfo struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Region       string `json:"region"`
	Registration string `json:"registration"`
}

func (s *Service) instance(*request) (reply, error) {
	return ok(instanceInfo{s.cfg.Name, s.cfg.Version, s.cfg.Region, s.cfg.Registration})
}

type gatewayInfo struct {
	URL string `json:"url"`
}

func (s *Service) gateway(r *request) (reply, error) { return ok(gatewayInfo{s.gatewayURL(r.http)}) }

// gatewayURL is on the host that the request was made to. Behind a proxy that
// ends TLS, the public URL knows the scheme.
func (s *Service) gatewayURL(r *http.Request) string {
	scheme := "ws"
	if r.TLS != nil {
		scheme = "wss"
	} else if u, err := url.Parse(s.cfg.PublicURL); err == nil && u.Scheme == "https" && u.Host == r.Host {
		scheme = "wss"
	}
	return scheme + "://" + r.Host + s.cfg.GatewayPath
}

// gatewayBotInfo is the answer of GET /gateway/bot; ResetAfter is in ms.
type gatewayBotInfo struct {
	URL               string `json:"url"`
	Shards            int    `json:"shards"`
	SessionStartLimit struct {
		Total          int `json:"total"`
		Remaining      int `json:"remaining"`
		ResetAfter     int `json:"reset_after"`
		MaxConcurrency int `json:"max_concurrency"`
	} `json:"session_start_limit"`
}

// guildsPerShard is how many guilds one session should carry.
const guildsPerShard = 1000

func (s *Service) gatewayBot(r *request) (reply, error) {
	guilds, err := s.store.GuildIDsOfUser(r.ctx, r.user.ID)
	if err != nil {
		return reply{}, err
	}
	info := gatewayBotInfo{URL: s.gatewayURL(r.http), Shards: 1 + len(guilds)/guildsPerShard}
	// Sessions are not rationed here, so there are always some left.
	info.SessionStartLimit.Total, info.SessionStartLimit.Remaining = 1000, 1000
	info.SessionStartLimit.MaxConcurrency = 1
	return ok(info)
}

// applicationInfo is an application as its own bot sees it.
type applicationInfo struct {
	proto.Application
	RPCOrigins []string `json:"rpc_origins"`
	Tags       []string `json:"tags"`
	Team       any      `json:"team"`
}

func (s *Service) application(r *request) (reply, error) {
	app, err := s.store.ApplicationByBot(r.ctx, r.user.ID)
	if errors.Is(err, store.ErrNotFound) {
		return reply{}, fail(http.StatusNotFound, proto.ErrUnknownApplication, "Unknown Application")
	}
	if err != nil {
		return reply{}, err
	}
	return ok(applicationInfo{Application: app.Application, RPCOrigins: []string{}, Tags: []string{}})
}
