package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

func (s *Service) commandRoutes() []route {
	writes := quota{20, 20 * time.Second}
	routes := []route{s.indexRoute()}
	for _, base := range []string{"/applications/{application}/commands", "/applications/{application}/guilds/{guild}/commands"} {
		routes = append(routes,
			route{pattern: "GET " + base, auth: bot, handle: s.withApp(s.listCommands)},
			route{pattern: "POST " + base, auth: bot, quota: writes, handle: s.withApp(s.createCommand)},
			route{pattern: "PUT " + base, auth: bot, quota: writes, handle: s.withApp(s.replaceCommands)},
			route{pattern: "GET " + base + "/{command}", auth: bot, handle: s.withApp(s.getCommand)},
			route{pattern: "PATCH " + base + "/{command}", auth: bot, quota: writes, handle: s.withApp(s.editCommand)},
			route{pattern: "DELETE " + base + "/{command}", auth: bot, quota: writes, handle: s.withApp(s.deleteCommand)},
		)
	}
	return routes
}

// withApp lets a bot at its own application only, and at guilds that it is in.
func (s *Service) withApp(h handler) handler {
	return func(r *request) (reply, error) {
		app, err := s.store.ApplicationByID(r.ctx, r.ids["application"])
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return reply{}, err
		}
		if err != nil || app.BotID != r.user.ID {
			return reply{}, fail(http.StatusForbidden, codeNotYourApp, "You are not authorized to perform this action on this application")
		}
		if g := r.ids["guild"]; g != 0 {
			guilds, err := s.store.GuildIDsOfUser(r.ctx, r.user.ID)
			if err != nil {
				return reply{}, err
			}
			if !slices.Contains(guilds, g) {
				return reply{}, fail(http.StatusForbidden, proto.ErrMissingAccess, "Missing Access")
			}
		}
		return h(r)
	}
}

// Kinds of commands.
const (
	commandSlash   = 1
	commandUser    = 2
	commandMessage = 3
)

// maxCommands is how many commands of each kind an application may have in one
// scope ("Registering a Command").
var maxCommands = map[int]int{commandSlash: 100, commandUser: 15, commandMessage: 15}

// commandBody is what a bot sends of a command. Absent fields are left alone by
// an edit.
type commandBody struct {
	Type                     *int                      `json:"type"`
	Name                     *string                   `json:"name"`
	NameLocalizations        optional[json.RawMessage] `json:"name_localizations"`
	Description              *string                   `json:"description"`
	DescriptionLocalizations optional[json.RawMessage] `json:"description_localizations"`
	Options                  optional[json.RawMessage] `json:"options"`
	DefaultMemberPermissions optional[permissionText]  `json:"default_member_permissions"`
	DMPermission             optional[bool]            `json:"dm_permission"`
	NSFW                     *bool                     `json:"nsfw"`
	IntegrationTypes         optional[json.RawMessage] `json:"integration_types"`
	Contexts                 optional[json.RawMessage] `json:"contexts"`
}

// permissionText is a permission set that some libraries send as a number.
type permissionText string

// UnmarshalJSON takes a decimal string or a number.
func (p *permissionText) UnmarshalJSON(b []byte) error {
	var set proto.Permissions
	if err := set.UnmarshalJSON(b); err != nil {
		return err
	}
	*p = permissionText(strconv.FormatUint(uint64(set), 10))
	return nil
}

