package guild

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

// Who is who in the guild of the tests.
const (
	guildID proto.Snowflake = 100
	owner   proto.Snowflake = 1
	ann     proto.Snowflake = 2
	bob     proto.Snowflake = 3
	mod     proto.Snowflake = 4 // may mute, deafen, move, kick and manage what is below modRole
	bot     proto.Snowflake = 5

	textID  proto.Snowflake = 200
	voiceID proto.Snowflake = 201
	otherID proto.Snowflake = 202
	stageID proto.Snowflake = 203
	groupID proto.Snowflake = 204

	modRole proto.Snowflake = 300
	lowRole proto.Snowflake = 301
	topRole proto.Snowflake = 302
)

var testKey = []byte("key of the tests")

// house is a guild under test, with virtual time and all it ever said.
type house struct {
	testing.TB
	g     *Guild
	nodes *Nodes
	now   clock.Time
	wall  time.Time
	out   Output // of the last step
}

func testUser(id proto.Snowflake) *proto.User {
	names := map[proto.Snowflake]string{owner: "owner", ann: "ann", bob: "Bob", mod: "mod", bot: "bot"}
	return &proto.User{ID: id, Username: names[id], Discriminator: "0", Bot: id == bot}
}

func testRecord() Record {
	member := func(id proto.Snowflake, roles ...proto.Snowflake) proto.Member {
		return proto.Member{User: testUser(id), Roles: roles, JoinedAt: time.Unix(1, 0).UTC()}
	}
	return Record{
		Guild: proto.Guild{ID: guildID, Name: "house", OwnerID: owner, Roles: []proto.Role{
			{ID: guildID, Name: "@everyone", Permissions: proto.PermDefault},
			{ID: modRole, Name: "mod", Position: 5, Permissions: proto.PermMuteMembers | proto.PermDeafenMembers | proto.PermMoveMembers |
				proto.PermKickMembers | proto.PermManageRoles | proto.PermManageChannels | proto.PermManageNicknames | proto.PermManageMessages | proto.PermManageGuild},
			{ID: lowRole, Name: "low", Position: 1},
			{ID: topRole, Name: "top", Position: 9},
		}},
		Channels: []proto.Channel{
			{ID: textID, GuildID: guildID, Type: proto.ChannelText, Name: "text"},
			{ID: voiceID, GuildID: guildID, Type: proto.ChannelVoice, Name: "voice", Bitrate: 64000, UserLimit: 2},
			{ID: otherID, GuildID: guildID, Type: proto.ChannelVoice, Name: "other", Bitrate: 96000},
			{ID: stageID, GuildID: guildID, Type: proto.ChannelStage, Name: "stage", Bitrate: 64000},
			{ID: groupID, GuildID: guildID, Type: proto.ChannelCategory, Name: "group"},
		},
		Members: []proto.Member{member(owner), member(ann), member(bob), member(mod, modRole), member(bot)},
	}
}

func newHouse(t testing.TB) *house {
	h := &house{TB: t, nodes: NewNodes(), now: 1, wall: time.UnixMilli(1_700_000_000_000)}
	h.g = Load(testRecord(), Config{
		IDs: proto.NewGenerator(1), Random: rand.NewChaCha8([32]byte{1}), TokenKey: testKey, Nodes: h.nodes,
	})
	h.announce("v1", "v1:443")
	return h
}

func (h *house) announce(node, endpoint string) {
	if h.nodes.Announce(VoiceNode{Node: node, Endpoint: endpoint}) {
		h.out = h.g.NodesChanged(h.wall)
	}
}

func (h *house) pass(d time.Duration) {
	h.now = h.now.Add(d)
	h.wall = h.wall.Add(d)
}

func (h *house) step(r Request) Output {
	h.Helper()
	return h.input(Input{Request: r})
}

func (h *house) input(in Input) Output {
	h.Helper()
	h.pass(time.Millisecond)
	in.Wall = h.wall
	in.Request.Guild = guildID
	h.out = h.g.Handle(in)
	h.checkVoice()
	return h.out
}

// checkVoice holds what must be true of the voice states at any time.
func (h *house) checkVoice() {
	h.Helper()
	joins := map[uint64]bool{}
	for user, v := range h.g.voice {
		if v.user != user || joins[v.join] || v.join == 0 || h.g.channels[v.channel] == nil || h.g.members[user] == nil {
			h.Fatalf("voice state of %d: %+v", user, v)
		}
		joins[v.join] = true
		if v.node != "" && v.enforced != h.g.flags(v) {
			h.Fatalf("voice server enforces %+v for %d, not %+v", v.enforced, user, h.g.flags(v))
		}
	}
	h.checkIndex()
}

// checkIndex holds that what follows from the state does follow from it.
func (h *house) checkIndex() {
	h.Helper()
	g := h.g
	rooms, blind, tuned := map[proto.Snowflake]map[proto.Snowflake]*voiceState{}, map[proto.Snowflake]int{}, map[proto.Intents]int{}
	for user, v := range g.voice {
		if rooms[v.channel] == nil {
			rooms[v.channel] = map[proto.Snowflake]*voiceState{}
		}
		rooms[v.channel][user] = v
	}
	for user, hidden := range g.hidden {
		if len(hidden) == 0 || g.online[user] == nil {
			h.Fatalf("%d has %d channels hidden, and is not online or sees all", user, len(hidden))
		}
		for id := range hidden {
			blind[id]++
		}
	}
	for _, s := range g.sessions {
		tuned[s.intents]++
	}
	if !reflect.DeepEqual(rooms, g.rooms) || !maps.Equal(blind, g.blind) || !maps.Equal(tuned, g.tuned) {
		h.Fatalf("index is\n%v %v %v, should be\n%v %v %v", g.rooms, g.blind, g.tuned, rooms, blind, tuned)
	}
	if order := slices.Sorted(maps.Keys(g.members)); !slices.Equal(g.memberIDs(), order) {
		h.Fatalf("the order of members is %v, should be %v", g.order, order)
	}
}

