package rest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/disgoorg/disgo/discord"
	dgrest "github.com/disgoorg/disgo/rest"
	"github.com/disgoorg/snowflake/v2"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// commands registers commands of the world's bot in its guild.
func (w *world) commands(body any) []proto.ApplicationCommand {
	w.t.Helper()
	var made []proto.ApplicationCommand
	w.do("PUT", fmt.Sprintf("/api/v10/applications/%s/guilds/%s/commands", w.bot.User.ID, w.guild.ID), w.botToken, body).into(w.t, &made)
	return made
}

// use uses a command as the owner does.
func (w *world) use(data any) answer {
	w.t.Helper()
	return w.do("POST", "/api/v10/interactions", w.token, map[string]any{
		"type": 2, "application_id": w.bot.User.ID, "guild_id": w.guild.ID, "channel_id": w.text.ID, "data": data,
	})
}

// interaction waits for the INTERACTION_CREATE that the bot gets.
func (w *world) interaction(events <-chan guild.GatewayMessage) interactionCreate {
	w.t.Helper()
	for {
		e := next(w.t, events)
		if e.User == nil || e.User.Event != "INTERACTION_CREATE" {
			continue
		}
		if e.User.User != w.bot.User.ID {
			w.t.Fatalf("sent to %s", e.User.User)
		}
		// What the bot's library makes of it.
		if _, err := discord.UnmarshalInteraction(e.User.Data); err != nil {
			w.t.Fatalf("disgo: %v", err)
		}
		var i interactionCreate
		if err := json.Unmarshal(e.User.Data, &i); err != nil {
			w.t.Fatal(err)
		}
		return i
	}
}

// succeeded waits for the word to the owner that its use was answered, and
// returns the nonce in it.
func (w *world) succeeded(events <-chan guild.GatewayMessage, id proto.Snowflake) string {
	w.t.Helper()
	for {
		e := next(w.t, events)
		if e.User == nil || e.User.User != w.owner.ID || e.User.Event != "INTERACTION_SUCCESS" {
			continue
		}
		var outcome struct {
			ID    proto.Snowflake `json:"id"`
			Nonce string          `json:"nonce"`
		}
		if err := json.Unmarshal(e.User.Data, &outcome); err != nil || outcome.ID != id {
			w.t.Fatalf("%s, %v", e.User.Data, err)
		}
		return outcome.Nonce
	}
}

// about returns what a message answers.
func about(t *testing.T, m proto.Message) interactionMetadata {
	t.Helper()
	var i interactionMetadata
	if err := json.Unmarshal(m.InteractionMetadata, &i); err != nil {
		t.Fatalf("%+v: %v", m, err)
	}
	return i
}

// toUser waits for an event that the owner alone gets.
func (w *world) toUser(events <-chan guild.GatewayMessage, event string) proto.Message {
	w.t.Helper()
	for {
		e := next(w.t, events)
		if e.User == nil || e.User.User != w.owner.ID || e.User.Event != event {
			continue
		}
		var m proto.Message
		if err := json.Unmarshal(e.User.Data, &m); err != nil {
			w.t.Fatal(err)
		}
		return m
	}
}

const greet = `[{"name":"greet","description":"Greets","options":[
	{"type":6,"name":"whom","description":"A user","required":true},
	{"type":3,"name":"how","description":"A way","choices":[{"name":"Loud","value":"loud"}]}]}]`

