package client

import (
	"encoding/json"
	"sync"

	"hubbub.dev/hubbub/proto"
)

// Event names a dispatch and the type of its payload.
type Event[T any] struct{ name string }

// NewEvent names a dispatch that this package has no name for, such as one a
// newer server sends.
func NewEvent[T any](name string) Event[T] { return Event[T]{name} }

// The dispatches of the gateway ("Gateway Events").
var (
	Ready             = NewEvent[proto.ReadyData]("READY")
	Resumed           = NewEvent[json.RawMessage]("RESUMED")
	GuildCreate       = NewEvent[proto.GuildCreate]("GUILD_CREATE")
	GuildUpdate       = NewEvent[proto.Guild]("GUILD_UPDATE")
	GuildDelete       = NewEvent[proto.UnavailableGuild]("GUILD_DELETE")
	ChannelCreate     = NewEvent[proto.Channel]("CHANNEL_CREATE")
	ChannelUpdate     = NewEvent[proto.Channel]("CHANNEL_UPDATE")
	ChannelDelete     = NewEvent[proto.Channel]("CHANNEL_DELETE")
	MessageCreate     = NewEvent[proto.Message]("MESSAGE_CREATE")
	MessageUpdate     = NewEvent[proto.Message]("MESSAGE_UPDATE")
	VoiceStateUpdate  = NewEvent[proto.VoiceState]("VOICE_STATE_UPDATE")
	VoiceServerUpdate = NewEvent[proto.VoiceServerUpdateData]("VOICE_SERVER_UPDATE")
	PresenceUpdate    = NewEvent[proto.Presence]("PRESENCE_UPDATE")
	GuildMembersChunk = NewEvent[proto.GuildMembersChunk]("GUILD_MEMBERS_CHUNK")
	InteractionCreate = NewEvent[proto.Interaction]("INTERACTION_CREATE")
)

// On calls f for every e until remove is called. Handlers run one at a time, in
// the order of the events, on a goroutine of their own: a handler may block for
// a while, and may call JoinVoice, without stopping the gateway. A program that
// falls more than a thousand events behind has its connection resumed, so that
// the server replays what did not fit. Events whose payload does not decode are
// logged and skipped.
func On[T any](g *Gateway, e Event[T], f func(T)) (remove func()) {
	return g.handlers.add(e.name, func(d json.RawMessage) {
		var v T
		if err := json.Unmarshal(d, &v); err != nil {
			g.c.log.Warn("event does not decode", "event", e.name, "error", err)
			return
		}
		f(v)
	})
}

type dispatch struct {
	name string
	data json.RawMessage
}

type handler struct {
	id int
	f  func(json.RawMessage)
}

// handlerTable maps event names to handlers. Lists are replaced, never changed,
// so a dispatch walks its list without the lock.
type handlerTable struct {
	mu     sync.Mutex
	lastID int
	byName map[string][]handler
}

func (t *handlerTable) add(name string, f func(json.RawMessage)) (remove func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName == nil {
		t.byName = make(map[string][]handler)
	}
	t.lastID++
	id := t.lastID
	old := t.byName[name]
	t.byName[name] = append(old[:len(old):len(old)], handler{id, f})
	return func() { t.remove(name, id) }
}

func (t *handlerTable) remove(name string, id int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kept []handler
	for _, h := range t.byName[name] {
		if h.id != id {
			kept = append(kept, h)
		}
	}
	t.byName[name] = kept
}

func (t *handlerTable) of(name string) []handler {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byName[name]
}
