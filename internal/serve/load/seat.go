package load

import (
	"math/rand/v2"
	"time"

	"hubbub.dev/hubbub/internal/core/rtp"
)

const (
	sampleRate = 48_000 // of the RTP clock of Opus
	// spurt is how long speakers talk without a pause, in the mean.
	spurt = time.Second
	// silenceFrames end a talk spurt.
	silenceFrames = 5
)

// seat is the media of one client. Its loop owns it from crowd.add on, but for what
// says otherwise.
type seat struct {
	target int    // which server it is a client of
	room   int    // its channel
	fd     int    // a connected UDP socket
	ssrc   uint32 // to send under
	link   link
	sender uint32 // number among the speakers of its target
	speaks bool
	hears  bool

	// heard follows the speakers of the room, whose numbers begin at base.
	base  uint32
	heard []stream
	// afar says that they are another process's: what they send is counted from the first
	// number that is heard to the last, in each of their rounds.
	afar bool
	// first is when the first packet came, in Unix time; firstHeard is closed then.
	// The latter is for others to wait on, who may read first after.
	first      int64
	firstHeard chan struct{}

	speech speech
}

// speech is what a speaker sends next.
type speech struct {
	random    *rand.Rand
	sequence  uint16
	timestamp uint32
	index     uint32 // of the round
	fan       uint64 // how many hear it
	talking   bool
	left      int // packets until the spurt or the pause ends
	tail      int // silence frames still to send
}

func newSpeech(sender uint32) speech {
	r := rand.New(rand.NewPCG(uint64(sender), 0x5EA7))
	return speech{random: r, sequence: uint16(r.Uint32()) & 0x0FFF, timestamp: r.Uint32()}
}

// frame is what a speaker does at one tick.
type frame uint8

const (
	frameNone frame = iota
	frameVoice
	frameSilence
)

// begin starts a round in which the speaker talks for a share of the time.
func (s *speech) begin(talk, rate float64) {
	s.index, s.tail = 0, 0
	s.talking = s.random.Float64() < talk
	// In the middle of it: else nobody would begin to talk for half a pause.
	s.left = max(int(float64(s.length(talk, rate))*s.random.Float64()), 1)
}

// length draws how many ticks the spurt or the pause takes: half to one and a half
// times its mean.
func (s *speech) length(talk, rate float64) int {
	mean := spurt.Seconds() * rate
	if !s.talking {
		mean *= (1 - talk) / talk
	}
	return max(int(mean*(0.5+s.random.Float64())), 1)
}

// tick moves on by a packet interval.
func (s *speech) tick(talk, rate float64) (frame, rtp.Header) {
	s.timestamp += uint32(sampleRate / rate)
	what := frameNone
	switch {
	case talk >= 1 || s.talking:
		what = frameVoice
	case s.tail > 0:
		s.tail--
		what = frameSilence
	}
	if talk < 1 {
		if s.left--; s.left <= 0 {
			if s.talking {
				s.tail = silenceFrames
			}
			s.talking = !s.talking
			s.left = s.length(talk, rate)
		}
	}
	if what == frameNone {
		return what, rtp.Header{}
	}
	s.sequence++
	return what, rtp.Header{Sequence: s.sequence, Timestamp: s.timestamp}
}
