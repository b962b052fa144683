//go:build linux

package chaos

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
)

// frameTime is what one packet says.
const frameTime = 20 * time.Millisecond

// A frame is a TOC of 20 ms of CELT, its number, and when it was said on the run's
// clock. The server forwards it as it is.
const (
	frameTOC  = 0xF8
	frameSize = 100
)

// mouth yields frames for client.Voice.Play, one every 20 ms.
type mouth struct {
	began time.Time
	last  uint64
	frame [frameSize]byte
}

func (m *mouth) NextFrame() ([]byte, error) {
	m.last++
	m.frame[0] = frameTOC
	binary.BigEndian.PutUint64(m.frame[1:], m.last)
	binary.BigEndian.PutUint64(m.frame[9:], uint64(time.Since(m.began)))
	return m.frame[:], nil
}

// dtxSize is the most bytes of a packet that says nothing (RFC 6716 3.1: a TOC and a frame
// of up to two).
const dtxSize = 3

// numbered reads a frame of a mouth.
func numbered(opus []byte) (n uint64, sent time.Duration, ok bool) {
	if len(opus) != frameSize || opus[0] != frameTOC {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(opus[1:]), time.Duration(binary.BigEndian.Uint64(opus[9:])), true
}

// heard is what came of one speaker in a span of time.
type heard struct {
	Packets, Lost, Doubled int
	// Gap is the longest time without audio: between two packets that follow each
	// other, less the 20 ms that the first of them says and less what its speaker was
	// late with the second.
	Gap time.Duration
}

// gapMark is a time without audio that the plot shows.
type gapMark struct{ From, To time.Duration }

// plotGap is the least that the plot shows: less is a late packet.
const plotGap = 60 * time.Millisecond

// seenWindow is how many numbers back a packet is known to be a double.
const seenWindow = 4096

// stream is what one listener hears of one speaker.
type stream struct {
	heard
	begun  bool
	last   uint64
	sent   time.Duration
	at     time.Duration
	seen   [seenWindow / 64]uint64
	ssrc   uint32 // of a speaker whose packets have no numbers of their own
	number uint16
	stamp  uint32
	marks  []gapMark
}

// take notes packet n, sent and heard at times of the run's clock.
func (s *stream) take(n uint64, sent, at time.Duration) {
	s.Packets++
	switch {
	case !s.begun:
		s.begun = true
	case n > s.last:
		s.Lost += int(n - s.last - 1)
		late := sent - s.sent - time.Duration(n-s.last)*frameTime
		if gap := at - s.at - frameTime - max(0, late); gap > s.Gap {
			s.Gap = gap
		}
		if gap := at - s.at - frameTime - max(0, late); gap > plotGap {
			s.marks = append(s.marks, gapMark{s.at, at})
		}
		for i := s.last + 1; i < n && i <= s.last+seenWindow; i++ {
			s.seen[i/64%(seenWindow/64)] &^= 1 << (i % 64)
		}
	case s.last-n >= seenWindow || s.seen[n/64%(seenWindow/64)]&(1<<(n%64)) != 0:
		s.Doubled++
		return
	default: // it was late
		s.Lost--
		s.seen[n/64%(seenWindow/64)] |= 1 << (n % 64)
		return
	}
	s.last, s.sent, s.at = n, sent, at
	s.seen[n/64%(seenWindow/64)] |= 1 << (n % 64)
}

// takeRTP notes a packet by its RTP header. Another SSRC is another stay of its
// speaker, whose numbers begin anew.
func (s *stream) takeRTP(p *client.Packet, at time.Duration) {
	n, sent := s.last+1, s.sent+frameTime
	if s.begun && p.SSRC == s.ssrc {
		n = s.last + uint64(int64(int16(p.Sequence-s.number)))
		sent = s.sent + time.Duration(int32(p.Timestamp-s.stamp))*time.Second/48000
	}
	ahead := !s.begun || n > s.last
	s.take(n, sent, at)
	if ahead {
		s.ssrc, s.number, s.stamp = p.SSRC, p.Sequence, p.Timestamp
	}
}

// ears is what one client hears of everybody.
type ears struct {
	mu      sync.Mutex
	streams map[proto.Snowflake]*stream
}

func newEars() *ears { return &ears{streams: map[proto.Snowflake]*stream{}} }

func (e *ears) hear(p *client.Packet, at time.Duration) {
	if p.UserID == 0 { // it came before word of whose it is
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.streams[p.UserID]
	if s == nil {
		s = new(stream)
		e.streams[p.UserID] = s
	}
	if n, sent, ok := numbered(p.Opus); ok {
		s.take(n, sent, at)
	} else if len(p.Opus) > dtxSize || s.begun && p.SSRC == s.ssrc { // not the silence of a transport that opens
		s.takeRTP(p, at)
	}
}

// begin forgets what was measured, and goes on with the numbers.
func (e *ears) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.streams {
		s.heard = heard{}
	}
}

// end returns what was measured since begin, by speaker. Who is not heard any more
// is a gap that goes on.
func (e *ears) end(now time.Duration) map[proto.Snowflake]heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[proto.Snowflake]heard{}
	for user, s := range e.streams {
		h := s.heard
		if open := now - s.at; open > plotGap+frameTime {
			h.Gap = max(h.Gap, open-frameTime)
		}
		out[user] = h
	}
	return out
}

