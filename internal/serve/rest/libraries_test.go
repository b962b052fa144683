package rest

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/bwmarrin/discordgo"
	"github.com/disgoorg/disgo/discord"
	dgrest "github.com/disgoorg/disgo/rest"
	"github.com/disgoorg/snowflake/v2"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/serve/guilds"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// realGuilds runs the service that owns guilds.
func (r *rig) realGuilds() {
	r.t.Helper()
	log := slog.New(slog.DiscardHandler)
	group := run.NewGroup(context.Background(), log)
	alone := fleet.NewTable(1, fleet.Member{Name: "n1", Roles: fleet.Guilds})
	s := guilds.New(guilds.Config{Node: "n1", Owner: "n1", Number: 1, View: alone.View, TokenKey: []byte("key"), Log: log}, r.bus, r.store)
	if err := s.Start(group); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		s.Close(context.Background())
		group.Stop()
		group.Wait()
	})
}

// world is a guild of the real service with its owner and a bot that may
// administrate it.
type world struct {
	*rig
	owner       proto.User
	token       string
	bot         credentials
	botToken    string
	guild       proto.Guild
	text, voice proto.Channel
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{rig: newRig(t)}
	w.realGuilds()
	w.owner, w.token = w.account("ada")
	w.do("POST", "/api/v10/guilds", w.token, map[string]string{"name": "Ada's"}).into(t, &w.guild)
	w.bot, w.botToken = w.rig.bot("robot", w.guild.ID)
	path := "/api/v10/guilds/" + w.guild.ID.String()
	var channels []proto.Channel
	w.do("GET", path+"/channels", w.token, nil).into(t, &channels)
	for _, c := range channels {
		switch c.Type {
		case proto.ChannelText:
			w.text = c
		case proto.ChannelVoice:
			w.voice = c
		}
	}
	var role proto.Role
	w.do("POST", path+"/roles", w.token, map[string]any{"name": "bots", "permissions": "8"}).into(t, &role)
	if got := w.do("PUT", path+"/members/"+w.bot.User.ID.String()+"/roles/"+role.ID.String(), w.token, nil); got.status != 204 {
		t.Fatalf("grant: %d %s", got.status, got.body)
	}
	return w
}

// must fails the test on an error.
func must[T any](v T, err error) func(*testing.T, string) T {
	return func(t *testing.T, what string) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return v
	}
}