func TestCommandIsUsedAndAnswered(t *testing.T) {
	w := newWorld(t)
	command := w.commands(greet)[0]
	events := w.events()
	used := map[string]any{"id": command.ID, "options": []any{
		map[string]any{"name": "whom", "type": 6, "value": w.owner.ID}, map[string]any{"name": "how", "type": 3, "value": "loud"}}}
	if got := w.use(used); got.status != 204 {
		t.Fatalf("use: %d %s", got.status, got.body)
	}
	i := w.interaction(events)
	if i.ChannelID != w.text.ID || i.Member.User.ID != w.owner.ID || i.Member.Permissions == 0 || i.AppPermissions == 0 {
		t.Errorf("interaction %+v", i)
	}
	var data usedCommand
	if err := json.Unmarshal(i.Data, &data); err != nil || data.Name != "greet" || data.Resolved == nil || data.Resolved.Users[w.owner.ID].Username != "ada" {
		t.Errorf("data %s, %v", i.Data, err)
	}

	// disgo answers it, follows up, edits and deletes.
	client := dgrest.NewClient("", dgrest.WithURL(w.url+"/api/v10"))
	defer client.Close(t.Context())
	api := dgrest.New(client)
	id, app := snowflake.ID(i.ID), snowflake.ID(i.ApplicationID)
	response := discord.InteractionResponse{Type: discord.InteractionResponseTypeCreateMessage, Data: discord.MessageCreate{Content: "HELLO"}}
	made := must(api.CreateInteractionResponseWithCallback(id, i.Token, response))(t, "answer")
	if made.Resource == nil || made.Resource.Message == nil || made.Resource.Message.Content != "HELLO" || made.Interaction.ResponseMessageID == 0 {
		t.Fatalf("answered %+v", made)
	}
	if err := api.CreateInteractionResponse(id, i.Token, response); !isDisgoCode(err, proto.ErrInteractionAnswered) {
		t.Errorf("answered twice: %v", err)
	}
	if got := must(api.GetInteractionResponse(app, i.Token))(t, "@original"); got.Content != "HELLO" || got.Author.ID != app {
		t.Errorf("@original %+v", got)
	}
	quiet := "hello"
	must(api.UpdateInteractionResponse(app, i.Token, discord.MessageUpdate{Content: &quiet}))(t, "edit @original")
	more := must(api.CreateFollowupMessage(app, i.Token, discord.MessageCreate{Content: "more"}))(t, "follow-up")
	must(api.UpdateFollowupMessage(app, i.Token, more.ID, discord.MessageUpdate{Content: &quiet}))(t, "edit follow-up")
	must(api.GetFollowupMessage(app, i.Token, more.ID))(t, "get follow-up")
	if err := api.DeleteFollowupMessage(app, i.Token, more.ID); err != nil {
		t.Errorf("delete follow-up: %v", err)
	}
	var channel []proto.Message
	w.do("GET", "/api/v10/channels/"+w.text.ID.String()+"/messages", w.token, nil).into(t, &channel)
	if len(channel) != 1 || channel[0].Content != "hello" {
		t.Errorf("the channel has %+v", channel)
	}
	if err := api.DeleteInteractionResponse(app, i.Token); err != nil {
		t.Errorf("delete @original: %v", err)
	}
	if _, err := api.GetInteractionResponse(app, i.Token); !isDisgoCode(err, proto.ErrUnknownMessage) {
		t.Errorf("a deleted @original: %v", err)
	}

	// A message of the guild that is not this interaction's is out of reach.
	var other proto.Message
	w.do("POST", "/api/v10/channels/"+w.text.ID.String()+"/messages", w.botToken, `{"content":"mine"}`).into(t, &other)
	if _, err := api.UpdateFollowupMessage(app, i.Token, snowflake.ID(other.ID), discord.MessageUpdate{Content: &quiet}); !isDisgoCode(err, proto.ErrUnknownMessage) {
		t.Errorf("editing another message: %v", err)
	}
	w.pass(interactionsLive)
	if _, err := api.CreateFollowupMessage(app, i.Token, discord.MessageCreate{Content: "late"}); !isDisgoCode(err, proto.ErrUnknownWebhook) {
		t.Errorf("after 15 minutes: %v", err)
	}
}

