package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

func TestAGuildThatWasTakenRefusesItsOldOwner(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		_, _, err := s.TakeGuild(ctx, 10, "a")
		wantError(t, err, ErrNotFound)
		named := []Write{{Guild: &proto.Guild{ID: 10, Name: "one"}}}
		wantError(t, s.Apply(ctx, 10, Tenure{"a", 1}, named), ErrFenced)
		must(t, s.Apply(ctx, 10, Tenure{Owner: "a"}, named))
		wantError(t, s.Apply(ctx, 10, Tenure{Owner: "b"}, named), ErrFenced) // it exists

		_, held, err := s.TakeGuild(ctx, 10, "a")
		must(t, err)
		equal(t, held, Tenure{"a", 1})
		record, next, err := s.TakeGuild(ctx, 10, "b")
		must(t, err)
		equal(t, next, Tenure{"b", 2})
		equal(t, record.Guild.Name, "one")

		m := proto.Message{ID: 1, ChannelID: 11, GuildID: 10}
		wantError(t, s.Apply(ctx, 10, held, []Write{{Message: &m}}), ErrFenced)
		_, err = s.Message(ctx, 11, 1)
		wantError(t, err, ErrNotFound)
		must(t, s.Apply(ctx, 10, next, []Write{{Message: &m}}))
		must(t, s.Apply(ctx, 10, next, []Write{{DeleteGuild: true}}))
		wantError(t, s.Apply(ctx, 10, next, []Write{{Message: &m}}), ErrFenced)
	})
}

// TestOwnersFightInTurns lets two owners take a guild and write to it as fast as they
// can: whoever writes must have taken it last.
func TestOwnersFightInTurns(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.Apply(ctx, 10, Tenure{Owner: "a"}, []Write{{Guild: &proto.Guild{ID: 10, Name: "0"}}}))
		var group sync.WaitGroup
		for _, owner := range []string{"a", "b"} {
			group.Go(func() {
				for range 20 {
					r, tenure, err := s.TakeGuild(ctx, 10, owner)
					if err == ErrFenced {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					var n int
					_, _ = fmt.Sscan(r.Guild.Name, &n)
					r.Guild.Name = fmt.Sprint(n + 1)
					err = s.Apply(ctx, 10, tenure, []Write{{Guild: &r.Guild}, {Message: &proto.Message{ID: proto.Snowflake(n + 1), ChannelID: 11, GuildID: 10}}})
					if err != nil && err != ErrFenced {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		r, _, err := s.TakeGuild(ctx, 10, "c")
		must(t, err)
		messages, err := s.Messages(ctx, 11, MessageQuery{Limit: 100})
		must(t, err)
		equal(t, r.Guild.Name, fmt.Sprint(len(messages))) // no write was lost under another
	})
}

func TestNodeNumbersAreUnique(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *Store) {
		ctx, now := t.Context(), time.UnixMilli(1_700_000_000_000)
		var mu sync.Mutex
		seen := map[uint16]string{}
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				holder := fmt.Sprint("n", i)
				n, err := s.LeaseNumber(ctx, holder, now, time.Hour)
				mu.Lock()
				defer mu.Unlock()
				if other, taken := seen[n]; taken || err != nil {
					t.Errorf("%s and %s have %d: %v", holder, other, n, err)
				}
				seen[n] = holder
			})
		}
		group.Wait()
		again, err := s.LeaseNumber(ctx, seen[3], now.Add(2*time.Hour), time.Hour)
		must(t, err)
		equal(t, again, uint16(3))
		n, err := s.LeaseNumber(ctx, "late", now.Add(2*time.Hour), time.Hour)
		must(t, err)
		equal(t, n, uint16(0)) // its lease is over
	})
}
