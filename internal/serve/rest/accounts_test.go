package rest

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

// welcoming answers for a guild that everybody may join.
func welcoming(guild.Request) guild.Result { return result(200, proto.Invite{Code: "letmein"}) }

func TestSignUpInAndOut(t *testing.T) {
	r := newRig(t)
	events := r.events()
	var made, in session
	r.do("POST", "/api/v10/auth/register", "", map[string]string{"username": "Ada.L", "password": "correct horse", "global_name": "Ada"}).into(t, &made)
	if made.Token == "" || made.UserID == 0 || made.GuildID != 0 {
		t.Fatalf("registered %+v", made)
	}
	user, err := r.store.UserByID(context.Background(), made.UserID)
	if err != nil || user.Username != "ada.l" || *user.GlobalName != "Ada" || user.Guest || !strings.HasPrefix(user.PasswordHash, "$argon2id$") {
		t.Errorf("stored %+v, %v", user, err)
	}
	r.do("POST", "/api/v10/auth/login", "", map[string]string{"login": "ADA.L", "password": "correct horse"}).into(t, &in)
	if in.UserID != made.UserID || in.Token == made.Token {
		t.Errorf("logged in as %+v", in)
	}
	if got := r.do("POST", "/api/v10/auth/logout", in.Token, nil); got.status != 204 {
		t.Fatalf("logout: %d %s", got.status, got.body)
	}
	hash := token.Hash(in.Token)
	if e := next(t, events); e.Revoked == nil || e.Revoked.User != made.UserID || string(e.Revoked.Hash) != string(hash[:]) {
		t.Errorf("broadcast %+v", e)
	}
	if got := r.do("GET", "/api/v10/users/@me", in.Token, nil); got.status != 401 {
		t.Errorf("the revoked token: %d", got.status)
	}
	if got := r.do("GET", "/api/v10/users/@me", made.Token, nil); got.status != 200 {
		t.Errorf("the other token: %d", got.status)
	}
}

func TestLoginSaysNothing(t *testing.T) {
	r := newRig(t)
	r.do("POST", "/api/v10/auth/register", "", map[string]string{"username": "ada", "password": "correct horse"})
	r.account("tokenonly")
	var first []byte
	for _, c := range []struct{ login, password string }{
		{"ada", "wrong horse"}, {"nobody", "correct horse"}, {"tokenonly", ""}, {"tokenonly", "x"}, {"ada", strings.Repeat("x", 1000)},
	} {
		got := r.do("POST", "/api/v10/auth/login", "", map[string]string{"login": c.login, "password": c.password})
		if got.status != 400 || got.code(t) != proto.ErrInvalidFormBody {
			t.Errorf("%s: %d %s", c.login, got.status, got.body)
		}
		if first == nil {
			first = got.body
		}
		if string(got.body) != string(first) {
			t.Errorf("%s is told %s, others %s", c.login, got.body, first)
		}
	}
}

func TestLoginLimits(t *testing.T) {
	r := newRig(t)
	try := func(login string) int {
		return r.do("POST", "/api/v10/auth/login", "", map[string]string{"login": login, "password": strings.Repeat("x", 200)}).status
	}
	for range accountQuota.count {
		if got := try("ada"); got != 400 {
			t.Fatalf("got %d", got)
		}
	}
	if got := try(" ADA "); got != 429 {
		t.Errorf("one account too often: %d", got)
	}
	tried := accountQuota.count + 1
	for ; tried < loginQuota.count; tried++ {
		if got := try("user" + string(rune('a'+tried))); got != 400 {
			t.Fatalf("another account, try %d: %d", tried, got)
		}
	}
	if got := try("fresh"); got != 429 {
		t.Errorf("one address too often: %d", got)
	}
	r.pass(loginQuota.per)
	if got := try("fresh"); got != 400 {
		t.Errorf("after the window: %d", got)
	}
}

