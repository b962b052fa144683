package guilds

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// part is one guild node of a fleet of two, with its own idea of the fleet.
type part struct {
	*Service
	name string
	view atomic.Pointer[fleet.View]
	stop func()
}

// viewOf returns the fleet of some guild nodes, a gateway and a voice node.
func viewOf(guildNodes ...string) *fleet.View {
	table := fleet.NewTable(1, fleet.Member{Name: "gw", Epoch: 1, Roles: fleet.Gateway})
	table.Hear(1, fleet.Member{Name: "v", Epoch: 1, Roles: fleet.Voice, Endpoint: "v:443"})
	for _, name := range guildNodes {
		table.Hear(1, fleet.Member{Name: name, Epoch: 1, Roles: fleet.Guilds})
	}
	return table.View()
}

func (p *part) sees(v *fleet.View) {
	p.view.Store(v)
	p.Fleet(v)
	p.Members(v.Members())
}

func (r *rig) part(name string, v *fleet.View) *part {
	r.Helper()
	p := &part{name: name}
	p.view.Store(v)
	p.Service = New(Config{Node: name, Owner: name + "/1", Number: uint16(name[0]), View: p.view.Load, TokenKey: []byte("key"), Shards: 2}, r.bus, r.store)
	group := run.NewGroup(context.Background(), slog.New(slog.DiscardHandler))
	if err := p.Start(group); err != nil {
		r.Fatal(err)
	}
	p.stop = func() { group.Stop(); group.Wait(); p.unsubscribe() } // it dies: no Close
	r.Cleanup(p.stop)
	p.sees(v)
	return p
}

func (r *rig) ask(node, op, body string, params ...string) guild.Result {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	c := &guild.Call{Op: op, Actor: guild.Actor{User: user()}, Params: map[string]string{}, Body: json.RawMessage(body)}
	for i := 0; i < len(params); i += 2 {
		c.Params[params[i]] = params[i+1]
	}
	var result guild.Result
	if err := r.bus.Request(ctx, guild.OwnerSubject(node), guild.Request{Guild: home, Call: c}, &result); err != nil {
		r.Fatalf("%s of %s: %v", op, node, err)
	}
	return result
}