func TestDeferredAnswer(t *testing.T) {
	w := newWorld(t)
	command := w.commands(`[{"name":"slow","description":"Slow"}]`)[0]
	events := w.events()
	w.use(map[string]any{"id": command.ID})
	i := w.interaction(events)
	hook := fmt.Sprintf("/api/v10/webhooks/%s/%s", i.ApplicationID, i.Token)
	if got := w.do("POST", hook, "", `{"content":"too early"}`); got.code(t) != proto.ErrUnknownWebhook {
		t.Errorf("a follow-up before the answer: %d %s", got.status, got.body)
	}
	callback := fmt.Sprintf("/api/v10/interactions/%s/%s/callback", i.ID, i.Token)
	for _, wrong := range []string{`{"type":6}`, `{"type":7}`, `{"type":8}`, `{"type":9}`, `{"type":1}`, `{}`} {
		if got := w.do("POST", callback, "", wrong); got.status != 400 {
			t.Errorf("answer %s: %d", wrong, got.status)
		}
	}
	if got := w.do("POST", callback, "", `{"type":4,"data":{"content":""}}`); got.code(t) != proto.ErrEmptyMessage {
		t.Errorf("an empty answer: %d %s", got.status, got.body)
	}
	if got := w.do("POST", callback, "", `{"type":5}`); got.status != 204 {
		t.Fatalf("defer: %d %s", got.status, got.body)
	}
	promised := w.toUser(events, "MESSAGE_CREATE")
	if promised.Flags != flagLoading || promised.ID != i.ID || about(t, promised).Name != "slow" {
		t.Errorf("promised %+v", promised)
	}
	w.succeeded(events, i.ID)
	w.pass(answerWithin * 2)
	var loading, m proto.Message
	w.do("GET", hook+"/messages/@original", "", nil).into(t, &loading)
	if loading.Flags&flagLoading == 0 {
		t.Errorf("while it loads: %+v", loading)
	}
	w.do("PATCH", hook+"/messages/@original", "", `{"content":"at last"}`).into(t, &m)
	if gone := w.toUser(events, "MESSAGE_DELETE"); gone.ID != promised.ID || m.ID == promised.ID {
		t.Errorf("the promise %s became %s, and %s went", promised.ID, m.ID, gone.ID)
	}
	if m.Type != messageOfCommand || m.ApplicationID != i.ApplicationID || about(t, m).ID != i.ID || about(t, m).User.ID != w.owner.ID || about(t, m).OriginalID != 0 {
		t.Errorf("the answer is %+v", m)
	}
	var stored proto.Message
	w.do("GET", hook+"/messages/@original", "", nil).into(t, &stored)
	if m.Content != "at last" || stored.ID != m.ID || about(t, stored).ID != i.ID {
		t.Errorf("kept the promise with %+v, stored %+v", m, stored)
	}
	var more proto.Message
	w.do("POST", hook, "", `{"content":"more"}`).into(t, &more)
	if about(t, more).OriginalID != m.ID {
		t.Errorf("the follow-up is %+v", more)
	}
}

func TestDeferredAnswerIsWithdrawn(t *testing.T) {
	w := newWorld(t)
	command := w.commands(`[{"name":"slow","description":"Slow"}]`)[0]
	events := w.events()
	w.use(map[string]any{"id": command.ID})
	i := w.interaction(events)
	w.do("POST", fmt.Sprintf("/api/v10/interactions/%s/%s/callback", i.ID, i.Token), "", `{"type":5,"data":{"flags":64}}`)
	if m := w.toUser(events, "MESSAGE_CREATE"); m.Flags != flagLoading|flagEphemeral {
		t.Errorf("promised %+v", m)
	}
	original := fmt.Sprintf("/api/v10/webhooks/%s/%s/messages/@original", i.ApplicationID, i.Token)
	if got := w.do("DELETE", original, "", nil); got.status != 204 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if gone := w.toUser(events, "MESSAGE_DELETE"); gone.ID != i.ID {
		t.Errorf("%s went", gone.ID)
	}
	if got := w.do("GET", original, "", nil); got.code(t) != proto.ErrUnknownMessage {
		t.Errorf("a withdrawn @original: %d %s", got.status, got.body)
	}
}