// silent returns how long nothing was heard of a user.
func (e *ears) silent(user proto.Snowflake, now time.Duration) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.streams[user]; s != nil && s.begun {
		return now - s.at
	}
	return now
}

// marks returns the gaps that a plot shows, of all speakers.
func (e *ears) marks() (all []gapMark) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.streams {
		all = append(all, s.marks...)
	}
	return all
}

func TestGapsAreCountedWithoutTheSpeakersOwn(t *testing.T) {
	const ms = time.Millisecond
	var s stream
	for i, p := range []struct {
		n        uint64
		sent, at time.Duration
		want     heard
	}{
		{1, 0, 5 * ms, heard{Packets: 1}},
		{2, 20 * ms, 25 * ms, heard{Packets: 2}},
		{3, 140 * ms, 145 * ms, heard{Packets: 3}}, // said late
		{4, 160 * ms, 225 * ms, heard{Packets: 4, Gap: 60 * ms}},
		{7, 220 * ms, 285 * ms, heard{Packets: 5, Lost: 2, Gap: 60 * ms}},
		{6, 200 * ms, 286 * ms, heard{Packets: 6, Lost: 1, Gap: 60 * ms}},
		{6, 200 * ms, 287 * ms, heard{Packets: 7, Lost: 1, Doubled: 1, Gap: 60 * ms}},
		{7, 220 * ms, 288 * ms, heard{Packets: 8, Lost: 1, Doubled: 2, Gap: 60 * ms}},
		{8, 240 * ms, 305 * ms, heard{Packets: 9, Lost: 1, Doubled: 2, Gap: 60 * ms}},
		{9 + seenWindow, 260*ms + seenWindow*frameTime, 325*ms + seenWindow*frameTime, heard{Packets: 10, Lost: 1 + seenWindow, Doubled: 2, Gap: seenWindow * frameTime}},
		{10, 280 * ms, 330*ms + seenWindow*frameTime, heard{Packets: 11, Lost: seenWindow, Doubled: 2, Gap: seenWindow * frameTime}},
	} {
		if s.take(p.n, p.sent, p.at); s.heard != p.want {
			t.Errorf("after packet %d: %+v, not %+v", i, s.heard, p.want)
		}
	}
}

func TestPacketsWithoutNumbersAreCountedByTheirHeaders(t *testing.T) {
	const ms = time.Millisecond
	var s stream
	for i, p := range []struct {
		ssrc   uint32
		number uint16
		stamp  uint32
		at     time.Duration
		want   heard
	}{
		{1, 65535, 0, 0, heard{Packets: 1}},
		{1, 0, 960, 20 * ms, heard{Packets: 2}},
		{1, 1, 48960, 1020 * ms, heard{Packets: 3}}, // a pause in speech
		{1, 3, 50880, 1060 * ms, heard{Packets: 4, Lost: 1, Gap: 20 * ms}},
		{2, 100, 7, 1560 * ms, heard{Packets: 5, Lost: 1, Gap: 480 * ms}},
		{2, 101, 967, 1580 * ms, heard{Packets: 6, Lost: 1, Gap: 480 * ms}},
	} {
		s.takeRTP(&client.Packet{SSRC: p.ssrc, Sequence: p.number, Timestamp: p.stamp}, p.at)
		if s.heard != p.want {
			t.Errorf("after packet %d: %+v, not %+v", i, s.heard, p.want)
		}
	}
}
