package signalling

import (
	"slices"
	"sort"

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
	x.present, x.place, x.entered = true, len(ch.present), now
	ch.present = append(ch.present, x)
	ch.newcomers = append(ch.newcomers, x)
	s.gather(now, ch)
}

// leaver is a member that has left; before is the first entrance after that, from
// when on sessions were never told that it was there.
type leaver struct {
	user   proto.Snowflake
	before uint64
}

// leave makes a session's end known to the others, in the same way.
func (s *Shard) leave(now clock.Time, x *session) {
	if !x.present {
		return
	}
	ch := x.channel
	if x.isNewcomer() {
		s.round(ch) // some know of it already
	}
	x.present = false
	last := len(ch.present) - 1
	ch.present[x.place] = ch.present[last]
	ch.present[x.place].place = x.place
	ch.present[last] = nil
	ch.present = ch.present[:last]
	ch.leavers = append(ch.leavers, leaver{x.user, ch.entrances + 1})
	s.gather(now, ch)
}

// gather holds a round when it may begin now, else as soon as it may.
func (s *Shard) gather(now clock.Time, ch *channel) {
	if ch.pace.Round(now, len(ch.present)) {
		s.round(ch)
	} else if !ch.gathering {
		ch.gathering = true
		s.gathering = append(s.gathering, ch)
	}
}

// round tells everybody in a channel who has left and who has entered. A user who
// left and came back has left first: newcomers that leave have a round of their
// own before.
func (s *Shard) round(ch *channel) {
	leavers := ch.leavers
	ch.leavers = nil
	if len(leavers) < burstFrom {
		for _, l := range leavers {
			s.tellThose(ch, entry{before: l.before, gone: true}, func(int) []byte { return encodeDisconnect(l.user) })
		}
	} else {
		s.tellLeavers(ch, leavers)
	}
	s.tellNewcomers(ch)
}

// burstFrom is from how many leavers on they are told of in one output for each receiver:
// when a crowd of thousands leaves, one for each two of them would fill the memory.
const burstFrom = 16

// tellLeavers tells everybody in a channel of many who have left, in the order in which
// they did. Who came after some of them was never told that those were there.
func (s *Shard) tellLeavers(ch *channel, leavers []leaver) {
	h := &ch.history
	var numbered, plain [][]byte
	for _, l := range leavers {
		body := encodeDisconnect(l.user)
		plain = append(plain, seal(slices.Clone(body), 0))
		h.last++
		frame := seal(body, h.last)
		h.add(entry{sequence: h.last, before: l.before, gone: true, frame: frame})
		numbered = append(numbered, frame)
	}
	for _, x := range ch.present {
		known := sort.Search(len(leavers), func(i int) bool { return leavers[i].before > x.known })
		if x.conn == 0 || known == len(leavers) {
			continue
		}
		frames := numbered
		if x.version < versionSequence {
			frames = plain
		}
		s.emit(Output{Conn: x.conn, Frames: frames[known:]})
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
			s.tellSpeaking(x, entry{except: x.peer})
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
		if len(ch.newcomers)+len(ch.leavers) > 0 && !ch.pace.Round(now, len(ch.present)) {
			return false
		}
		s.round(ch)
		ch.gathering = false
		return true
	})
}