// applyTo changes c by what the body says and checks the whole.
func (b *commandBody) applyTo(c *proto.ApplicationCommand, f *form, at string) {
	set(&c.Name, b.Name)
	set(&c.Description, b.Description)
	set(&c.NSFW, b.NSFW)
	setRaw(&c.NameLocalizations, b.NameLocalizations)
	setRaw(&c.DescriptionLocalizations, b.DescriptionLocalizations)
	setRaw(&c.Options, b.Options)
	setRaw(&c.IntegrationTypes, b.IntegrationTypes)
	setRaw(&c.Contexts, b.Contexts)
	if b.DefaultMemberPermissions.set {
		c.DefaultMemberPermissions = (*string)(b.DefaultMemberPermissions.value)
	}
	if b.DMPermission.set {
		c.DMPermission = b.DMPermission.value
	}
	checkCommand(*c, f, at)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func setRaw(to *json.RawMessage, from optional[json.RawMessage]) {
	if !from.set {
		return
	}
	*to = nil
	if from.value != nil {
		*to = *from.value
	}
}

// checkCommand reports what is wrong with a command; at is the path of its
// fields, with a dot at its end unless it is empty.
func checkCommand(c proto.ApplicationCommand, f *form, at string) {
	switch c.Type {
	case commandSlash:
		checkCommandName(c.Name, f, at)
		f.length(at+"description", utf8.RuneCountInString(c.Description), 1, 100)
		var options []commandOption
		if len(c.Options) > 0 {
			if err := json.Unmarshal(c.Options, &options); err != nil {
				f.wrong(at+"options", "BASE_TYPE_BAD_TYPE", "Only a list of options can be here.")
				return
			}
		}
		checkOptions(options, 0, f, at+"options.")
	case commandUser, commandMessage:
		f.length(at+"name", utf8.RuneCountInString(c.Name), 1, 32)
		if c.Description != "" {
			f.wrong(at+"description", "APPLICATION_COMMAND_DESCRIPTION_NOT_EMPTY", "Context menu commands cannot have description")
		}
		if len(c.Options) > 0 && string(c.Options) != "[]" {
			f.wrong(at+"options", "APPLICATION_COMMAND_OPTIONS_NOT_EMPTY", "Context menu commands cannot have options")
		}
	default:
		f.wrong(at+"type", "BASE_TYPE_CHOICES", "Value must be one of {1, 2, 3}.")
	}
}

// checkCommandName is the rule for names of slash commands and their options:
// letters, digits, hyphens and underscores, in lower case where there is one.
func checkCommandName(name string, f *form, at string) {
	f.length(at+"name", utf8.RuneCountInString(name), 1, 32)
	bad := strings.ContainsFunc(name, func(c rune) bool {
		return c != '-' && c != '_' && c != '\'' && !unicode.IsLetter(c) && !unicode.IsNumber(c) && !unicode.Is(unicode.Devanagari, c) && !unicode.Is(unicode.Thai, c)
	})
	if bad || strings.ToLower(name) != name {
		f.wrong(at+"name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
	}
}

// Kinds of options that the checks tell apart.
const (
	optionSub         = 1
	optionSubGroup    = 2
	optionString      = 3
	optionInteger     = 4
	optionBoolean     = 5
	optionUser        = 6
	optionChannel     = 7
	optionRole        = 8
	optionMentionable = 9
	optionNumber      = 10
	optionAttachment  = 11
)

// commandOption is one parameter of a command; the rest of what a bot says of it
// is kept unread.
type commandOption struct {
	Type        int             `json:"type"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Required    bool            `json:"required"`
	Choices     []commandChoice `json:"choices"`
	Options     []commandOption `json:"options"`
}

type commandChoice struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

const (
	maxOptions     = 25
	maxOptionDepth = 2 // a group holds subcommands, which hold parameters
)

func checkOptions(options []commandOption, depth int, f *form, at string) {
	if len(options) > maxOptions || (depth > maxOptionDepth && len(options) > 0) {
		f.wrong(strings.TrimSuffix(at, "."), "BASE_TYPE_BAD_LENGTH", "Must be 25 or fewer in length, and groups no deeper than two.")
		return
	}
	seen := map[string]bool{}
	optionalSeen := false
	for i, o := range options {
		at := fmt.Sprintf("%s%d.", at, i)
		checkCommandName(o.Name, f, at)
		f.length(at+"description", utf8.RuneCountInString(o.Description), 1, 100)
		if seen[o.Name] {
			f.wrong(at+"name", "APPLICATION_COMMAND_OPTIONS_NAME_NOT_UNIQUE", "Option names must be unique")
		}
		seen[o.Name] = true
		if o.Type < optionSub || o.Type > optionAttachment {
			f.wrong(at+"type", "BASE_TYPE_CHOICES", "Value must be from 1 to 11.")
		}
		if o.Required && optionalSeen {
			f.wrong(at+"required", "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID", "Required options must be placed before non-required options")
		}
		optionalSeen = optionalSeen || !o.Required
		if len(o.Choices) > maxOptions {
			f.wrong(at+"choices", "BASE_TYPE_BAD_LENGTH", "Must be 25 or fewer in length.")
		}
		if len(o.Options) > 0 && o.Type > optionSubGroup {
			f.wrong(at+"options", "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID", "Only subcommands and groups have options.")
			continue
		}
		checkOptions(o.Options, depth+1, f, at+"options.")
	}
}

func (s *Service) listCommands(r *request) (reply, error) {
	commands, err := s.store.Commands(r.ctx, r.ids["application"], r.ids["guild"])
	if err != nil {
		return reply{}, err
	}
	return ok(commands)
}

// newCommand checks the body of a command that is to be made.
func (s *Service) newCommand(r *request, b *commandBody, f *form, at string) proto.ApplicationCommand {
	id := s.newID()
	c := proto.ApplicationCommand{ID: id, Version: id, Type: commandSlash, ApplicationID: r.ids["application"], GuildID: r.ids["guild"]}
	set(&c.Type, b.Type)
	b.applyTo(&c, f, at)
	return c
}

func (s *Service) createCommand(r *request) (reply, error) {
	var body commandBody
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	var f form
	c := s.newCommand(r, &body, &f, "")
	if err := f.err(); err != nil {
		return reply{}, err
	}
	known, err := s.store.Commands(r.ctx, c.ApplicationID, c.GuildID)
	if err != nil {
		return reply{}, err
	}
	if !slices.ContainsFunc(known, func(k proto.ApplicationCommand) bool { return k.Type == c.Type && k.Name == c.Name }) {
		if err := roomFor(append(known, c)); err != nil {
			return reply{}, err
		}
	}
	c, fresh, err := s.store.PutCommand(r.ctx, c)
	if err != nil {
		return reply{}, err
	}
	if fresh {
		return created(c)
	}
	return ok(c)
}

// roomFor fails when there are too many commands of a kind.
func roomFor(commands []proto.ApplicationCommand) error {
	count := map[int]int{}
	for _, c := range commands {
		if count[c.Type]++; count[c.Type] > maxCommands[c.Type] {
			return fail(http.StatusBadRequest, codeMaxCommands,
				fmt.Sprintf("Maximum number of application commands reached (%d)", maxCommands[c.Type]))
		}
	}
	return nil
}

func (s *Service) replaceCommands(r *request) (reply, error) {
	if !bytes.HasPrefix(r.body, []byte("[")) {
		return reply{}, invalid("_body", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
	}
	var bodies []commandBody
	if err := decode(r.body, &bodies); err != nil {
		return reply{}, err
	}
	var f form
	commands := make([]proto.ApplicationCommand, len(bodies))
	for i := range bodies {
		at := strconv.Itoa(i) + "."
		commands[i] = s.newCommand(r, &bodies[i], &f, at)
		if slices.ContainsFunc(commands[:i], func(c proto.ApplicationCommand) bool {
			return c.Type == commands[i].Type && c.Name == commands[i].Name
		}) {
			f.wrong(at+"name", "APPLICATION_COMMANDS_DUPLICATE_NAME", "Application command names must be unique")
		}
	}
	if err := f.err(); err != nil {
		return reply{}, err
	}
	if err := roomFor(commands); err != nil {
		return reply{}, err
	}
	commands, err := s.store.ReplaceCommands(r.ctx, r.ids["application"], r.ids["guild"], commands)
	if err != nil {
		return reply{}, err
	}
	return ok(commands)
}

// command returns the command of the path, in the scope of the path.
func (s *Service) command(r *request) (proto.ApplicationCommand, error) {
	c, err := s.store.CommandByID(r.ctx, r.ids["application"], r.ids["command"])
	if errors.Is(err, store.ErrNotFound) || (err == nil && c.GuildID != r.ids["guild"]) {
		return c, unknownCommand()
	}
	return c, err
}

func unknownCommand() error {
	return fail(http.StatusNotFound, proto.ErrUnknownCommand, "Unknown application command")
}

func (s *Service) getCommand(r *request) (reply, error) {
	c, err := s.command(r)
	if err != nil {
		return reply{}, err
	}
	return ok(c)
}

func (s *Service) editCommand(r *request) (reply, error) {
	c, err := s.command(r)
	if err != nil {
		return reply{}, err
	}
	var body commandBody
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	var f form
	body.applyTo(&c, &f, "")
	if err := f.err(); err != nil {
		return reply{}, err
	}
	c.Version = s.newID()
	c, _, err = s.store.PutCommand(r.ctx, c)
	if errors.Is(err, store.ErrTaken) {
		return reply{}, invalid("name", "APPLICATION_COMMANDS_DUPLICATE_NAME", "Application command names must be unique")
	}
	if err != nil {
		return reply{}, err
	}
	return ok(c)
}

func (s *Service) deleteCommand(r *request) (reply, error) {
	c, err := s.command(r)
	if err != nil {
		return reply{}, err
	}
	if err := s.store.DeleteCommand(r.ctx, c.ApplicationID, c.ID); errors.Is(err, store.ErrNotFound) {
		return reply{}, unknownCommand()
	} else if err != nil {
		return reply{}, err
	}
	return noContent()
}
