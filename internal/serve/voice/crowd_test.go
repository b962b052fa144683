package voice

import (
	"slices"
	"testing"

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
