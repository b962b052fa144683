package guild

import (
	"errors"
	"strconv"

	"hubbub.dev/hubbub/proto"
)

// call is one Call on its way through its operation.
type call struct {
	*form
	actor  proto.User
	admin  bool
	member *proto.Member // the actor's; nil for outsiders and for the operator
	params map[string]string
	body   []byte
}

// operation carries out a Call. What run returns becomes the body, with status;
// nil becomes no body. What an operation changed before it failed is undone.
type operation struct {
	run       func(*Guild, *call) (any, error)
	status    int
	outsiders bool // open to users who are not members
	list      bool // the body is no object
}

var operations = map[string]operation{
	OpGuildCreate:   {run: (*Guild).createGuild, status: 201, outsiders: true},
	OpGuildGet:      {run: (*Guild).getGuild, status: 200},
	OpGuildSnapshot: {run: (*Guild).getSnapshot, status: 200},
	OpGuildUpdate:   {run: (*Guild).updateGuild, status: 200},
	OpGuildDelete:   {run: (*Guild).deleteGuild, status: 204},

	OpChannelList:      {run: (*Guild).listChannels, status: 200},
	OpChannelGet:       {run: (*Guild).getChannel, status: 200},
	OpChannelCreate:    {run: (*Guild).createChannel, status: 201},
	OpChannelUpdate:    {run: (*Guild).updateChannel, status: 200},
	OpChannelDelete:    {run: (*Guild).deleteChannel, status: 200},
	OpChannelPositions: {run: (*Guild).moveChannels, status: 204, list: true},
	OpOverwritePut:     {run: (*Guild).putOverwrite, status: 204},
	OpOverwriteDelete:  {run: (*Guild).deleteOverwrite, status: 204},

	OpRoleList:      {run: (*Guild).listRoles, status: 200},
	OpRoleCreate:    {run: (*Guild).createRole, status: 200},
	OpRoleUpdate:    {run: (*Guild).updateRole, status: 200},
	OpRoleDelete:    {run: (*Guild).deleteRole, status: 204},
	OpRolePositions: {run: (*Guild).moveRoles, status: 200, list: true},

	OpMemberList:       {run: (*Guild).listMembers, status: 200},
	OpMemberSearch:     {run: (*Guild).searchMembers, status: 200},
	OpMemberGet:        {run: (*Guild).getMember, status: 200},
	OpMemberJoin:       {run: (*Guild).joinMember, status: 200, outsiders: true},
	OpMemberAdd:        {run: (*Guild).addMember, status: 201},
	OpMemberUpdate:     {run: (*Guild).updateMember, status: 200},
	OpMemberRefresh:    {run: (*Guild).refreshMember, status: 204},
	OpMemberRemove:     {run: (*Guild).removeMember, status: 204},
	OpMemberRoleAdd:    {run: (*Guild).addMemberRole, status: 204},
	OpMemberRoleRemove: {run: (*Guild).removeMemberRole, status: 204},

	OpMessageAccess: {run: (*Guild).checkHistory, status: 204},
	OpMessageCreate: {run: (*Guild).createMessage, status: 200},
	OpMessageEdit:   {run: (*Guild).editMessage, status: 200},
	OpMessageDelete: {run: (*Guild).deleteMessage, status: 204},
	OpTyping:        {run: (*Guild).typing, status: 204},

	OpInviteCreate: {run: (*Guild).createInvite, status: 200},
	OpInviteList:   {run: (*Guild).listInvites, status: 200},
	OpInviteGet:    {run: (*Guild).getInvite, status: 200, outsiders: true},
	OpInviteDelete: {run: (*Guild).deleteInvite, status: 200},

	OpVoiceGet:    {run: (*Guild).getVoice, status: 200},
	OpVoiceUpdate: {run: (*Guild).updateVoice, status: 204},
	OpVoiceList:   {run: (*Guild).listVoice, status: 200},

	OpInteractionContext: {run: (*Guild).interactionContext, status: 200},
}

// NeedsMessage returns which stored message a Call is about: its Input has to
// bring it.
func NeedsMessage(c *Call) (channel, message proto.Snowflake, ok bool) {
	if c == nil || (c.Op != OpMessageEdit && c.Op != OpMessageDelete) {
		return 0, 0, false
	}
	channel, err := proto.ParseSnowflake(c.Params["channel"])
	if err != nil {
		return 0, 0, false
	}
	message, err = proto.ParseSnowflake(c.Params["message"])
	return channel, message, err == nil
}

func (g *Guild) call(r *Call) {
	status, body, err := g.perform(r)
	if err == nil {
		g.out.Reply = &Result{Status: status}
		if body != nil {
			g.out.Reply.Body = encode(body)
		}
		return
	}
	g.Rollback()
	g.out = Output{Reply: Failure(err)}
}

func (g *Guild) perform(r *Call) (int, any, error) {
	op, known := operations[r.Op]
	switch {
	case !known:
		return 0, nil, &proto.APIError{Status: 404, ErrorBody: proto.ErrorBody{Message: "404: Not Found"}}
	case g.info == nil && r.Op != OpGuildCreate:
		return 0, nil, refuse(proto.ErrUnknownGuild)
	}
	c := &call{form: &form{}, actor: r.Actor.User, admin: r.Actor.Admin, params: r.Params, body: r.Body}
	c.member = g.members[c.actor.ID]
	if c.member == nil && !c.admin && !op.outsiders {
		return 0, nil, refuse(proto.ErrMissingAccess)
	}
	if !op.list {
		f, err := parseForm(r.Body)
		if err != nil {
			return 0, nil, err
		}
		c.form = f
	}
	body, err := op.run(g, c)
	return op.status, body, err
}

