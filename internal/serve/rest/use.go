package rest

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// use is what a user's client sends when a command or a component is used.
type use struct {
	Type          int             `json:"type"`
	ApplicationID proto.Snowflake `json:"application_id"`
	GuildID       proto.Snowflake `json:"guild_id"`
	ChannelID     proto.Snowflake `json:"channel_id"`
	MessageID     proto.Snowflake `json:"message_id"`
	Data          json.RawMessage `json:"data"`
	Nonce         json.RawMessage `json:"nonce"` // a string or number; comes back with the outcome
}

const maxNonce = 32 // bytes of its JSON

// interactionMember is the user in an interaction, with what it may do in the
// channel.
type interactionMember struct {
	proto.Member
	Permissions proto.Permissions `json:"permissions"`
}

// interactionCreate is the event that a bot gets.
type interactionCreate struct {
	proto.Interaction
	Guild struct {
		ID       proto.Snowflake `json:"id"`
		Locale   string          `json:"locale"`
		Features []string        `json:"features"`
	} `json:"guild"`
	Channel     json.RawMessage   `json:"channel"`
	Member      interactionMember `json:"member"`
	Message     *proto.Message    `json:"message,omitempty"`
	Context     int               `json:"context"` // 0: in a guild
	Owners      map[string]string `json:"authorizing_integration_owners"`
	MaxFileSize int               `json:"attachment_size_limit"`
}

func (s *Service) useCommand(r *request) (reply, error) {
	var body use
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	app, err := s.store.ApplicationByID(r.ctx, body.ApplicationID)
	if errors.Is(err, store.ErrNotFound) || (err == nil && app.Bot == nil) {
		return reply{}, fail(http.StatusNotFound, proto.ErrUnknownApplication, "Unknown Application")
	}
	if err != nil {
		return reply{}, err
	}
	if len(body.Nonce) > maxNonce || len(body.Nonce) > 0 && strings.IndexByte(`"-0123456789n`, body.Nonce[0]) < 0 {
		return reply{}, invalid("nonce", "NONCE_TYPE_INVALID", "Must be an integer or a string of up to 25 characters.")
	}
	event, err := s.interactionContext(r, body, app)
	if err != nil {
		return reply{}, err
	}
	about := &interactionMetadata{ID: event.ID, Type: body.Type, User: r.user.User, Owners: event.Owners}
	switch body.Type {
	case interactionCommand:
		var used usedCommand
		if used, err = s.commandData(r, body, event.Member.Permissions); err == nil {
			about.Name, about.CommandType = used.fullName(), used.Type
			event.Data, err = json.Marshal(used)
		}
	case interactionComponent:
		event.Message, err = s.componentMessage(r, body, app)
		event.Data, about.MessageID = body.Data, body.MessageID
	default:
		err = invalid("type", "BASE_TYPE_CHOICES", "Value must be one of {2, 3}.")
	}
	if err != nil {
		return reply{}, err
	}
	now := s.now()
	s.pending.add(&interaction{
		id: event.ID, kind: body.Type, app: app.ID, bot: *app.Bot, token: event.Token,
		guild: body.GuildID, channel: body.ChannelID, user: r.user.ID, source: body.MessageID,
		nonce: body.Nonce, about: about,
		answerBy: now.Add(answerWithin), expires: now.Add(interactionsLive),
	}, now)
	s.tellUser(app.BotID, "INTERACTION_CREATE", event)
	return noContent()
}

