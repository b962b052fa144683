package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubbub.dev/hubbub/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eachDatabase runs f on a fresh SQLite database and, where the environment
// names one, on an empty PostgreSQL database.
func eachDatabase(t *testing.T, f func(t *testing.T, s *Store)) {
	dsns := map[string]string{"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "a b?c#d.db"), "memory": "sqlite::memory:"}
	if dsn := os.Getenv("HUBBUB_TEST_POSTGRES"); dsn != "" {
		dsns["postgres"] = dsn
	}
	for name, dsn := range dsns {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			if name == "postgres" {
				for _, table := range strings.Fields("users tokens applications guilds channels roles members invites messages commands secrets numbers") {
					if _, err := s.db.ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
						t.Fatal(err)
					}
				}
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			f(t, s)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error %v, want %v", got, want)
	}
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		t.Fatalf("got  %s\nwant %s", g, w)
	}
}

func user(id proto.Snowflake, name string) User {
	return User{User: proto.User{ID: id, Username: name, Discriminator: "0"}, PasswordHash: "h'; --", CreatedAt: time.UnixMilli(1700000000123).UTC()}
}

func TestOpenRefusesUnknownDSNWithoutRepeatingIt(t *testing.T) {
	_, err := Open(t.Context(), "mysql://root:hunter2@db")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatal(err)
	}
}

func TestReopenKeepsData(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "hubbub.db")
	for i := range 2 {
		s, err := Open(t.Context(), dsn)
		must(t, err)
		must(t, s.Ping(t.Context()))
		if i == 0 {
			must(t, s.CreateUser(t.Context(), user(7, "ann")))
		}
		u, err := s.UserByID(t.Context(), 7)
		must(t, err)
		equal(t, u, user(7, "ann"))
		must(t, s.Close())
	}
}

func TestUsers(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, user(1, "Ann")))
		wantError(t, s.CreateUser(ctx, user(2, "aNN")), ErrTaken)
		must(t, s.CreateUser(ctx, user(2, "Bob")))

		got, err := s.UserByUsername(ctx, "ANN")
		must(t, err)
		equal(t, got, user(1, "Ann"))
		_, err = s.UserByUsername(ctx, "carol")
		wantError(t, err, ErrNotFound)
		_, err = s.UserByID(ctx, 3)
		wantError(t, err, ErrNotFound)
		_, err = s.UserByID(ctx, 1<<63) // beyond BIGINT
		wantError(t, err, ErrNotFound)

		changed := user(2, "ann")
		wantError(t, s.UpdateUser(ctx, changed), ErrTaken)
		changed.Username = "robert"
		must(t, s.UpdateUser(ctx, changed))
		got, err = s.UserByID(ctx, 2)
		must(t, err)
		equal(t, got, changed)
		wantError(t, s.UpdateUser(ctx, user(9, "nobody")), ErrNotFound)

		n, err := s.CountUsers(ctx)
		must(t, err)
		equal(t, n, 2)
	})
}

func TestTokens(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, user(1, "ann")))
		for i := range byte(3) {
			must(t, s.PutToken(ctx, 1, [32]byte{i}, time.UnixMilli(5)))
		}
		got, err := s.UserByToken(ctx, [32]byte{2})
		must(t, err)
		equal(t, got.ID, proto.Snowflake(1))
		must(t, s.DeleteToken(ctx, [32]byte{2}))
		wantError(t, s.DeleteToken(ctx, [32]byte{2}), ErrNotFound)
		_, err = s.UserByToken(ctx, [32]byte{2})
		wantError(t, err, ErrNotFound)
		must(t, s.DeleteTokens(ctx, 1))
		_, err = s.UserByToken(ctx, [32]byte{0})
		wantError(t, err, ErrNotFound)
	})
}

func TestApplications(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, user(1, "ann")))
		must(t, s.CreateUser(ctx, user(2, "bot")))
		a := Application{Application: proto.Application{ID: 2, Name: "Bot"}, BotID: 2, OwnerID: 1}
		must(t, s.PutApplication(ctx, a))
		a.Description = "plays"
		must(t, s.PutApplication(ctx, a))
		other := a
		other.ID = 3
		wantError(t, s.PutApplication(ctx, other), ErrTaken)

		for _, find := range []func(context.Context, proto.Snowflake) (Application, error){s.ApplicationByID, s.ApplicationByBot} {
			got, err := find(ctx, 2)
			must(t, err)
			if got.Description != "plays" || got.Bot == nil || got.Bot.Username != "bot" || got.Owner == nil || got.Owner.ID != 1 {
				t.Fatalf("%+v", got)
			}
			_, err = find(ctx, 4)
			wantError(t, err, ErrNotFound)
		}
	})
}