// Failure returns the answer that reports err: what an APIError says, and 500
// for all else.
func Failure(err error) *Result {
	var problem *proto.APIError
	if !errors.As(err, &problem) {
		problem = &proto.APIError{Status: 500, ErrorBody: proto.ErrorBody{Message: "500: Internal Server Error"}}
	}
	return &Result{Status: problem.Status, Body: encode(problem.ErrorBody)}
}

// refusals are the errors of operations ("JSON Error Codes").
var refusals = map[int]struct {
	status  int
	message string
}{
	proto.ErrUnknownChannel:       {404, "Unknown Channel"},
	proto.ErrUnknownGuild:         {404, "Unknown Guild"},
	proto.ErrUnknownInvite:        {404, "Unknown Invite"},
	proto.ErrUnknownMember:        {404, "Unknown Member"},
	proto.ErrUnknownMessage:       {404, "Unknown Message"},
	proto.ErrUnknownOverwrite:     {404, "Unknown Permission Overwrite"},
	proto.ErrUnknownRole:          {404, "Unknown Role"},
	proto.ErrUnknownVoiceState:    {404, "Unknown Voice State"},
	proto.ErrUnknownApplication:   {404, "Unknown Application"},
	proto.ErrMaxChannels:          {400, "Maximum number of guild channels reached (500)"},
	proto.ErrMaxRoles:             {400, "Maximum number of guild roles reached (250)"},
	proto.ErrMaxInvites:           {400, "Maximum number of invites reached (1000)"},
	proto.ErrNotConnectedToVoice:  {400, "Target user is not connected to voice."},
	proto.ErrMissingAccess:        {403, "Missing Access"},
	proto.ErrCannotEditOthers:     {403, "Cannot edit a message authored by another user"},
	proto.ErrEmptyMessage:         {400, "Cannot send an empty message"},
	proto.ErrCannotSendInNonText:  {400, "Cannot send messages in a non-text channel"},
	proto.ErrMissingPermissions:   {403, "Missing Permissions"},
	proto.ErrNotOnThisChannelType: {400, "Cannot execute action on this channel type"},
	proto.ErrInvalidRole:          {400, "Invalid role"},
	proto.ErrInvalidJSON:          {400, "The request body contains invalid JSON."},
	proto.ErrServiceUnavailable:   {503, "API resource is currently overloaded. Try again a little later"},
}

func refuse(code int) error {
	r := refusals[code]
	return &proto.APIError{Status: r.status, ErrorBody: proto.ErrorBody{Code: code, Message: r.message}}
}

// Overloaded is the answer to a Call that found no room or no store.
func Overloaded() *Result { return Failure(refuse(proto.ErrServiceUnavailable)) }

// Misplaced is the answer to a Call that came to a node which is not the guild's
// owner, or no longer: nothing of it was done.
func Misplaced() *Result {
	r := Overloaded()
	r.Misplaced = true
	return r
}

// base returns what the actor may do in the whole guild.
func (g *Guild) base(c *call) proto.Permissions {
	switch {
	case c.admin:
		return proto.PermAll
	case c.member == nil:
		return 0
	}
	return g.basePermissions(c.member)
}

// inChannel returns what the actor may do in a channel.
func (g *Guild) inChannel(c *call, ch *proto.Channel) proto.Permissions {
	switch {
	case c.admin:
		return proto.PermAll
	case c.member == nil:
		return 0
	}
	return g.permissionsIn(c.member, ch)
}

// need refuses an actor without all of p in the whole guild.
func (g *Guild) need(c *call, p proto.Permissions) error {
	if !g.base(c).Has(p) {
		return refuse(proto.ErrMissingPermissions)
	}
	return nil
}

// needIn refuses an actor that cannot see ch, or is without all of p in it.
func (g *Guild) needIn(c *call, ch *proto.Channel, p proto.Permissions) error {
	has := g.inChannel(c, ch)
	if !has.Has(proto.PermViewChannel) {
		return refuse(proto.ErrMissingAccess)
	}
	if !has.Has(p) {
		return refuse(proto.ErrMissingPermissions)
	}
	return nil
}

// lookUp returns the entry whose id a param names.
func lookUp[V any](c *call, param string, in map[proto.Snowflake]*V, unknown int) (*V, error) {
	id, err := proto.ParseSnowflake(c.params[param])
	if err != nil || in[id] == nil {
		return nil, refuse(unknown)
	}
	return in[id], nil
}

func (g *Guild) channelOf(c *call) (*proto.Channel, error) {
	return lookUp(c, "channel", g.channels, proto.ErrUnknownChannel)
}

func (g *Guild) memberOf(c *call) (*proto.Member, error) {
	return lookUp(c, "user", g.members, proto.ErrUnknownMember)
}

func (g *Guild) roleOf(c *call) (*proto.Role, error) {
	return lookUp(c, "role", g.roles, proto.ErrUnknownRole)
}

// number returns a numeric param within bounds, and otherwise when it is absent
// or makes no sense.
func (c *call) number(param string, least, most, otherwise int) int {
	n, err := strconv.Atoi(c.params[param])
	if err != nil {
		return otherwise
	}
	return min(max(n, least), most)
}