func TestDisgo(t *testing.T) {
	w := newWorld(t)
	client := dgrest.NewClient(strings.TrimPrefix(w.botToken, "Bot "), dgrest.WithURL(w.url+"/api/v10"))
	defer client.Close(context.Background())
	api := dgrest.New(client)
	g, bot := snowflake.ID(w.guild.ID), snowflake.ID(w.bot.User.ID)
	text, voice := snowflake.ID(w.text.ID), snowflake.ID(w.voice.ID)

	gateway := must(api.GetGatewayBot())(t, "gateway/bot")
	if !strings.HasSuffix(gateway.URL, "/gateway") || gateway.Shards != 1 || gateway.SessionStartLimit.MaxConcurrency != 1 {
		t.Errorf("gateway %+v", gateway)
	}
	app := must(api.GetCurrentApplication())(t, "application")
	if app.ID != bot || app.Bot == nil || app.Bot.ID != bot || app.Name != "robot" {
		t.Errorf("application %+v", app)
	}
	must(api.GetBotApplicationInfo())(t, "oauth2 application")
	if me := must(api.GetCurrentUser(""))(t, "users/@me"); me.ID != bot || !me.Bot {
		t.Errorf("me %+v", me)
	}
	mine := must(api.GetCurrentUserGuilds("", 0, 0, 10, true))(t, "users/@me/guilds")
	if len(mine) != 1 || mine[0].ID != g || !mine[0].Permissions.Has(discord.PermissionAdministrator) {
		t.Errorf("guilds %+v", mine)
	}
	if got := must(api.GetGuild(g, true))(t, "guild"); got.Name != "Ada's" || got.ApproximateMemberCount != 2 {
		t.Errorf("guild %+v", got)
	}
	if got := must(api.GetGuildChannels(g))(t, "channels"); len(got) != 2 {
		t.Errorf("channels %+v", got)
	}
	if got := must(api.GetMembers(g, 10, 0))(t, "members"); len(got) != 2 {
		t.Errorf("members %+v", got)
	}
	must(api.GetMember(g, bot))(t, "member")
	must(api.SearchMembers(g, "ad", 5))(t, "search")
	must(api.GetVoiceRegions())(t, "voice regions")
	must(api.GetGuildVoiceRegions(g))(t, "guild's voice regions")
	if _, err := api.GetUserVoiceState(g, bot); !isDisgoCode(err, proto.ErrUnknownVoiceState) {
		t.Errorf("voice state of nobody: %v", err)
	}

	role := must(api.CreateRole(g, discord.RoleCreate{Name: "r"}))(t, "role")
	must(api.GetRole(g, role.ID))(t, "get role")
	name := "renamed"
	must(api.UpdateRole(g, role.ID, discord.RoleUpdate{Name: &name}))(t, "edit role")
	if err := api.AddMemberRole(g, bot, role.ID); err != nil {
		t.Errorf("grant: %v", err)
	}
	if err := api.DeleteRole(g, role.ID); err != nil {
		t.Errorf("delete role: %v", err)
	}
	made := must(api.CreateGuildChannel(g, discord.GuildVoiceChannelCreate{Name: "more", UserLimit: 3}))(t, "create channel")
	if err := api.DeleteChannel(made.ID()); err != nil {
		t.Errorf("delete channel: %v", err)
	}
	if got := must(api.GetChannel(voice))(t, "channel"); got.Type() != discord.ChannelTypeGuildVoice {
		t.Errorf("channel %+v", got)
	}
	disgoMessages(t, api, text)

	invite := must(api.CreateInvite(voice, discord.InviteCreate{}))(t, "invite")
	if got := must(api.GetInvite(invite.Code))(t, "get invite"); got.Guild == nil || got.Guild.ID != g {
		t.Errorf("invite %+v", got)
	}
	must(api.GetGuildInvites(g))(t, "guild's invites")
	must(api.DeleteInvite(invite.Code))(t, "delete invite")
	disgoCommands(t, api, bot, g)
}

func disgoMessages(t *testing.T, api dgrest.Rest, text snowflake.ID) {
	t.Helper()
	if err := api.SendTyping(text); err != nil {
		t.Errorf("typing: %v", err)
	}
	m := must(api.CreateMessage(text, discord.MessageCreate{Content: "hello"}))(t, "message")
	edited := "hello again"
	if got := must(api.UpdateMessage(text, m.ID, discord.MessageUpdate{Content: &edited}))(t, "edit"); got.Content != edited || got.EditedTimestamp == nil {
		t.Errorf("edited %+v", got)
	}
	if got := must(api.GetMessages(text, 0, 0, 0, 10))(t, "messages"); len(got) != 1 || got[0].Content != edited {
		t.Errorf("messages %+v", got)
	}
	must(api.GetMessage(text, m.ID))(t, "message")
	if err := api.DeleteMessage(text, m.ID); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := api.GetMessage(text, m.ID); !isDisgoCode(err, proto.ErrUnknownMessage) {
		t.Errorf("a deleted message: %v", err)
	}
}