func ptr[T any](v T) *T { return &v }

// tester is the owner of the guilds in tests that are not about owners.
const tester = "tester"

// write writes to a guild, making it when it does not exist.
func write(ctx context.Context, s *Store, guild proto.Snowflake, writes []Write) error {
	err := s.Apply(ctx, guild, Tenure{tester, 1}, writes)
	if errors.Is(err, ErrFenced) {
		err = s.Apply(ctx, guild, Tenure{Owner: tester}, writes)
	}
	return err
}

func load(ctx context.Context, s *Store, guild proto.Snowflake) (GuildRecord, error) {
	r, _, err := s.TakeGuild(ctx, guild, tester)
	return r, err
}

func TestGuild(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		ann, bob := user(1, "ann"), user(2, "bob")
		must(t, s.CreateUser(ctx, ann))
		must(t, s.CreateUser(ctx, bob))
		at := time.UnixMilli(1700000000456).UTC()
		guild := proto.Guild{ID: 10, Name: "it's", OwnerID: 1}
		role := proto.Role{ID: 10, Name: "@everyone", Permissions: proto.PermDefault}
		channel := proto.Channel{ID: 11, GuildID: 10, Type: proto.ChannelVoice, Name: "room",
			PermissionOverwrites: []proto.Overwrite{{ID: 10, Deny: proto.PermConnect}}}
		invite := proto.Invite{Code: "abc", GuildID: 10, ChannelID: 11, InviterID: 2, RoleIDs: []proto.Snowflake{12}, CreatedAt: at}
		member := func(u User) proto.Member {
			return proto.Member{User: &u.User, Nick: ptr("n"), Roles: []proto.Snowflake{12}, JoinedAt: at, Mute: true}
		}
		first, second := member(ann), member(bob)
		must(t, write(ctx, s, 10, []Write{{Guild: &guild}, {Role: &role}, {Channel: &channel}, {Member: &first}, {Member: &second}, {Invite: &invite}}))

		want := GuildRecord{Guild: guild, Channels: []proto.Channel{channel}, Members: []proto.Member{first, second}}
		want.Guild.Roles = []proto.Role{role}
		withInviter := invite
		withInviter.Inviter = &bob.User
		want.Invites = []proto.Invite{withInviter}
		got, err := load(ctx, s, 10)
		must(t, err)
		equal(t, got, want)

		of, err := s.ChannelGuild(ctx, 11)
		must(t, err)
		equal(t, of, proto.Snowflake(10))
		of, err = s.InviteGuild(ctx, "abc")
		must(t, err)
		equal(t, of, proto.Snowflake(10))
		ids, err := s.GuildIDsOfUser(ctx, 2)
		must(t, err)
		equal(t, ids, []proto.Snowflake{10})

		second.Nick = nil
		must(t, write(ctx, s, 10, []Write{{Member: &second}, {DeleteMember: 1}, {DeleteRole: 10}, {DeleteInvite: "abc"}, {DeleteChannel: 11}}))
		got, err = load(ctx, s, 10)
		must(t, err)
		equal(t, got, GuildRecord{Guild: guild, Members: []proto.Member{second}})
		_, err = s.ChannelGuild(ctx, 11)
		wantError(t, err, ErrNotFound)

		must(t, write(ctx, s, 10, []Write{{Channel: &channel}, {DeleteGuild: true}}))
		_, err = load(ctx, s, 10)
		wantError(t, err, ErrNotFound)
		_, err = s.ChannelGuild(ctx, 11)
		wantError(t, err, ErrNotFound)
		ids, err = s.GuildIDs(ctx)
		must(t, err)
		equal(t, ids, []proto.Snowflake{})
	})
}

func TestApplyIsAllOrNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		err := write(t.Context(), s, 10, []Write{{Guild: &proto.Guild{ID: 10}}, {}})
		if err == nil {
			t.Fatal("an empty write was accepted")
		}
		_, err = load(t.Context(), s, 10)
		wantError(t, err, ErrNotFound)
	})
}

