package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// inGuild is the flag of every command about one guild.
type inGuild struct {
	Guild string `help:"Guild, by id or name (default: the only one)."`
}

type ctlGuildCreate struct {
	Name  string `required:"" help:"Name of the guild."`
	Owner string `help:"User who owns it, by id or name (default: the operator alone)."`
}

// Run makes a guild.
func (g *ctlGuildCreate) Run(c *ctlCmd) error {
	body := map[string]any{"name": g.Name}
	if g.Owner != "" {
		owner, err := c.user(0, g.Owner)
		if err != nil {
			return err
		}
		body["owner_id"] = owner.ID
	}
	var made proto.Guild
	if err := c.call("POST", "/guilds", body, &made); err != nil {
		return err
	}
	return c.done(made, "%s", made.ID)
}

type ctlUpgrade struct {
	Node string `arg:"" optional:"" help:"Name of a node of the fleet (default: the one whose data directory it is)."`
}

// Run replaces a media process, and the server too where that is alone.
func (u *ctlUpgrade) Run(c *ctlCmd) error {
	var answer struct {
		Node string `json:"node"`
	}
	if err := c.call("POST", "/upgrade", map[string]string{"node": u.Node}, &answer); err != nil {
		return err
	}
	return c.done(answer, "%s goes on in the new binary", answer.Node)
}

type ctlDrain struct {
	Node string `arg:"" optional:"" help:"Name of a node of the fleet (default: the one whose data directory it is)."`
}

// Run asks a node to drain.
func (d *ctlDrain) Run(c *ctlCmd) error {
	var answer struct {
		Node  string `json:"node"`
		Peers int    `json:"peers"`
	}
	if err := c.call("POST", "/drain", map[string]string{"node": d.Node}, &answer); err != nil {
		return err
	}
	return c.done(answer, "%s drains: %d in its calls go over to other nodes, then it ends", answer.Node, answer.Peers)
}

type ctlGuildList struct{}

// Run lists guilds.
func (*ctlGuildList) Run(c *ctlCmd) error {
	var guilds []ctlGuild
	if err := c.call("GET", "/guilds", nil, &guilds); err != nil {
		return err
	}
	table := [][]string{{"ID", "NAME", "MEMBERS", "OWNER"}}
	for _, g := range guilds {
		table = append(table, []string{g.ID.String(), g.Name, strconv.Itoa(g.Members), g.OwnerID.String()})
	}
	return c.print(guilds, table)
}

// channelTypes are the names that --type takes.
var channelTypes = map[string]proto.ChannelType{
	"text": proto.ChannelText, "voice": proto.ChannelVoice, "stage": proto.ChannelStage, "category": proto.ChannelCategory,
}

func typeName(t proto.ChannelType) string {
	for name, of := range channelTypes {
		if of == t {
			return name
		}
	}
	return strconv.Itoa(int(t))
}

type ctlChannelCreate struct {
	inGuild
	Name      string `required:"" help:"Name of the channel."`
	Type      string `enum:"voice,text,stage,category" default:"voice" help:"voice, text, stage or category."`
	UserLimit int    `help:"How many may be in it (0: no limit)."`
	Bitrate   int    `help:"Bit/s of its voice (0: the default)."`
	Parent    string `help:"Category that it is in, by id or name."`
}

// Run makes a channel.
func (a *ctlChannelCreate) Run(c *ctlCmd) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	body := map[string]any{"name": a.Name, "type": channelTypes[a.Type]}
	if a.UserLimit != 0 {
		body["user_limit"] = a.UserLimit
	}
	if a.Bitrate != 0 {
		body["bitrate"] = a.Bitrate
	}
	if a.Parent != "" {
		parent, err := c.channel(g, a.Parent, func(ch proto.Channel) bool { return ch.Type == proto.ChannelCategory })
		if err != nil {
			return err
		}
		body["parent_id"] = parent
	}
	var made proto.Channel
	if err := c.call("POST", "/guilds/"+g.String()+"/channels", body, &made); err != nil {
		return err
	}
	return c.done(made, "%s", made.ID)
}

type ctlChannelList struct{ inGuild }

