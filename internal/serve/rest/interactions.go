package rest

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/proto"
)

func (s *Service) interactionRoutes() []route {
	const webhook = "/webhooks/{application}/{token}"
	use := quota{10, 10 * time.Second}
	return []route{
		{pattern: "POST /interactions", auth: person, quota: use, handle: s.useCommand},
		{pattern: "POST /interactions/{interaction}/{token}/callback", auth: anybody, free: true, handle: s.callback},
		{pattern: "POST " + webhook, auth: anybody, free: true, handle: s.followUp},
		{pattern: "GET " + webhook + "/messages/{reply}", auth: anybody, free: true, handle: s.getReply},
		{pattern: "PATCH " + webhook + "/messages/{reply}", auth: anybody, free: true, handle: s.editReply},
		{pattern: "DELETE " + webhook + "/messages/{reply}", auth: anybody, free: true, handle: s.deleteReply},
	}
}

// How long a bot has for its first answer, and for all others
// ("Interaction Callback").
const (
	answerWithin      = 3 * time.Second
	interactionsLive  = 15 * time.Minute
	maxInteractions   = 1 << 14
	maxReplies        = 50
	maxPrivateBytes   = 16 << 20 // of all private replies together
	maxPrivateMessage = 8 << 10
)

// Kinds of interactions.
const (
	interactionCommand   = 2
	interactionComponent = 3
)

// interaction is one use of a command or component that its bot may answer. It
// lives on the node that the user called.
type interaction struct {
	id       proto.Snowflake
	kind     int
	app      proto.Snowflake
	bot      proto.User
	token    string
	guild    proto.Snowflake
	channel  proto.Snowflake
	user     proto.Snowflake
	source   proto.Snowflake // the message of a component
	nonce    json.RawMessage // by which the user's client knows it; nil for none
	about    *interactionMetadata
	answerBy clock.Time
	expires  clock.Time

	answered bool // the first answer came
	deferred bool // it promised a message that has not come
	hidden   bool // and that message is for the user alone
	original proto.Snowflake
	replies  []proto.Snowflake // public messages, the original included
	private  map[proto.Snowflake]privateReply
}

// privateReply is a message that only the user of the interaction gets. No guild
// keeps it.
type privateReply struct {
	message proto.Message
	bytes   int
}

// interactions holds those that can be answered, at most maxInteractions; the
// oldest give way.
type interactions struct {
	mu      sync.Mutex
	byToken map[string]*interaction
	order   []*interaction
	private int // bytes
}

func (t *interactions) add(i *interaction, now clock.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byToken == nil {
		t.byToken = make(map[string]*interaction)
	}
	for len(t.order) > 0 && (!now.Before(t.order[0].expires) || len(t.order) >= maxInteractions) {
		t.forget(t.order[0])
		t.order = t.order[1:]
	}
	t.byToken[i.token] = i
	t.order = append(t.order, i)
}

func (t *interactions) forget(i *interaction) {
	for _, p := range i.private {
		t.private -= p.bytes
	}
	delete(t.byToken, i.token)
}

// with runs f on the interaction of a token while nobody else does. It fails
// when there is none that can still be answered.
func (t *interactions) with(token string, now clock.Time, f func(*interaction) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, known := t.byToken[token]
	if !known || !now.Before(i.expires) || (!i.answered && !now.Before(i.answerBy)) {
		return fail(http.StatusNotFound, proto.ErrUnknownInteraction, "Unknown interaction")
	}
	return f(i)
}

// keep stores or replaces a private reply; it fails when all of them together
// are too much.
func (t *interactions) keep(i *interaction, m proto.Message, bytes int) error {
	old, known := i.private[m.ID]
	if (!known && len(i.private) >= maxReplies) || t.private-old.bytes+bytes > maxPrivateBytes {
		return unavailable()
	}
	if i.private == nil {
		i.private = make(map[proto.Snowflake]privateReply)
	}
	t.private += bytes - old.bytes
	i.private[m.ID] = privateReply{m, bytes}
	return nil
}

// drop forgets a reply that was deleted.
func (t *interactions) drop(i *interaction, id proto.Snowflake) {
	t.private -= i.private[id].bytes
	delete(i.private, id)
	i.replies = slices.DeleteFunc(i.replies, func(r proto.Snowflake) bool { return r == id })
	if i.original == id {
		i.original = 0
	}
}
