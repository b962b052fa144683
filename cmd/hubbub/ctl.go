package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"hubbub.dev/hubbub/internal/serve/node"
	"hubbub.dev/hubbub/proto"
)

// ctlCmd talks to the admin API of a running server. Guilds, channels, roles and
// users are named by id or, where that is clear, by name.
type ctlCmd struct {
	Data string `help:"Data directory of the server." env:"HUBBUB_DATA" placeholder:"DIR"`
	URL  string `name:"url" help:"URL of the server (default: what it wrote to its data directory)." env:"HUBBUB_URL"`
	JSON bool   `name:"json" help:"Print JSON."`

	Guild struct {
		Create ctlGuildCreate `cmd:"" help:"Make a guild."`
		List   ctlGuildList   `cmd:"" help:"List the guilds."`
	} `cmd:"" help:"Guilds."`
	Channel struct {
		Create ctlChannelCreate `cmd:"" help:"Make a channel."`
		List   ctlChannelList   `cmd:"" help:"List a guild's channels."`
	} `cmd:"" help:"Channels."`
	User struct {
		Create ctlUserCreate `cmd:"" help:"Make an account and print a token of it."`
	} `cmd:"" help:"Accounts."`
	Bot struct {
		Create ctlBotCreate `cmd:"" help:"Make a bot, add it to a guild and print its token."`
	} `cmd:"" help:"Bots."`
	Role struct {
		List           ctlRoleList        `cmd:"" help:"List a guild's roles."`
		Create         ctlRoleCreate      `cmd:"" help:"Make a role."`
		Grant          ctlRoleGrant       `cmd:"" help:"Give a role to a member."`
		Revoke         ctlRoleRevoke      `cmd:"" help:"Take a role from a member."`
		SetPermissions ctlRolePermissions `cmd:"" help:"Set what a role may do."`
	} `cmd:"" help:"Roles."`
	Invite struct {
		Create ctlInviteCreate `cmd:"" help:"Make an invite link."`
	} `cmd:"" help:"Invites."`
	Member struct {
		List       ctlMemberList       `cmd:"" help:"List a guild's members."`
		Add        ctlMemberAdd        `cmd:"" help:"Add a user to a guild."`
		Mute       ctlMemberMute       `cmd:"" help:"Drop what a member says."`
		Unmute     ctlMemberUnmute     `cmd:"" help:"Let a member speak again."`
		Deafen     ctlMemberDeafen     `cmd:"" help:"Send a member no audio."`
		Undeafen   ctlMemberUndeafen   `cmd:"" help:"Let a member hear again."`
		Move       ctlMemberMove       `cmd:"" help:"Move a member to another voice channel."`
		Disconnect ctlMemberDisconnect `cmd:"" help:"Take a member out of its voice channel."`
	} `cmd:"" help:"Members, and moderation of their voice."`
	Voice struct {
		List ctlVoiceList `cmd:"" help:"List who is in which voice channel, and on which worker."`
	} `cmd:"" help:"Voice."`
	Drain   ctlDrain   `cmd:"" help:"Have a node hand its calls over to other nodes, without anybody hearing it, and end."`
	Upgrade ctlUpgrade `cmd:"" help:"Have the server go on as the binary that is now where it was started from (in a fleet: the media workers alone). No call loses a packet."`
	Token   struct {
		Create ctlTokenCreate `cmd:"" help:"Print a fresh token of a user or bot."`
		Revoke ctlTokenRevoke `cmd:"" help:"Make every token of a user invalid and end its sessions."`
	} `cmd:"" help:"Tokens."`

	out io.Writer // nil for standard output
}

// Exit codes of ctl beside 1.
const (
	exitUnknown     = 2 // no such guild, channel, role or user, or several of that name
	exitUnreachable = 3 // no server
	exitRefused     = 4 // the server said no
)

// ctlError is an error with an exit code, which kong asks for.
type ctlError struct {
	code int
	err  error
}

// Error says what is wrong.
func (e *ctlError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *ctlError) Unwrap() error { return e.err }