func disgoCommands(t *testing.T, api dgrest.Rest, app, g snowflake.ID) {
	t.Helper()
	play := discord.SlashCommandCreate{Name: "play", Description: "Plays", Options: []discord.ApplicationCommandOption{
		discord.ApplicationCommandOptionString{Name: "url", Description: "What", Required: true},
		discord.ApplicationCommandOptionUser{Name: "for", Description: "Whom"},
	}}
	set := must(api.SetGlobalCommands(app, []discord.ApplicationCommandCreate{play, discord.UserCommandCreate{Name: "High Five"}}))(t, "set commands")
	if len(set) != 2 {
		t.Fatalf("commands %+v", set)
	}
	if got := must(api.GetGlobalCommands(app, false))(t, "commands"); len(got) != 2 {
		t.Errorf("commands %+v", got)
	}
	one := must(api.CreateGuildCommand(app, g, play))(t, "guild command")
	again := must(api.CreateGuildCommand(app, g, play))(t, "guild command again")
	if one.ID() != again.ID() {
		t.Errorf("registered twice as %s and %s", one.ID(), again.ID())
	}
	description := "Plays on"
	must(api.UpdateGuildCommand(app, g, one.ID(), discord.SlashCommandUpdate{Description: &description}))(t, "edit command")
	got := must(api.GetGuildCommands(app, g, true))(t, "guild commands")
	if slash, isSlash := got[0].(discord.SlashCommand); !isSlash || slash.Description != description || len(slash.Options) != 2 {
		t.Errorf("command %+v", got[0])
	}
	if err := api.DeleteGuildCommand(app, g, one.ID()); err != nil {
		t.Errorf("delete command: %v", err)
	}
}

func isDisgoCode(err error, code int) bool {
	return dgrest.IsJSONErrorCode(err, dgrest.JSONErrorCode(code))
}

// pointDiscordgo sets discordgo's addresses, which are package variables, to the
// rig for one test.
func pointDiscordgo(t *testing.T, base string) {
	t.Helper()
	for variable, value := range map[*string]string{
		&discordgo.EndpointAPI: base, &discordgo.EndpointGuilds: base + "guilds/", &discordgo.EndpointChannels: base + "channels/",
		&discordgo.EndpointUsers: base + "users/", &discordgo.EndpointGateway: base + "gateway", &discordgo.EndpointGatewayBot: base + "gateway/bot",
		&discordgo.EndpointWebhooks: base + "webhooks/", &discordgo.EndpointVoiceRegions: base + "/voice/regions",
		&discordgo.EndpointApplications: base + "applications", &discordgo.EndpointGuildCreate: base + "guilds",
	} {
		old := *variable
		*variable = value
		t.Cleanup(func() { *variable = old })
	}
}

func TestDiscordgo(t *testing.T) {
	w := newWorld(t)
	pointDiscordgo(t, w.url+"/api/v9/")
	s := must(discordgo.New(w.botToken))(t, "session")
	defer s.Client.CloseIdleConnections()
	g, text, bot := w.guild.ID.String(), w.text.ID.String(), w.bot.User.ID.String()

	if got := must(s.Gateway())(t, "gateway"); !strings.HasSuffix(got, "/gateway/") {
		t.Errorf("gateway %q", got)
	}
	must(s.GatewayBot())(t, "gateway/bot")
	if me := must(s.User("@me"))(t, "me"); me.ID != bot {
		t.Errorf("me %+v", me)
	}
	if got := must(s.UserGuilds(10, "", "", true))(t, "guilds"); len(got) != 1 || got[0].ID != g {
		t.Errorf("guilds %+v", got)
	}
	must(s.GuildWithCounts(g))(t, "guild")
	must(s.GuildChannels(g))(t, "channels")
	must(s.GuildMembers(g, "", 10))(t, "members")
	must(s.VoiceRegions())(t, "regions, by a path with two slashes")
	if err := s.GuildMemberNickname(g, "@me", "nick"); err != nil {
		t.Errorf("nickname: %v", err)
	}
	if got := must(s.GuildMember(g, bot))(t, "member"); got.Nick != "nick" {
		t.Errorf("nick %q", got.Nick)
	}
	if err := s.GuildMemberMute(g, w.owner.ID.String(), true); err == nil || !strings.Contains(err.Error(), "40032") {
		t.Errorf("muting who is in no call: %v", err)
	}
	m := must(s.ChannelMessageSend(text, "hello"))(t, "send")
	must(s.ChannelMessageEdit(text, m.ID, "edited"))(t, "edit")
	if got := must(s.ChannelMessages(text, 5, "", "", ""))(t, "messages"); len(got) != 1 || got[0].Content != "edited" {
		t.Errorf("messages %+v", got)
	}
	if err := s.ChannelTyping(text); err != nil {
		t.Errorf("typing: %v", err)
	}
	c := must(s.ApplicationCommandCreate(bot, g, &discordgo.ApplicationCommand{Name: "ping", Description: "pong"}))(t, "command")
	must(s.ApplicationCommandEdit(bot, g, c.ID, &discordgo.ApplicationCommand{Name: "ping", Description: "pong!"}))(t, "edit command")
	must(s.ApplicationCommandBulkOverwrite(bot, "", []*discordgo.ApplicationCommand{{Name: "a", Description: "b"}}))(t, "overwrite")
	if got := must(s.ApplicationCommands(bot, ""))(t, "commands"); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("commands %+v", got)
	}
	if err := s.ApplicationCommandDelete(bot, g, c.ID); err != nil {
		t.Errorf("delete command: %v", err)
	}
	invite := must(s.ChannelInviteCreate(text, discordgo.Invite{MaxAge: 60}))(t, "invite")
	must(s.InviteWithCounts(invite.Code))(t, "get invite")
}

