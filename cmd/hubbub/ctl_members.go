package main

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"hubbub.dev/hubbub/proto"
)

type ctlMemberList struct{ inGuild }

// maxMemberPage is the longest page of members that the API gives.
const maxMemberPage = 1000

// Run lists members, page by page.
func (a *ctlMemberList) Run(c *ctlCmd) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	members := []proto.Member{}
	for after := proto.Snowflake(0); ; {
		var page []proto.Member
		if err := c.call("GET", fmt.Sprintf("/guilds/%s/members?limit=%d&after=%s", g, maxMemberPage, after), nil, &page); err != nil {
			return err
		}
		members = append(members, page...)
		if len(page) < maxMemberPage {
			break
		}
		after = page[len(page)-1].User.ID
	}
	table := [][]string{{"ID", "USERNAME", "CALLED", "KIND", "VOICE"}}
	for _, m := range members {
		table = append(table, []string{m.User.ID.String(), m.User.Username, called(m), kindOf(*m.User), moderated(m)})
	}
	return c.print(members, table)
}

func called(m proto.Member) string {
	switch {
	case m.Nick != nil:
		return *m.Nick
	case m.User.GlobalName != nil:
		return *m.User.GlobalName
	}
	return m.User.Username
}

func kindOf(u proto.User) string {
	switch {
	case u.Bot:
		return "bot"
	case u.Guest:
		return "guest"
	case u.System:
		return "system"
	}
	return "user"
}

func moderated(m proto.Member) string {
	switch {
	case m.Mute && m.Deaf:
		return "muted, deafened"
	case m.Mute:
		return "muted"
	case m.Deaf:
		return "deafened"
	}
	return ""
}

// ofMember are the flags of commands about one member.
type ofMember struct {
	inGuild
	User string `required:"" help:"Member, by id or name."`
}

func (a *ofMember) find(c *ctlCmd) (g proto.Snowflake, user proto.User, err error) {
	if g, err = c.guild(a.Guild); err == nil {
		user, err = c.user(g, a.User)
	}
	return g, user, err
}

// change edits the member and says so.
func (a *ofMember) change(c *ctlCmd, body map[string]any, said string) error {
	g, user, err := a.find(c)
	if err != nil {
		return err
	}
	var changed proto.Member
	if err := c.call("PATCH", fmt.Sprintf("/guilds/%s/members/%s", g, user.ID), body, &changed); err != nil {
		return err
	}
	return c.done(changed, said, user.Username)
}

type ctlMemberAdd struct{ ofMember }

// Run adds a user to a guild.
func (a *ctlMemberAdd) Run(c *ctlCmd) error {
	g, user, err := a.find(c)
	if err != nil {
		return err
	}
	if err := c.call("PUT", fmt.Sprintf("/guilds/%s/members/%s", g, user.ID), nil, nil); err != nil {
		return err
	}
	return c.done(user, "%s is a member", user.Username)
}

type ctlMemberMute struct{ ofMember }

// Run mutes.
func (a *ctlMemberMute) Run(c *ctlCmd) error {
	return a.change(c, map[string]any{"mute": true}, "%s is muted")
}

type ctlMemberUnmute struct{ ofMember }

// Run unmutes.
func (a *ctlMemberUnmute) Run(c *ctlCmd) error {
	return a.change(c, map[string]any{"mute": false}, "%s may speak")
}

type ctlMemberDeafen struct{ ofMember }

// Run deafens.
func (a *ctlMemberDeafen) Run(c *ctlCmd) error {
	return a.change(c, map[string]any{"deaf": true}, "%s is deafened")
}

type ctlMemberUndeafen struct{ ofMember }

// Run undeafens.
func (a *ctlMemberUndeafen) Run(c *ctlCmd) error {
	return a.change(c, map[string]any{"deaf": false}, "%s may hear")
}

type ctlMemberMove struct {
	ofMember
	Channel string `required:"" help:"Voice channel to move to, by id or name."`
}

// Run moves.
func (a *ctlMemberMove) Run(c *ctlCmd) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	to, err := c.channel(g, a.Channel, func(ch proto.Channel) bool { return ch.Type.IsVoice() })
	if err != nil {
		return err
	}
	return a.change(c, map[string]any{"channel_id": to}, "%s is moved")
}

type ctlMemberDisconnect struct{ ofMember }

// Run disconnects.
func (a *ctlMemberDisconnect) Run(c *ctlCmd) error {
	return a.change(c, map[string]any{"channel_id": nil}, "%s is disconnected")
}

// permissionBits are the names that the documentation gives the bits.
var permissionBits = map[string]proto.Permissions{
	"CREATE_INSTANT_INVITE": proto.PermCreateInvite, "KICK_MEMBERS": proto.PermKickMembers, "BAN_MEMBERS": proto.PermBanMembers,
	"ADMINISTRATOR": proto.PermAdministrator, "MANAGE_CHANNELS": proto.PermManageChannels, "MANAGE_GUILD": proto.PermManageGuild,
	"ADD_REACTIONS": proto.PermAddReactions, "VIEW_AUDIT_LOG": proto.PermViewAuditLog, "PRIORITY_SPEAKER": proto.PermPrioritySpeaker,
	"STREAM": proto.PermStream, "VIEW_CHANNEL": proto.PermViewChannel, "SEND_MESSAGES": proto.PermSendMessages,
	"MANAGE_MESSAGES": proto.PermManageMessages, "EMBED_LINKS": proto.PermEmbedLinks, "ATTACH_FILES": proto.PermAttachFiles,
	"READ_MESSAGE_HISTORY": proto.PermReadMessageHistory, "MENTION_EVERYONE": proto.PermMentionEveryone, "CONNECT": proto.PermConnect,
	"SPEAK": proto.PermSpeak, "MUTE_MEMBERS": proto.PermMuteMembers, "DEAFEN_MEMBERS": proto.PermDeafenMembers,
	"MOVE_MEMBERS": proto.PermMoveMembers, "USE_VAD": proto.PermUseVAD, "CHANGE_NICKNAME": proto.PermChangeNickname,
	"MANAGE_NICKNAMES": proto.PermManageNicknames, "MANAGE_ROLES": proto.PermManageRoles,
	"USE_APPLICATION_COMMANDS": proto.PermUseCommands, "REQUEST_TO_SPEAK": proto.PermRequestToSpeak,
}

// parsePermissions reads a decimal bit set or names between commas.
func parsePermissions(v string) (proto.Permissions, error) {
	if n, err := strconv.ParseUint(v, 10, 64); err == nil {
		return proto.Permissions(n), nil
	}
	var set proto.Permissions
	for name := range strings.SplitSeq(v, ",") {
		bit, known := permissionBits[strings.ToUpper(strings.TrimSpace(name))]
		if !known {
			return 0, unknown("there is no permission %q", name)
		}
		set |= bit
	}
	return set, nil
}

// permissionNames writes the bits that have names, and the rest in decimal.
func permissionNames(set proto.Permissions) string {
	if set.Has(proto.PermAdministrator) {
		return "ADMINISTRATOR"
	}
	var names []string
	for name, bit := range permissionBits {
		if set.Has(bit) {
			names = append(names, name)
			set &^= bit
		}
	}
	sort.Strings(names)
	if set != 0 {
		names = append(names, strconv.FormatUint(uint64(set), 10))
	}
	return strings.Join(names, ",")
}
