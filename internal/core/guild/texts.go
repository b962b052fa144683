package guild

import (
	"encoding/json"
	"regexp"
	"strings"

	"hubbub.dev/hubbub/proto"
)

const (
	maxContent    = 2000 // characters
	maxEmbeds     = 10
	maxComponents = 40
	maxAttached   = 64 << 10 // bytes of embeds and components together
	maxNonceText  = 25

	typeReply         = 19
	typeCommandAnswer = 20

	interactionCommand = 2 // type of an interaction that uses a command

	// Flags that a sender may set: SUPPRESS_EMBEDS, EPHEMERAL,
	// SUPPRESS_NOTIFICATIONS, IS_COMPONENTS_V2.
	settableFlags = 1<<2 | 1<<6 | 1<<12 | 1<<15
)

var mention = regexp.MustCompile(`<@(!?|&)([0-9]{1,20})>`)

// textChannel returns the channel of a call when the actor has p in it.
func (g *Guild) textChannel(c *call, p proto.Permissions) (*proto.Channel, error) {
	ch, err := g.channelOf(c)
	if err != nil {
		return nil, err
	}
	if err := g.needIn(c, ch, p); err != nil {
		return nil, err
	}
	if ch.Type == proto.ChannelCategory {
		return nil, refuse(proto.ErrCannotSendInNonText)
	}
	return ch, nil
}

func (g *Guild) checkHistory(c *call) (any, error) {
	_, err := g.textChannel(c, proto.PermReadMessageHistory)
	return nil, err
}

func (g *Guild) createMessage(c *call) (any, error) {
	old, err := g.textChannel(c, proto.PermSendMessages)
	if err != nil {
		return nil, err
	}
	m := proto.Message{
		ID: g.nextID(), ChannelID: old.ID, GuildID: g.id, Author: c.actor, Timestamp: g.in.Wall.UTC(),
		Mentions: []proto.User{}, MentionRoles: []proto.Snowflake{},
		Attachments: []json.RawMessage{}, Embeds: []json.RawMessage{}, Components: []json.RawMessage{},
	}
	c.boolean("tts", &m.TTS)
	c.integer("flags", 0, 1<<31-1, &m.Flags)
	m.Flags &= settableFlags
	m.Nonce = readNonce(c.form)
	g.readReference(c.form, &m)
	if err := readInteraction(c, &m); err != nil {
		return nil, err
	}
	if err := g.readContent(c, old, &m); err != nil {
		return nil, err
	}
	ch := *old
	ch.LastMessageID = &m.ID
	g.setChannel(&ch)
	g.write(Write{Message: &m})
	g.dispatchMessage("MESSAGE_CREATE", &m)
	return m, nil
}

// readContent reads what a new or edited message says into m.
func (g *Guild) readContent(c *call, ch *proto.Channel, m *proto.Message) error {
	c.text("content", 0, maxContent, &m.Content)
	if c.isNull("content") {
		m.Content = ""
	}
	c.objects("embeds", maxEmbeds, &m.Embeds)
	c.objects("components", maxComponents, &m.Components)
	size := 0
	for _, list := range [][]json.RawMessage{m.Embeds, m.Components} {
		for _, o := range list {
			size += len(o)
		}
	}
	if size > maxAttached {
		c.fail("embeds", "MAX_EMBED_SIZE_EXCEEDED", "Embeds and components exceed the maximum size of 65536 bytes")
	}
	if err := c.err(); err != nil {
		return err
	}
	if m.Content == "" && len(m.Embeds) == 0 && len(m.Components) == 0 {
		return refuse(proto.ErrEmptyMessage)
	}
	has := g.inChannel(c, ch)
	if c.has("embeds") && len(m.Embeds) > 0 && !has.Has(proto.PermEmbedLinks) {
		return refuse(proto.ErrMissingPermissions)
	}
	g.readMentions(m, has.Has(proto.PermMentionEveryone))
	return nil
}

// readMentions finds whom m's content names: members, roles, and everyone for
// those who may.
func (g *Guild) readMentions(m *proto.Message, everyone bool) {
	m.Mentions, m.MentionRoles = []proto.User{}, []proto.Snowflake{}
	m.MentionEveryone = everyone && (strings.Contains(m.Content, "@everyone") || strings.Contains(m.Content, "@here"))
	seen := map[proto.Snowflake]bool{}
	for _, match := range mention.FindAllStringSubmatch(m.Content, -1) {
		id, err := proto.ParseSnowflake(match[2])
		if err != nil || seen[id] {
			continue
		}
		seen[id] = true
		if match[1] == "&" {
			if r := g.roles[id]; r != nil && (r.Mentionable || everyone) {
				m.MentionRoles = append(m.MentionRoles, id)
			}
		} else if other := g.members[id]; other != nil {
			m.Mentions = append(m.Mentions, *other.User)
		}
	}
}

// readNonce reads what the sender recognises its own message by: a number or a
// short string.
func readNonce(f *form) json.RawMessage {
	raw := f.fields["nonce"]
	if len(raw) == 0 || f.isNull("nonce") {
		return nil
	}
	var n json.Number
	var s string
	if json.Unmarshal(raw, &s) == nil && len(s) <= maxNonceText || json.Unmarshal(raw, &n) == nil && len(n) <= maxNonceText {
		return raw
	}
	f.fail("nonce", "NONCE_TYPE_INVALID", "Must be an integer or a string of up to 25 characters.")
	return nil
}

