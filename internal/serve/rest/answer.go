package rest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// Kinds of answers to an interaction.
const (
	answerMessage       = 4
	answerDeferred      = 5
	answerDeferredEdit  = 6
	answerEdit          = 7
	messageOfCommand    = 20 // message type CHAT_INPUT_COMMAND
	flagEphemeral       = 1 << 6
	flagLoading         = 1 << 7
	maxContent          = 2000
	originalReply       = "@original"
	maxEmbeds           = 10
	maxPrivateComponent = 40
)

// interactionMetadata says what a message answers ("Message Interaction").
type interactionMetadata struct {
	ID          proto.Snowflake   `json:"id"`
	Type        int               `json:"type"`
	Name        string            `json:"name,omitempty"` // of a command, with its subcommand
	CommandType int               `json:"command_type,omitempty"`
	User        proto.User        `json:"user"`
	Owners      map[string]string `json:"authorizing_integration_owners"`
	OriginalID  proto.Snowflake   `json:"original_response_message_id,omitempty"` // of a follow-up
	MessageID   proto.Snowflake   `json:"interacted_message_id,omitempty"`        // of a component
}

// metadata is what the next message of an interaction says of it.
func (i *interaction) metadata() json.RawMessage {
	about := *i.about
	about.OriginalID = i.original
	raw, err := json.Marshal(about)
	if err != nil {
		panic(err) // plain data
	}
	return raw
}

// replyBody is a message as a bot sends it. Raw is all of it, for the guild,
// which checks it; the fields are for messages that no guild sees.
type replyBody struct {
	Content    *string                     `json:"content"`
	Embeds     optional[[]json.RawMessage] `json:"embeds"`
	Components optional[[]json.RawMessage] `json:"components"`
	Flags      int                         `json:"flags"`
	raw        json.RawMessage
}

func readReply(raw json.RawMessage) (replyBody, error) {
	b := replyBody{raw: raw}
	return b, decode(raw, &b)
}

