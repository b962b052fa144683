package guild

import (
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/proto"
)

func TestWishes(t *testing.T) {
	var w Wishes
	now := clock.Time(time.Hour)
	claim := func() Attach {
		var a Attach
		w.Claim(now, guildID, &a)
		return a
	}
	in := func(channel proto.Snowflake, muted, left bool) {
		t.Helper()
		a := claim()
		if a.Voice == nil || *a.Voice.ChannelID != channel || a.Voice.SelfMute != muted || a.Left != left {
			t.Errorf("%+v", a)
		}
	}
	nothing := func() {
		t.Helper()
		if a := claim(); a.Voice != nil || a.Left {
			t.Errorf("%+v", a)
		}
	}
	nothing()
	w.Ended(now, guildID)
	nothing()
	channel := voiceID
	w.Ask(now, &proto.VoiceStateUpdateData{GuildID: guildID, ChannelID: &channel, SelfMute: true})
	in(voiceID, true, false)
	w.Placed(guildID, otherID) // by a moderator
	in(otherID, true, false)
	ended := w.End(now)
	if again := WishesOf(w.Here()); *again.byGuild[guildID].state.ChannelID != otherID || !again.byGuild[guildID].state.SelfMute {
		t.Errorf("elsewhere: %+v", again)
	}
	if gone := ended.Here(); len(gone) != 0 {
		t.Errorf("elsewhere: %+v", gone)
	}
	w.Ended(now, guildID) // of the join before
	in(otherID, true, true)
	w.Placed(guildID, voiceID)
	in(voiceID, true, false)
	w.Ask(now, &proto.VoiceStateUpdateData{GuildID: guildID})
	in(voiceID, true, true)
	now = now.Add(leftLately + time.Second)
	w.Ask(now, &proto.VoiceStateUpdateData{GuildID: guildID}) // is gone since then, not now
	nothing()
	w.Forget(guildID)
	nothing()
	w, now = ended, now.Add(-time.Minute)
	in(otherID, true, true)
}
