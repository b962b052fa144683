package guilds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/bus/bustest"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	home proto.Snowflake = 1 << 30
	ann  proto.Snowflake = 7
)

// rig is a service with a bus and a store of its own.
type rig struct {
	*testing.T
	bus     *bus.Bus
	store   *store.Store
	service *Service
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, bus: bustest.New(t)}
	st, err := store.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	r.store = st
	if err := st.CreateUser(t.Context(), store.User{User: user(), CreatedAt: time.Unix(0, 0)}); err != nil {
		t.Fatal(err)
	}
	return r
}

// alone is the fleet of one guild node.
func alone() *fleet.Table {
	return fleet.NewTable(1, fleet.Member{Name: "n", Epoch: 1, Roles: fleet.Guilds})
}

func user() proto.User { return proto.User{ID: ann, Username: "ann", Discriminator: "0"} }

// start runs a service on a store until the test or stop ends it.
func (r *rig) start(st Store) (stop func()) {
	r.Helper()
	r.service = New(Config{Node: "n", Owner: "n/1", View: alone().View, TokenKey: []byte("key"), Shards: 2, Metrics: prometheus.NewRegistry()}, r.bus, st)
	group := run.NewGroup(context.Background(), slog.New(slog.DiscardHandler))
	if err := r.service.Start(group); err != nil {
		r.Fatal(err)
	}
	s := r.service
	stop = func() { s.Close(context.Background()); group.Stop(); group.Wait() }
	r.Cleanup(stop)
	return stop
}

func (r *rig) call(op, body string, params ...string) guild.Result {
	r.Helper()
	return r.ask("n", op, body, params...)
}

func (r *rig) want(result guild.Result, status int) guild.Result {
	r.Helper()
	if result.Status != status {
		r.Fatalf("status %d with %s, want %d", result.Status, result.Body, status)
	}
	return result
}

func (r *rig) publish(subject string, m any) {
	r.Helper()
	if err := r.bus.Publish(subject, m); err != nil {
		r.Fatal(err)
	}
}