// Run lists channels.
func (a *ctlChannelList) Run(c *ctlCmd) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	channels, err := c.channels(g)
	if err != nil {
		return err
	}
	table := [][]string{{"ID", "NAME", "TYPE", "USER LIMIT", "BITRATE"}}
	for _, ch := range channels {
		row := []string{ch.ID.String(), ch.Name, typeName(ch.Type), "", ""}
		if ch.Type.IsVoice() {
			row[3], row[4] = strconv.Itoa(ch.UserLimit), strconv.Itoa(ch.Bitrate)
		}
		table = append(table, row)
	}
	return c.print(channels, table)
}

// ctlCredentials is a user with a token.
type ctlCredentials struct {
	User  proto.User `json:"user"`
	Token string     `json:"token"`
}

type ctlUserCreate struct {
	Name        string `required:"" help:"Username: 2 to 32 of a-z, 0-9, _ and the period."`
	DisplayName string `help:"What the user is called."`
	Password    string `help:"Password to log in with (default: none; the token is the only way in)."`
}

// Run makes an account.
func (a *ctlUserCreate) Run(c *ctlCmd) error {
	body := map[string]string{"username": a.Name, "password": a.Password, "global_name": a.DisplayName}
	var made ctlCredentials
	if err := c.call("POST", "/users", body, &made); err != nil {
		return err
	}
	return c.done(made, "%s", made.Token)
}

type ctlBotCreate struct {
	inGuild
	Name  string `required:"" help:"Name of the bot."`
	Owner string `help:"User who owns the application, by id or name."`
}

// Run makes a bot.
func (a *ctlBotCreate) Run(c *ctlCmd) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	body := map[string]any{"name": a.Name, "guild_id": g}
	if a.Owner != "" {
		owner, err := c.user(0, a.Owner)
		if err != nil {
			return err
		}
		body["owner_id"] = owner.ID
	}
	var made struct {
		ctlCredentials
		Application proto.Application `json:"application"`
	}
	if err := c.call("POST", "/bots", body, &made); err != nil {
		return err
	}
	return c.done(made, "%s", made.Token)
}

type ctlRoleList struct{ inGuild }

// Run lists roles.
func (a *ctlRoleList) Run(c *ctlCmd) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	var roles []proto.Role
	if err := c.call("GET", "/guilds/"+g.String()+"/roles", nil, &roles); err != nil {
		return err
	}
	table := [][]string{{"ID", "NAME", "POSITION", "PERMISSIONS"}}
	for _, r := range roles {
		table = append(table, []string{r.ID.String(), r.Name, strconv.Itoa(r.Position), permissionNames(r.Permissions)})
	}
	return c.print(roles, table)
}

type ctlRoleCreate struct {
	inGuild
	Name        string `required:"" help:"Name of the role."`
	Permissions string `help:"What it may do: names as in CONNECT,SPEAK, or the decimal bit set."`
}

// Run makes a role.
func (a *ctlRoleCreate) Run(c *ctlCmd) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	body := map[string]any{"name": a.Name}
	if a.Permissions != "" {
		if body["permissions"], err = parsePermissions(a.Permissions); err != nil {
			return err
		}
	}
	var made proto.Role
	if err := c.call("POST", "/guilds/"+g.String()+"/roles", body, &made); err != nil {
		return err
	}
	return c.done(made, "%s", made.ID)
}

// roleOfMember are the flags of granting and revoking.
type roleOfMember struct {
	inGuild
	Role string `required:"" help:"Role, by id or name."`
	User string `required:"" help:"Member, by id or name."`
}

func (a *roleOfMember) set(c *ctlCmd, method, said string) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	role, err := c.role(g, a.Role)
	if err != nil {
		return err
	}
	user, err := c.user(g, a.User)
	if err != nil {
		return err
	}
	if err := c.call(method, fmt.Sprintf("/guilds/%s/members/%s/roles/%s", g, user.ID, role), nil, nil); err != nil {
		return err
	}
	return c.done(map[string]proto.Snowflake{"guild_id": g, "user_id": user.ID, "role_id": role}, said, user.Username)
}

type ctlRoleGrant struct{ roleOfMember }

// Run gives a role.
func (a *ctlRoleGrant) Run(c *ctlCmd) error { return a.set(c, "PUT", "%s has the role") }

type ctlRoleRevoke struct{ roleOfMember }

// Run takes a role.
func (a *ctlRoleRevoke) Run(c *ctlCmd) error { return a.set(c, "DELETE", "%s has the role no more") }