// readReference reads which message of the channel is replied to.
func (g *Guild) readReference(f *form, m *proto.Message) {
	type reference struct {
		MessageID proto.Snowflake `json:"message_id"`
		ChannelID proto.Snowflake `json:"channel_id"`
		GuildID   proto.Snowflake `json:"guild_id"`
	}
	r, ok := decode[reference](f, "message_reference", "DICT_TYPE_CONVERT", "Must be a message reference.")
	if !ok || r.MessageID == 0 {
		return
	}
	r.ChannelID, r.GuildID = m.ChannelID, g.id
	m.Type, m.MessageReference = typeReply, encode(r)
}

// readInteraction reads what m answers, which the API alone can say.
func readInteraction(c *call, m *proto.Message) error {
	about := c.params["interaction"]
	if about == "" {
		return nil
	}
	var kind struct {
		Type int `json:"type"`
	}
	if err := json.Unmarshal([]byte(about), &kind); err != nil {
		return err
	}
	if kind.Type == interactionCommand {
		m.Type = typeCommandAnswer
	}
	m.InteractionMetadata = json.RawMessage(about)
	var err error
	m.ApplicationID, err = proto.ParseSnowflake(c.params["application"])
	return err
}

// dispatchMessage sends a message to those who see its channel, without what it
// says to bots that did not ask for MESSAGE_CONTENT, unless it is theirs or
// names them (Gateway, "Message Content Intent").
func (g *Guild) dispatchMessage(event string, m *proto.Message) {
	full := *m
	if author := g.members[m.Author.ID]; author != nil {
		partial := *author
		partial.User = nil
		full.Member = &partial
	}
	reads := func(s *session) bool {
		if s.intents&proto.IntentMessageContent != 0 || s.ref.User == m.Author.ID {
			return true
		}
		for i := range m.Mentions {
			if m.Mentions[i].ID == s.ref.User {
				return true
			}
		}
		return false
	}
	blind := false
	for _, s := range g.sessions {
		blind = blind || !reads(s)
	}
	if !blind {
		g.dispatch(event, proto.IntentGuildMessages, g.viewers(m.ChannelID), full)
		return
	}
	g.dispatch(event, proto.IntentGuildMessages, func(s *session) bool { return g.sees(s, m.ChannelID) && reads(s) }, full)
	full.Content, full.Embeds, full.Components = "", []json.RawMessage{}, []json.RawMessage{}
	g.dispatch(event, proto.IntentGuildMessages, func(s *session) bool { return g.sees(s, m.ChannelID) && !reads(s) }, full)
}

func (g *Guild) editMessage(c *call) (any, error) {
	ch, err := g.textChannel(c, 0)
	if err != nil {
		return nil, err
	}
	old := g.in.Message
	if old == nil {
		return nil, refuse(proto.ErrUnknownMessage)
	}
	if old.Author.ID != c.actor.ID {
		return nil, refuse(proto.ErrCannotEditOthers)
	}
	m := *old
	if err := g.readContent(c, ch, &m); err != nil {
		return nil, err
	}
	at := g.in.Wall.UTC()
	m.EditedTimestamp = &at
	g.write(Write{Message: &m})
	g.dispatchMessage("MESSAGE_UPDATE", &m)
	return m, nil
}

func (g *Guild) deleteMessage(c *call) (any, error) {
	ch, err := g.textChannel(c, 0)
	if err != nil {
		return nil, err
	}
	m := g.in.Message
	if m == nil {
		return nil, refuse(proto.ErrUnknownMessage)
	}
	if m.Author.ID != c.actor.ID {
		if err := g.needIn(c, ch, proto.PermManageMessages); err != nil {
			return nil, err
		}
	}
	g.write(Write{DeleteMessage: [2]proto.Snowflake{ch.ID, m.ID}})
	g.dispatch("MESSAGE_DELETE", proto.IntentGuildMessages, g.viewers(ch.ID), struct {
		ID        proto.Snowflake `json:"id"`
		ChannelID proto.Snowflake `json:"channel_id"`
		GuildID   proto.Snowflake `json:"guild_id"`
	}{m.ID, ch.ID, g.id})
	return nil, nil
}

func (g *Guild) typing(c *call) (any, error) {
	ch, err := g.textChannel(c, proto.PermSendMessages)
	if err != nil {
		return nil, err
	}
	g.dispatch("TYPING_START", proto.IntentGuildTyping, g.viewers(ch.ID), struct {
		ChannelID proto.Snowflake `json:"channel_id"`
		GuildID   proto.Snowflake `json:"guild_id"`
		UserID    proto.Snowflake `json:"user_id"`
		Timestamp int64           `json:"timestamp"` // s
		Member    *proto.Member   `json:"member,omitempty"`
	}{ch.ID, g.id, c.actor.ID, g.in.Wall.Unix(), c.member})
	return nil, nil
}

// interactionContext returns where a command is used, by whom, and what its
// application may do there.
func (g *Guild) interactionContext(c *call) (any, error) {
	ch, err := g.textChannel(c, proto.PermUseCommands)
	if err != nil {
		return nil, err
	}
	app, err := lookUp(c, "app", g.members, proto.ErrUnknownApplication)
	if err != nil {
		return nil, err
	}
	type permittedMember struct {
		*proto.Member
		Permissions proto.Permissions `json:"permissions"`
	}
	return struct {
		Channel        *proto.Channel    `json:"channel"`
		Member         permittedMember   `json:"member"`
		AppPermissions proto.Permissions `json:"app_permissions"`
	}{ch, permittedMember{c.member, g.inChannel(c, ch)}, g.permissionsIn(app, ch)}, nil
}
