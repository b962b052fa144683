package guild

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

func TestCalls(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	manyChannels := func(h *house) {
		for i := range proto.Snowflake(maxChannels) {
			h.g.channels[1000+i] = &proto.Channel{ID: 1000 + i, Type: proto.ChannelText}
		}
	}
	manyRoles := func(h *house) {
		for i := range proto.Snowflake(maxRoles) {
			h.g.roles[1000+i] = &proto.Role{ID: 1000 + i, Position: 1}
		}
	}
	for _, c := range []struct {
		name    string
		user    proto.Snowflake
		op      string
		body    string
		params  string // space-separated
		status  int
		code    int
		events  string // space-separated
		prepare func(*house)
	}{
		{"unknown op", ann, "nonsense", "", "", 404, 0, "", nil},
		{"stranger", 77, OpGuildGet, "", "", 403, proto.ErrMissingAccess, "", nil},
		{"create what exists", owner, OpGuildCreate, `{"name":"two"}`, "", 403, proto.ErrMissingAccess, "", nil},
		{"not JSON", owner, OpGuildUpdate, `{"name":`, "", 400, proto.ErrInvalidJSON, "", nil},
		{"not an object", owner, OpGuildUpdate, `[]`, "", 400, proto.ErrInvalidJSON, "", nil},
		{"guild", ann, OpGuildGet, "", "with_counts=true", 200, 0, "", nil},
		{"rename", mod, OpGuildUpdate, `{"name":"home"}`, "", 200, 0, "GUILD_UPDATE→all", nil},
		{"rename as anybody", ann, OpGuildUpdate, `{"name":"home"}`, "", 403, proto.ErrMissingPermissions, "", nil},
		{"name too short", mod, OpGuildUpdate, `{"name":"h"}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"afk channel unknown", mod, OpGuildUpdate, `{"afk_channel_id":"9"}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"hand over", owner, OpGuildUpdate, `{"owner_id":"2"}`, "", 200, 0, "GUILD_UPDATE→all", nil},
		{"take over", mod, OpGuildUpdate, `{"owner_id":"4"}`, "", 403, proto.ErrMissingPermissions, "", nil},
		{"hand over to nobody", owner, OpGuildUpdate, `{"owner_id":"9"}`, "", 404, proto.ErrUnknownMember, "", nil},
		{"delete guild", owner, OpGuildDelete, "", "", 204, 0, "", nil},
		{"delete another's guild", mod, OpGuildDelete, "", "", 403, proto.ErrMissingPermissions, "", nil},

		{"channel", ann, OpChannelGet, "", "channel=200", 200, 0, "", nil},
		{"unknown channel", ann, OpChannelGet, "", "channel=9", 404, proto.ErrUnknownChannel, "", nil},
		{"channel id is no id", ann, OpChannelGet, "", "channel=x", 404, proto.ErrUnknownChannel, "", nil},
		{"new channel", mod, OpChannelCreate, `{"name":"n","type":2,"user_limit":99,"bitrate":8000,"parent_id":"204"}`, "", 201, 0, "CHANNEL_CREATE→s1,s2", nil},
		{"new channel as anybody", ann, OpChannelCreate, `{"name":"n"}`, "", 403, proto.ErrMissingPermissions, "", nil},
		{"new channel without a name", mod, OpChannelCreate, `{}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"name too long", mod, OpChannelCreate, `{"name":"` + long(101) + `"}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"unknown type", mod, OpChannelCreate, `{"name":"n","type":5}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"bitrate too low", mod, OpChannelCreate, `{"name":"n","type":2,"bitrate":7999}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"limit too high", mod, OpChannelCreate, `{"name":"n","type":2,"user_limit":100}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"stage limit", mod, OpChannelCreate, `{"name":"n","type":13,"user_limit":10000}`, "", 201, 0, "CHANNEL_CREATE→s1,s2", nil},
		{"parent is no category", mod, OpChannelCreate, `{"name":"n","parent_id":"200"}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"too many channels", mod, OpChannelCreate, `{"name":"n"}`, "", 400, proto.ErrMaxChannels, "", manyChannels},
		{"overwrite beyond one's own", mod, OpChannelCreate, `{"name":"n","permission_overwrites":[{"id":"100","type":0,"allow":"8"}]}`, "", 403, proto.ErrMissingPermissions, "", nil},
		{"overwrite of nobody", mod, OpChannelCreate, `{"name":"n","permission_overwrites":[{"id":"9","type":0}]}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"hidden new channel", mod, OpChannelCreate, `{"name":"n","permission_overwrites":[{"id":"100","type":0,"deny":"1024"},{"id":"2","type":1,"allow":1024}]}`, "", 201, 0, "CHANNEL_CREATE→s1,s2", nil},
		{"edit channel", mod, OpChannelUpdate, `{"topic":"t","name":"n"}`, "channel=200", 200, 0, "CHANNEL_UPDATE→all", nil},
		{"edit as anybody", ann, OpChannelUpdate, `{"name":"n"}`, "channel=200", 403, proto.ErrMissingPermissions, "", nil},
		{"delete channel", mod, OpChannelDelete, "", "channel=200", 200, 0, "CHANNEL_DELETE→all", nil},
		{"positions", mod, OpChannelPositions, `[{"id":"200","position":3},{"id":"201","parent_id":"204"}]`, "", 204, 0, "CHANNEL_UPDATE→all CHANNEL_UPDATE→all", nil},
		{"positions of nothing", mod, OpChannelPositions, `[{"id":"9"}]`, "", 404, proto.ErrUnknownChannel, "", nil},
		{"positions no list", mod, OpChannelPositions, `{}`, "", 400, proto.ErrInvalidJSON, "", nil},
		{"overwrite", mod, OpOverwritePut, `{"type":0,"allow":"2048"}`, "channel=200 target=100", 204, 0, "CHANNEL_UPDATE→all", nil},
		{"overwrite of MANAGE_ROLES", mod, OpOverwritePut, `{"type":0,"allow":"268435456"}`, "channel=200 target=100", 403, proto.ErrMissingPermissions, "", nil},
		{"overwrite as anybody", ann, OpOverwritePut, `{"type":0}`, "channel=200 target=100", 403, proto.ErrMissingPermissions, "", nil},
		{"overwrite of no target", mod, OpOverwritePut, `{"type":0}`, "channel=200 target=9", 404, proto.ErrUnknownOverwrite, "", nil},
		{"delete no overwrite", mod, OpOverwriteDelete, "", "channel=200 target=100", 404, proto.ErrUnknownOverwrite, "", nil},

		{"roles", ann, OpRoleList, "", "", 200, 0, "", nil},
		{"new role", mod, OpRoleCreate, `{"name":"r","color":255,"permissions":"4194304"}`, "", 200, 0, "GUILD_ROLE_CREATE→all", nil},
		{"new role as anybody", ann, OpRoleCreate, `{}`, "", 403, proto.ErrMissingPermissions, "", nil},
		{"new role beyond one's own", mod, OpRoleCreate, `{"permissions":"8"}`, "", 403, proto.ErrMissingPermissions, "", nil},
		{"colour out of range", mod, OpRoleCreate, `{"color":16777216}`, "", 400, proto.ErrInvalidFormBody, "", nil},
		{"too many roles", mod, OpRoleCreate, `{}`, "", 400, proto.ErrMaxRoles, "", manyRoles},
		{"edit lower role", mod, OpRoleUpdate, `{"name":"r"}`, "role=301", 200, 0, "GUILD_ROLE_UPDATE→all", nil},
		{"edit higher role", mod, OpRoleUpdate, `{"name":"r"}`, "role=302", 403, proto.ErrMissingPermissions, "", nil},
		{"edit own role", mod, OpRoleUpdate, `{"name":"r"}`, "role=300", 403, proto.ErrMissingPermissions, "", nil},
		{"unknown role", mod, OpRoleUpdate, `{}`, "role=9", 404, proto.ErrUnknownRole, "", nil},
		{"delete role", mod, OpRoleDelete, "", "role=301", 204, 0, "GUILD_ROLE_DELETE→all", nil},
		{"delete @everyone", owner, OpRoleDelete, "", "role=100", 400, proto.ErrInvalidRole, "", nil},
		{"raise a role", owner, OpRolePositions, `[{"id":"301","position":7}]`, "", 200, 0, "GUILD_ROLE_UPDATE→all", nil},
		{"raise a role above one's own", mod, OpRolePositions, `[{"id":"301","position":7}]`, "", 403, proto.ErrMissingPermissions, "", nil},

		{"members", ann, OpMemberList, "", "limit=2 after=1", 200, 0, "", nil},
		{"search", ann, OpMemberSearch, "", "query=BO limit=10", 200, 0, "", nil},
		{"member", ann, OpMemberGet, "", "user=3", 200, 0, "", nil},
		{"unknown member", ann, OpMemberGet, "", "user=9", 404, proto.ErrUnknownMember, "", nil},
		{"join without an invite", 77, OpMemberJoin, "", "code=none", 404, proto.ErrUnknownInvite, "", nil},
		{"add as anybody", owner, OpMemberAdd, `{"id":"9"}`, "", 403, proto.ErrMissingPermissions, "", nil},
		{"own nick", ann, OpMemberUpdate, `{"nick":"A"}`, "user=2", 200, 0, "GUILD_MEMBER_UPDATE→all", nil},
		{"another's nick", ann, OpMemberUpdate, `{"nick":"A"}`, "user=3", 403, proto.ErrMissingPermissions, "", nil},
		{"moderator's nick for another", mod, OpMemberUpdate, `{"nick":null}`, "user=3", 200, 0, "GUILD_MEMBER_UPDATE→all", nil},
		{"owner's nick", mod, OpMemberUpdate, `{"nick":"A"}`, "user=1", 403, proto.ErrMissingPermissions, "", nil},
		{"nick too long", ann, OpMemberUpdate, `{"nick":"` + long(33) + `"}`, "user=2", 400, proto.ErrInvalidFormBody, "", nil},
		{"give a lower role", mod, OpMemberUpdate, `{"roles":["301"]}`, "user=2", 200, 0, "GUILD_MEMBER_UPDATE→all", nil},
		{"give a higher role", mod, OpMemberUpdate, `{"roles":["302"]}`, "user=2", 403, proto.ErrMissingPermissions, "", nil},
		{"give no role", mod, OpMemberUpdate, `{"roles":["9"]}`, "user=2", 404, proto.ErrUnknownRole, "", nil},
		{"give @everyone", mod, OpMemberRoleAdd, "", "user=2 role=100", 400, proto.ErrInvalidRole, "", nil},
		{"add a role", mod, OpMemberRoleAdd, "", "user=2 role=301", 204, 0, "GUILD_MEMBER_UPDATE→all", nil},
		{"take one's own higher role", mod, OpMemberRoleRemove, "", "user=4 role=300", 403, proto.ErrMissingPermissions, "", nil},
		{"kick", mod, OpMemberRemove, "", "user=2", 204, 0, "GUILD_MEMBER_REMOVE→all", nil},
		{"kick as anybody", bob, OpMemberRemove, "", "user=2", 403, proto.ErrMissingPermissions, "", nil},
		{"kick the owner", mod, OpMemberRemove, "", "user=1", 403, proto.ErrMissingPermissions, "", nil},
		{"leave", ann, OpMemberRemove, "", "user=2", 204, 0, "GUILD_MEMBER_REMOVE→all", nil},
		{"owner leaves", owner, OpMemberRemove, "", "user=1", 403, proto.ErrMissingPermissions, "", nil},

		{"history", ann, OpMessageAccess, "", "channel=200", 204, 0, "", nil},
		{"message", ann, OpMessageCreate, `{"content":"hi <@3> <@&301> @everyone","nonce":"7"}`, "channel=200", 200, 0, "MESSAGE_CREATE→all", nil},
		{"message in voice", ann, OpMessageCreate, `{"content":"hi"}`, "channel=201", 200, 0, "MESSAGE_CREATE→all", nil},
		{"message in a category", ann, OpMessageCreate, `{"content":"hi"}`, "channel=204", 400, proto.ErrCannotSendInNonText, "", nil},
		{"empty message", ann, OpMessageCreate, `{"content":"  "}`, "channel=200", 400, proto.ErrEmptyMessage, "", nil},
		{"message too long", ann, OpMessageCreate, `{"content":"` + long(2001) + `"}`, "channel=200", 400, proto.ErrInvalidFormBody, "", nil},
		{"embeds are no objects", ann, OpMessageCreate, `{"embeds":[1]}`, "channel=200", 400, proto.ErrInvalidFormBody, "", nil},
		{"embeds too large", ann, OpMessageCreate, `{"embeds":[{"a":"` + long(maxAttached) + `"}]}`, "channel=200", 400, proto.ErrInvalidFormBody, "", nil},
		{"edit no message", ann, OpMessageEdit, `{"content":"x"}`, "channel=200 message=9", 404, proto.ErrUnknownMessage, "", nil},
		{"typing", ann, OpTyping, "", "channel=200", 204, 0, "TYPING_START→all", nil},

		{"invite", ann, OpInviteCreate, `{"max_age":0,"max_uses":1}`, "channel=201", 200, 0, "INVITE_CREATE→s1", nil},
		{"invite with a role", ann, OpInviteCreate, `{"role_ids":["301"]}`, "channel=201", 403, proto.ErrMissingPermissions, "", nil},
		{"invite too long", ann, OpInviteCreate, `{"max_age":604801}`, "channel=201", 400, proto.ErrInvalidFormBody, "", nil},
		{"invites as anybody", ann, OpInviteList, "", "", 403, proto.ErrMissingPermissions, "", nil},
		{"invites of a channel", mod, OpInviteList, "", "channel=201", 200, 0, "", nil},
		{"no invite", 77, OpInviteGet, "", "code=x", 404, proto.ErrUnknownInvite, "", nil},

		{"voice state of nobody", ann, OpVoiceGet, "", "user=3", 404, proto.ErrUnknownVoiceState, "", nil},
		{"operator's list", owner, OpVoiceList, "", "", 403, proto.ErrMissingPermissions, "", nil},
		{"interaction", ann, OpInteractionContext, "", "channel=200 app=5", 200, 0, "", nil},
		{"interaction with no bot", ann, OpInteractionContext, "", "channel=200 app=9", 404, proto.ErrUnknownApplication, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			h.attach(owner, ann)
			if c.prepare != nil {
				c.prepare(h)
			}
			h.want(h.as(c.user, c.op, c.body, strings.Fields(c.params)...), c.status, c.code)
			h.wantEvents(strings.Fields(c.events)...)
		})
	}
}

func TestEveryOperationIsKnownAndSafeWithNothing(t *testing.T) {
	for op := range operations {
		h := newHouse(t)
		h.call(Actor{}, op, "")
		h.call(Actor{Admin: true}, op, "")
	}
}

func TestErrorsTree(t *testing.T) {
	h := newHouse(t)
	r := h.as(mod, OpChannelCreate, `{"name":"","type":2,"bitrate":"x","user_limit":-1}`)
	h.want(r, 400, proto.ErrInvalidFormBody)
	errors := as[proto.ErrorBody](h, r.Body).Errors
	for field, code := range map[string]string{"name": "BASE_TYPE_BAD_LENGTH", "bitrate": "NUMBER_TYPE_COERCE", "user_limit": "NUMBER_TYPE_MIN"} {
		if got := fmt.Sprint(errors[field]); !strings.Contains(got, code) {
			t.Errorf("%s: %s", field, got)
		}
	}
}

func TestPartialUpdateTellsNullFromAbsent(t *testing.T) {
	h := newHouse(t)
	h.want(h.as(mod, OpChannelUpdate, `{"topic":"t","rtc_region":"x"}`, "channel=201"), 200, 0)
	ch := as[proto.Channel](h, h.as(mod, OpChannelUpdate, `{"topic":null,"name":null}`, "channel=201").Body)
	if ch.Topic != nil || ch.RTCRegion == nil || ch.Name != "voice" || ch.UserLimit != 2 || ch.Bitrate != 64000 {
		t.Fatalf("%+v", ch)
	}
}

func TestCreateGuild(t *testing.T) {
	h := newHouse(t)
	h.g = New(guildID, h.g.cfg)
	h.want(h.as(ann, OpGuildGet, ""), 404, proto.ErrUnknownGuild)
	h.want(h.as(ann, OpGuildCreate, `{"name":"n"}`), 400, proto.ErrInvalidFormBody)
	h.want(h.as(ann, OpGuildCreate, `{"name":"new","channels":[{"type":2}]}`), 400, proto.ErrInvalidFormBody)
	if h.g.Exists() {
		t.Fatal("it exists all the same")
	}
	info := as[proto.Guild](h, h.as(ann, OpGuildCreate, `{"name":"new","owner_id":"9"}`).Body)
	if info.OwnerID != ann || len(h.g.channels) != 2 || h.g.members[ann] == nil || len(info.Roles) != 1 {
		t.Fatalf("%+v", info)
	}
	if last := h.out.Messages[len(h.out.Messages)-1].Gateway; last.Joined == nil || last.Joined.User != ann {
		t.Fatal("the owner's sessions are not told")
	}
	h.g = New(guildID, h.g.cfg)
	h.want(h.admin(OpGuildCreate, `{"name":"new","owner":{"id":"3","username":"Bob"},"channels":[{"type":2,"name":"a","user_limit":4}]}`), 201, 0)
	if h.g.info.OwnerID != bob || len(h.g.channels) != 1 || h.g.members[bob].User.Username != "Bob" {
		t.Fatalf("%+v", h.g.info)
	}
}

func TestJoinByInvite(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.want(h.as(owner, OpMemberRoleAdd, "", "user=2", "role=300"), 204, 0)
	v := as[proto.Invite](h, h.as(ann, OpInviteCreate, `{"max_uses":2,"max_age":60,"role_ids":["301"]}`, "channel=201").Body)
	if len(v.Code) != inviteCodeLength || v.Inviter.ID != ann || len(v.Guild.Roles) != 0 || v.Channel.Name != "voice" {
		t.Fatalf("%+v", v)
	}
	if again := as[proto.Invite](h, h.as(ann, OpInviteCreate, `{"max_uses":2,"max_age":60,"role_ids":["301"]}`, "channel=201").Body); again.Code != v.Code {
		t.Fatal("an unused invite is not used again")
	}
	h.want(h.call(Actor{User: proto.User{ID: 77, Username: "guest"}}, OpMemberJoin, "", "code="+v.Code), 200, 0)
	h.wantEvents("GUILD_MEMBER_ADD→all")
	if m := h.g.members[77]; !slices.Equal(m.Roles, []proto.Snowflake{lowRole}) {
		t.Fatalf("%+v", m)
	}
	again := as[joined](h, h.call(Actor{User: proto.User{ID: 77}}, OpMemberJoin, "", "code="+v.Code).Body)
	if again.NewMember || h.g.invites[v.Code].Uses != 1 {
		t.Fatal("a member used the invite up")
	}
	h.want(h.call(Actor{User: proto.User{ID: 78}}, OpMemberJoin, "", "code="+v.Code), 200, 0)
	h.wantEvents("INVITE_DELETE→s2", "GUILD_MEMBER_ADD→all")
	h.want(h.call(Actor{User: proto.User{ID: 79}}, OpMemberJoin, "", "code="+v.Code), 404, proto.ErrUnknownInvite)

	v = as[proto.Invite](h, h.as(ann, OpInviteCreate, `{"max_age":60}`, "channel=201").Body)
	h.want(h.as(bob, OpInviteDelete, "", "code="+v.Code), 403, proto.ErrMissingPermissions)
	h.pass(time.Minute)
	h.want(h.call(Actor{User: proto.User{ID: 79}}, OpMemberJoin, "", "code="+v.Code), 404, proto.ErrUnknownInvite)
	h.as(ann, OpInviteCreate, "", "channel=201")
	if h.g.invites[v.Code] != nil || len(h.g.invites) != 1 {
		t.Fatal("expired invites pile up")
	}
}

func TestEditAndDeleteMessage(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	m := proto.Message{ID: 900, ChannelID: textID, GuildID: guildID, Author: *testUser(ann), Content: "old", Embeds: []json.RawMessage{json.RawMessage(`{}`)}}
	of := func(user proto.Snowflake) Actor { return Actor{User: *testUser(user)} }
	params := []string{"channel=200", "message=900"}
	h.want(h.callOn(&m, of(bob), OpMessageEdit, `{"content":"new"}`, params...), 403, proto.ErrCannotEditOthers)
	edited := as[proto.Message](h, h.callOn(&m, of(ann), OpMessageEdit, `{"content":"new"}`, params...).Body)
	if edited.Content != "new" || len(edited.Embeds) != 1 || edited.EditedTimestamp == nil || m.Content != "old" {
		t.Fatalf("%+v", edited)
	}
	h.want(h.callOn(&m, of(bob), OpMessageDelete, "", params...), 403, proto.ErrMissingPermissions)
	h.want(h.callOn(&m, of(mod), OpMessageDelete, "", params...), 204, 0)
	h.wantEvents("MESSAGE_DELETE→all")
	if w := h.out.Writes; len(w) != 1 || w[0].DeleteMessage != [2]proto.Snowflake{textID, 900} {
		t.Fatalf("%+v", w)
	}
	for op, want := range map[string]bool{OpMessageEdit: true, OpMessageDelete: true, OpMessageCreate: false} {
		ch, id, ok := NeedsMessage(&Call{Op: op, Params: map[string]string{"channel": "200", "message": "900"}})
		if ok != want || ok && (ch != textID || id != 900) {
			t.Errorf("%s: %d %d %v", op, ch, id, ok)
		}
	}
}

func TestMessageContentIsForThoseWhoAskedForIt(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.step(Request{Attach: &Attach{SessionRef: ref(bot), Bot: true, Intents: proto.IntentGuildMessages}})
	h.want(h.as(ann, OpMessageCreate, `{"content":"secret"}`, "channel=200"), 200, 0)
	h.wantEvents("MESSAGE_CREATE→s2", "MESSAGE_CREATE→s5")
	got := dispatched[proto.Message](h, "MESSAGE_CREATE")
	if got[0].Content != "secret" || got[1].Content != "" {
		t.Fatalf("%+v", got)
	}
	h.as(ann, OpMessageCreate, `{"content":"<@5> hello"}`, "channel=200")
	h.wantEvents("MESSAGE_CREATE→all")
	h.as(ann, OpMessageCreate, `{"content":"@everyone","message_reference":{"message_id":"5"}}`, "channel=200")
	if m := dispatched[proto.Message](h, "MESSAGE_CREATE")[0]; m.MentionEveryone || m.Type != typeReply || m.Member.User != nil {
		t.Fatalf("%+v", m)
	}
}

func TestAnswerSaysWhatItAnswers(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.want(h.as(bot, OpMessageCreate, `{"content":"a","interaction_metadata":{"id":"1"},"application_id":"2"}`, "channel=200"), 200, 0)
	if m := dispatched[proto.Message](h, "MESSAGE_CREATE")[0]; m.InteractionMetadata != nil || m.ApplicationID != 0 {
		t.Errorf("a sender says by itself what it answers: %+v", m)
	}
	for about, kind := range map[string]int{`{"id":"1","type":2}`: typeCommandAnswer, `{"id":"1","type":3}`: 0} {
		h.want(h.as(bot, OpMessageCreate, `{"content":"a"}`, "channel=200", "application=5", "interaction="+about), 200, 0)
		m := dispatched[proto.Message](h, "MESSAGE_CREATE")[0]
		if string(m.InteractionMetadata) != about || m.ApplicationID != 5 || m.Type != kind {
			t.Errorf("%s: %+v", about, m)
		}
	}
}

// TestRollback takes back every operation that succeeds, and compares all there is.
func TestRollback(t *testing.T) {
	for _, c := range []struct{ op, body, params string }{
		{OpGuildUpdate, `{"name":"other"}`, ""},
		{OpGuildDelete, "", ""},
		{OpChannelCreate, `{"name":"n","permission_overwrites":[{"id":"100","type":0,"deny":"1024"}]}`, ""},
		{OpChannelDelete, "", "channel=201"},
		{OpOverwritePut, `{"type":0,"deny":"3147776"}`, "channel=201 target=100"},
		{OpRoleUpdate, `{"permissions":"0"}`, "role=100"},
		{OpRoleDelete, "", "role=300"},
		{OpMemberUpdate, `{"mute":true,"nick":"x","channel_id":"202"}`, "user=2"},
		{OpMemberRemove, "", "user=2"},
		{OpMemberRoleAdd, "", "user=2 role=302"},
		{OpMessageCreate, `{"content":"x"}`, "channel=200"},
		{OpInviteCreate, "", "channel=200"},
	} {
		h := newHouse(t)
		h.attach(ann, bob, bot)
		h.join(ann, voiceID)
		before := h.dump()
		if r := h.as(owner, c.op, c.body, strings.Fields(c.params)...); r.Status >= 400 {
			t.Fatalf("%s: %s", c.op, r.Body)
		}
		if h.dump() == before || len(h.out.Writes) == 0 {
			t.Fatalf("%s changed nothing", c.op)
		}
		h.g.Rollback()
		if after := h.dump(); after != before {
			t.Errorf("%s left\n%s\nof\n%s", c.op, after, before)
		}
	}
}

func (h *house) dump() string {
	g := h.g
	values := func(m any) string { b, _ := json.Marshal(m); return string(b) }
	voice := map[proto.Snowflake]string{}
	for user, v := range g.voice {
		voice[user] = fmt.Sprintf("%+v", *v)
	}
	sessions := map[string]SessionRef{}
	for id, s := range g.sessions {
		sessions[id] = s.ref
	}
	return values([]any{g.info, g.roles, g.channels, g.members, g.invites, sessions, g.gateways, len(g.online), g.hidden, g.blind, g.tuned, voice})
}

func FuzzCall(f *testing.F) {
	for op := range operations {
		f.Add(op, []byte(`{"name":"x","type":2,"channel_id":"202","roles":["301"],"permission_overwrites":[{"id":"100"}]}`), uint8(owner), "201", "2")
		f.Add(op, []byte(`[{"id":"201","position":1}]`), uint8(mod), "200", "301")
	}
	f.Fuzz(func(t *testing.T, op string, body []byte, user uint8, channel, target string) {
		h := newHouse(t)
		h.attach(owner, ann, bot)
		h.join(ann, voiceID)
		m := &proto.Message{ID: 900, ChannelID: textID, Author: *testUser(ann)}
		h.callOn(m, Actor{User: proto.User{ID: proto.Snowflake(user)}, Admin: user == 255}, op, string(body),
			"channel="+channel, "user="+target, "role="+target, "target="+target, "code="+target, "app="+target, "limit="+target)
		h.g.Rollback()
		h.checkVoice()
		if h.g.info == nil {
			t.Fatal("the guild is gone after a rollback")
		}
	})
}
