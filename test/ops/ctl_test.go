package ops

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hubbub.dev/hubbub/proto"
)

// The exit codes that scripts tell failures apart by.
const (
	exitUnknown     = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitUsage       = 80
)

// ctl runs one command, which must succeed, and returns what it prints.
func (s *server) ctl(args ...string) string {
	s.t.Helper()
	out, complaint, code := run(s.t, built(s.t, shipped), nil, append([]string{"ctl", "--data", s.dir}, args...)...)
	if code != 0 || complaint != "" {
		s.t.Fatalf("ctl %v: %d %s", args, code, complaint)
	}
	return strings.TrimSpace(out)
}

// ctlJSON is ctl with --json, decoded.
func ctlJSON[T any](s *server, args ...string) T {
	s.t.Helper()
	var v T
	out := s.ctl(append([]string{"--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("ctl --json %v: %v in %s", args, err, out)
	}
	return v
}

// refuses wants an exit code and a complaint that names something.
func (s *server) refuses(code int, names string, args ...string) {
	s.t.Helper()
	out, complaint, got := run(s.t, built(s.t, shipped), nil, append([]string{"ctl", "--data", s.dir}, args...)...)
	if got != code || !strings.Contains(complaint, names) || out != "" {
		s.t.Errorf("ctl %v ends with %d, %q and %q; want %d and a complaint about %s", args, got, out, complaint, code, names)
	}
}

type credentials struct {
	User  proto.User `json:"user"`
	Token string     `json:"token"`
}

func TestControl(t *testing.T) {
	s := startServer(t, checked)
	// Guilds, in words and in JSON, by name and by id.
	arcade, err := proto.ParseSnowflake(s.ctl("guild", "create", "--name", "Arcade"))
	if err != nil {
		t.Fatal(err)
	}
	other := ctlJSON[proto.Guild](s, "guild", "create", "--name", "Other")
	list := s.ctl("guild", "list")
	for _, want := range []string{"ID", "NAME", "MEMBERS", arcade.String(), "Arcade", other.ID.String(), "Hubbub"} {
		if !strings.Contains(list, want) {
			t.Errorf("guild list lacks %s:\n%s", want, list)
		}
	}
	if got := ctlJSON[[]proto.Guild](s, "guild", "list"); len(got) != 3 {
		t.Errorf("%d guilds", len(got))
	}
	// Channels.
	stage := ctlJSON[proto.Channel](s, "channel", "create", "--guild", "Arcade", "--name", "Stage", "--type", "stage")
	text := ctlJSON[proto.Channel](s, "channel", "create", "--guild", arcade.String(), "--name", "chat", "--type", "text")
	voice := ctlJSON[proto.Channel](s, "channel", "create", "--guild", "arcade", "--name", "Duo", "--type", "voice", "--user-limit", "2", "--bitrate", "96000")
	if stage.Type != proto.ChannelStage || text.Type != proto.ChannelText || voice.Type != proto.ChannelVoice || voice.UserLimit != 2 || voice.Bitrate != 96000 {
		t.Errorf("made %+v, %+v and %+v", stage, text, voice)
	}
	if _, err := proto.ParseSnowflake(s.ctl("channel", "create", "--guild", "Arcade", "--name", "Den")); err != nil {
		t.Error(err)
	}
	// Users and bots: what is printed is a token that works.
	user := ctlJSON[credentials](s, "user", "create", "--name", "zoe", "--display-name", "Zoë")
	if me, err := s.client(user.Token).Me(t.Context()); err != nil || me.ID != user.User.ID {
		t.Errorf("zoe's token is %v's: %v", me.Username, err)
	}
	botToken := s.ctl("bot", "create", "--name", "dj", "--guild", "Arcade")
	if me, err := s.client("Bot " + botToken).Me(t.Context()); err != nil || me.Username != "dj" || !me.Bot || strings.Count(botToken, ".") != 2 {
		t.Errorf("dj's token is %+v's: %v", me, err)
	}
	if bot := ctlJSON[credentials](s, "bot", "create", "--name", "vj", "--guild", arcade.String()); bot.Token == "" || !bot.User.Bot {
		t.Errorf("bot create: %+v", bot)
	}
	// Roles and members.
	s.ctl("member", "add", "--guild", "Arcade", "--user", "zoe")
	role := ctlJSON[proto.Role](s, "role", "create", "--guild", "Arcade", "--name", "Mod", "--permissions", "MUTE_MEMBERS,MOVE_MEMBERS")
	if role.Permissions != proto.PermMuteMembers|proto.PermMoveMembers {
		t.Errorf("role %+v", role)
	}
	s.ctl("role", "grant", "--guild", "Arcade", "--role", "Mod", "--user", "zoe")
	if p := permissions(t, s.client(user.Token), arcade); !p.Has(proto.PermMuteMembers) {
		t.Errorf("zoe has permissions %d with the role", p)
	}
	s.ctl("role", "set-permissions", "--guild", "Arcade", "--role", role.ID.String(), "--permissions", "KICK_MEMBERS")
	if p := permissions(t, s.client(user.Token), arcade); p.Has(proto.PermMuteMembers) || !p.Has(proto.PermKickMembers) {
		t.Errorf("zoe has permissions %d with the changed role", p)
	}
	s.ctl("role", "revoke", "--guild", "Arcade", "--role", "Mod", "--user", user.User.ID.String())
	if p := permissions(t, s.client(user.Token), arcade); p.Has(proto.PermKickMembers) {
		t.Errorf("zoe has permissions %d without the role", p)
	}
	for args, want := range map[string]string{
		"role list --guild Arcade": "KICK_MEMBERS", "member list --guild Arcade": "Zoë", "channel list --guild Arcade": "96000",
	} {
		if out := s.ctl(strings.Fields(args)...); !strings.Contains(out, want) {
			t.Errorf("%s lacks %s:\n%s", args, want, out)
		}
	}
	// Invites.
	link := s.ctl("invite", "create", "--guild", "Arcade", "--channel", "Duo", "--max-age", "1h", "--max-uses", "1")
	code, ok := strings.CutPrefix(link, s.url()+"/invite/")
	if !ok {
		t.Fatalf("invite create prints %q", link)
	}
	if guest, err := s.client("").Guest(t.Context(), "Ada", code); err != nil || guest.GuildID != arcade {
		t.Errorf("the invite leads to %d: %v", guest.GuildID, err)
	}
	// Tokens.
	second := s.ctl("token", "create", "--user", "zoe")
	s.ctl("token", "revoke", "--user", "zoe")
	for _, dead := range []string{user.Token, second} {
		if _, err := s.client(dead).Me(t.Context()); err == nil {
			t.Error("a revoked token still works")
		}
	}
	if entries := voiceList(s); len(entries) != 0 {
		t.Errorf("nobody is in voice, but %+v", entries)
	}
}

func TestControlRefuses(t *testing.T) {
	s := newServer(t, checked)
	s.refuses(exitUnreachable, "--data", "guild", "list")
	s.start()
	s.ctl("guild", "create", "--name", "Twin")
	s.ctl("guild", "create", "--name", "twin")
	s.ctl("user", "create", "--name", "zoe")
	s.refuses(exitUnknown, `"Nowhere"`, "channel", "create", "--guild", "Nowhere", "--name", "x")
	s.refuses(exitUnknown, "3 guilds", "channel", "create", "--name", "x")
	s.refuses(exitUnknown, "by its id", "channel", "list", "--guild", "TWIN")
	s.refuses(exitUnknown, `"nobody"`, "member", "mute", "--guild", "Hubbub", "--user", "nobody")
	s.refuses(exitUnknown, `"Attic"`, "member", "move", "--guild", "Hubbub", "--user", "zoe", "--channel", "Attic")
	s.refuses(exitUnknown, `"FLY"`, "role", "create", "--guild", "Hubbub", "--name", "x", "--permissions", "FLY")
	s.refuses(exitUnknown, "Unknown Member", "member", "mute", "--guild", "Hubbub", "--user", "zoe")
	s.refuses(exitRefused, "username", "user", "create", "--name", "zoe")
	s.refuses(exitRefused, "user_limit", "channel", "create", "--guild", "Hubbub", "--name", "x", "--user-limit", "100000")
	s.refuses(exitUnreachable, "http://127.0.0.1:1", "--url", "http://127.0.0.1:1", "guild", "list")
	s.refuses(exitUsage, "--type", "channel", "create", "--guild", "Hubbub", "--name", "x", "--type", "video")
	s.refuses(exitUsage, "--name", "guild", "create")
	if err := os.WriteFile(filepath.Join(s.dir, "admin.token"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.refuses(exitRefused, "another server's", "guild", "list")
}

// TestModeration mutes, moves and disconnects from the shell, and checks it on
// what is heard.
func TestModeration(t *testing.T) {
	s := startServer(t, checked)
	lounge, quiet := s.channel("Lounge"), s.channel("Quiet Room")
	a, b, c := join(t, s, "anna", lounge), join(t, s, "ben", lounge), join(t, s, "cleo", lounge)
	a.hears(t, b, 10)
	a.hears(t, c, 10)
	entries := voiceList(s)
	if len(entries) != 3 {
		t.Fatalf("voice list: %+v", entries)
	}
	for _, e := range entries {
		if e.Channel != lounge || e.Name != "Lounge" || e.Transport != proto.ProtocolUDP || e.Worker != entries[0].Worker || e.Node == "" {
			t.Errorf("voice list has %+v", e)
		}
	}
	if out := s.ctl("voice", "list"); !strings.Contains(out, "WORKER") || strings.Count(out, "Lounge") != 3 || !strings.Contains(out, "anna") {
		t.Errorf("voice list:\n%s", out)
	}

	s.ctl("member", "mute", "--user", "ben")
	a.hearsOnly(t, c, b)
	if out := s.ctl("voice", "list"); strings.Count(out, "muted") != 1 {
		t.Errorf("voice list while ben is muted:\n%s", out)
	}
	s.ctl("member", "unmute", "--user", b.id.String())
	a.hears(t, b, 10)

	s.ctl("member", "deafen", "--user", "anna")
	before := a.voice.Stats().Received
	b.hears(t, c, 50) // a second of it, which anna is not sent
	// What was under way when the command returned may still have come.
	if got := a.voice.Stats().Received - before; got > 10 {
		t.Errorf("anna got %d packets while deafened", got)
	}
	s.ctl("member", "undeafen", "--user", "anna")
	a.hears(t, b, 10)

	s.ctl("member", "move", "--user", "ben", "--channel", "Quiet Room")
	a.hearsOnly(t, c, b)
	s.ctl("member", "move", "--user", "cleo", "--channel", quiet.String())
	b.hears(t, c, 10)
	c.hears(t, b, 10)
	if b.voice.Channel() != quiet || c.voice.Channel() != quiet {
		t.Errorf("moved to %d and %d, not %d", b.voice.Channel(), c.voice.Channel(), quiet)
	}

	s.ctl("member", "disconnect", "--user", "cleo")
	c.ended(t)
	s.refuses(exitRefused, "voice", "member", "disconnect", "--user", "cleo")
	if got := len(voiceList(s)); got != 2 {
		t.Errorf("%d are in voice after cleo left, not 2", got)
	}
}

// voiceEntry is a line of ctl voice list.
type voiceEntry struct {
	Channel   proto.Snowflake `json:"channel_id"`
	Name      string          `json:"channel_name"`
	User      proto.Snowflake `json:"user_id"`
	Node      string          `json:"node"`
	Worker    int             `json:"worker"`
	Transport string          `json:"transport"`
}

func voiceList(s *server) []voiceEntry {
	s.t.Helper()
	return ctlJSON[[]voiceEntry](s, "voice", "list")
}
