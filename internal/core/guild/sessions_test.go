package guild

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

func TestAttachSendsTheGuildAsSeen(t *testing.T) {
	h := newHouse(t)
	h.attach(bob, mod)
	h.join(bob, otherID)
	h.join(mod, voiceID)
	h.want(h.admin(OpOverwritePut, `{"type":1,"deny":"1024"}`, "channel=201", "target=2"), 204, 0)
	h.attach(ann)
	h.wantEvents("PRESENCE_UPDATE→all but s2", "GUILD_CREATE→s2")
	s := dispatched[proto.GuildCreate](h, "GUILD_CREATE")[0]
	if len(s.Channels) != 4 || len(s.VoiceStates) != 1 || s.VoiceStates[0].UserID != bob || len(s.Members) != 5 || s.MemberCount != 5 ||
		len(s.Presences) != 3 || s.Large || len(s.Roles) != 4 || s.JoinedAt.IsZero() {
		t.Fatalf("%+v", s)
	}
	for _, ch := range s.Channels {
		if ch.ID == voiceID {
			t.Fatal("a hidden channel is shown")
		}
	}
	var raw map[string]json.RawMessage
	for _, d := range dispatched[json.RawMessage](h, "GUILD_CREATE") {
		raw = as[map[string]json.RawMessage](h, d)
	}
	for _, list := range []string{"emojis", "stickers", "features", "threads", "stage_instances", "presences"} {
		if string(raw[list]) == "null" || raw[list] == nil {
			t.Errorf("%s is not a list", list)
		}
	}
}

func TestAttachTwiceCountsOnce(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	h.attach(ann)
	h.wantEvents() // the answer is under way
	h.wall = h.wall.Add(answerFresh)
	h.attach(ann)
	h.wantEvents("GUILD_CREATE→s2")
	h.step(Request{Detach: &Detach{SessionRef: ref(ann)}})
	if !h.g.Idle() || len(h.g.gateways) != 0 || len(h.g.hidden) != 0 || len(h.g.online) != 0 {
		t.Fatal("something of the session stays")
	}
}