// interactionContext asks the guild whether the user may use the bot there, and
// fills in all of the event but what was used.
func (s *Service) interactionContext(r *request, body use, app store.Application) (*interactionCreate, error) {
	g, err := s.guildOfChannel(r.ctx, body.ChannelID)
	if err != nil {
		return nil, err
	}
	if g != body.GuildID {
		return nil, invalid("guild_id", "GUILD_ID_MISMATCH", "The channel is not in this guild.")
	}
	guilds, err := s.store.GuildIDsOfUser(r.ctx, app.BotID)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(guilds, g) {
		return nil, fail(http.StatusForbidden, proto.ErrMissingAccess, "Missing Access")
	}
	var context struct {
		Channel     json.RawMessage   `json:"channel"`
		Member      interactionMember `json:"member"`
		Permissions proto.Permissions `json:"app_permissions"`
	}
	params := map[string]string{"channel": body.ChannelID.String(), "app": app.BotID.String()}
	if err := s.askFor(r.ctx, r.actor(), g, guild.OpInteractionContext, params, nil, &context); err != nil {
		return nil, err
	}
	e := &interactionCreate{Channel: context.Channel, Member: context.Member, Owners: map[string]string{"0": g.String()}}
	e.Interaction = proto.Interaction{
		ID: s.newID(), ApplicationID: app.ID, Type: body.Type, GuildID: g, ChannelID: body.ChannelID,
		Token: rand.Text() + rand.Text(), Version: 1, AppPermissions: context.Permissions,
		Locale: "en-US", GuildLocale: "en-US", Entitlements: []any{},
	}
	e.Guild.ID, e.Guild.Locale, e.Guild.Features = g, "en-US", []string{}
	return e, nil
}

// usedCommand is the data of an interaction with a command, as it comes from the
// user and, with Resolved, as it goes to the bot.
type usedCommand struct {
	ID       proto.Snowflake `json:"id"`
	Name     string          `json:"name"`
	Type     int             `json:"type"`
	GuildID  proto.Snowflake `json:"guild_id,omitempty"`
	Options  []usedOption    `json:"options,omitempty"`
	TargetID proto.Snowflake `json:"target_id,omitempty"`
	Resolved *resolved       `json:"resolved,omitempty"`
}

type usedOption struct {
	Name    string          `json:"name"`
	Type    int             `json:"type"`
	Value   json.RawMessage `json:"value,omitempty"`
	Options []usedOption    `json:"options,omitempty"`
}

// resolved is what the ids among the options stand for.
type resolved struct {
	Users    map[proto.Snowflake]proto.User        `json:"users,omitempty"`
	Members  map[proto.Snowflake]interactionMember `json:"members,omitempty"`
	Roles    map[proto.Snowflake]proto.Role        `json:"roles,omitempty"`
	Channels map[proto.Snowflake]json.RawMessage   `json:"channels,omitempty"`
	Messages map[proto.Snowflake]proto.Message     `json:"messages,omitempty"`
}

// commandData checks a use against the command as it is registered.
func (s *Service) commandData(r *request, body use, may proto.Permissions) (usedCommand, error) {
	var used usedCommand
	if err := decode(body.Data, &used); err != nil {
		return used, err
	}
	c, err := s.store.CommandByID(r.ctx, body.ApplicationID, used.ID)
	if errors.Is(err, store.ErrNotFound) || (err == nil && c.GuildID != 0 && c.GuildID != body.GuildID) {
		return used, unknownCommand()
	}
	if err != nil {
		return used, err
	}
	if !mayUse(c, may) {
		return used, fail(http.StatusForbidden, proto.ErrMissingPermissions, "Missing Permissions")
	}
	var defined []commandOption
	if len(c.Options) > 0 {
		if err := json.Unmarshal(c.Options, &defined); err != nil {
			return used, err
		}
	}
	var f form
	checkUsed(used.Options, defined, &f, "data.options.")
	if err := f.err(); err != nil {
		return used, err
	}
	used.Name, used.Type, used.GuildID = c.Name, c.Type, c.GuildID
	used.Resolved, err = s.resolve(r, body, used)
	return used, err
}

// fullName is the command's name with those of the subcommand group and the
// subcommand that were used.
func (u *usedCommand) fullName() string {
	name := u.Name
	for options := u.Options; len(options) > 0 && options[0].Type <= optionSubGroup; options = options[0].Options {
		name += " " + options[0].Name
	}
	return name
}

