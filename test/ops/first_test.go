package ops

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

func TestFirstRun(t *testing.T) {
	s := startServer(t, checked)
	ctx := t.Context()
	for _, name := range []string{"Open", "Invite", "Owner", "CA", "Ports", "Data"} {
		if !strings.Contains(s.Banner.String(), "\n  "+name+" ") {
			t.Errorf("the banner has no %q:\n%s", name, s.Banner.String())
		}
	}
	var channels []proto.Channel
	s.admin(http.MethodGet, "/guilds/"+s.guild.String()+"/channels", nil, &channels)
	kinds := map[proto.ChannelType]int{}
	for _, c := range channels {
		kinds[c.Type]++
	}
	if kinds[proto.ChannelText] != 1 || kinds[proto.ChannelVoice] != 3 {
		t.Errorf("the first guild has channels of kinds %v", kinds)
	}

	anybody := s.client("")
	invite, owner := s.link("Invite"), s.link("Owner")
	guest, err := anybody.Guest(ctx, "Ada", invite)
	if err != nil {
		t.Fatal(err)
	}
	if guest.GuildID != s.guild {
		t.Errorf("the guest is in guild %d, not %d", guest.GuildID, s.guild)
	}
	if p := permissions(t, anybody.WithToken(guest.Token), s.guild); p.Has(proto.PermAdministrator) || !p.Has(proto.PermConnect) {
		t.Errorf("a guest has permissions %d", p)
	}
	boss, err := anybody.Guest(ctx, "Bob", owner)
	if err != nil {
		t.Fatal(err)
	}
	if p := permissions(t, anybody.WithToken(boss.Token), s.guild); !p.Has(proto.PermAdministrator) {
		t.Errorf("who entered by the owner's link has permissions %d", p)
	}
	var refused *proto.APIError
	if _, err := anybody.Guest(ctx, "Eve", owner); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("the owner's link worked twice: %v", err)
	}
	ca, err := os.ReadFile(s.caFile())
	if err != nil {
		t.Fatal(err)
	}
	verify(t, s, ca)

	s.terminate()
	s.start()
	if again := s.link("Invite"); again != invite {
		t.Errorf("the second start invites by %q, not %q", again, invite)
	}
	if left := s.link("Owner"); left != "" {
		t.Errorf("the owner's link is shown again: %q", left)
	}
	verify(t, s, ca)
	anybody = s.client("")
	me, err := anybody.WithToken(guest.Token).Me(ctx)
	if err != nil || me.ID != guest.UserID {
		t.Errorf("the guest of the first run is %d now, not %d: %v", me.ID, guest.UserID, err)
	}
	guilds, err := anybody.WithToken(boss.Token).Guilds(ctx)
	if err != nil || len(guilds) != 1 || guilds[0].ID != s.guild || !permissions(t, anybody.WithToken(boss.Token), s.guild).Has(proto.PermAdministrator) {
		t.Errorf("the owner of the first run is in %v: %v", guilds, err)
	}
	if _, err := anybody.Guest(ctx, "Eve", invite); err != nil {
		t.Errorf("the invite of the first run: %v", err)
	}
}

// permissions returns what the client's user may do in a guild.
func permissions(t *testing.T, c *client.Client, guild proto.Snowflake) proto.Permissions {
	t.Helper()
	var guilds []struct {
		ID          proto.Snowflake   `json:"id"`
		Permissions proto.Permissions `json:"permissions"`
	}
	if err := c.Do(t.Context(), http.MethodGet, "/users/@me/guilds", nil, &guilds); err != nil {
		t.Fatal(err)
	}
	for _, g := range guilds {
		if g.ID == guild {
			return g.Permissions
		}
	}
	t.Fatalf("not in guild %d", guild)
	return 0
}

// verify checks that the authority that the server gives away is ca, and that it
// vouches for the server under each of its names.
func verify(t *testing.T, s *server, ca []byte) {
	t.Helper()
	if status, body := s.get("/ca.pem"); status != http.StatusOK || body != string(ca) {
		t.Errorf("/ca.pem: %d %q", status, body)
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", "127.0.0.1:"+s.port, &tls.Config{RootCAs: s.roots(), ServerName: host})
		if err != nil {
			t.Errorf("TLS for %s: %v", host, err)
			continue
		}
		_ = c.Close()
	}
}

func TestWrongSettingsAreRefusedClearly(t *testing.T) {
	bin := built(t, checked)
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "hubbub.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		env  []string
		args []string
		want string
	}{
		{nil, []string{"--bogus"}, "--bogus"},
		{nil, []string{"frobnicate"}, "frobnicate"},
		{[]string{"HUBBUB_BOGUS=1"}, nil, "HUBBUB_BOGUS"},
		{nil, []string{"--config", file("http: 127.0.0.1:0\nbogus: 1\n")}, `"bogus"`},
		{nil, []string{"--config", file("voice:\n  workers: 2\n")}, "voice"},
		{nil, []string{"--config", file("http: [\n")}, "--config"},
		{nil, []string{"--config", filepath.Join(dir, "missing.yaml")}, "missing.yaml"},
		{nil, []string{"--config", file("workers: many\n")}, "--workers"},
		{nil, []string{"--workers", "1000"}, "--workers"},
		{nil, []string{"--workers", "-1"}, "--workers"},
		{nil, []string{"--udp-port", "65535", "--workers", "2"}, "--udp-port"},
		{nil, []string{"--public-ip", "example.org"}, "--public-ip"},
		{nil, []string{"--http", "nonsense"}, "--http"},
		{nil, []string{"--registration", "maybe"}, "--registration"},
		{[]string{"HUBBUB_LOG_LEVEL=loud"}, nil, "log-level"},
		{nil, []string{"--database", "mysql://x"}, "database"},
	} {
		_, complaint, code := run(t, bin, c.env, append(c.args, "--data", dir)...)
		if code == 0 || !strings.Contains(complaint, c.want) || strings.Contains(complaint, "goroutine ") {
			t.Errorf("%v %v ends with %d and %q, which does not name %s", c.env, c.args, code, complaint, c.want)
		}
	}
}

func TestUsedPortsAreNamed(t *testing.T) {
	bin := built(t, checked)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	udp, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	free := harness.FreePort(t, "")
	_, used, _ := net.SplitHostPort(udp.LocalAddr().String())
	for flag, args := range map[string][]string{
		"--http":     {"--http", tcp.Addr().String(), "--udp-port", fmt.Sprint(free), "--workers", "1"},
		"--udp-port": {"--http", "127.0.0.1:0", "--udp-port", used, "--workers", "1"},
	} {
		_, complaint, code := run(t, bin, nil, append(args, "--data", t.TempDir())...)
		if code != 1 || !strings.Contains(complaint, "("+flag) || !strings.Contains(complaint, "already in use") || strings.Contains(complaint, "goroutine ") {
			t.Errorf("a used %s port ends with %d and:\n%s", flag, code, complaint)
		}
	}
}

func TestOneServerForADataDirectory(t *testing.T) {
	s := startServer(t, checked)
	port := harness.FreePort(t, "")
	_, complaint, code := run(t, s.bin, nil, "--data", s.dir, "--http", fmt.Sprintf("127.0.0.1:%d", port), "--udp-port", fmt.Sprint(port))
	if code != 1 || !strings.Contains(complaint, "another Hubbub is running") {
		t.Errorf("a second server ends with %d and:\n%s", code, complaint)
	}
	s.ctl("guild", "list") // which still finds the first
}
