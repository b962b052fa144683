package voice

import (
	"encoding/json"
	"slices"
	"testing"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// Of those who come to a crowd everybody is told once, be it one by one or together.
func TestCrowdIsToldOfEverybodyOnce(t *testing.T) {
	const size = 130
	w := newWorld(t, nil)
	first, _, _ := w.join(9, claims(1, 1))
	var last *voiceClient
	for user := proto.Snowflake(2); user <= size; user++ {
		last, _, _ = w.join(8, claims(user, 1))
	}
	var told, introduced proto.VoiceClientsConnect
	if last.expect(proto.VoiceOpClientsConnect, &introduced); len(introduced.UserIDs) != size-1 {
		t.Errorf("the last is told of %d", len(introduced.UserIDs))
	}
	var all []proto.Snowflake
	for len(all) < size-1 {
		told.UserIDs = nil
		first.expect(proto.VoiceOpClientsConnect, &told)
		all = append(all, told.UserIDs...)
	}
	if slices.Sort(all); len(all) != size-1 || len(slices.Compact(all)) != size-1 {
		t.Errorf("the first is told of %d", len(all))
	}
}

// Of a crowd that is cut off by its guild, the one who stays is told of each.
func TestWhoStaysIsToldOfACrowdThatLeaves(t *testing.T) {
	const size = 130
	w := newWorld(t, nil)
	stays, _, _ := w.join(8, claims(1, 1))
	for user := proto.Snowflake(2); user <= size; user++ {
		w.join(8, claims(user, 1))
	}
	for user := proto.Snowflake(2); user <= size; user++ {
		c := claims(user, 1)
		w.publish(guild.VoiceCommand{Guild: c.Guild, User: user, Join: 1, End: true})
	}
	gone := map[proto.Snowflake]bool{}
	for len(gone) < size-1 {
		f, err := stays.read()
		if err != nil {
			t.Fatal(err)
		}
		if f.Op != proto.VoiceOpClientDisconnect {
			continue // they came before
		}
		var who proto.VoiceClientDisconnect
		if err := json.Unmarshal(f.D, &who); err != nil {
			t.Fatal(err)
		}
		if gone[who.UserID] {
			t.Fatalf("told twice of %d", who.UserID)
		}
		gone[who.UserID] = true
	}
}
