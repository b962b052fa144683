package guild

import (
	"maps"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/proto"
)

// leftLately is how long a new owner is told that a session has left voice, which the
// owner before may not have heard.
const leftLately = 10 * time.Second

// Wishes is what a gateway knows of where one session is in voice, by guild: what a
// guild's new owner is told. The zero value knows of nothing.
type Wishes struct{ byGuild map[proto.Snowflake]wish }

type wish struct {
	state proto.VoiceStateUpdateData // with the channel that it is, or was last, in
	gone  bool
	since clock.Time // that it is gone
}

// WishesOf returns what Here returned of a session elsewhere.
func WishesOf(here map[proto.Snowflake]proto.VoiceStateUpdateData) Wishes {
	var w Wishes
	for guild, state := range here {
		w.put(guild, wish{state: state})
	}
	return w
}

// Here returns where the session is in voice now, for a gateway that it goes over to.
func (w *Wishes) Here() map[proto.Snowflake]proto.VoiceStateUpdateData {
	here := make(map[proto.Snowflake]proto.VoiceStateUpdateData, len(w.byGuild))
	for guild, is := range w.byGuild {
		if !is.gone {
			here[guild] = is.state
		}
	}
	return here
}

// Ask notes op 4 of the session.
func (w *Wishes) Ask(now clock.Time, d *proto.VoiceStateUpdateData) {
	if d.ChannelID == nil || *d.ChannelID == 0 {
		w.Ended(now, d.GuildID)
		return
	}
	w.put(d.GuildID, wish{state: *d})
}

// Placed notes that the guild's owner has put the session into a channel.
func (w *Wishes) Placed(guild, channel proto.Snowflake) {
	d := w.byGuild[guild].state
	d.GuildID, d.ChannelID, d.ConnectedAs = guild, &channel, ""
	w.put(guild, wish{state: d})
}

// Ended notes that the session is no longer in voice. What it has muted stays: it may
// have asked to join again, which the owner has not heard yet.
func (w *Wishes) Ended(now clock.Time, guild proto.Snowflake) {
	if was, known := w.byGuild[guild]; known && !was.gone {
		was.gone, was.since = true, now
		w.put(guild, was)
	}
}

// Forget drops what is known of a guild.
func (w *Wishes) Forget(guild proto.Snowflake) { delete(w.byGuild, guild) }

// End returns what a session that ends was last in, and has left now.
func (w *Wishes) End(now clock.Time) Wishes {
	ended := Wishes{maps.Clone(w.byGuild)}
	for guild := range ended.byGuild {
		ended.Ended(now, guild)
	}
	return ended
}

// Claim puts into a what a guild's new owner is to know.
func (w *Wishes) Claim(now clock.Time, guild proto.Snowflake, a *Attach) {
	is, known := w.byGuild[guild]
	if !known || (is.gone && now.Sub(is.since) > leftLately) {
		return
	}
	a.Voice, a.Left = &is.state, is.gone
}

func (w *Wishes) put(guild proto.Snowflake, is wish) {
	if w.byGuild == nil {
		w.byGuild = make(map[proto.Snowflake]wish)
	}
	w.byGuild[guild] = is
}
