package gateway

import (
	"encoding/json"
	"net"
	"strings"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/edge/ws"
	"hubbub.dev/hubbub/proto"
)

var noObjects = []json.RawMessage{}

// client is a session with everything its shard knows of it. Its first fields never
// change; the others are the shard's alone.
type client struct {
	id      string
	user    proto.Snowflake
	bot     bool
	packed  bool // asked for payload compression
	token   [32]byte
	intents proto.Intents
	shard   [2]int // of the client's own sharding; {0, 0} is none
	large   int    // large_threshold of a bot, 0 for users

	session session.Session
	ready   bool     // READY was sent
	conn    *ws.Conn // nil while waiting to be resumed
	pulse   *pulse   // of conn's reader
	host    string   // as the client named it on its last connection
	secure  bool
	status  *proto.PresenceData
	// guilds are those the session is to be in; it has a place there once GUILD_CREATE
	// came, from when on it gets the guild's events.
	guilds map[proto.Snowflake]*place
	// voice is where the session is in voice, or asked to be, by guild.
	voice guild.Wishes
}

// covers reports whether a guild is in the session's part of its sharding.
func (c *client) covers(g proto.Snowflake) bool {
	return proto.ShardOf(g, c.shard[1]) == c.shard[0]
}

// secure reports whether a client reaches this gateway by TLS, here or at the proxy
// that the operator named.
func (g *Service) secure(conn *ws.Conn) bool {
	if g.public != nil && strings.EqualFold(g.public.Host, conn.Host()) {
		return g.public.Scheme == "https"
	}
	return conn.Secure()
}

func (g *Service) resumeURL(conn *ws.Conn) string {
	scheme := "ws"
	if g.secure(conn) {
		scheme = "wss"
	}
	return scheme + "://" + conn.Host() + "/gateway"
}

// endpoint returns host with a port, as libraries expect a voice endpoint.
func endpoint(host string, secure bool) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "80"
	if secure {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