// listen collects what is sent to a subject.
func listen[T any](r *rig, subject string) <-chan T {
	r.Helper()
	ch := make(chan T, 64)
	unsubscribe, err := r.bus.Subscribe(subject, func(m bus.Message) {
		var v T
		if err := m.Decode(&v); err != nil {
			r.Error(err)
		}
		ch <- v
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(unsubscribe)
	return ch
}

func next[T any](r *rig, ch <-chan T) T {
	r.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		r.Fatal("nothing came")
		panic("unreachable")
	}
}

func (r *rig) attach() guild.SessionRef {
	ref := guild.SessionRef{Gateway: "gw", Session: "s", User: ann}
	r.publish(guild.OwnerSubject("n"), guild.Request{Guild: home, Attach: &guild.Attach{SessionRef: ref, Intents: proto.IntentsKnown}})
	return ref
}

func TestGuildOverTheBus(t *testing.T) {
	r := newRig(t)
	stop := r.start(r.store)
	gateway, broadcast := listen[guild.GatewayMessage](r, guild.GatewaySubject("gw")), listen[guild.GatewayMessage](r, guild.SubjectGatewayAll)

	r.want(r.call(guild.OpGuildGet, ""), 404)
	r.want(r.call(guild.OpGuildCreate, `{"name":"home"}`), 201)
	if m := next(r, broadcast); m.Joined == nil || m.Joined.User != ann || m.Joined.Guild != home {
		t.Fatalf("%+v", m)
	}
	r.service.Members([]fleet.Member{{Name: "v", Roles: fleet.Voice, Endpoint: "v:443"}})
	ref := r.attach()
	if m := next(r, gateway); m.Dispatch == nil || m.Dispatch.Event != "GUILD_CREATE" {
		t.Fatalf("%+v", m)
	}

	var channels []proto.Channel
	if err := json.Unmarshal(r.want(r.call(guild.OpChannelList, ""), 200).Body, &channels); err != nil {
		t.Fatal(err)
	}
	text := channels[0].ID.String()
	var message proto.Message
	if err := json.Unmarshal(r.want(r.call(guild.OpMessageCreate, `{"content":"hello"}`, "channel", text), 200).Body, &message); err != nil {
		t.Fatal(err)
	}
	if m := next(r, gateway); m.Dispatch.Event != "MESSAGE_CREATE" {
		t.Fatalf("%+v", m)
	}
	r.want(r.call(guild.OpMessageEdit, `{"content":"bye"}`, "channel", text, "message", message.ID.String()), 200)
	if stored, err := r.store.Message(t.Context(), channels[0].ID, message.ID); err != nil || stored.Content != "bye" {
		t.Fatalf("%+v %v", stored, err)
	}
	next(r, gateway)

	voice := channels[1].ID
	r.publish(guild.OwnerSubject("n"), guild.Request{Guild: home, Voice: &guild.VoiceRequest{SessionRef: ref, State: proto.VoiceStateUpdateData{GuildID: home, ChannelID: &voice}}})
	if m := next(r, gateway); m.Dispatch == nil || m.Dispatch.Event != "VOICE_STATE_UPDATE" {
		t.Fatalf("%+v", m)
	}
	if m := next(r, gateway); m.VoiceServer == nil || m.VoiceServer.Endpoint != "v:443" {
		t.Fatalf("%+v", m)
	}

	stop()
	r.start(r.store) // all that is stored is there again
	var info proto.Guild
	if err := json.Unmarshal(r.want(r.call(guild.OpGuildGet, ""), 200).Body, &info); err != nil {
		t.Fatal(err)
	}
	if info.Name != "home" || len(info.Roles) != 1 {
		t.Fatalf("%+v", info)
	}
	r.want(r.call(guild.OpGuildDelete, ""), 204)
	if _, _, err := r.store.TakeGuild(t.Context(), home, "x"); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	commands := listen[guild.VoiceCommand](r, guild.VoiceSubject("v"))
	r.publish(guild.OwnerSubject("n"), guild.Request{Guild: home, Report: &guild.VoiceReport{User: ann, Join: 5, Node: "v", Connected: true}})
	if c := next(r, commands); !c.End || c.Join != 5 || c.Code != guild.CloseTerminated {
		t.Fatalf("%+v", c)
	}
}

// brokenStore fails writes, or all there is.
type brokenStore struct {
	*store.Store
	loads bool
}

var errBroken = errors.New("disk on fire")

func (b brokenStore) Apply(_ context.Context, _ proto.Snowflake, _ store.Tenure, w []store.Write) error {
	if len(w) == 0 {
		return nil
	}
	return errBroken
}

func (b brokenStore) TakeGuild(ctx context.Context, id proto.Snowflake, owner string) (store.GuildRecord, store.Tenure, error) {
	if b.loads {
		return store.GuildRecord{}, store.Tenure{}, errBroken
	}
	return b.Store.TakeGuild(ctx, id, owner)
}

func TestNothingIsSaidThatCouldNotBeStored(t *testing.T) {
	r := newRig(t)
	stop := r.start(r.store)
	r.want(r.call(guild.OpGuildCreate, `{"name":"home"}`), 201)
	stop()

	stop = r.start(brokenStore{Store: r.store})
	gateway := listen[guild.GatewayMessage](r, guild.GatewaySubject("gw"))
	r.attach()
	next(r, gateway) // GUILD_CREATE
	r.want(r.call(guild.OpGuildUpdate, `{"name":"other"}`), 503)
	var info proto.Guild
	if err := json.Unmarshal(r.want(r.call(guild.OpGuildGet, ""), 200).Body, &info); err != nil {
		t.Fatal(err)
	}
	if info.Name != "home" {
		t.Fatal("a change that was not stored stays in memory")
	}
	stop()
	if len(gateway) != 0 {
		t.Fatalf("an event of it went out: %+v", <-gateway)
	}
	r.start(brokenStore{Store: r.store, loads: true})
	r.want(r.call(guild.OpGuildGet, ""), 503)
}

func TestMalformedRequestsAreDropped(t *testing.T) {
	r := newRig(t)
	r.start(r.store)
	r.publish(guild.OwnerSubject("n"), "not a request")
	r.publish(guild.OwnerSubject("n"), guild.Request{Guild: home})
	r.publish(guild.SubjectClaimed, []int{1})
	r.want(r.call(guild.OpGuildGet, ""), 404) // and it still answers
}

// TestFullMailboxRefusesCalls stands in for a shard that cannot keep up: one
// that never starts.
func TestFullMailboxRefusesCalls(t *testing.T) {
	r := newRig(t)
	s := New(Config{Node: "n", View: alone().View, Shards: 1}, r.bus, r.store)
	unsubscribe, err := r.bus.Subscribe(guild.OwnerSubject("n"), s.receive)
	if err != nil {
		t.Fatal(err)
	}
	defer unsubscribe()
	for range mailboxSize {
		if !s.shards[0].mailbox.Post(delivery{}) {
			t.Fatal("the mailbox is smaller than said")
		}
	}
	r.want(r.call(guild.OpGuildGet, ""), 503)
}

func TestIdleGuildsAndSilentServersAreForgotten(t *testing.T) {
	r := newRig(t)
	s := New(Config{Node: "n", View: alone().View, Shards: 1}, r.bus, r.store)
	sh := s.shards[0]
	ctx, wall := t.Context(), time.Unix(1, 0)
	for id := proto.Snowflake(1); id <= 300; id++ {
		request := guild.Request{Guild: id, Call: &guild.Call{Op: guild.OpGuildGet}}
		if sh.handle(ctx, 1, guild.Input{Wall: wall, Request: request}, delivery{}).Status != 404 {
			t.Fatal("a guild came from nowhere")
		}
	}
	if len(sh.guilds) != 0 {
		t.Fatalf("%d guilds that do not exist are kept", len(sh.guilds))
	}
	create := guild.Request{Guild: home, Call: &guild.Call{Op: guild.OpGuildCreate, Actor: guild.Actor{User: user()}, Body: json.RawMessage(`{"name":"home"}`)}}
	if reply := sh.handle(ctx, 1, guild.Input{Wall: wall, Request: create}, delivery{}); reply.Status != 201 {
		t.Fatalf("%s", reply.Body)
	}
	end := clock.Time(1).Add(idleFor)
	sh.tick(end)
	if len(sh.guilds) != 1 {
		t.Fatal("forgotten too soon")
	}
	sh.tick(end.Add(1))
	if len(sh.guilds) != 0 {
		t.Fatal("an idle guild is kept")
	}
}

func TestIDsAreUniqueAcrossShards(t *testing.T) {
	s := New(Config{Node: "n", Shards: 3}, nil, nil)
	var all []proto.Snowflake
	for range 2000 {
		for _, sh := range s.shards {
			all = append(all, sh.config.IDs.Next(time.UnixMilli(proto.Epoch+5)))
		}
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 6000 {
		t.Fatal(fmt.Sprint(6000-n, " ids were given twice"))
	}
}
