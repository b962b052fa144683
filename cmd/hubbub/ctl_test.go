package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/internal/edge/bus/bustest"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/serve/guilds"
	"hubbub.dev/hubbub/internal/serve/rest"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// operated is a server's API with the data directory that ctl reads.
type operated struct {
	t   *testing.T
	dir string
}

func operate(t *testing.T) *operated {
	t.Helper()
	st, err := store.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	b := bustest.New(t)
	log := slog.New(slog.DiscardHandler)
	group := run.NewGroup(context.Background(), log)
	alone := fleet.NewTable(1, fleet.Member{Name: "n1", Roles: fleet.Guilds})
	g := guilds.New(guilds.Config{Node: "n1", Owner: "n1", Number: 1, View: alone.View, TokenKey: []byte("key"), Log: log}, b, st)
	if err := g.Start(group); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close(context.Background())
		group.Stop()
		group.Wait()
	})
	server := httptest.NewServer(rest.New(rest.Config{
		Node: "n1", AdminToken: "secret", Log: log,
		Route: func(proto.Snowflake) string { return guild.OwnerSubject("n1") },
	}, b, st))
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	o := &operated{t: t, dir: t.TempDir()}
	o.write("admin.token", "secret\n")
	o.write("server.json", fmt.Sprintf(`{"url":%q}`, server.URL))
	return o
}