func TestSubcommandIsNamed(t *testing.T) {
	w := newWorld(t)
	command := w.commands(`[{"name":"queue","description":"d","options":[{"type":2,"name":"song","description":"d","options":[
		{"type":1,"name":"add","description":"d","options":[{"type":3,"name":"title","description":"d","required":true}]}]}]}]`)[0]
	events := w.events()
	data := fmt.Sprintf(`{"id":"%s","options":[{"type":2,"name":"song","options":[{"type":1,"name":"add","options":[{"type":3,"name":"title","value":"x"}]}]}]}`, command.ID)
	body := fmt.Sprintf(`{"type":2,"application_id":"%s","guild_id":"%s","channel_id":"%s","nonce":"n1","data":%s}`, w.bot.User.ID, w.guild.ID, w.text.ID, data)
	if got := w.do("POST", "/api/v10/interactions", w.token, body); got.status != 204 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	i := w.interaction(events)
	w.do("POST", fmt.Sprintf("/api/v10/interactions/%s/%s/callback", i.ID, i.Token), "", `{"type":4,"data":{"content":"added","flags":64}}`)
	if m := w.toUser(events, "MESSAGE_CREATE"); about(t, m).Name != "queue song add" || about(t, m).CommandType != 1 {
		t.Errorf("the answer is %+v", m)
	}
	if nonce := w.succeeded(events, i.ID); nonce != "n1" {
		t.Errorf("nonce %q", nonce)
	}
	for _, nonce := range []string{`{}`, `[1]`, `true`, `"` + strings.Repeat("x", 40) + `"`} {
		if got := w.do("POST", "/api/v10/interactions", w.token, strings.Replace(body, `"n1"`, nonce, 1)); got.code(t) != proto.ErrInvalidFormBody {
			t.Errorf("nonce %s: %d %s", nonce, got.status, got.body)
		}
	}
}