func TestMessages(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, user(1, "ann")))
		var writes []Write
		for id := proto.Snowflake(1); id <= 9; id++ {
			writes = append(writes, Write{Message: &proto.Message{ID: id, ChannelID: 11, GuildID: 10, Author: user(1, "ann").User, Content: fmt.Sprint("m", id)}})
		}
		must(t, write(ctx, s, 10, writes))
		must(t, s.UpdateUser(ctx, user(1, "anna")))

		for _, c := range []struct {
			query MessageQuery
			want  string
		}{
			{MessageQuery{Limit: 3}, "9 8 7"},
			{MessageQuery{Limit: 500}, "9 8 7 6 5 4 3 2 1"},
			{MessageQuery{Before: 4, Limit: 2}, "3 2"},
			{MessageQuery{After: 4, Limit: 2}, "6 5"},
			{MessageQuery{Around: 5, Limit: 3}, "6 5 4"},
			{MessageQuery{Around: 5, Limit: 1}, "5"},
			{MessageQuery{Before: 1, Limit: 5}, ""},
		} {
			got, err := s.Messages(ctx, 11, c.query)
			must(t, err)
			var ids []string
			for _, m := range got {
				ids = append(ids, m.ID.String())
				equal(t, m.Author.Username, "anna")
			}
			equal(t, strings.Join(ids, " "), c.want)
		}

		edited := *writes[4].Message
		edited.Content = "edited"
		must(t, write(ctx, s, 10, []Write{{Message: &edited}, {DeleteMessage: [2]proto.Snowflake{11, 6}}}))
		got, err := s.Message(ctx, 11, 5)
		must(t, err)
		equal(t, got.Content, "edited")
		_, err = s.Message(ctx, 11, 6)
		wantError(t, err, ErrNotFound)
		must(t, write(ctx, s, 10, []Write{{DeleteChannel: 11}}))
		_, err = s.Message(ctx, 11, 5)
		wantError(t, err, ErrNotFound)
	})
}

func TestCommands(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		command := func(id proto.Snowflake, name string) proto.ApplicationCommand {
			return proto.ApplicationCommand{ID: id, ApplicationID: 2, Type: 1, Name: name, Description: fmt.Sprint("d", id)}
		}
		_, created, err := s.PutCommand(ctx, command(1, "play"))
		must(t, err)
		equal(t, created, true)
		stored, created, err := s.PutCommand(ctx, command(5, "play"))
		must(t, err)
		equal(t, created, false)
		want := command(5, "play")
		want.ID = 1
		equal(t, stored, want)
		_, _, err = s.PutCommand(ctx, command(2, "stop"))
		must(t, err)
		_, _, err = s.PutCommand(ctx, command(2, "play"))
		wantError(t, err, ErrTaken)

		replaced, err := s.ReplaceCommands(ctx, 2, 0, []proto.ApplicationCommand{command(7, "skip"), command(8, "stop")})
		must(t, err)
		equal(t, []proto.Snowflake{replaced[0].ID, replaced[1].ID}, []proto.Snowflake{7, 2})
		all, err := s.Commands(ctx, 2, 0)
		must(t, err)
		equal(t, all, replaced)
		_, err = s.CommandByID(ctx, 2, 1)
		wantError(t, err, ErrNotFound)
		_, err = s.CommandByID(ctx, 3, 7)
		wantError(t, err, ErrNotFound)

		must(t, s.DeleteCommand(ctx, 2, 7))
		wantError(t, s.DeleteCommand(ctx, 2, 7), ErrNotFound)
		replaced, err = s.ReplaceCommands(ctx, 2, 0, nil)
		must(t, err)
		equal(t, len(replaced), 0)
		all, err = s.Commands(ctx, 2, 0)
		must(t, err)
		equal(t, len(all), 0)
	})
}

func TestSecretIsMadeOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		const callers = 8
		var group sync.WaitGroup
		values := make([]string, callers)
		for i := range callers {
			group.Go(func() {
				v, err := s.Secret(t.Context(), "voice", func() []byte { return []byte{byte(i), 0, 255} })
				if err != nil {
					t.Error(err)
				}
				values[i] = string(v)
			})
		}
		group.Wait()
		for _, v := range values {
			equal(t, v, values[0])
		}
	})
}

func TestConcurrentWritersDoNotFail(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		var group sync.WaitGroup
		for g := proto.Snowflake(1); g <= 4; g++ {
			group.Go(func() {
				for i := proto.Snowflake(1); i <= 10; i++ {
					m := proto.Message{ID: i, ChannelID: g, GuildID: g}
					if err := write(t.Context(), s, g, []Write{{Guild: &proto.Guild{ID: g}}, {Message: &m}}); err != nil {
						t.Error(err)
					}
					if _, err := load(t.Context(), s, g); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
	})
}
