package signalling

import (
	"slices"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/proto"
)

// enter makes the others known to a session, and it to them: at once, or with the
// next round when the channel is a crowd.
func (s *Shard) enter(now clock.Time, x *session) {
	ch := x.channel
	s.introduce(x)
	ch.entrances++
	x.entrance, x.known = ch.entrances, ch.entrances
	x.present, x.place = true, len(ch.present)
	ch.present = append(ch.present, x)
	ch.newcomers = append(ch.newcomers, x)
	if ch.pace.Round(now, len(ch.present)) {
		s.tellNewcomers(ch)
	} else if !ch.gathering {
		ch.gathering = true
		s.gathering = append(s.gathering, ch)
	}
}

// isNewcomer reports whether the others have yet to be told of a session.
func (x *session) isNewcomer() bool {
	news := x.channel.newcomers
	return x.present && len(news) > 0 && x.entrance >= news[0].entrance
}

// tellNewcomers tells everybody of those that have entered since the last round.
// A session that was introduced in the meantime knows some of them: it gets a
// payload of its own with the others, which counts as a part of its introduction.
func (s *Shard) tellNewcomers(ch *channel) {
	news := ch.newcomers
	if len(news) == 0 {
		return
	}
	ch.newcomers = nil
	users := make([]proto.Snowflake, len(news))
	for i, x := range news {
		users[i] = x.user
	}
	first := news[0].entrance
	s.tellThose(ch, entry{before: first}, func(int) []byte { return encodeConnect(users...) })
	for _, x := range ch.present {
		if x.known < first {
			continue
		}
		unknown, _ := slices.BinarySearchFunc(news, x.known+1, func(x *session, entrance uint64) int { return int(x.entrance) - int(entrance) })
		if unknown < len(news) {
			s.introduceMore(x, users[unknown:])
		}
	}
	for _, x := range news {
		if x.mapped {
			s.tellSpeaking(x)
		}
		s.tellAbout(x)
	}
}

// introduceMore goes on with an introduction.
func (s *Shard) introduceMore(x *session, users []proto.Snowflake) {
	var sequence uint64
	if h := &x.channel.history; x.version >= versionSequence {
		h.last++
		x.snapshot, sequence = h.last, h.last
	}
	if x.conn != 0 {
		s.emit(Output{Conn: x.conn, Frame: seal(encodeConnect(users...), sequence)})
	}
}

// Due returns when Tell is to be called next, or never.
func (s *Shard) Due() (at clock.Time) {
	for _, ch := range s.gathering {
		at = clock.Earliest(at, ch.pace.Next())
	}
	return at
}

// Tell tells what has gathered and is due.
func (s *Shard) Tell(now clock.Time) {
	s.gathering = slices.DeleteFunc(s.gathering, func(ch *channel) bool {
		if len(ch.newcomers) > 0 && !ch.pace.Round(now, len(ch.present)) {
			return false
		}
		s.tellNewcomers(ch)
		ch.gathering = false
		return true
	})
}