func TestRegistrationForm(t *testing.T) {
	r := newRig(t)
	r.account("taken")
	for _, c := range []struct{ name, username, password, global, field string }{
		{"no username", "", "long enough", "", "username"},
		{"a short username", "a", "long enough", "", "username"},
		{"a long username", strings.Repeat("a", 33), "long enough", "", "username"},
		{"a username with a space", "a b", "long enough", "", "username"},
		{"a username in Cyrillic", "ада", "long enough", "", "username"},
		{"two periods", "a..b", "long enough", "", "username"},
		{"a taken username", "TAKEN", "long enough", "", "username"},
		{"a short password", "ada", "short", "", "password"},
		{"a long password", "ada", strings.Repeat("x", 129), "", "password"},
		{"a long name", "ada", "long enough", strings.Repeat("é", 33), "global_name"},
		{"a name with a line break", "ada", "long enough", "a\nb", "global_name"},
		{"a name with a hidden override", "ada", "long enough", "a\u202eb", "global_name"},
	} {
		got := r.do("POST", "/api/v10/auth/register", "", registration{Username: c.username, Password: c.password, GlobalName: c.global})
		if got.status != 400 || got.code(t) != proto.ErrInvalidFormBody || !strings.Contains(string(got.body), `"`+c.field+`":{"_errors":[{"code":`) {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
	}
}

func TestGuestEntersByInvite(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Registration = RegistrationInvite })
	o := r.fakeGuilds(welcoming)
	g, _ := r.seedGuild()
	if got := r.do("POST", "/api/v10/auth/register", "", map[string]string{"username": "ada", "password": "correct horse"}); got.status != 400 {
		t.Errorf("without an invite: %d", got.status)
	}
	if got := r.do("POST", "/api/v10/auth/register", "", map[string]string{"global_name": "Ada", "invite": "none"}); got.code(t) != proto.ErrUnknownInvite {
		t.Errorf("with a dead invite: %d %s", got.status, got.body)
	}
	if n, _ := r.store.CountUsers(context.Background()); n != 0 {
		t.Errorf("refused registrations left %d users", n)
	}
	var in session
	r.do("POST", "/api/v10/auth/register", "", map[string]string{"global_name": "  Ada Lovelace ✨ ", "invite": "letmein"}).into(t, &in)
	if in.GuildID != g {
		t.Errorf("entered %+v, want guild %s", in, g)
	}
	if call := o.last(); call.Op != guild.OpMemberJoin || call.Actor.User.ID != in.UserID || call.Params["code"] != "letmein" {
		t.Errorf("the guild was asked %+v", call)
	}
	var me currentUser
	r.do("GET", "/api/v10/users/@me", in.Token, nil).into(t, &me)
	if !me.Guest || *me.GlobalName != "Ada Lovelace ✨" || !regexp.MustCompile(`^adalovelace\.[a-z2-7]{6}$`).MatchString(me.Username) {
		t.Errorf("the guest is %+v", me)
	}
	if got := r.do("POST", "/api/v10/guilds", in.Token, map[string]string{"name": "x"}); got.status != 403 {
		t.Errorf("a guest makes a guild: %d", got.status)
	}

	var claimed session
	r.do("POST", "/api/v10/users/@me/claim", in.Token, map[string]string{"username": "ada", "password": "correct horse"}).into(t, &claimed)
	if claimed.Token != in.Token {
		t.Error("claiming changed the token")
	}
	var again session
	r.do("POST", "/api/v10/auth/login", "", map[string]string{"login": "ada", "password": "correct horse"}).into(t, &again)
	if again.UserID != in.UserID {
		t.Errorf("logged in as %+v", again)
	}
	if got := r.do("POST", "/api/v10/users/@me/claim", in.Token, map[string]string{"username": "eve", "password": "correct horse"}); got.status != 400 {
		t.Errorf("claimed twice: %d", got.status)
	}
}