func (o *operated) write(name, content string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(content), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// try runs one ctl command and returns what it prints.
func (o *operated) try(args ...string) (string, error) {
	o.t.Helper()
	var out bytes.Buffer
	c := struct {
		Ctl ctlCmd `cmd:""`
	}{Ctl: ctlCmd{out: &out}}
	parser, err := kong.New(&c)
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, err := parser.Parse(append([]string{"ctl", "--data", o.dir}, args...))
	if err != nil {
		return "", err
	}
	err = ctx.Run()
	return strings.TrimSpace(out.String()), err
}

// run is try for commands that must work.
func (o *operated) run(args ...string) string {
	o.t.Helper()
	out, err := o.try(args...)
	if err != nil {
		o.t.Fatalf("%v: %v", args, err)
	}
	return out
}

func TestCtl(t *testing.T) {
	o := operate(t)
	guild := o.run("guild", "create", "--name", "Home")
	if _, err := proto.ParseSnowflake(guild); err != nil {
		t.Errorf("guild create printed %q", guild)
	}
	if out := o.run("guild", "list"); !strings.HasPrefix(out, "ID") || !strings.Contains(out, "Home") {
		t.Errorf("guild list:\n%s", out)
	}
	o.run("channel", "create", "--guild", "home", "--name", "Stage", "--type", "stage", "--user-limit", "50", "--bitrate", "96000")
	if out := o.run("channel", "list"); !strings.Contains(out, "stage") || !strings.Contains(out, "96000") {
		t.Errorf("channel list:\n%s", out)
	}
	bot := o.run("bot", "create", "--name", "dj", "--guild", "Home")
	if _, isToken := token.BearerUser(bot); !isToken {
		t.Errorf("bot create printed %q", bot)
	}
	ada := o.run("user", "create", "--name", "ada", "--display-name", "Ada L", "--password", "correct horse")
	if _, isToken := token.BearerUser(ada); !isToken {
		t.Errorf("user create printed %q", ada)
	}
	o.run("member", "add", "--user", "ada")
	if out := o.run("member", "list", "--guild", guild); !strings.Contains(out, "Ada L") || !strings.Contains(out, "bot") {
		t.Errorf("member list:\n%s", out)
	}
	o.run("role", "create", "--name", "DJ", "--permissions", "connect, SPEAK")
	o.run("role", "grant", "--role", "dj", "--user", "Ada L")
	o.run("role", "set-permissions", "--role", "DJ", "--permissions", "MUTE_MEMBERS")
	if out := o.run("role", "list"); !strings.Contains(out, "MUTE_MEMBERS") {
		t.Errorf("role list:\n%s", out)
	}
	o.run("role", "revoke", "--role", "DJ", "--user", "ada")
	if out := o.run("invite", "create", "--channel", "#general"); !strings.Contains(out, "/invite/") {
		t.Errorf("invite create printed %q", out)
	}
	if out := o.run("voice", "list"); !strings.HasPrefix(out, "GUILD") || strings.Contains(out, "\n") {
		t.Errorf("voice list:\n%s", out)
	}
	if out := o.run("token", "create", "--user", "dj"); out == bot {
		t.Error("token create printed the old token")
	}
	o.run("token", "revoke", "--user", "dj")
}

func TestCtlJSON(t *testing.T) {
	o := operate(t)
	var made proto.Guild
	if err := json.Unmarshal([]byte(o.run("--json", "guild", "create", "--name", "Home")), &made); err != nil || made.Name != "Home" {
		t.Errorf("guild create: %+v, %v", made, err)
	}
	var bot struct {
		User        proto.User        `json:"user"`
		Application proto.Application `json:"application"`
		Token       string            `json:"token"`
	}
	if err := json.Unmarshal([]byte(o.run("--json", "bot", "create", "--name", "dj")), &bot); err != nil || bot.Application.ID != bot.User.ID || bot.Token == "" {
		t.Errorf("bot create: %+v, %v", bot, err)
	}
	for _, list := range [][]string{{"guild", "list"}, {"channel", "list"}, {"role", "list"}, {"member", "list"}, {"voice", "list"}} {
		var rows []json.RawMessage
		if err := json.Unmarshal([]byte(o.run(append([]string{"--json"}, list...)...)), &rows); err != nil {
			t.Errorf("%v: %v", list, err)
		}
	}
}

func TestCtlErrors(t *testing.T) {
	o := operate(t)
	o.run("guild", "create", "--name", "Home")
	o.run("channel", "create", "--name", "twin")
	o.run("channel", "create", "--name", "twin")
	o.run("user", "create", "--name", "ada")
	o.run("member", "add", "--user", "ada")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"channel", "list", "--guild", "Away"}, exitUnknown, `no guild "Away"`},
		{[]string{"member", "move", "--user", "ada", "--channel", "twin"}, exitUnknown, "by its id"},
		{[]string{"member", "mute", "--user", "ada"}, exitRefused, "not connected to voice"},
		{[]string{"member", "mute", "--user", "nobody"}, exitUnknown, `no user "nobody"`},
		{[]string{"guild", "create", "--name", "Hers", "--owner", "nobody"}, exitUnknown, `no user "nobody"`},
		{[]string{"user", "create", "--name", "ADA"}, exitRefused, "already taken"},
		{[]string{"role", "create", "--name", "r", "--permissions", "FLY"}, exitUnknown, "FLY"},
		{[]string{"--url", "http://127.0.0.1:1", "guild", "list"}, exitUnreachable, "no server answers"},
	} {
		_, err := o.try(c.args...)
		e, isCtl := errors.AsType[*ctlError](err)
		if !isCtl || e.ExitCode() != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want code %d and %q", c.args, err, c.code, c.says)
		}
	}
	if _, err := o.try("channel", "create", "--name", "x", "--type", "video"); err == nil {
		t.Error("a channel of type video was made")
	}
	o.run("guild", "create", "--name", "Second")
	if _, err := o.try("channel", "list"); err == nil || !strings.Contains(err.Error(), "--guild") {
		t.Errorf("two guilds and none named: %v", err)
	}
	o.write("admin.token", "another")
	if _, err := o.try("guild", "list"); err == nil || !strings.Contains(err.Error(), "another server's") {
		t.Errorf("a wrong token: %v", err)
	}
	o.dir = t.TempDir()
	if _, err := o.try("guild", "list"); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("an empty data directory: %v", err)
	}
}