// ExitCode returns what the process ends with.
func (e *ctlError) ExitCode() int { return e.code }

func unknown(format string, args ...any) error {
	return &ctlError{exitUnknown, fmt.Errorf(format, args...)}
}

// ctlTimeout bounds one request.
const ctlTimeout = 15 * time.Second

// call makes one request of the admin API and decodes its answer into v, nil for
// none.
func (c *ctlCmd) call(method, path string, body, v any) error {
	base, token, err := c.server()
	if err != nil {
		return err
	}
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), ctlTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+"/admin/v1"+path, payload)
	if err != nil {
		return &ctlError{exitUnreachable, fmt.Errorf("--url: %w", err)}
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return &ctlError{exitUnreachable, fmt.Errorf("no server answers at %s: %w", base, err)}
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return &ctlError{exitUnreachable, err}
	}
	if res.StatusCode >= http.StatusBadRequest {
		return refusal(res.StatusCode, answer)
	}
	if v == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, v)
}

// server returns where the server is and the token that opens its admin API.
func (c *ctlCmd) server() (base, token string, err error) {
	dir := c.Data
	if dir == "" {
		dir = node.DefaultDataDir()
	}
	secret, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		return "", "", &ctlError{exitUnreachable, fmt.Errorf("no server has run with its data in %s (--data): %w", dir, err)}
	}
	base = c.URL
	if base == "" {
		var where struct {
			URL string `json:"url"`
		}
		b, err := os.ReadFile(filepath.Join(dir, "server.json"))
		if err == nil {
			err = json.Unmarshal(b, &where)
		}
		if err != nil || where.URL == "" {
			return "", "", &ctlError{exitUnreachable, fmt.Errorf("%s does not say where the server is; name it with --url", filepath.Join(dir, "server.json"))}
		}
		base = where.URL
	}
	return strings.TrimSuffix(base, "/"), strings.TrimSpace(string(secret)), nil
}

// refusal turns an error body into an error: its message, and what is wrong with
// which field.
func refusal(status int, answer []byte) error {
	var body proto.ErrorBody
	if json.Unmarshal(answer, &body) != nil || body.Message == "" {
		return &ctlError{exitRefused, fmt.Errorf("the server answered %d", status)}
	}
	message := []string{body.Message}
	fieldErrors("", body.Errors, &message)
	if status == http.StatusUnauthorized {
		message = append(message, "the token in the data directory is another server's: see --data and --url")
	}
	code := exitRefused
	if status == http.StatusNotFound {
		code = exitUnknown
	}
	return &ctlError{code, errors.New(strings.Join(message, "; "))}
}

// fieldErrors flattens the tree of a form's errors.
func fieldErrors(at string, tree map[string]any, out *[]string) {
	for name, v := range tree {
		if list, ok := v.([]any); ok && name == "_errors" {
			for _, e := range list {
				if m, ok := e.(map[string]any); ok {
					*out = append(*out, fmt.Sprintf("%s: %v", strings.TrimPrefix(at, "."), m["message"]))
				}
			}
		} else if sub, ok := v.(map[string]any); ok {
			fieldErrors(at+"."+name, sub, out)
		}
	}
}

// stdout is where answers go.
func (c *ctlCmd) stdout() io.Writer {
	if c.out == nil {
		return os.Stdout
	}
	return c.out
}

