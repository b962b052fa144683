package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hubbub.dev/hubbub/proto"
)

const (
	requestTimeout = 30 * time.Second
	answerLimit    = 1 << 20
)

// ServerOf reads from a server's data directory where it is and the token of its
// admin API.
func ServerOf(dir string) (url, token string, err error) {
	secret, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		return "", "", fmt.Errorf("no server has run with its data in %s: %w", dir, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "server.json"))
	if err != nil {
		return "", "", err
	}
	var where struct {
		URL string `json:"url"`
	}
	err = json.Unmarshal(b, &where)
	return where.URL, strings.TrimSpace(string(secret)), err
}

// admin is the server's admin API, and how its connections are made.
type admin struct {
	base, token string
	http        http.Client
}

func newAdmin(base, token, ca string) (*admin, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s: no certificate in it", ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &admin{strings.TrimSuffix(base, "/"), token, http.Client{Transport: transport}}, nil
}

// webSocket returns the URL of a WebSocket at host, on TLS where the server is.
func (a *admin) webSocket(hostAndPath string) string {
	if strings.HasPrefix(a.base, "https://") {
		return "wss://" + hostAndPath
	}
	return "ws://" + hostAndPath
}

// host returns the server's host and port.
func (a *admin) host() string {
	_, host, _ := strings.Cut(a.base, "://")
	return host
}

// call makes one request and decodes its answer into v, nil for none.
func (a *admin) call(ctx context.Context, method, path string, body, v any) error {
	payload, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.base+"/admin/v1"+path, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := a.http.Do(req)
	if err != nil {
		return fmt.Errorf("no server answers at %s: %w", a.base, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
	switch {
	case err != nil:
		return err
	case res.StatusCode == http.StatusUnauthorized:
		return errors.New("the server does not accept the admin token (--data, --token)")
	case res.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, answer)
	case v == nil:
		return nil
	}
	return json.Unmarshal(answer, v)
}

// ground is the guilds and channels that a measurement goes on in. They are its own.
type ground struct {
	admin  *admin
	guilds []proto.Snowflake
	rooms  []room
}

type room struct{ guild, channel proto.Snowflake }

// prepare makes guilds with channels.
func (a *admin) prepare(ctx context.Context, guilds, channels int) (*ground, error) {
	g := &ground{admin: a}
	for i := range guilds {
		var made proto.Guild
		if err := a.call(ctx, http.MethodPost, "/guilds", map[string]string{"name": fmt.Sprintf("Load %d", i+1)}, &made); err != nil {
			g.remove(ctx)
			return nil, err
		}
		g.guilds = append(g.guilds, made.ID)
	}
	for i := range channels {
		guild := g.guilds[i%guilds]
		var made proto.Channel
		body := map[string]any{"name": fmt.Sprintf("load-%d", i+1), "type": proto.ChannelVoice}
		if err := a.call(ctx, http.MethodPost, "/guilds/"+guild.String()+"/channels", body, &made); err != nil {
			g.remove(ctx)
			return nil, err
		}
		g.rooms = append(g.rooms, room{guild, made.ID})
	}
	return g, nil
}

// find returns the ground of one voice channel that is there already, and stays.
func (a *admin) find(ctx context.Context, channel proto.Snowflake) (*ground, error) {
	var guilds []proto.Guild
	if err := a.call(ctx, http.MethodGet, "/guilds", nil, &guilds); err != nil {
		return nil, err
	}
	for _, guild := range guilds {
		var channels []proto.Channel
		if err := a.call(ctx, http.MethodGet, "/guilds/"+guild.ID.String()+"/channels", nil, &channels); err != nil {
			return nil, err
		}
		for _, c := range channels {
			if c.ID == channel && c.Type == proto.ChannelVoice {
				return &ground{admin: a, rooms: []room{{guild.ID, channel}}}, nil
			}
		}
	}
	return nil, fmt.Errorf("--channel %d: no voice channel of the server (hubbub ctl channel list)", channel)
}

// bot makes an account in a guild and returns its token.
func (g *ground) bot(ctx context.Context, guild proto.Snowflake, name string) (token string, err error) {
	var made struct {
		Token string `json:"token"`
	}
	err = g.admin.call(ctx, http.MethodPost, "/bots", map[string]any{"name": name, "guild_id": guild}, &made)
	return made.Token, err
}

// remove deletes the guilds. The bots stay: no API deletes accounts.
func (g *ground) remove(ctx context.Context) {
	for _, guild := range g.guilds {
		_ = g.admin.call(ctx, http.MethodDelete, "/guilds/"+guild.String(), nil, nil)
	}
}