// callback is a bot's first answer.
func (s *Service) callback(r *request) (reply, error) {
	var body struct {
		Type int             `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if err := decode(r.body, &body); err != nil {
		return reply{}, err
	}
	answer, err := readReply(body.Data)
	if err != nil {
		return reply{}, err
	}
	var i interaction
	err = s.pending.with(r.text("token"), s.now(), func(p *interaction) error {
		switch {
		case p.id != r.ids["interaction"]:
			return fail(http.StatusNotFound, proto.ErrUnknownInteraction, "Unknown interaction")
		case p.answered:
			return fail(http.StatusBadRequest, proto.ErrInteractionAnswered, "Interaction has already been acknowledged.")
		case !fitsKind(body.Type, p.kind):
			return invalid("type", "BASE_TYPE_CHOICES", "This interaction cannot be answered so.")
		}
		p.answered = true // claimed, so that a second answer fails while this one is made
		i = *p
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	m, err := s.firstAnswer(r, &i, body.Type, answer)
	_ = s.pending.with(i.token, s.now(), func(p *interaction) error {
		p.answered = err == nil
		if err == nil {
			p.deferred, p.hidden, p.original = i.deferred, i.hidden, i.original
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	s.tellUser(i.user, "INTERACTION_SUCCESS", struct {
		ID    proto.Snowflake `json:"id"`
		Nonce json.RawMessage `json:"nonce,omitempty"`
	}{i.id, i.nonce})
	if !r.flag("with_response") {
		return noContent()
	}
	return ok(callbackInfo(&i, body.Type, m))
}

// fitsKind reports whether an answer of this type suits a command or component.
func fitsKind(answer, kind int) bool {
	switch answer {
	case answerMessage, answerDeferred:
		return true
	case answerDeferredEdit, answerEdit:
		return kind == interactionComponent
	}
	return false
}

// firstAnswer does what the answer says and notes in i what it leaves behind.
func (s *Service) firstAnswer(r *request, i *interaction, kind int, answer replyBody) (*proto.Message, error) {
	switch kind {
	case answerDeferred:
		i.deferred, i.hidden = true, answer.Flags&flagEphemeral != 0
		s.tellUser(i.user, "MESSAGE_CREATE", i.promise())
		return nil, nil
	case answerDeferredEdit:
		i.original = i.source
		return nil, nil
	case answerEdit:
		i.original = i.source
		m, err := s.editPublic(r, i, i.source, answer)
		return &m, err
	}
	m, err := s.send(r, i, answer, answer.Flags&flagEphemeral != 0)
	i.original = m.ID
	return &m, err
}

// callbackResponse is the answer with with_response ("Interaction Callback").
type callbackResponse struct {
	Interaction struct {
		ID        proto.Snowflake `json:"id"`
		Type      int             `json:"type"`
		MessageID proto.Snowflake `json:"response_message_id,omitempty"`
		Loading   bool            `json:"response_message_loading"`
		Ephemeral bool            `json:"response_message_ephemeral"`
	} `json:"interaction"`
	Resource *callbackResource `json:"resource,omitempty"`
}

type callbackResource struct {
	Type    int            `json:"type"`
	Message *proto.Message `json:"message,omitempty"`
}

func callbackInfo(i *interaction, kind int, m *proto.Message) callbackResponse {
	var c callbackResponse
	c.Interaction.ID, c.Interaction.Type = i.id, i.kind
	c.Interaction.MessageID, c.Interaction.Loading = i.original, i.deferred
	c.Interaction.Ephemeral = i.hidden || (m != nil && m.Flags&flagEphemeral != 0)
	if m != nil {
		c.Resource = &callbackResource{kind, m}
	}
	return c
}

// send makes a message of the bot: in the guild, or for the user alone.
func (s *Service) send(r *request, i *interaction, b replyBody, private bool) (proto.Message, error) {
	if private {
		return s.sendPrivate(i, b)
	}
	var m proto.Message
	params := map[string]string{"channel": i.channel.String(), "application": i.app.String(), "interaction": string(i.metadata())}
	if err := s.askFor(r.ctx, i.actor(b), i.guild, guild.OpMessageCreate, params, b.raw, &m); err != nil {
		return m, err
	}
	return m, s.pending.with(i.token, s.now(), func(p *interaction) error {
		p.replies = append(p.replies, m.ID)
		return nil
	})
}

// actor is the bot, who answers wherever its command was used, whether or not it
// may write there by itself. That must not let it mention everyone, or roles.
func (i *interaction) actor(b replyBody) guild.Actor {
	loud := b.Content != nil && (strings.Contains(*b.Content, "@everyone") ||
		strings.Contains(*b.Content, "@here") || strings.Contains(*b.Content, "<@&"))
	return guild.Actor{User: i.bot, Admin: !loud}
}

func (s *Service) sendPrivate(i *interaction, b replyBody) (proto.Message, error) {
	return s.keepPrivate(i, i.blank(s.newID(), flagEphemeral), b, "MESSAGE_CREATE")
}

// blank returns a message of the bot that no guild has.
func (i *interaction) blank(id proto.Snowflake, flags int) proto.Message {
	return proto.Message{
		ID: id, ChannelID: i.channel, GuildID: i.guild, Author: i.bot, Timestamp: id.Time().UTC(),
		Mentions: []proto.User{}, MentionRoles: []proto.Snowflake{}, Attachments: []json.RawMessage{},
		Embeds: []json.RawMessage{}, Components: []json.RawMessage{},
		Type: messageOfCommand, Flags: flags, ApplicationID: i.app,
		InteractionMetadata: i.metadata(),
	}
}

// promise stands for the message of a deferred answer until that comes. Only the
// user of the interaction sees it.
func (i *interaction) promise() proto.Message {
	flags := flagLoading
	if i.hidden {
		flags |= flagEphemeral
	}
	return i.blank(i.id, flags)
}

// untell takes back a message that only the user of the interaction sees.
func (s *Service) untell(i *interaction, id proto.Snowflake) {
	s.tellUser(i.user, "MESSAGE_DELETE", map[string]proto.Snowflake{"id": id, "channel_id": i.channel, "guild_id": i.guild})
}

// keepPrivate changes a private message by b, keeps it and sends it to its user.
func (s *Service) keepPrivate(i *interaction, m proto.Message, b replyBody, event string) (proto.Message, error) {
	if b.Content != nil {
		m.Content = *b.Content
	}
	setList(&m.Embeds, b.Embeds)
	setList(&m.Components, b.Components)
	size := len(m.Content)
	for _, part := range slices.Concat(m.Embeds, m.Components) {
		size += len(part)
	}
	var f form
	switch {
	case size == 0:
		return m, fail(http.StatusBadRequest, proto.ErrEmptyMessage, "Cannot send an empty message")
	case utf8.RuneCountInString(m.Content) > maxContent:
		f.wrong("content", "BASE_TYPE_MAX_LENGTH", "Must be 2000 or fewer in length.")
	case len(m.Embeds) > maxEmbeds || len(m.Components) > maxPrivateComponent || size > maxPrivateMessage:
		f.wrong("embeds", "MAX_EMBED_SIZE_EXCEEDED", "Embeds and components are too large.")
	}
	if err := f.err(); err != nil {
		return m, err
	}
	err := s.pending.with(i.token, s.now(), func(p *interaction) error { return s.pending.keep(p, m, size) })
	if err != nil {
		return m, err
	}
	s.tellUser(i.user, event, m)
	return m, nil
}

func setList(to *[]json.RawMessage, from optional[[]json.RawMessage]) {
	if from.set {
		*to = []json.RawMessage{}
		if from.value != nil {
			*to = *from.value
		}
	}
}

// answered returns a copy of the interaction of the path's token, which its bot
// must have answered. No token stands for any other kind of webhook.
func (s *Service) answered(r *request) (interaction, error) {
	var i interaction
	err := s.pending.with(r.text("token"), s.now(), func(p *interaction) error {
		if p.app != r.ids["application"] || !p.answered {
			return unknownWebhook()
		}
		i = *p
		i.replies, i.private = slices.Clone(p.replies), maps.Clone(p.private)
		return nil
	})
	if err != nil {
		return i, unknownWebhook()
	}
	return i, nil
}

func unknownWebhook() error {
	return fail(http.StatusNotFound, proto.ErrUnknownWebhook, "Unknown Webhook")
}

func unknownMessage() error {
	return fail(http.StatusNotFound, proto.ErrUnknownMessage, "Unknown Message")
}

// followUp sends a further message. After a deferred answer, the first one is
// what was promised.
func (s *Service) followUp(r *request) (reply, error) {
	b, err := readReply(r.body)
	if err != nil {
		return reply{}, err
	}
	i, err := s.answered(r)
	if err != nil {
		return reply{}, err
	}
	if i.deferred {
		return s.keepPromise(r, &i, b)
	}
	if len(i.replies) >= maxReplies {
		return reply{}, fail(http.StatusBadRequest, proto.ErrInvalidFormBody, "Too many followup messages")
	}
	m, err := s.send(r, &i, b, b.Flags&flagEphemeral != 0)
	if err != nil {
		return reply{}, err
	}
	return ok(m)
}

// claimPromise lets one request alone keep or break the promise of a deferred
// answer; another one that comes meanwhile finds no message.
func (s *Service) claimPromise(i *interaction) error {
	first := false
	claim := func(p *interaction) error {
		first, p.deferred = p.deferred, false
		return nil
	}
	if err := s.pending.with(i.token, s.now(), claim); err != nil {
		return unknownWebhook()
	}
	if !first {
		return unknownMessage()
	}
	return nil
}

// keepPromise sends the message of a deferred answer.
func (s *Service) keepPromise(r *request, i *interaction, b replyBody) (reply, error) {
	if err := s.claimPromise(i); err != nil {
		return reply{}, err
	}
	m, err := s.send(r, i, b, i.hidden)
	_ = s.pending.with(i.token, s.now(), func(p *interaction) error {
		p.deferred, p.original = err != nil, m.ID
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	s.untell(i, i.id)
	return ok(m)
}

// replyID returns which message the path means; it must be the interaction's.
func (i *interaction) replyID(v string) (proto.Snowflake, error) {
	id := i.original
	if v != originalReply {
		var err error
		if id, err = proto.ParseSnowflake(v); err != nil {
			return 0, notSnowflake("message_id", v)
		}
	}
	_, private := i.private[id]
	if id == 0 || (id != i.original && !slices.Contains(i.replies, id) && !private) {
		return 0, unknownMessage()
	}
	return id, nil
}

func (s *Service) getReply(r *request) (reply, error) {
	i, err := s.answered(r)
	if err != nil {
		return reply{}, err
	}
	if i.deferred && r.text("reply") == originalReply {
		return ok(i.promise())
	}
	id, err := i.replyID(r.text("reply"))
	if err != nil {
		return reply{}, err
	}
	if p, private := i.private[id]; private {
		return ok(p.message)
	}
	m, err := s.storedMessage(r, i.channel, id)
	if err != nil {
		return reply{}, err
	}
	return ok(m)
}

func (s *Service) editReply(r *request) (reply, error) {
	b, err := readReply(r.body)
	if err != nil {
		return reply{}, err
	}
	i, err := s.answered(r)
	if err != nil {
		return reply{}, err
	}
	if i.deferred && r.text("reply") == originalReply {
		return s.keepPromise(r, &i, b)
	}
	id, err := i.replyID(r.text("reply"))
	if err != nil {
		return reply{}, err
	}
	var m proto.Message
	if old, private := i.private[id]; private {
		now := time.Now().UTC()
		old.message.EditedTimestamp = &now
		m, err = s.keepPrivate(&i, old.message, b, "MESSAGE_UPDATE")
	} else {
		m, err = s.editPublic(r, &i, id, b)
	}
	if err != nil {
		return reply{}, err
	}
	return ok(m)
}

func (s *Service) editPublic(r *request, i *interaction, id proto.Snowflake, b replyBody) (proto.Message, error) {
	var m proto.Message
	params := map[string]string{"channel": i.channel.String(), "message": id.String()}
	return m, s.askFor(r.ctx, i.actor(b), i.guild, guild.OpMessageEdit, params, b.raw, &m)
}

func (s *Service) deleteReply(r *request) (reply, error) {
	i, err := s.answered(r)
	if err != nil {
		return reply{}, err
	}
	if i.deferred && r.text("reply") == originalReply {
		if err := s.claimPromise(&i); err != nil {
			return reply{}, err
		}
		s.untell(&i, i.id)
		return noContent()
	}
	id, err := i.replyID(r.text("reply"))
	if err != nil {
		return reply{}, err
	}
	params := map[string]string{"channel": i.channel.String(), "message": id.String()}
	if _, private := i.private[id]; private {
		s.untell(&i, id)
	} else if err := s.askFor(r.ctx, i.actor(replyBody{}), i.guild, guild.OpMessageDelete, params, nil, nil); err != nil {
		return reply{}, err
	}
	_ = s.pending.with(i.token, s.now(), func(p *interaction) error {
		s.pending.drop(p, id)
		return nil
	})
	return noContent()
}
