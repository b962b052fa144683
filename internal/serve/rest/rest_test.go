package rest

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

func TestBadInput(t *testing.T) {
	r := newRig(t)
	r.fakeGuilds(func(guild.Request) guild.Result { return guild.Result{Status: 204} })
	ada, token := r.account("ada")
	g, channel := r.seedGuild(ada)
	_, bot := r.bot("robot", g)
	messages := fmt.Sprintf("/api/v10/channels/%s/messages", channel)
	for _, c := range []struct {
		name, method, path, auth string
		body                     any
		status, code             int
	}{
		{"no token", "GET", "/api/v10/users/@me", "", nil, 401, 0},
		{"a token of nobody", "GET", "/api/v10/users/@me", "Bot MTIz.AAAA.BBBB", nil, 401, 0},
		{"a token's user without its secret", "GET", "/api/v10/users/@me", token[:len(token)-4] + "AAAA", nil, 401, 0},
		{"garbage for a token", "GET", "/api/v10/users/@me", strings.Repeat("x.", 400), nil, 401, 0},
		{"the admin token on the public API", "GET", "/api/v10/users/@me", "Bearer " + adminToken, nil, 401, 0},
		{"a user's token on the admin API", "GET", "/admin/v1/guilds", token, nil, 401, 0},
		{"a wrong admin token", "GET", "/admin/v1/guilds", "Bearer x", nil, 401, 0},
		{"no such path", "GET", "/api/v10/nothing", token, nil, 404, 0},
		{"a path that climbs", "GET", "/api/v10/users/../users/@me", token, nil, 404, 0},
		{"outside of the API", "GET", "/apiary", token, nil, 404, 0},
		{"a wrong method", "PUT", "/api/v10/users/@me", token, nil, 405, 0},
		{"an old version", "GET", "/api/v6/gateway", "", nil, 400, proto.ErrInvalidAPIVersion},
		{"a future version", "GET", "/api/v11/gateway", "", nil, 400, proto.ErrInvalidAPIVersion},
		{"malformed JSON", "POST", messages, token, "{", 400, proto.ErrInvalidJSON},
		{"a bare number", "POST", messages, token, "3", 400, proto.ErrInvalidFormBody},
		{"a wrong type", "PATCH", "/api/v10/users/@me", token, `{"username":5}`, 400, proto.ErrInvalidFormBody},
		{"a list for an object", "PATCH", "/api/v10/users/@me", token, `[]`, 400, proto.ErrInvalidFormBody},
		{"an oversize body", "POST", messages, token, `{"content":"` + strings.Repeat("x", maxBody) + `"}`, 413, proto.ErrTooLarge},
		{"a word for an id", "GET", "/api/v10/channels/abc", token, nil, 400, proto.ErrInvalidFormBody},
		{"zero for an id", "GET", "/api/v10/guilds/0", token, nil, 400, proto.ErrInvalidFormBody},
		{"an id of 30 digits", "GET", "/api/v10/guilds/" + strings.Repeat("9", 30), token, nil, 400, proto.ErrInvalidFormBody},
		{"no such channel", "GET", "/api/v10/channels/1", token, nil, 404, proto.ErrUnknownChannel},
		{"no such invite", "GET", "/api/v10/invites/none", "", nil, 404, proto.ErrUnknownInvite},
		{"a long invite", "GET", "/api/v10/invites/" + strings.Repeat("x", 300), "", nil, 404, 0},
		{"no such user", "GET", "/api/v10/users/1", token, nil, 404, proto.ErrUnknownUser},
		{"a limit out of bounds", "GET", messages + "?limit=101", token, nil, 400, proto.ErrInvalidFormBody},
		{"a limit that is a word", "GET", messages + "?limit=all", token, nil, 400, proto.ErrInvalidFormBody},
		{"a bad cursor", "GET", messages + "?before=x", token, nil, 400, proto.ErrInvalidFormBody},
		{"a user where a bot is wanted", "GET", "/api/v10/applications/@me", token, nil, 403, proto.ErrBotsOnly},
		{"a bot where a user is wanted", "POST", "/api/v10/invites/letmein", bot, nil, 403, codeUsersOnly},
		{"another's application", "GET", "/api/v10/applications/1/commands", bot, nil, 403, codeNotYourApp},
		{"a webhook that is none", "POST", "/api/v10/webhooks/1/token", "", `{"content":"x"}`, 404, proto.ErrUnknownWebhook},
		{"an interaction that is none", "POST", "/api/v10/interactions/1/token/callback", "", `{"type":4}`, 404, proto.ErrUnknownInteraction},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := r.do(c.method, c.path, c.auth, c.body)
			if got.status != c.status || got.code(t) != c.code {
				t.Errorf("%s %s: %d %s, want status %d and code %d", c.method, c.path, got.status, got.body, c.status, c.code)
			}
		})
	}
	if strings.Contains(r.log.String(), "127.0.0.1") {
		t.Errorf("the log has a client's address:\n%s", r.log)
	}
}

