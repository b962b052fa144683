package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hubbub.dev/hubbub/proto"
)

const (
	apiPrefix    = "/api/v10"
	answerLimit  = 8 << 20
	limitRetries = 5
)

// Do makes one REST call: path is below /api/v10 and begins with a slash, body
// and answer are JSON values or nil. A status of 400 and above is returned as a
// *proto.APIError. A 429 is waited out and tried again while ctx lives.
func (c *Client) Do(ctx context.Context, method, path string, body, answer any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return fmt.Errorf("client: %s %s: %w", method, path, err)
		}
	}
	for try := 0; ; try++ {
		wait, err := c.do(ctx, method, path, payload, answer)
		if wait == 0 || try == limitRetries {
			return err
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// do makes one attempt; wait is above zero when a rate limit asks for another.
func (c *Client) do(ctx context.Context, method, path string, payload []byte, answer any) (wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+apiPrefix+path, bytes.NewReader(payload))
	if err != nil {
		return 0, fmt.Errorf("client: %w", err)
	}
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", c.token)
	}
	req.Header.Set("User-Agent", "DiscordBot (https://hubbub.dev, 1) hubbub-client")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("client: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return 0, fmt.Errorf("client: %s %s: %w", method, path, err)
	}
	if resp.StatusCode < 400 {
		if answer == nil || len(data) == 0 {
			return 0, nil
		}
		if err := json.Unmarshal(data, answer); err != nil {
			return 0, fmt.Errorf("client: %s %s: answer: %w", method, path, err)
		}
		return 0, nil
	}
	failure := &proto.APIError{Status: resp.StatusCode}
	if json.Unmarshal(data, &failure.ErrorBody) != nil || failure.Message == "" {
		failure.Message = http.StatusText(resp.StatusCode)
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		wait = retryAfter(data, resp.Header)
	}
	return wait, failure
}

// retryAfter reads how long a 429 asks to wait: the body is finer than the header.
func retryAfter(body []byte, h http.Header) time.Duration {
	var limit proto.RateLimitBody
	if json.Unmarshal(body, &limit) == nil && limit.RetryAfter > 0 {
		return time.Duration(limit.RetryAfter*float64(time.Second)) + time.Millisecond
	}
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	return time.Second
}

// Account is what registering answers.
type Account struct {
	Token   string          `json:"token"`
	UserID  proto.Snowflake `json:"user_id"`
	GuildID proto.Snowflake `json:"guild_id,omitempty"`
}

// call is Do with a typed answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var answer T
	err := c.Do(ctx, method, path, body, &answer)
	return answer, err
}

// Register makes an account with a password; invite may be empty where
// registration is open.
func (c *Client) Register(ctx context.Context, username, password, invite string) (Account, error) {
	return call[Account](ctx, c, http.MethodPost, "/auth/register", struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Invite   string `json:"invite,omitempty"`
	}{username, password, invite})
}

// Guest enters a guild by an invite code under a display name.
func (c *Client) Guest(ctx context.Context, name, invite string) (Account, error) {
	return call[Account](ctx, c, http.MethodPost, "/auth/register", struct {
		GlobalName string `json:"global_name"`
		Invite     string `json:"invite"`
	}{name, invite})
}

// Me returns the token's own user.
func (c *Client) Me(ctx context.Context) (proto.User, error) {
	return call[proto.User](ctx, c, http.MethodGet, "/users/@me", nil)
}

// Guilds returns the guilds the user is in. Only the fields of a partial guild
// (Resources, "User") are set.
func (c *Client) Guilds(ctx context.Context) ([]proto.Guild, error) {
	return call[[]proto.Guild](ctx, c, http.MethodGet, "/users/@me/guilds", nil)
}

// Channels returns a guild's channels.
func (c *Client) Channels(ctx context.Context, guild proto.Snowflake) ([]proto.Channel, error) {
	return call[[]proto.Channel](ctx, c, http.MethodGet, "/guilds/"+guild.String()+"/channels", nil)
}

// SendMessage posts text to a channel.
func (c *Client) SendMessage(ctx context.Context, channel proto.Snowflake, content string) (proto.Message, error) {
	body := map[string]string{"content": content}
	return call[proto.Message](ctx, c, http.MethodPost, "/channels/"+channel.String()+"/messages", body)
}

// Messages returns up to limit messages of a channel, newest first; before is
// an id to page back from, or zero.
func (c *Client) Messages(ctx context.Context, channel, before proto.Snowflake, limit int) ([]proto.Message, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if before != 0 {
		q.Set("before", before.String())
	}
	return call[[]proto.Message](ctx, c, http.MethodGet, "/channels/"+channel.String()+"/messages?"+q.Encode(), nil)
}

// MuteMember server-mutes a member or lifts the mute.
func (c *Client) MuteMember(ctx context.Context, guild, user proto.Snowflake, mute bool) error {
	return c.modifyMember(ctx, guild, user, map[string]any{"mute": mute})
}

// DeafenMember server-deafens a member or lifts it.
func (c *Client) DeafenMember(ctx context.Context, guild, user proto.Snowflake, deaf bool) error {
	return c.modifyMember(ctx, guild, user, map[string]any{"deaf": deaf})
}

// MoveMember moves a connected member to another voice channel; channel zero
// disconnects.
func (c *Client) MoveMember(ctx context.Context, guild, user, channel proto.Snowflake) error {
	var to any
	if channel != 0 {
		to = channel
	}
	return c.modifyMember(ctx, guild, user, map[string]any{"channel_id": to})
}

func (c *Client) modifyMember(ctx context.Context, guild, user proto.Snowflake, change map[string]any) error {
	return c.Do(ctx, http.MethodPatch, "/guilds/"+guild.String()+"/members/"+user.String(), change, nil)
}

// gatewayURL asks where the gateway is.
func (c *Client) gatewayURL(ctx context.Context) (string, error) {
	answer, err := call[struct {
		URL string `json:"url"`
	}](ctx, c, http.MethodGet, "/gateway", nil)
	if err == nil && answer.URL == "" {
		err = errors.New("client: GET /gateway: no URL in the answer")
	}
	return answer.URL, err
}