func TestLateAnswer(t *testing.T) {
	w := newWorld(t)
	command := w.commands(`[{"name":"slow","description":"Slow"}]`)[0]
	events := w.events()
	w.use(map[string]any{"id": command.ID})
	i := w.interaction(events)
	w.pass(answerWithin)
	got := w.do("POST", fmt.Sprintf("/api/v10/interactions/%s/%s/callback", i.ID, i.Token), "", `{"type":5}`)
	if got.status != 404 || got.code(t) != proto.ErrUnknownInteraction {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestPrivateAnswer checks that what only the user may see never reaches the
// guild.
func TestPrivateAnswer(t *testing.T) {
	w := newWorld(t)
	command := w.commands(`[{"name":"secret","description":"Secret"}]`)[0]
	events := w.events()
	w.use(map[string]any{"id": command.ID})
	i := w.interaction(events)
	hook := fmt.Sprintf("/api/v10/webhooks/%s/%s", i.ApplicationID, i.Token)
	callback := fmt.Sprintf("/api/v10/interactions/%s/%s/callback?with_response=true", i.ID, i.Token)
	var made callbackResponse
	w.do("POST", callback, "", `{"type":4,"data":{"content":"psst","flags":64}}`).into(t, &made)
	if !made.Interaction.Ephemeral || made.Resource.Message.Flags != flagEphemeral {
		t.Errorf("%+v", made)
	}
	if m := w.toUser(events, "MESSAGE_CREATE"); m.Content != "psst" || m.ID != made.Interaction.MessageID {
		t.Errorf("the user got %+v", m)
	}
	w.do("PATCH", hook+"/messages/@original", "", `{"content":"psst!"}`)
	if m := w.toUser(events, "MESSAGE_UPDATE"); m.Content != "psst!" || m.EditedTimestamp == nil {
		t.Errorf("the user got %+v", m)
	}
	if got := w.do("POST", hook, "", `{"content":"`+strings.Repeat("x", maxContent+1)+`","flags":64}`); got.status != 400 {
		t.Errorf("a long private message: %d", got.status)
	}
	if got := w.do("DELETE", hook+"/messages/@original", "", nil); got.status != 204 {
		t.Errorf("delete: %d %s", got.status, got.body)
	}
	w.toUser(events, "MESSAGE_DELETE")
	var channel []proto.Message
	w.do("GET", "/api/v10/channels/"+w.text.ID.String()+"/messages", w.token, nil).into(t, &channel)
	if len(channel) != 0 || w.service.pending.private != 0 {
		t.Errorf("the channel has %+v, %d bytes are kept", channel, w.service.pending.private)
	}
}

func TestComponentIsUsed(t *testing.T) {
	w := newWorld(t)
	var m proto.Message
	w.do("POST", "/api/v10/channels/"+w.text.ID.String()+"/messages", w.botToken,
		`{"content":"press","components":[{"type":1,"components":[{"type":2,"style":1,"label":"x","custom_id":"b"}]}]}`).into(t, &m)
	events := w.events()
	press := map[string]any{"type": 3, "application_id": w.bot.User.ID, "guild_id": w.guild.ID, "channel_id": w.text.ID,
		"message_id": m.ID, "data": map[string]any{"component_type": 2, "custom_id": "b"}}
	if got := w.do("POST", "/api/v10/interactions", w.token, press); got.status != 204 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	i := w.interaction(events)
	if i.Message == nil || i.Message.ID != m.ID {
		t.Errorf("message %+v", i.Message)
	}
	callback := fmt.Sprintf("/api/v10/interactions/%s/%s/callback", i.ID, i.Token)
	if got := w.do("POST", callback, "", `{"type":7,"data":{"content":"pressed","components":[]}}`); got.status != 204 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	w.do("GET", "/api/v10/channels/"+w.text.ID.String()+"/messages/"+m.ID.String(), w.token, nil).into(t, &m)
	if m.Content != "pressed" {
		t.Errorf("message %+v", m)
	}
}

func TestWrongUses(t *testing.T) {
	w := newWorld(t)
	command := w.commands(greet)[0]
	whom := map[string]any{"name": "whom", "type": 6, "value": w.owner.ID}
	for name, c := range map[string]struct {
		data any
		code int
	}{
		"an unknown command":      {map[string]any{"id": "1"}, proto.ErrUnknownCommand},
		"no required option":      {map[string]any{"id": command.ID}, proto.ErrInvalidFormBody},
		"an unknown option":       {map[string]any{"id": command.ID, "options": []any{whom, map[string]any{"name": "x", "type": 3, "value": "y"}}}, proto.ErrInvalidFormBody},
		"an option twice":         {map[string]any{"id": command.ID, "options": []any{whom, whom}}, proto.ErrInvalidFormBody},
		"another type":            {map[string]any{"id": command.ID, "options": []any{map[string]any{"name": "whom", "type": 3, "value": "1"}}}, proto.ErrInvalidFormBody},
		"a value that is no id":   {map[string]any{"id": command.ID, "options": []any{map[string]any{"name": "whom", "type": 6, "value": "x"}}}, proto.ErrInvalidFormBody},
		"no choice":               {map[string]any{"id": command.ID, "options": []any{whom, map[string]any{"name": "how", "type": 3, "value": "odd"}}}, proto.ErrInvalidFormBody},
		"a user who is not here":  {map[string]any{"id": command.ID, "options": []any{map[string]any{"name": "whom", "type": 6, "value": "99"}}}, proto.ErrUnknownMember},
		"options of a wrong kind": {map[string]any{"id": command.ID, "options": "x"}, proto.ErrInvalidFormBody},
	} {
		if got := w.use(c.data); got.code(t) != c.code {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	w.pass(usual.per * 4)
	admins := w.commands(`[{"name":"admin","description":"x","default_member_permissions":"0"}]`)[0]
	_, bea := w.account("bea")
	var invite proto.Invite
	w.do("POST", "/api/v10/channels/"+w.text.ID.String()+"/invites", w.token, `{}`).into(t, &invite)
	w.do("POST", "/api/v10/invites/"+invite.Code, bea, `{}`)
	body := map[string]any{"type": 2, "application_id": w.bot.User.ID, "guild_id": w.guild.ID, "channel_id": w.text.ID, "data": map[string]any{"id": admins.ID}}
	if got := w.do("POST", "/api/v10/interactions", bea, body); got.code(t) != proto.ErrMissingPermissions {
		t.Errorf("a command for administrators: %d %s", got.status, got.body)
	}
	body["guild_id"] = "1"
	if got := w.do("POST", "/api/v10/interactions", bea, body); got.code(t) != proto.ErrInvalidFormBody {
		t.Errorf("a channel of another guild: %d %s", got.status, got.body)
	}
}

func TestInteractionsAreBounded(t *testing.T) {
	var p interactions
	for n := range maxInteractions + 10 {
		i := &interaction{token: fmt.Sprint(n), answered: true, expires: clock.Time(1).Add(interactionsLive)}
		p.add(i, 1)
		if err := p.keep(i, proto.Message{ID: 1}, 100); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.byToken) != maxInteractions || len(p.order) != maxInteractions || p.private != 100*maxInteractions {
		t.Errorf("%d by token, %d in order, %d bytes", len(p.byToken), len(p.order), p.private)
	}
	if p.keep(p.order[0], proto.Message{ID: 2}, maxPrivateBytes) == nil {
		t.Error("private messages may take any memory")
	}
	p.add(&interaction{token: "new", expires: clock.Time(1).Add(3 * interactionsLive)}, clock.Time(1).Add(interactionsLive))
	if len(p.byToken) != 1 || p.private != 0 {
		t.Errorf("after all expired: %d by token, %d bytes", len(p.byToken), p.private)
	}
}

func TestCommandForms(t *testing.T) {
	w := newWorld(t)
	option := func(extra string) string {
		return `[{"name":"ok","description":"d","options":[` + extra + `]}]`
	}
	sub := `{"type":3,"name":"a","description":"d"}`
	deep := `{"type":2,"name":"g","description":"d","options":[{"type":1,"name":"s","description":"d","options":[{"type":1,"name":"t","description":"d","options":[` + sub + `]}]}]}`
	for name, body := range map[string]string{
		"a name in capitals":         `[{"name":"Play","description":"d"}]`,
		"a name with a space":        `[{"name":"play it","description":"d"}]`,
		"no name":                    `[{"description":"d"}]`,
		"no description":             `[{"name":"play"}]`,
		"a long description":         `[{"name":"play","description":"` + strings.Repeat("x", 101) + `"}]`,
		"an unknown type":            `[{"name":"play","type":9,"description":"d"}]`,
		"a described user command":   `[{"name":"Play","type":2,"description":"d"}]`,
		"two of a name":              `[{"name":"a","description":"d"},{"name":"a","description":"d"}]`,
		"options of one name":        option(sub + "," + sub),
		"an option of unknown type":  option(`{"type":12,"name":"a","description":"d"}`),
		"required after optional":    option(sub + `,{"type":3,"name":"b","description":"d","required":true}`),
		"options below a string":     option(`{"type":3,"name":"a","description":"d","options":[` + sub + `]}`),
		"groups too deep":            option(deep),
		"26 options":                 option(strings.TrimSuffix(strings.Repeat(sub+",", 26), ",")),
		"options that are no list":   `[{"name":"a","description":"d","options":{}}]`,
		"an object where a list is":  `{"name":"a","description":"d"}`,
		"permissions that are words": `[{"name":"a","description":"d","default_member_permissions":"x"}]`,
	} {
		got := w.do("PUT", fmt.Sprintf("/api/v10/applications/%s/commands", w.bot.User.ID), w.botToken, body)
		if got.status != 400 || got.code(t) != proto.ErrInvalidFormBody {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		w.pass(usual.per * 4)
	}
	var many []map[string]string
	for i := range 101 {
		many = append(many, map[string]string{"name": fmt.Sprintf("c%d", i), "description": "d"})
	}
	if got := w.do("PUT", fmt.Sprintf("/api/v10/applications/%s/commands", w.bot.User.ID), w.botToken, many); got.code(t) != codeMaxCommands {
		t.Errorf("101 commands: %d %s", got.status, got.body)
	}
}