func TestUnauthorizedBody(t *testing.T) {
	got := newRig(t).do("GET", "/api/v10/users/@me", "Bot x", nil)
	if string(got.body) != `{"code":0,"message":"401: Unauthorized"}` {
		t.Errorf("body %s", got.body)
	}
}

func TestNobodyAnswersForTheGuild(t *testing.T) {
	r := newRig(t)
	_, token := r.account("ada")
	got := r.do("GET", "/api/v10/guilds/7", token, nil)
	if got.status != 503 || got.code(t) != proto.ErrServiceUnavailable {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestCallsReachTheGuild checks that routes turn into the calls that the guilds
// know: op, params, body, actor.
func TestCallsReachTheGuild(t *testing.T) {
	r := newRig(t)
	o := r.fakeGuilds(func(guild.Request) guild.Result { return result(200, map[string]string{"id": "1"}) })
	ada, token := r.account("ada")
	g, channel := r.seedGuild(ada)
	guildPath, channelPath := "/api/v10/guilds/"+g.String(), "/api/v10/channels/"+channel.String()
	me := ada.ID.String()
	for _, c := range []struct {
		method, path string
		body         any
		op           string
		params       map[string]string
	}{
		{"GET", guildPath + "?with_counts=true", nil, guild.OpGuildGet, map[string]string{"with_counts": "true"}},
		{"PATCH", guildPath, `{"name":"H"}`, guild.OpGuildUpdate, nil},
		{"POST", guildPath + "/channels", `{"name":"c"}`, guild.OpChannelCreate, nil},
		{"PATCH", guildPath + "/channels", `[{"id":"1","position":2}]`, guild.OpChannelPositions, nil},
		{"GET", guildPath + "/members?limit=5&after=9", nil, guild.OpMemberList, map[string]string{"limit": "5", "after": "9"}},
		{"GET", guildPath + "/members/search?query=a&limit=2", nil, guild.OpMemberSearch, map[string]string{"query": "a", "limit": "2"}},
		{"GET", guildPath + "/members/@me", nil, guild.OpMemberGet, map[string]string{"user": me}},
		{"PATCH", guildPath + "/members/55", `{"mute":true}`, guild.OpMemberUpdate, map[string]string{"user": "55"}},
		{"PATCH", guildPath + "/members/@me", `{"nick":"x"}`, guild.OpMemberUpdate, map[string]string{"user": me}},
		{"PATCH", guildPath + "/members/@me/nick", `{"nick":"x"}`, guild.OpMemberUpdate, map[string]string{"user": me}},
		{"PUT", guildPath + "/members/55/roles/66", nil, guild.OpMemberRoleAdd, map[string]string{"user": "55", "role": "66"}},
		{"DELETE", guildPath + "/members/55/roles/66", nil, guild.OpMemberRoleRemove, map[string]string{"user": "55", "role": "66"}},
		{"GET", guildPath + "/voice-states/@me", nil, guild.OpVoiceGet, map[string]string{"user": me}},
		{"PATCH", guildPath + "/voice-states/55", `{"suppress":false}`, guild.OpVoiceUpdate, map[string]string{"user": "55"}},
		{"GET", "/api/v10/users/@me/guilds/" + g.String() + "/member", nil, guild.OpMemberGet, map[string]string{"user": me}},
		{"DELETE", guildPath + "/roles/66", nil, guild.OpRoleDelete, map[string]string{"role": "66"}},
		{"PATCH", channelPath, `{"name":"d"}`, guild.OpChannelUpdate, map[string]string{"channel": channel.String()}},
		{"PUT", channelPath + "/permissions/77", `{"type":0}`, guild.OpOverwritePut, map[string]string{"channel": channel.String(), "target": "77"}},
		{"POST", channelPath + "/invites", `{}`, guild.OpInviteCreate, map[string]string{"channel": channel.String()}},
		{"POST", channelPath + "/messages", `{"content":"hi"}`, guild.OpMessageCreate, map[string]string{"channel": channel.String()}},
		{"PATCH", channelPath + "/messages/8", `{"content":"ho"}`, guild.OpMessageEdit, map[string]string{"channel": channel.String(), "message": "8"}},
		{"POST", channelPath + "/typing", nil, guild.OpTyping, map[string]string{"channel": channel.String()}},
		{"GET", "/api/v10/invites/letmein?with_counts=true", nil, guild.OpInviteGet, map[string]string{"code": "letmein", "with_counts": "true"}},
		{"POST", "/api/v10/invites/letmein", `{}`, guild.OpMemberJoin, map[string]string{"code": "letmein"}},
		{"DELETE", "/api/v9/invites/letmein", nil, guild.OpInviteDelete, map[string]string{"code": "letmein"}},
		{"DELETE", "/api/users/@me/guilds/" + g.String(), nil, guild.OpMemberRemove, map[string]string{"user": me}},
	} {
		t.Run(c.method+" "+c.op, func(t *testing.T) {
			if got := r.do(c.method, c.path, token, c.body); got.status >= 400 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			call := o.last()
			params := map[string]string{}
			for k, v := range call.Params {
				if k != "guild" {
					params[k] = v
				}
			}
			if call.Op != c.op || fmt.Sprint(params) != fmt.Sprint(orEmpty(c.params)) {
				t.Errorf("asked %s %v, want %s %v", call.Op, params, c.op, c.params)
			}
			if body, _ := c.body.(string); string(call.Body) != body {
				t.Errorf("body %s, want %s", call.Body, body)
			}
			if wantUser := c.op != guild.OpInviteGet; (call.Actor.User.ID == ada.ID) != wantUser || call.Actor.Admin {
				t.Errorf("actor %+v", call.Actor)
			}
		})
	}
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func TestRefusalsPassThrough(t *testing.T) {
	r := newRig(t)
	r.fakeGuilds(func(guild.Request) guild.Result {
		return result(403, proto.ErrorBody{Code: proto.ErrMissingPermissions, Message: "Missing Permissions"})
	})
	_, token := r.account("ada")
	got := r.do("DELETE", "/api/v10/guilds/7/members/8", token, nil)
	if got.status != 403 || string(got.body) != `{"code":50013,"message":"Missing Permissions"}` {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestRateLimit(t *testing.T) {
	r := newRig(t)
	o := r.fakeGuilds(func(guild.Request) guild.Result { return guild.Result{Status: 204} })
	ada, token := r.account("ada")
	_, channel := r.seedGuild(ada)
	path := "/api/v10/channels/" + channel.String() + "/typing"
	for left := 4; left >= 0; left-- {
		got := r.do("POST", path, token, nil)
		h := got.header
		if got.status != 204 || h.Get("X-RateLimit-Limit") != "5" || h.Get("X-RateLimit-Remaining") != strconv.Itoa(left) || len(h.Get("X-RateLimit-Bucket")) != 16 {
			t.Fatalf("with %d left: %d %v", left, got.status, h)
		}
		after, err := strconv.ParseFloat(h.Get("X-RateLimit-Reset-After"), 64)
		if err != nil || after != 5 {
			t.Errorf("X-RateLimit-Reset-After %q", h.Get("X-RateLimit-Reset-After"))
		}
	}
	asked := o.count()
	got := r.do("POST", path, token, nil)
	var body proto.RateLimitBody
	if got.status != 429 || got.header.Get("X-RateLimit-Scope") != "user" || got.header.Get("X-RateLimit-Global") != "" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	if got.header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	got.status = 200
	got.into(t, &body)
	if body.Global || body.RetryAfter != 5 || body.Message == "" {
		t.Errorf("%s", got.body)
	}
	if o.count() != asked {
		t.Error("a limited request reached the guild")
	}
	r.pass(5 * time.Second)
	if got := r.do("POST", path, token, nil); got.status != 204 {
		t.Errorf("after the window: %d", got.status)
	}
	// Another channel is another window, and so is another user.
	_, other := r.seedGuild(ada)
	if got := r.do("POST", "/api/v10/channels/"+other.String()+"/typing", token, nil); got.status != 204 {
		t.Errorf("another channel: %d", got.status)
	}
	_, bea := r.account("bea")
	if got := r.do("POST", path, bea, nil); got.status != 204 {
		t.Errorf("another user: %d", got.status)
	}
}

func TestGlobalLimit(t *testing.T) {
	r := newRig(t)
	_, token := r.account("ada")
	// Many buckets, none of which is full: only the global window is.
	for i := range global.count {
		if got := r.do("GET", fmt.Sprintf("/api/v10/guilds/%d/regions", i+1), token, nil); got.status != 200 {
			t.Fatalf("request %d: %d", i, got.status)
		}
	}
	last := r.do("GET", "/api/v10/guilds/1000/regions", token, nil)
	if last.status != 429 || last.header.Get("X-RateLimit-Global") != "true" || last.header.Get("X-RateLimit-Scope") != "global" || last.header.Get("X-RateLimit-Bucket") == "" {
		t.Errorf("%d %v", last.status, last.header)
	}
}

func TestInvalidRequestsBlockTheAddress(t *testing.T) {
	r := newRig(t)
	ask := func(from string) int {
		req := httptest.NewRequest("GET", "/api/v10/users/@me", nil)
		req.RemoteAddr = from
		w := httptest.NewRecorder()
		r.service.ServeHTTP(w, req)
		return w.Code
	}
	for range invalidRequests.count {
		if got := ask("[2001:db8::1]:1"); got != 401 {
			t.Fatalf("got %d", got)
		}
	}
	if got := ask("[2001:db8::ffff]:2"); got != 429 {
		t.Errorf("the same network: %d, want 429", got)
	}
	if got := ask("[2001:db8:0:1::1]:1"); got != 401 {
		t.Errorf("another network: %d, want 401", got)
	}
}

func TestClientBehindAProxy(t *testing.T) {
	direct, proxied := newRig(t), newRig(t, func(c *Config) { c.PublicURL = "https://example.org" })
	for _, c := range []struct {
		rig             *rig
		from, forwarded string
		want            string
	}{
		{direct, "127.0.0.1:1", "198.51.100.7", "127.0.0.1"},
		{proxied, "127.0.0.1:1", "203.0.113.1, 198.51.100.7", "198.51.100.7"},
		{proxied, "[::ffff:10.0.0.1]:1", "2001:db8:1:2:3::4", "2001:db8:1:2::"},
		{proxied, "127.0.0.1:1", "nonsense", "127.0.0.1"},
		{proxied, "127.0.0.1:1", "", "127.0.0.1"},
		{proxied, "198.51.100.9:1", "203.0.113.1", "198.51.100.9"},
		{proxied, "[fe80::1%eth0]:1", "", "fe80::"},
	} {
		req := httptest.NewRequest("GET", "/", nil)
		req.RemoteAddr = c.from
		if c.forwarded != "" {
			req.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := c.rig.service.clientAddr(req); got.String() != c.want {
			t.Errorf("from %s for %q: %s, want %s", c.from, c.forwarded, got, c.want)
		}
	}
}

func TestMultipart(t *testing.T) {
	r := newRig(t)
	o := r.fakeGuilds(func(guild.Request) guild.Result { return result(200, proto.Message{}) })
	ada, token := r.account("ada")
	_, channel := r.seedGuild(ada)
	send := func(file string) answer {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		_ = w.WriteField("payload_json", `{"content":"hi"}`)
		if file != "" {
			part, _ := w.CreateFormFile("files[0]", file)
			_, _ = part.Write([]byte("data"))
		}
		_ = w.Close()
		req, _ := http.NewRequest("POST", r.url+"/api/v10/channels/"+channel.String()+"/messages", &b)
		req.Header.Set("Authorization", token)
		req.Header.Set("Content-Type", w.FormDataContentType())
		return r.send(req)
	}
	if got := send(""); got.status != 200 || string(o.last().Body) != `{"content":"hi"}` {
		t.Errorf("payload_json: %d %s, asked %s", got.status, got.body, o.last().Body)
	}
	if got := send("a.png"); got.status != 400 || got.code(t) != proto.ErrInvalidFormBody {
		t.Errorf("a file: %d %s", got.status, got.body)
	}
}

func TestCORSAndHeaders(t *testing.T) {
	r := newRig(t)
	got := r.do("OPTIONS", "/api/v10/users/@me", "", nil)
	if got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(got.header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight: %d %v", got.status, got.header)
	}
	if h := r.do("GET", "/api/v10/gateway", "", nil).header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers %v", h)
	}
	if h := r.do("OPTIONS", "/admin/v1/guilds", "", nil).header; h.Get("Access-Control-Allow-Origin") != "" {
		t.Error("the admin API allows other origins")
	}
}

func TestPanicIsAnswered(t *testing.T) {
	r := newRig(t)
	r.service.public.HandleFunc("GET /boom", func(http.ResponseWriter, *http.Request) { panic("boom") })
	if got := r.do("GET", "/api/boom", "", nil); got.status != 500 || got.code(t) != 0 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if !strings.Contains(r.log.String(), "boom") {
		t.Error("the panic was not logged")
	}
}

func TestMetrics(t *testing.T) {
	r := newRig(t)
	r.do("GET", "/api/v10/gateway", "", nil)
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
	}
	if !found["hubbub_rest_requests_total"] || !found["hubbub_rest_request_seconds"] {
		t.Errorf("metrics %v", found)
	}
}

func FuzzBody(f *testing.F) {
	f.Add("application/json", []byte(`{"content":"x"}`))
	f.Add("multipart/form-data; boundary=b", []byte("--b\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\r\n{}\r\n--b--\r\n"))
	f.Add("text/plain", []byte("x"))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		req := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		req.Header.Set("Content-Type", kind)
		raw, err := readBody(httptest.NewRecorder(), req)
		if err != nil {
			if _, isAPI := err.(*proto.APIError); !isAPI {
				t.Errorf("%v is no API error", err)
			}
			return
		}
		if len(raw) > 0 && raw[0] != '{' && raw[0] != '[' {
			t.Errorf("%q was let through", raw)
		}
		var command commandBody
		if decode(raw, &command) == nil {
			var form form
			c := proto.ApplicationCommand{Type: commandSlash}
			command.applyTo(&c, &form, "")
		}
		var u usedCommand
		if decode(raw, &u) == nil {
			var form form
			checkUsed(u.Options, []commandOption{{Type: optionSub, Name: "a", Options: []commandOption{{Type: optionInteger, Name: "b"}}}}, &form, "")
		}
		if _, err := readReply(raw); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}