func TestAdminAPI(t *testing.T) {
	w := newWorld(t)
	admin := "Bearer " + adminToken
	base := "/admin/v1/guilds/" + w.guild.ID.String()
	var listed []countedGuild
	w.do("GET", "/admin/v1/guilds", admin, nil).into(t, &listed)
	if len(listed) != 1 || listed[0].Name != "Ada's" || listed[0].Members != 2 {
		t.Errorf("guilds %+v", listed)
	}
	var made proto.Guild
	w.do("POST", "/admin/v1/guilds", admin, map[string]any{"name": "Second", "owner_id": w.owner.ID}).into(t, &made)
	if made.OwnerID != w.owner.ID {
		t.Errorf("owner %s", made.OwnerID)
	}
	var channel proto.Channel
	w.do("POST", base+"/channels", admin, map[string]any{"name": "Talk", "type": 2, "user_limit": 2}).into(t, &channel)
	if channel.UserLimit != 2 {
		t.Errorf("channel %+v", channel)
	}
	var invite invitation
	w.do("POST", base+"/invites", admin, map[string]any{"max_age": 0, "max_uses": 0}).into(t, &invite)
	if !strings.HasSuffix(invite.URL, "/invite/"+invite.Code) || !strings.HasPrefix(invite.URL, w.url) {
		t.Errorf("invite %+v", invite)
	}
	var guest session
	w.do("POST", "/api/v10/auth/register", "", map[string]string{"global_name": "Bea", "invite": invite.Code}).into(t, &guest)
	if guest.GuildID != w.guild.ID {
		t.Errorf("the guest entered %s", guest.GuildID)
	}
	if got := w.do("PATCH", base+"/members/"+guest.UserID.String(), admin, `{"mute":true}`); got.code(t) != proto.ErrNotConnectedToVoice {
		t.Errorf("muting who is in no call: %d %s", got.status, got.body)
	}
	var entries []guild.VoiceListEntry
	w.do("GET", "/admin/v1/voice", admin, nil).into(t, &entries)
	if len(entries) != 0 {
		t.Errorf("voice %+v", entries)
	}
	events := w.events()
	if got := w.do("DELETE", "/admin/v1/users/"+guest.UserID.String()+"/tokens", admin, nil); got.status != 204 {
		t.Errorf("revoke: %d %s", got.status, got.body)
	}
	for e := next(t, events); e.Revoked == nil || e.Revoked.User != guest.UserID || len(e.Revoked.Hash) != 0; e = next(t, events) {
		t.Logf("passed over %+v", e)
	}
	if got := w.do("GET", "/api/v10/users/@me", guest.Token, nil); got.status != 401 {
		t.Errorf("the revoked token: %d", got.status)
	}
	for path, want := range map[string]int{
		"/admin/v1/users/ada": 200, "/admin/v1/users/" + w.owner.ID.String(): 200, "/admin/v1/users/nobody": 404,
	} {
		if got := w.do("GET", path, admin, nil); got.status != want {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	if got := w.do("POST", "/admin/v1/bots", admin, map[string]string{"name": "ROBOT"}); got.status != 400 {
		t.Errorf("a bot of a taken name: %d", got.status)
	}
}
