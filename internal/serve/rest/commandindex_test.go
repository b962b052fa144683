package rest

import (
	"fmt"
	"slices"
	"testing"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// index reads the world's command index and returns the names of its commands.
func (w *world) index(token string) (commandIndex, []string) {
	w.t.Helper()
	var index commandIndex
	w.do("GET", fmt.Sprintf("/api/v10/guilds/%s/application-command-index", w.guild.ID), token, nil).into(w.t, &index)
	var names []string
	for _, c := range index.Commands {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return index, names
}

// TestCommandIndex checks who is told of which commands.
func TestCommandIndex(t *testing.T) {
	w := newWorld(t)
	if index, _ := w.index(w.token); index.Commands == nil || len(index.Applications) != 0 {
		t.Errorf("before there are commands: %+v", index)
	}
	w.commands(`[{"name":"play","description":"d","options":[{"type":3,"name":"title","description":"d","required":true}]},
		{"name":"ban","description":"d","default_member_permissions":"4"},
		{"name":"admin","description":"d","default_member_permissions":"0"}]`)
	w.do("PUT", fmt.Sprintf("/api/v10/applications/%s/commands", w.bot.User.ID), w.botToken, `[{"name":"ping","description":"d"}]`)

	// What is not a member's concern: a bot elsewhere, and its commands.
	other, otherToken := w.rig.bot("other", 0)
	w.do("PUT", fmt.Sprintf("/api/v10/applications/%s/commands", other.User.ID), otherToken, `[{"name":"elsewhere","description":"d"}]`)

	index, names := w.index(w.token)
	if !slices.Equal(names, []string{"admin", "ban", "ping", "play"}) {
		t.Errorf("the owner may use %v", names)
	}
	if len(index.Applications) != 1 || index.Applications[0].Name != "robot" || index.Applications[0].Bot.ID != w.bot.User.ID || index.Version == 0 {
		t.Errorf("%+v", index)
	}
	if i := slices.IndexFunc(index.Commands, func(c proto.ApplicationCommand) bool { return c.Name == "play" }); len(index.Commands[i].Options) == 0 {
		t.Error("the options are missing")
	}

	path := fmt.Sprintf("/api/v10/guilds/%s/application-command-index", w.guild.ID)
	_, bea := w.account("bea")
	if got := w.do("GET", path, bea, nil); got.code(t) != proto.ErrMissingAccess {
		t.Errorf("a stranger: %d %s", got.status, got.body)
	}
	if got := w.do("GET", path, w.botToken, nil); got.code(t) != codeUsersOnly {
		t.Errorf("a bot: %d %s", got.status, got.body)
	}
	var invite proto.Invite
	w.do("POST", "/api/v10/channels/"+w.text.ID.String()+"/invites", w.token, `{}`).into(t, &invite)
	w.do("POST", "/api/v10/invites/"+invite.Code, bea, `{}`)
	if _, names := w.index(bea); !slices.Equal(names, []string{"ping", "play"}) {
		t.Errorf("a member may use %v", names)
	}
	everyone := fmt.Sprintf("/api/v10/guilds/%s/roles/%s", w.guild.ID, w.guild.ID)
	if got := w.do("PATCH", everyone, w.token, map[string]any{"permissions": proto.PermDefault &^ proto.PermUseCommands}); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if index, names := w.index(bea); len(names) != 0 || len(index.Applications) != 0 {
		t.Errorf("without USE_APPLICATION_COMMANDS: %+v", index)
	}
}

// TestCommandIndexOfManyMembers checks that a bot is found past the first page.
func TestCommandIndexOfManyMembers(t *testing.T) {
	r := newRig(t)
	robot, robotToken := r.bot("robot", 0)
	r.do("PUT", fmt.Sprintf("/api/v10/applications/%s/commands", robot.User.ID), robotToken, `[{"name":"ping","description":"d"}]`)
	ada, token := r.account("ada")
	members := make([]proto.Member, memberPage, memberPage+1)
	for i := range members {
		members[i].User = &proto.User{ID: proto.Snowflake(i + 1)}
	}
	members = append(members, proto.Member{User: &robot.User})
	r.fakeGuilds(func(q guild.Request) guild.Result {
		switch q.Call.Op {
		case guild.OpGuildGet:
			return result(200, proto.Guild{ID: q.Guild, OwnerID: ada.ID})
		case guild.OpMemberList:
			after, _ := proto.ParseSnowflake(q.Call.Params["after"])
			from := slices.IndexFunc(members, func(m proto.Member) bool { return m.User.ID > after })
			return result(200, members[from:min(from+memberPage, len(members))])
		}
		return result(200, proto.Member{User: &ada})
	})
	var index commandIndex
	r.do("GET", "/api/v10/guilds/7/application-command-index", token, nil).into(t, &index)
	if len(index.Commands) != 1 || index.Commands[0].Name != "ping" {
		t.Errorf("%+v", index)
	}
}