func ref(user proto.Snowflake) SessionRef {
	return SessionRef{Gateway: "g1", Session: fmt.Sprint("s", user), User: user}
}

func (h *house) attach(users ...proto.Snowflake) {
	h.Helper()
	for _, user := range users {
		h.step(Request{Attach: &Attach{SessionRef: ref(user), Bot: user == bot, Intents: proto.IntentsKnown}})
	}
}

func (h *house) join(user, channel proto.Snowflake) Output {
	h.Helper()
	return h.op4(ref(user), channel, false, false)
}

func (h *house) op4(r SessionRef, channel proto.Snowflake, mute, deaf bool) Output {
	h.Helper()
	data := proto.VoiceStateUpdateData{GuildID: guildID, SelfMute: mute, SelfDeaf: deaf}
	if channel != 0 {
		data.ChannelID = &channel
	}
	return h.step(Request{Voice: &VoiceRequest{SessionRef: r, State: data}})
}

// as makes a call of a user; params are "key=value".
func (h *house) as(user proto.Snowflake, op, body string, params ...string) *Result {
	h.Helper()
	return h.call(Actor{User: *testUser(user)}, op, body, params...)
}

func (h *house) admin(op, body string, params ...string) *Result {
	h.Helper()
	return h.call(Actor{Admin: true}, op, body, params...)
}

func (h *house) call(actor Actor, op, body string, params ...string) *Result {
	h.Helper()
	return h.callOn(nil, actor, op, body, params...)
}

func (h *house) callOn(m *proto.Message, actor Actor, op, body string, params ...string) *Result {
	h.Helper()
	c := &Call{Op: op, Actor: actor, Params: map[string]string{}, Body: json.RawMessage(body)}
	for _, p := range params {
		k, v, _ := strings.Cut(p, "=")
		c.Params[k] = v
	}
	out := h.input(Input{Request: Request{Call: c}, Message: m})
	if out.Reply == nil {
		h.Fatalf("%s: no reply", op)
	}
	if out.Reply.Status >= 400 && (len(out.Writes) > 0 || len(out.Messages) > 0) {
		h.Fatalf("%s failed and still wrote or sent", op)
	}
	return out.Reply
}

// want checks a result's status, and its error code unless that is 0.
func (h *house) want(r *Result, status, code int) {
	h.Helper()
	var e proto.ErrorBody
	if r.Status >= 400 {
		if err := json.Unmarshal(r.Body, &e); err != nil {
			h.Fatal(err)
		}
	}
	if r.Status != status || e.Code != code {
		h.Fatalf("got %d %s, want %d with code %d", r.Status, r.Body, status, code)
	}
}

func as[T any](h *house, data []byte) (v T) {
	h.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		h.Fatalf("%v in %s", err, data)
	}
	return v
}

// events returns the last step's dispatches as "EVENT→s2,s3" (all for everyone).
func (h *house) events() []string {
	var list []string
	for _, m := range h.out.Messages {
		if m.Gateway == nil || m.Gateway.Dispatch == nil {
			continue
		}
		d := m.Gateway.Dispatch
		to := "all"
		if len(d.Sessions) > 0 {
			to = strings.Join(d.Sessions, ",")
		}
		if len(d.Except) > 0 {
			to += " but " + strings.Join(d.Except, ",")
		}
		list = append(list, d.Event+"→"+to)
	}
	return list
}

func (h *house) wantEvents(want ...string) {
	h.Helper()
	if got := h.events(); !slices.Equal(got, want) {
		h.Fatalf("events %q, want %q", got, want)
	}
}

// dispatched returns the payloads of one event of the last step.
func dispatched[T any](h *house, event string) []T {
	h.Helper()
	var list []T
	for _, m := range h.out.Messages {
		if m.Gateway != nil && m.Gateway.Dispatch != nil && m.Gateway.Dispatch.Event == event {
			list = append(list, as[T](h, m.Gateway.Dispatch.Data))
		}
	}
	return list
}

func (h *house) commands() []VoiceCommand {
	var list []VoiceCommand
	for _, m := range h.out.Messages {
		if m.Voice != nil {
			list = append(list, *m.Voice)
		}
	}
	return list
}

// server returns the claims of the one token of the last step.
func (h *house) server() (VoiceServer, token.Voice) {
	h.Helper()
	var found []VoiceServer
	for _, m := range h.out.Messages {
		if m.Gateway != nil && m.Gateway.VoiceServer != nil {
			found = append(found, *m.Gateway.VoiceServer)
		}
	}
	if len(found) != 1 {
		h.Fatalf("%d voice servers were given", len(found))
	}
	claims, err := token.VerifyVoice(testKey, found[0].Token, h.wall)
	if err != nil {
		h.Fatal(err)
	}
	return found[0], claims
}

func (h *house) state(user proto.Snowflake) *voiceState {
	h.Helper()
	v := h.g.voice[user]
	if v == nil {
		h.Fatalf("user %d is not in voice", user)
	}
	return v
}
