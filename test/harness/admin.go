package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"hubbub.dev/hubbub/proto"
)

// Admin is the admin API of a node.
type Admin struct {
	URL   string // of the node, without a path
	Token string
	// HTTP makes the requests; nil for a client that keeps no connections, which a
	// node's end would break.
	HTTP *http.Client
}

var once = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: Timeout}

// Try makes a call and returns what came of it, whatever the status. It fails when
// there is no answer.
func (a Admin) Try(ctx context.Context, method, path string, body any) (status int, answer []byte, err error) {
	payload, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, a.URL+"/admin/v1"+path, bytes.NewReader(payload))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.Token)
	req.Header.Set("Content-Type", "application/json")
	c := a.HTTP
	if c == nil {
		c = once
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// Do makes a call that must succeed and decodes its answer, unless that is nil.
func (a Admin) Do(ctx context.Context, method, path string, body, answer any) error {
	status, data, err := a.Try(ctx, method, path, body)
	if err != nil {
		return fmt.Errorf("admin %s %s: %w", method, path, err)
	}
	if status >= 300 {
		return fmt.Errorf("admin %s %s: %d %s", method, path, status, data)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("admin %s %s: %w in %s", method, path, err, data)
	}
	return nil
}

// Call is Do for a test, which fails when the call does.
func (a Admin) Call(t testing.TB, method, path string, body, answer any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	if err := a.Do(ctx, method, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

// Guild makes a guild.
func (a Admin) Guild(t testing.TB, name string) proto.Snowflake {
	t.Helper()
	var made proto.Guild
	a.Call(t, http.MethodPost, "/guilds", map[string]string{"name": name}, &made)
	return made.ID
}

// Channel makes a channel of a guild, for calls in a region unless that is empty.
func (a Admin) Channel(t testing.TB, guild proto.Snowflake, name string, kind proto.ChannelType, region string) proto.Snowflake {
	t.Helper()
	body := map[string]any{"name": name, "type": kind}
	if region != "" {
		body["rtc_region"] = region
	}
	var made proto.Channel
	a.Call(t, http.MethodPost, "/guilds/"+guild.String()+"/channels", body, &made)
	return made.ID
}

// Account is a user or a bot.
type Account struct {
	ID proto.Snowflake
	// Token is as the Authorization header wants it.
	Token string
}

// Bot makes a bot in a guild.
func (a Admin) Bot(t testing.TB, guild proto.Snowflake, name string) Account {
	t.Helper()
	var made struct {
		User  proto.User `json:"user"`
		Token string     `json:"token"`
	}
	a.Call(t, http.MethodPost, "/bots", map[string]any{"name": name, "guild_id": guild}, &made)
	return Account{made.User.ID, "Bot " + made.Token}
}