func TestRegistrationClosed(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Registration = RegistrationClosed })
	got := r.do("POST", "/api/v10/auth/register", "", map[string]string{"global_name": "Ada", "invite": "letmein"})
	if got.status != 403 || got.code(t) != proto.ErrRegistrationClosed {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestRegistrationLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Registrations = 2; c.Registration = RegistrationClosed })
	for i, want := range []int{403, 403, 429} {
		if got := r.do("POST", "/api/v10/auth/register", "", `{}`); got.status != want {
			t.Errorf("registration %d: %d, want %d", i, got.status, want)
		}
	}
	r.pass(10 * time.Minute)
	if got := r.do("POST", "/api/v10/auth/register", "", `{}`); got.status != 403 {
		t.Errorf("after the window: %d", got.status)
	}
}

func TestUpdateMe(t *testing.T) {
	r := newRig(t)
	o := r.fakeGuilds(func(guild.Request) guild.Result { return guild.Result{Status: 204} })
	ada, bearer := r.account("ada")
	r.account("bea")
	g, _ := r.seedGuild(ada)
	events := r.events()
	var me currentUser
	r.do("PATCH", "/api/v10/users/@me", bearer, `{"global_name":"Ada L"}`).into(t, &me)
	if me.GlobalName == nil || *me.GlobalName != "Ada L" || me.Username != "ada" {
		t.Errorf("%+v", me)
	}
	if e := next(t, events); e.User == nil || e.User.User != ada.ID || e.User.Event != "USER_UPDATE" {
		t.Errorf("broadcast %+v", e)
	}
	if call := o.last(); call.Op != guild.OpMemberRefresh || *call.Actor.User.GlobalName != "Ada L" || o.calls[0].Guild != g {
		t.Errorf("the guild was asked %+v", call)
	}
	me = currentUser{}
	r.do("PATCH", "/api/v10/users/@me", bearer, `{"global_name":null}`).into(t, &me)
	if me.GlobalName != nil {
		t.Errorf("null left %q", *me.GlobalName)
	}
	for _, body := range []string{`{"username":"BEA"}`, `{"avatar":"data:image/png;base64,AA"}`, `{"global_name":""}`} {
		if got := r.do("PATCH", "/api/v10/users/@me", bearer, body); got.status != 400 || got.code(t) != proto.ErrInvalidFormBody {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
}

func TestGuildPage(t *testing.T) {
	ids := []proto.Snowflake{5, 1, 4, 2, 3}
	for _, c := range []struct {
		before, after proto.Snowflake
		limit         int
		want          []proto.Snowflake
	}{
		{0, 0, 10, []proto.Snowflake{1, 2, 3, 4, 5}},
		{0, 0, 2, []proto.Snowflake{1, 2}},
		{0, 2, 2, []proto.Snowflake{3, 4}},
		{4, 0, 2, []proto.Snowflake{2, 3}},
		{5, 1, 2, []proto.Snowflake{2, 3}},
		{1, 0, 2, nil},
		{0, 5, 2, nil},
	} {
		got := guildPage(append([]proto.Snowflake(nil), ids...), c.before, c.after, c.limit)
		if len(got) != len(c.want) || (len(got) > 0 && (got[0] != c.want[0] || got[len(got)-1] != c.want[len(c.want)-1])) {
			t.Errorf("before %d after %d limit %d: %v, want %v", c.before, c.after, c.limit, got, c.want)
		}
	}
}

func TestGateway(t *testing.T) {
	r := newRig(t)
	host := strings.TrimPrefix(r.url, "http://")
	var info gatewayInfo
	r.do("GET", "/api/v10/gateway", "", nil).into(t, &info)
	if info.URL != "ws://"+host+"/gateway" {
		t.Errorf("url %q", info.URL)
	}
	r.service.cfg.PublicURL = "https://" + host
	r.do("GET", "/api/gateway", "", nil).into(t, &info)
	if info.URL != "wss://"+host+"/gateway" {
		t.Errorf("behind a proxy: url %q", info.URL)
	}
	_, bearer := r.bot("robot", 0)
	var b gatewayBotInfo
	r.do("GET", "/api/v9/gateway/bot", bearer, nil).into(t, &b)
	if b.Shards != 1 || b.SessionStartLimit.Remaining == 0 || b.SessionStartLimit.MaxConcurrency != 1 {
		t.Errorf("%+v", b)
	}
}