// print writes v as JSON when that is asked for, and otherwise the table: its
// first row is the header.
func (c *ctlCmd) print(v any, table [][]string) error {
	if c.JSON {
		e := json.NewEncoder(c.stdout())
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(c.stdout(), 0, 0, 2, ' ', 0)
	for _, row := range table {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// done writes a line for people, or the id of what was made or changed.
func (c *ctlCmd) done(v any, format string, args ...any) error {
	if c.JSON {
		return c.print(v, nil)
	}
	_, err := fmt.Fprintf(c.stdout(), format+"\n", args...)
	return err
}

// named is what can be found by id or name.
type named struct {
	id   proto.Snowflake
	name string
}

// find returns the one of list that want names. An id wins over a name, and a
// name over one in other capitals; what several have must be given as an id.
func find(kind, want string, list []named) (proto.Snowflake, error) {
	id, _ := proto.ParseSnowflake(want)
	want = strings.TrimPrefix(want, "#")
	var exact, hits []named
	for _, n := range list {
		if id != 0 && n.id == id {
			return id, nil
		}
		if n.name == want {
			exact = append(exact, n)
		}
		if strings.EqualFold(n.name, want) {
			hits = append(hits, n)
		}
	}
	if len(exact) > 0 {
		hits = exact
	}
	switch len(hits) {
	case 0:
		return 0, unknown("there is no %s %q", kind, want)
	case 1:
		return hits[0].id, nil
	}
	ids := make([]string, len(hits))
	for i, h := range hits {
		ids[i] = h.id.String()
	}
	return 0, unknown("there are %d of %s %q; name one by its id: %s", len(hits), kind, want, strings.Join(ids, ", "))
}

// ctlGuild is a guild as GET /guilds lists it.
type ctlGuild struct {
	proto.Guild
	Members int `json:"approximate_member_count"`
}

// guild returns the guild that want names; with none named, the only one there
// is.
func (c *ctlCmd) guild(want string) (proto.Snowflake, error) {
	var guilds []ctlGuild
	if err := c.call("GET", "/guilds", nil, &guilds); err != nil {
		return 0, err
	}
	if want == "" {
		if len(guilds) == 1 {
			return guilds[0].ID, nil
		}
		return 0, unknown("there are %d guilds; name one with --guild", len(guilds))
	}
	list := make([]named, len(guilds))
	for i, g := range guilds {
		list[i] = named{g.ID, g.Name}
	}
	return find("guild", want, list)
}

func (c *ctlCmd) channels(guild proto.Snowflake) ([]proto.Channel, error) {
	var channels []proto.Channel
	return channels, c.call("GET", "/guilds/"+guild.String()+"/channels", nil, &channels)
}

func (c *ctlCmd) channel(guild proto.Snowflake, want string, keep func(proto.Channel) bool) (proto.Snowflake, error) {
	channels, err := c.channels(guild)
	if err != nil {
		return 0, err
	}
	var list []named
	for _, ch := range channels {
		if keep(ch) {
			list = append(list, named{ch.ID, ch.Name})
		}
	}
	return find("channel", want, list)
}

func (c *ctlCmd) role(guild proto.Snowflake, want string) (proto.Snowflake, error) {
	var roles []proto.Role
	if err := c.call("GET", "/guilds/"+guild.String()+"/roles", nil, &roles); err != nil {
		return 0, err
	}
	list := make([]named, len(roles))
	for i, r := range roles {
		list[i] = named{r.ID, r.Name}
	}
	return find("role", want, list)
}

// user returns the user that want names: by id or username, or else a member of
// the guild (0 for none) by what it is called.
func (c *ctlCmd) user(guild proto.Snowflake, want string) (proto.User, error) {
	want = strings.TrimPrefix(want, "@")
	var user proto.User
	err := c.call("GET", "/users/"+url.PathEscape(want), nil, &user)
	if e, isCtl := errors.AsType[*ctlError](err); !isCtl || e.code != exitUnknown {
		return user, err
	}
	if guild == 0 {
		return user, unknown("there is no user %q", want)
	}
	var members []proto.Member
	query := url.Values{"query": {want}, "limit": {"1000"}}
	if c.call("GET", "/guilds/"+guild.String()+"/members/search?"+query.Encode(), nil, &members) != nil {
		return user, err
	}
	var list []named
	for _, m := range members {
		for _, name := range []*string{m.Nick, m.User.GlobalName} {
			if name != nil && strings.EqualFold(*name, want) {
				list = append(list, named{m.User.ID, *name})
				break
			}
		}
	}
	id, err := find("user", want, list)
	for _, m := range members {
		if m.User.ID == id {
			user = *m.User
		}
	}
	return user, err
}
