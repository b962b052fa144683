package rest

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// channelGuilds remembers which guild a channel belongs to. A channel never
// changes its guild and no id is used twice, so an entry is true for good; a
// deleted channel's guild says itself that it is gone.
type channelGuilds struct {
	mu           sync.Mutex
	young, older map[proto.Snowflake]proto.Snowflake
}

// maxKnownChannels bounds each of the two generations that are remembered.
const maxKnownChannels = 1 << 14

func (c *channelGuilds) get(channel proto.Snowflake) (proto.Snowflake, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.young[channel]
	if !ok {
		g, ok = c.older[channel]
	}
	return g, ok
}

func (c *channelGuilds) put(channel, guild proto.Snowflake) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= maxKnownChannels {
		c.young, c.older = make(map[proto.Snowflake]proto.Snowflake), c.young
	}
	c.young[channel] = guild
}

func (s *Service) guildOfChannel(ctx context.Context, channel proto.Snowflake) (proto.Snowflake, error) {
	if g, ok := s.channels.get(channel); ok {
		return g, nil
	}
	g, err := s.store.ChannelGuild(ctx, channel)
	if errors.Is(err, store.ErrNotFound) {
		return 0, fail(http.StatusNotFound, proto.ErrUnknownChannel, "Unknown Channel")
	}
	if err == nil {
		s.channels.put(channel, g)
	}
	return g, err
}

func (s *Service) guildOfInvite(ctx context.Context, code string) (proto.Snowflake, error) {
	g, err := s.store.InviteGuild(ctx, code)
	if errors.Is(err, store.ErrNotFound) {
		return 0, fail(http.StatusNotFound, proto.ErrUnknownInvite, "Unknown Invite")
	}
	return g, err
}