// witnesses answers claims as a gateway and a voice node would, of one user who is in
// voice.
func (r *rig) witnesses(channel *atomic.Uint64) {
	r.Helper()
	stop, err := r.bus.Subscribe(guild.SubjectClaimed, func(m bus.Message) {
		var c guild.Claimed
		if err := m.Decode(&c); err != nil {
			r.Error(err)
		}
		tell := func(q guild.Request) {
			q.Guild, q.Claim = c.Guild, c.Generation
			r.publish(guild.OwnerSubject(c.Node), q)
		}
		if id := proto.Snowflake(channel.Load()); id != 0 {
			ref := guild.SessionRef{Gateway: "gw", Session: "s", User: ann}
			tell(guild.Request{Attach: &guild.Attach{
				SessionRef: ref, Intents: proto.IntentsKnown, Known: true,
				Voice: &proto.VoiceStateUpdateData{GuildID: home, ChannelID: &id, SelfMute: true},
			}})
			tell(guild.Request{Report: &guild.VoiceReport{
				User: ann, Join: 77, Node: "v", Connected: true, Transport: "udp", Channel: id, Session: "s",
				Flags: guild.VoiceFlags{Permissions: proto.PermAll},
			}})
		}
		tell(guild.Request{Present: &guild.Present{Node: "gw", Role: guild.RoleGateway}})
		tell(guild.Request{Present: &guild.Present{Node: "v", Role: guild.RoleVoice}})
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(stop)
}

func ownerAndOther(v *fleet.View) (owner, other string) {
	if v.GuildOwner(uint64(home)) == "a" {
		return "a", "b"
	}
	return "b", "a"
}

func TestAnotherOwnerGoesOn(t *testing.T) {
	r := newRig(t)
	var inVoice atomic.Uint64
	r.witnesses(&inVoice)
	both := viewOf("a", "b")
	parts := map[string]*part{"a": r.part("a", both), "b": r.part("b", both)}
	owner, other := ownerAndOther(both)
	gateway := listen[guild.GatewayMessage](r, guild.GatewaySubject("gw"))

	// Wherever a request comes, the owner alone handles it.
	r.want(r.ask(other, guild.OpGuildCreate, `{"name":"home"}`), 201)
	var channels []proto.Channel
	if err := json.Unmarshal(r.want(r.ask(owner, guild.OpChannelList, ""), 200).Body, &channels); err != nil {
		t.Fatal(err)
	}
	_, held, err := r.store.TakeGuild(t.Context(), home, owner+"/1")
	if err != nil || held.Generation != 1 {
		t.Fatalf("%+v %v", held, err)
	}

	inVoice.Store(uint64(channels[1].ID))
	parts[owner].stop()
	alone := viewOf(other)
	parts[other].sees(alone)
	r.publish(guild.OwnerSubject(other), guild.Request{Guild: home, Wake: &guild.Wake{Gateway: "gw"}})
	// This waits until all have answered, and so meets the member's voice state.
	r.want(r.ask(other, guild.OpMemberUpdate, `{"mute":true}`, "user", ann.String()), 200)
	for {
		m := next(r, gateway)
		if m.Dispatch == nil {
			continue
		}
		if m.Dispatch.Event == "GUILD_CREATE" {
			t.Error("the session was sent the guild again")
		}
		if m.Dispatch.Event != "VOICE_STATE_UPDATE" {
			continue
		}
		var state proto.VoiceState
		if err := json.Unmarshal(m.Dispatch.Data, &state); err != nil {
			t.Fatal(err)
		}
		if m.Dispatch.Generation != 2 || !state.Mute || !state.SelfMute || state.SessionID != "s" {
			t.Errorf("generation %d, %+v", m.Dispatch.Generation, state)
		}
		break
	}
}

// TestTwoOwnersNeverBothWrite lets two nodes both believe that they are the owner.
func TestTwoOwnersNeverBothWrite(t *testing.T) {
	r := newRig(t)
	var inVoice atomic.Uint64
	r.witnesses(&inVoice)
	a := r.part("a", viewOf("a"))
	r.part("b", viewOf("b"))
	r.want(r.ask("a", guild.OpGuildCreate, `{"name":"home"}`), 201)
	// b takes the guild; a does not hear of it.
	for _, unsubscribe := range a.unsub {
		unsubscribe()
	}
	a.unsub = nil
	r.want(r.ask("b", guild.OpGuildUpdate, `{"name":"b's"}`), 200)
	sh := a.shardOf(home)
	replies := make(chan *guild.Result, 1)
	update := guild.Request{Guild: home, Call: &guild.Call{
		Op: guild.OpGuildUpdate, Actor: guild.Actor{User: user(), Admin: true}, Body: json.RawMessage(`{"name":"a's"}`),
	}}
	sh.mailbox.Post(delivery{do: func(now clock.Time, wall time.Time) {
		replies <- sh.handle(context.Background(), now, guild.Input{Wall: wall, Request: update}, delivery{})
		if sh.guilds[home] != nil {
			t.Error("an owner that was refused keeps the guild")
		}
	}})
	if reply := next(r, replies); reply == nil || reply.Status != 503 {
		t.Errorf("%+v", reply)
	}
	var info proto.Guild
	if err := json.Unmarshal(r.want(r.ask("b", guild.OpGuildGet, ""), 200).Body, &info); err != nil {
		t.Fatal(err)
	}
	if info.Name != "b's" {
		t.Errorf("the guild is called %q", info.Name)
	}
}

func TestAnOwnerThatHearsOfAnotherLetsGo(t *testing.T) {
	r := newRig(t)
	a := r.part("a", viewOf("a"))
	// Nobody answers for gateway and voice node, so the call waits until that is given up.
	r.want(r.ask("a", guild.OpGuildCreate, `{"name":"home"}`), 201)
	r.publish(guild.SubjectClaimed, guild.Claimed{Guild: home, Generation: 9, Node: "b"})
	loaded := make(chan bool, 1)
	ask := func() bool {
		sh := a.shardOf(home)
		sh.mailbox.Post(delivery{do: func(clock.Time, time.Time) { loaded <- sh.guilds[home] != nil }})
		return next(r, loaded)
	}
	for deadline := time.Now().Add(20 * time.Second); ask(); {
		if time.Now().After(deadline) {
			t.Fatal("it keeps the guild")
		}
	}
}

func TestWhatWaitsForARebuildIsBounded(t *testing.T) {
	r := newRig(t)
	sh, wall := r.woken(io.Discard)
	d := r.delivery(guild.Request{Call: &guild.Call{Op: guild.OpGuildGet, Actor: guild.Actor{Admin: true}}})
	for range maxHeld + 10 {
		sh.deliver(t.Context(), 1, wall, d)
	}
	if n := len(sh.gathering[home].waiting); n != maxHeld {
		t.Errorf("%d wait", n)
	}
	sh.endRollCalls(t.Context(), clock.Time(1).Add(time.Hour), wall)
	if len(sh.gathering) != 0 || sh.guilds[home].waiting != nil {
		t.Error("it waits for nodes that never answer")
	}
}

// woken returns a shard, not running, that a gateway had take the guild: it calls the
// roll.
func (r *rig) woken(log io.Writer) (sh *shard, wall time.Time) {
	r.Helper()
	p := r.part("a", viewOf("a"))
	r.want(r.ask("a", guild.OpGuildCreate, `{"name":"home"}`), 201)
	p.stop()
	s := New(Config{
		Node: "b", Owner: "b/1", View: func() *fleet.View { return viewOf("b") }, Shards: 1, Log: slog.New(slog.NewTextHandler(log, nil)),
	}, r.bus, r.store)
	sh, wall = s.shards[0], time.Unix(1, 0)
	sh.deliver(r.Context(), 1, wall, r.delivery(guild.Request{Wake: &guild.Wake{Gateway: "gw"}}))
	if sh.gathering[home] == nil {
		r.Fatal("nobody is asked who is there")
	}
	return sh, wall
}

func (r *rig) delivery(q guild.Request) delivery {
	r.Helper()
	q.Guild = home
	data, err := bus.Encode(q)
	if err != nil {
		r.Fatal(err)
	}
	return delivery{guild: home, message: bus.Message{Data: data}}
}

// TestAnswersThatWaitAreHeard has a slow store keep the shard until the time to answer
// is over: the answers are there, and nobody is taken out of voice.
func TestAnswersThatWaitAreHeard(t *testing.T) {
	r := newRig(t)
	var log strings.Builder
	before := monotonic.Now()
	sh, wall := r.woken(&log)
	e := sh.gathering[home]
	if more := e.until.Sub(clock.Time(1).Add(rollCallFor)); more <= 0 || more > monotonic.Now().Sub(before) {
		t.Errorf("the others have %v more for the time that the store took", more)
	}
	for _, p := range []guild.Present{{Node: "gw", Role: guild.RoleGateway}, {Node: "v", Role: guild.RoleVoice}} {
		sh.mailbox.Post(r.delivery(guild.Request{Claim: e.tenure.Generation, Present: &p}))
	}
	sh.endRollCalls(t.Context(), clock.Time(1).Add(time.Hour), wall)
	if len(sh.gathering) != 0 || strings.Contains(log.String(), "without word") {
		t.Errorf("%d wait; the log says %s", len(sh.gathering), log.String())
	}
}

// TestWhoDoesNotAnswerIsAskedAgain calls the roll while the nodes are not back on the bus.
func TestWhoDoesNotAnswerIsAskedAgain(t *testing.T) {
	r := newRig(t)
	sh, wall := r.woken(io.Discard)
	claims := listen[guild.Claimed](r, guild.SubjectClaimed)
	e := sh.gathering[home]
	for range 3 {
		sh.endRollCalls(t.Context(), e.until.Add(-time.Millisecond), wall)
	}
	if again, want := next(r, claims), sh.claimed(home, e); again != want {
		t.Errorf("asked %+v, not %+v", again, want)
	}
	sh.publish(guild.SubjectClaimed, guild.Claimed{Guild: home, Node: "mark"})
	if last := next(r, claims); last.Node != "mark" {
		t.Errorf("asked a third time: %+v", last)
	}
	if sh.gathering[home] == nil {
		t.Error("it did not wait for an answer")
	}
}