// mayUse reports whether a member with these permissions may use a command; a
// command that needs permission 0 is for administrators.
func mayUse(c proto.ApplicationCommand, may proto.Permissions) bool {
	if c.DefaultMemberPermissions == nil || may.Has(proto.PermAdministrator) {
		return true
	}
	need, err := strconv.ParseUint(*c.DefaultMemberPermissions, 10, 64)
	return err == nil && need != 0 && may.Has(proto.Permissions(need))
}

// checkUsed reports which of the used options the command does not have, or has
// otherwise, and which required ones are missing.
func checkUsed(used []usedOption, defined []commandOption, f *form, at string) {
	for i, u := range used {
		at := at + strconv.Itoa(i) + "."
		d := slices.IndexFunc(defined, func(d commandOption) bool { return d.Name == u.Name })
		twice := slices.ContainsFunc(used[:i], func(o usedOption) bool { return o.Name == u.Name })
		switch {
		case d < 0 || defined[d].Type != u.Type || twice:
			f.wrong(at+"name", "APPLICATION_COMMAND_OPTION_UNKNOWN", "The command has no such option.")
		case u.Type <= optionSubGroup:
			checkUsed(u.Options, defined[d].Options, f, at+"options.")
		case !fits(u, defined[d]):
			f.wrong(at+"value", "APPLICATION_COMMAND_OPTION_VALUE", "The value does not fit the option.")
		}
	}
	// A command with subcommands is used by exactly one of them.
	if len(defined) > 0 && defined[0].Type <= optionSubGroup && len(used) != 1 {
		f.wrong(at+"_self", "APPLICATION_COMMAND_SUBCOMMAND_REQUIRED", "Exactly one subcommand must be used.")
	}
	for _, d := range defined {
		if d.Required && !slices.ContainsFunc(used, func(u usedOption) bool { return u.Name == d.Name }) {
			f.wrong(at+d.Name, "BASE_TYPE_REQUIRED", "This field is required")
		}
	}
}

// fits reports whether a value has the type of its option and is one of its
// choices.
func fits(u usedOption, d commandOption) bool {
	var value any
	if json.Unmarshal(u.Value, &value) != nil {
		return false
	}
	var right bool
	switch u.Type {
	case optionString:
		_, right = value.(string)
	case optionInteger:
		n, isNumber := value.(float64)
		right = isNumber && n == float64(int64(n))
	case optionNumber:
		_, right = value.(float64)
	case optionBoolean:
		_, right = value.(bool)
	case optionUser, optionChannel, optionRole, optionMentionable:
		text, isText := value.(string)
		_, err := proto.ParseSnowflake(text)
		right = isText && err == nil
	}
	if !right || len(d.Choices) == 0 {
		return right
	}
	return slices.ContainsFunc(d.Choices, func(c commandChoice) bool {
		var choice any
		return json.Unmarshal(c.Value, &choice) == nil && choice == value
	})
}

// resolve looks up what the ids in a use stand for.
func (s *Service) resolve(r *request, body use, used usedCommand) (*resolved, error) {
	look := &lookup{s: s, r: r, guild: body.GuildID, channel: body.ChannelID}
	var err error
	switch used.Type {
	case commandUser:
		err = look.member(used.TargetID)
	case commandMessage:
		err = look.message(used.TargetID)
	default:
		err = look.options(used.Options)
	}
	if err != nil || look.empty() {
		return nil, err
	}
	return &look.found, nil
}

// lookup fills a resolved.
type lookup struct {
	s       *Service
	r       *request
	guild   proto.Snowflake
	channel proto.Snowflake
	found   resolved
	roles   []proto.Role
}

func (l *lookup) empty() bool {
	return l.found.Members == nil && l.found.Roles == nil && l.found.Channels == nil && l.found.Messages == nil
}