func TestStrangersAndThievesAreIgnored(t *testing.T) {
	h := newHouse(t)
	h.attach(ann)
	thief := SessionRef{Gateway: "g1", Session: "s2", User: bob}
	for name, r := range map[string]Request{
		"attach of a stranger":    {Attach: &Attach{SessionRef: ref(77)}},
		"attach to another's":     {Attach: &Attach{SessionRef: thief}},
		"detach of another's":     {Detach: &Detach{SessionRef: thief}},
		"presence of another's":   {Presence: &PresenceRequest{SessionRef: thief, Status: proto.PresenceData{Status: "dnd"}}},
		"members for another's":   {Members: &MembersRequest{SessionRef: thief, Query: proto.RequestGuildMembersData{UserIDs: proto.SnowflakeSet{ann}}}},
		"voice of another's":      {Voice: &VoiceRequest{SessionRef: thief}},
		"status that is none":     {Presence: &PresenceRequest{SessionRef: ref(ann), Status: proto.PresenceData{Status: "nonsense"}}},
		"activity that is broken": {Presence: &PresenceRequest{SessionRef: ref(ann), Status: proto.PresenceData{Status: "dnd", Activities: []json.RawMessage{json.RawMessage("{")}}}},
		"nothing":                 {},
	} {
		if out := h.step(r); len(out.Messages) != 0 || len(out.Writes) != 0 || out.Reply != nil {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

func TestPresenceOfManySessions(t *testing.T) {
	h := newHouse(t)
	h.attach(bob)
	second := SessionRef{Gateway: "g1", Session: "second", User: ann}
	attach := func(r SessionRef, status string) {
		h.step(Request{Attach: &Attach{SessionRef: r, Intents: proto.IntentsKnown, Status: &proto.PresenceData{Status: status}}})
	}
	set := func(r SessionRef, status string) {
		h.step(Request{Presence: &PresenceRequest{SessionRef: r, Status: proto.PresenceData{Status: status}}})
	}
	want := func(status string) {
		t.Helper()
		p := dispatched[proto.Presence](h, "PRESENCE_UPDATE")
		if status == "" && len(p) != 0 || status != "" && (len(p) != 1 || p[0].Status != status) {
			t.Fatalf("%+v, want %q", p, status)
		}
	}
	attach(ref(ann), "invisible")
	want("")
	attach(second, "idle")
	want("idle")
	set(ref(ann), "dnd")
	want("dnd")
	set(second, "online")
	want("")
	h.step(Request{Detach: &Detach{SessionRef: ref(ann)}})
	want("online")
	h.step(Request{Detach: &Detach{SessionRef: second}})
	want("offline")
}

func TestMembersRequest(t *testing.T) {
	h := newHouse(t)
	for i := range proto.Snowflake(1500) {
		h.g.members[5000+i] = &proto.Member{User: &proto.User{ID: 5000 + i, Username: fmt.Sprint("user", i)}, Roles: []proto.Snowflake{}}
	}
	h.attach(ann)
	text := func(s string) *string { return &s }
	for name, c := range map[string]struct {
		query   proto.RequestGuildMembersData
		chunks  int
		members int
		missing int
	}{
		"all":           {proto.RequestGuildMembersData{Query: text("")}, 2, 1505, 0},
		"by name":       {proto.RequestGuildMembersData{Query: text("bOb"), Limit: 10}, 1, 1, 0},
		"limited":       {proto.RequestGuildMembersData{Query: text("user"), Limit: 7}, 1, 7, 0},
		"limit beyond":  {proto.RequestGuildMembersData{Query: text("user"), Limit: 5000}, 1, 100, 0},
		"by id":         {proto.RequestGuildMembersData{UserIDs: proto.SnowflakeSet{ann, 77, bob}}, 1, 2, 1},
		"nobody":        {proto.RequestGuildMembersData{Query: text("zz"), Limit: 1}, 1, 0, 0},
		"without query": {proto.RequestGuildMembersData{}, 0, 0, 0},
	} {
		c.query.Nonce, c.query.Presences = "n", true
		h.step(Request{Members: &MembersRequest{SessionRef: ref(ann), Query: c.query}})
		chunks := dispatched[proto.GuildMembersChunk](h, "GUILD_MEMBERS_CHUNK")
		members, missing := 0, 0
		for i, chunk := range chunks {
			members, missing = members+len(chunk.Members), missing+len(chunk.NotFound)
			if chunk.ChunkIndex != i || chunk.ChunkCount != len(chunks) || chunk.Nonce != "n" || len(chunk.Members) > maxChunk {
				t.Errorf("%s: chunk %d of %d", name, chunk.ChunkIndex, chunk.ChunkCount)
			}
		}
		if len(chunks) != c.chunks || members != c.members || missing != c.missing {
			t.Errorf("%s: %d chunks, %d members, %d missing", name, len(chunks), members, missing)
		}
	}
	h.step(Request{Attach: &Attach{SessionRef: ref(bot), Intents: proto.IntentGuilds}})
	if s := dispatched[proto.GuildCreate](h, "GUILD_CREATE")[0]; !s.Large || len(s.Members) != 1 || s.MemberCount != 1505 || len(s.Presences) != 0 {
		t.Fatalf("%d members of a large guild", len(s.Members))
	}
	h.step(Request{Members: &MembersRequest{SessionRef: ref(bot), Query: proto.RequestGuildMembersData{Query: text("")}}})
	h.wantEvents() // all members need the GUILD_MEMBERS intent
}

func TestMemberSeesItsOwnUpdateWithoutTheIntent(t *testing.T) {
	h := newHouse(t)
	h.step(Request{Attach: &Attach{SessionRef: ref(ann), Intents: proto.IntentGuilds}})
	h.want(h.as(ann, OpMemberUpdate, `{"nick":"A"}`, "user=2"), 200, 0)
	h.wantEvents("GUILD_MEMBER_UPDATE→s2") // and nobody else is there to be told
	renamed := *testUser(ann)
	renamed.Username = "anna"
	h.want(h.call(Actor{User: renamed}, OpMemberRefresh, ""), 204, 0)
	if len(h.out.Writes) != 0 || h.g.members[ann].User.Username != "anna" {
		t.Fatal("the new name is not known")
	}
}

func TestRoleThatGivesSightShowsChannels(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.want(h.admin(OpOverwritePut, `{"type":0,"deny":"1024"}`, "channel=200", "target=100"), 204, 0)
	h.wantEvents("CHANNEL_DELETE→s2,s3")
	h.want(h.admin(OpOverwritePut, `{"type":0,"allow":"1024"}`, "channel=200", "target=301"), 204, 0)
	h.wantEvents()
	h.want(h.as(owner, OpMemberRoleAdd, "", "user=2", "role=301"), 204, 0)
	h.wantEvents("GUILD_MEMBER_UPDATE→all", "CHANNEL_CREATE→s2")
	h.want(h.as(owner, OpMessageCreate, `{"content":"x"}`, "channel=200"), 200, 0)
	h.wantEvents("MESSAGE_CREATE→s2")
	h.want(h.as(bob, OpMessageCreate, `{"content":"x"}`, "channel=200"), 403, proto.ErrMissingAccess)
	h.want(h.as(owner, OpRoleDelete, "", "role=301"), 204, 0)
	h.wantEvents("GUILD_ROLE_DELETE→all", "CHANNEL_DELETE→s2")
}

// A bot is sent all members of a guild up to its large_threshold, and of a larger
// one those in voice and, with the intent, those online.
func TestLargeGuildsAreSentInPart(t *testing.T) {
	h := newHouse(t)
	for i := range proto.Snowflake(100) {
		h.g.members[5000+i] = &proto.Member{User: &proto.User{ID: 5000 + i}, Roles: []proto.Snowflake{}}
	}
	h.attach(ann, bob, mod)
	h.join(bob, otherID)
	all := proto.IntentsKnown
	for _, c := range []struct {
		intents            proto.Intents
		threshold          int
		large              bool
		members, presences int
	}{
		{all, 0, false, 105, 4}, {all, 105, false, 105, 4}, {all, 104, true, 4, 4},
		{all &^ proto.IntentGuildPresences, 105, false, 105, 0}, {all &^ proto.IntentGuildPresences, 50, true, 2, 0},
	} {
		h.wall = h.wall.Add(answerFresh)
		h.step(Request{Attach: &Attach{SessionRef: ref(bot), Bot: true, Intents: c.intents, Large: c.threshold}})
		s := dispatched[proto.GuildCreate](h, "GUILD_CREATE")[0]
		if s.Large != c.large || len(s.Members) != c.members || len(s.Presences) != c.presences || s.MemberCount != 105 || len(s.VoiceStates) != 1 {
			t.Errorf("%+v: large %v, %d members, %d presences", c, s.Large, len(s.Members), len(s.Presences))
		}
		if s.VoiceStates[0].UserID != bob || s.VoiceStates[0].SessionID != "s3" || s.VoiceStates[0].Member != nil {
			t.Errorf("voice state %+v", s.VoiceStates[0])
		}
	}
	h.wall = h.wall.Add(answerFresh)
	h.step(Request{Attach: &Attach{SessionRef: ref(bot), Bot: true, Intents: all &^ proto.IntentGuilds}})
	h.wantEvents("GUILD_CREATE→s" + bot.String())
	if d := h.out.Messages[0].Gateway.Dispatch; string(d.Data) != "{}" || d.Intent != proto.IntentGuilds {
		t.Errorf("who does not want GUILDS is sent %+v", d)
	}
}

// A repeat is answered when the answer before had time to arrive, and not when the owner
// was slow to give it.
func TestALostAnswerIsRepeatedSoon(t *testing.T) {
	for _, c := range []struct {
		answered, waited time.Duration // before the repeat
		again            bool
	}{
		{5 * time.Second, 5 * time.Second, true},
		{100 * time.Millisecond, 5 * time.Second, false},
		{5 * time.Second, 0, false},
		{9 * time.Second, 20 * time.Second, false},
		{answerFresh, time.Minute, true},
		{time.Second, -time.Second, false},
	} {
		h := newHouse(t)
		h.attach(ann)
		h.wall = h.wall.Add(c.answered)
		h.step(Request{Attach: &Attach{SessionRef: ref(ann), Intents: proto.IntentsKnown, Waited: c.waited}})
		if got := len(dispatched[proto.GuildCreate](h, "GUILD_CREATE")) == 1; got != c.again {
			t.Errorf("answered %v and asked %v before: answered again %v", c.answered, c.waited, got)
		}
	}
}

// What a snapshot shows of somebody is never older than the last change.
func TestSnapshotsFollowChanges(t *testing.T) {
	h := newHouse(t)
	h.attach(ann, bob)
	h.join(bob, otherID)
	look := func() (s proto.GuildCreate) {
		h.wall = h.wall.Add(answerFresh)
		h.step(Request{Attach: &Attach{SessionRef: ref(ann), Intents: proto.IntentsKnown}})
		return dispatched[proto.GuildCreate](h, "GUILD_CREATE")[0]
	}
	look()
	h.op4(ref(bob), otherID, true, false)
	h.want(h.admin(OpMemberUpdate, `{"nick":"B"}`, "user=3"), 200, 0)
	h.step(Request{Presence: &PresenceRequest{SessionRef: ref(bob), Status: proto.PresenceData{Status: "dnd"}}})
	s := look()
	if !s.VoiceStates[0].SelfMute || s.Members[2].Nick == nil || s.Presences[1].Status != "dnd" {
		t.Fatalf("%+v", s)
	}
	second := SessionRef{Gateway: "g1", Session: "second", User: bob}
	h.step(Request{Attach: &Attach{SessionRef: second, Intents: proto.IntentsKnown, Status: &proto.PresenceData{Status: "idle"}}})
	h.step(Request{Detach: &Detach{SessionRef: ref(bob)}})
	if s := look(); s.Presences[1].Status != "idle" || len(s.VoiceStates) != 0 {
		t.Fatalf("%+v", s)
	}
	h.want(h.admin(OpMemberUpdate, `{"nick":"C"}`, "user=3"), 200, 0)
	look()
	h.want(h.admin(OpMemberUpdate, `{"nick":"D"}`, "user=3"), 200, 0)
	h.g.Rollback()
	if s := look(); *s.Members[2].Nick != "C" {
		t.Fatalf("after a rollback the nick is %s", *s.Members[2].Nick)
	}
}

// bigHouse has so many people more, who are online and in one channel.
func bigHouse(tb testing.TB, n int) *house {
	h := newHouse(tb)
	for i := range proto.Snowflake(n) {
		h.g.members[5000+i] = &proto.Member{User: &proto.User{ID: 5000 + i, Username: fmt.Sprint("user", i)}, Roles: []proto.Snowflake{}}
	}
	in := otherID
	for i := range proto.Snowflake(n) {
		h.g.Handle(Input{Wall: h.wall, Request: Request{Guild: guildID, Attach: &Attach{SessionRef: ref(5000 + i), Intents: proto.IntentGuildVoice}}})
		h.g.Handle(Input{Wall: h.wall, Request: Request{Guild: guildID, Voice: &VoiceRequest{SessionRef: ref(5000 + i), State: proto.VoiceStateUpdateData{ChannelID: &in}}}})
	}
	h.checkVoice()
	return h
}

// What one does costs as much among thousands as among a hundred.
func TestJoinCostsTheSameInABigGuild(t *testing.T) {
	measure := func(n int) float64 {
		h := bigHouse(t, n)
		in, who := otherID, ref(ann)
		h.attach(ann)
		return testing.AllocsPerRun(50, func() {
			h.g.Handle(Input{Wall: h.wall, Request: Request{Guild: guildID, Voice: &VoiceRequest{SessionRef: who, State: proto.VoiceStateUpdateData{ChannelID: &in}}}})
			h.g.Handle(Input{Wall: h.wall, Request: Request{Guild: guildID, Voice: &VoiceRequest{SessionRef: who}}})
		})
	}
	if few, many := measure(100), measure(5000); many > few+2 {
		t.Errorf("%v allocations among 100, %v among 5,000", few, many)
	}
}

// Among many receivers, those who are not are listed when they are fewer.
func TestCrowdThatMostMaySeeIsNotListed(t *testing.T) {
	h := bigHouse(t, 200)
	h.attach(ann, bob)
	h.want(h.admin(OpOverwritePut, `{"type":1,"deny":"1024"}`, "channel=202", "target=3"), 204, 0)
	h.op4(ref(5000), otherID, true, false)
	h.wantEvents("VOICE_STATE_UPDATE→all but s3")
	h.want(h.admin(OpOverwritePut, `{"type":0,"deny":"1024"}`, "channel=202", "target=100"), 204, 0)
	h.want(h.admin(OpOverwritePut, `{"type":1,"allow":"1024"}`, "channel=202", "target=2"), 204, 0)
	h.op4(ref(5001), otherID, true, false)
	h.wantEvents("VOICE_STATE_UPDATE→s2,s5001")
}

// BenchmarkJoin10000 is one join and one leave in a channel of ten thousand.
func BenchmarkJoin10000(b *testing.B) {
	h := bigHouse(b, 10_000)
	h.attach(ann)
	in, who := otherID, ref(ann)
	b.ReportAllocs()
	for b.Loop() {
		h.g.Handle(Input{Wall: h.wall, Request: Request{Guild: guildID, Voice: &VoiceRequest{SessionRef: who, State: proto.VoiceStateUpdateData{ChannelID: &in}}}})
		h.g.Handle(Input{Wall: h.wall, Request: Request{Guild: guildID, Voice: &VoiceRequest{SessionRef: who}}})
	}
}

// BenchmarkAttach10000 is one newcomer to a guild where ten thousand are in voice.
func BenchmarkAttach10000(b *testing.B) {
	h := bigHouse(b, 10_000)
	a := &Attach{SessionRef: ref(ann), Intents: proto.IntentGuilds | proto.IntentGuildVoice, Large: 50}
	b.ReportAllocs()
	for b.Loop() {
		h.g.Handle(Input{Wall: h.wall, Request: Request{Guild: guildID, Attach: a}})
	}
}

// BenchmarkVoiceUpdate is one self mute in a guild of a thousand people online.
func BenchmarkVoiceUpdate(b *testing.B) {
	h := newHouse(b)
	for i := range proto.Snowflake(1000) {
		h.g.members[5000+i] = &proto.Member{User: &proto.User{ID: 5000 + i, Username: fmt.Sprint("user", i)}, Roles: []proto.Snowflake{}}
		h.attach(5000 + i)
	}
	h.join(5000, otherID)
	ch := otherID
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h.g.Handle(Input{Wall: h.wall, Request: Request{Guild: guildID, Voice: &VoiceRequest{
			SessionRef: ref(5000), State: proto.VoiceStateUpdateData{ChannelID: &ch, SelfMute: i%2 == 0},
		}}})
	}
}