type ctlRolePermissions struct {
	inGuild
	Role        string `required:"" help:"Role, by id or name; @everyone is all members'."`
	Permissions string `required:"" help:"What it may do: names as in CONNECT,SPEAK, or the decimal bit set."`
}

// Run sets a role's permissions.
func (a *ctlRolePermissions) Run(c *ctlCmd) error {
	set, err := parsePermissions(a.Permissions)
	if err != nil {
		return err
	}
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	role, err := c.role(g, a.Role)
	if err != nil {
		return err
	}
	var changed proto.Role
	if err := c.call("PATCH", fmt.Sprintf("/guilds/%s/roles/%s", g, role), map[string]any{"permissions": set}, &changed); err != nil {
		return err
	}
	return c.done(changed, "%s may: %s", changed.Name, permissionNames(changed.Permissions))
}

type ctlInviteCreate struct {
	inGuild
	Channel string        `help:"Channel that it leads to, by id or name (default: the first)."`
	MaxAge  time.Duration `help:"How long it works (0: for good)." default:"168h"`
	MaxUses int           `help:"How often it works (0: any number)."`
}

// Run makes an invite.
func (a *ctlInviteCreate) Run(c *ctlCmd) error {
	g, err := c.guild(a.Guild)
	if err != nil {
		return err
	}
	body := map[string]any{"max_age": int(a.MaxAge.Seconds()), "max_uses": a.MaxUses, "unique": true}
	if a.Channel != "" {
		if body["channel_id"], err = c.channel(g, a.Channel, func(proto.Channel) bool { return true }); err != nil {
			return err
		}
	}
	var made struct {
		proto.Invite
		URL string `json:"url"`
	}
	if err := c.call("POST", "/guilds/"+g.String()+"/invites", body, &made); err != nil {
		return err
	}
	return c.done(made, "%s", made.URL)
}

type ctlVoiceList struct {
	Guild string `help:"Guild, by id or name (default: all)."`
}

// Run lists who is in a call.
func (a *ctlVoiceList) Run(c *ctlCmd) error {
	var entries []guild.VoiceListEntry
	if err := c.call("GET", "/voice", nil, &entries); err != nil {
		return err
	}
	if a.Guild != "" {
		g, err := c.guild(a.Guild)
		if err != nil {
			return err
		}
		kept := entries[:0]
		for _, e := range entries {
			if e.Guild == g {
				kept = append(kept, e)
			}
		}
		entries = kept
	}
	table := [][]string{{"GUILD", "CHANNEL", "USER", "NODE", "WORKER", "TRANSPORT", "STATE"}}
	for _, e := range entries {
		worker, transport := strconv.Itoa(e.Worker), e.Transport
		if transport == "" {
			worker, transport = "", "connecting"
		}
		table = append(table, []string{e.Guild.String(), e.Name, e.Username, e.Node, worker, transport, voiceState(e)})
	}
	return c.print(entries, table)
}

func voiceState(e guild.VoiceListEntry) string {
	var words []string
	for _, s := range []struct {
		on   bool
		word string
	}{{e.Mute, "muted"}, {e.Deaf, "deafened"}, {e.SelfMute, "self-muted"}, {e.SelfDeaf, "self-deafened"}} {
		if s.on {
			words = append(words, s.word)
		}
	}
	return strings.Join(words, ", ")
}

// ofUser is the flag of commands about one user.
type ofUser struct {
	User string `required:"" help:"User or bot, by id or name."`
}

type ctlTokenCreate struct{ ofUser }

// Run makes a token.
func (a *ctlTokenCreate) Run(c *ctlCmd) error {
	user, err := c.user(0, a.User)
	if err != nil {
		return err
	}
	var made ctlCredentials
	if err := c.call("POST", "/users/"+user.ID.String()+"/tokens", nil, &made); err != nil {
		return err
	}
	return c.done(made, "%s", made.Token)
}

type ctlTokenRevoke struct{ ofUser }

// Run revokes tokens.
func (a *ctlTokenRevoke) Run(c *ctlCmd) error {
	user, err := c.user(0, a.User)
	if err != nil {
		return err
	}
	if err := c.call("DELETE", "/users/"+user.ID.String()+"/tokens", nil, nil); err != nil {
		return err
	}
	return c.done(map[string]proto.Snowflake{"user_id": user.ID}, "%s has no token any more", user.Username)
}