func (l *lookup) options(options []usedOption) error {
	for _, o := range options {
		if o.Type <= optionSubGroup {
			if err := l.options(o.Options); err != nil {
				return err
			}
			continue
		}
		var id proto.Snowflake
		if o.Type < optionUser || o.Type > optionMentionable || id.UnmarshalJSON(o.Value) != nil {
			continue
		}
		var err error
		switch o.Type {
		case optionUser:
			err = l.member(id)
		case optionChannel:
			err = l.channelOf(id)
		case optionRole:
			err = l.role(id)
		case optionMentionable:
			if err = l.role(id); err != nil {
				err = l.member(id)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lookup) member(id proto.Snowflake) error {
	var m interactionMember
	if err := l.s.askFor(l.r.ctx, l.r.actor(), l.guild, guild.OpMemberGet, map[string]string{"user": id.String()}, nil, &m); err != nil {
		return err
	}
	if l.found.Members == nil {
		l.found.Users, l.found.Members = map[proto.Snowflake]proto.User{}, map[proto.Snowflake]interactionMember{}
	}
	if m.User != nil {
		l.found.Users[id] = *m.User
	}
	m.User = nil // the user stands beside it
	l.found.Members[id] = m
	return nil
}

func (l *lookup) role(id proto.Snowflake) error {
	if l.roles == nil {
		if err := l.s.askFor(l.r.ctx, l.r.actor(), l.guild, guild.OpRoleList, nil, nil, &l.roles); err != nil {
			return err
		}
	}
	i := slices.IndexFunc(l.roles, func(r proto.Role) bool { return r.ID == id })
	if i < 0 {
		return fail(http.StatusNotFound, proto.ErrUnknownRole, "Unknown Role")
	}
	if l.found.Roles == nil {
		l.found.Roles = map[proto.Snowflake]proto.Role{}
	}
	l.found.Roles[id] = l.roles[i]
	return nil
}

func (l *lookup) channelOf(id proto.Snowflake) error {
	var c json.RawMessage
	if err := l.s.askFor(l.r.ctx, l.r.actor(), l.guild, guild.OpChannelGet, map[string]string{"channel": id.String()}, nil, &c); err != nil {
		return err
	}
	if l.found.Channels == nil {
		l.found.Channels = map[proto.Snowflake]json.RawMessage{}
	}
	l.found.Channels[id] = c
	return nil
}

func (l *lookup) message(id proto.Snowflake) error {
	m, err := l.s.messageIn(l.r, l.guild, l.channel, id)
	if err != nil {
		return err
	}
	l.found.Messages = map[proto.Snowflake]proto.Message{id: m}
	return nil
}

// messageIn returns a message that the user may read.
func (s *Service) messageIn(r *request, g, channel, id proto.Snowflake) (proto.Message, error) {
	err := s.askFor(r.ctx, r.actor(), g, guild.OpMessageAccess, map[string]string{"channel": channel.String()}, nil, nil)
	if err != nil {
		return proto.Message{}, err
	}
	return s.storedMessage(r, channel, id)
}

// componentMessage returns the message whose component was used: one of the
// application's bot.
func (s *Service) componentMessage(r *request, body use, app store.Application) (*proto.Message, error) {
	m, err := s.messageIn(r, body.GuildID, body.ChannelID, body.MessageID)
	if err != nil {
		return nil, err
	}
	if m.Author.ID != app.BotID || len(m.Components) == 0 {
		return nil, invalid("message_id", "COMPONENT_NOT_FOUND", "The message has no component of this application.")
	}
	var data struct {
		Kind     int    `json:"component_type"`
		CustomID string `json:"custom_id"`
	}
	if err := decode(body.Data, &data); err != nil {
		return nil, err
	}
	if data.Kind == 0 || data.CustomID == "" || len(data.CustomID) > 100 {
		return nil, invalid("data.custom_id", "BASE_TYPE_REQUIRED", "This field is required")
	}
	return &m, nil
}
