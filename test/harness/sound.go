package harness

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/match"
)

// The two recordings.
const (
	JFK      = "jfk"
	LJSpeech = "ljspeech"
)

// Testdata returns the path of a file in test/testdata.
func Testdata(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "testdata", name)
}

// Recording reads one of the recordings.
func Recording(t testing.TB, name string) audio.PCM {
	t.Helper()
	f, err := os.Open(Testdata(name + ".wav"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	p, err := audio.ReadWAV(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// WAV48 writes a recording as a WAV file of 48 kHz, which is what browsers take
// as a microphone, and returns its path.
func WAV48(t testing.TB, name string) string {
	t.Helper()
	return write(t, name+".wav", func(w io.Writer) error {
		return audio.WriteWAV(w, Recording(t, name).Resample(audio.Rate))
	})
}

// Ogg writes a recording as an Ogg Opus file and returns its path.
func Ogg(t testing.TB, name string) string {
	t.Helper()
	source, err := audio.NewRecording(Recording(t, name), 48000)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, name+".ogg", func(w io.Writer) error {
		out, err := audio.NewOggWriter(w)
		for err == nil {
			var frame []byte
			if frame, err = source.NextFrame(); err == nil {
				err = out.Write(frame, audio.FrameSamples)
			}
		}
		if errors.Is(err, io.EOF) {
			err = out.Close()
		}
		return err
	})
}

func write(t testing.TB, name string, fill func(io.Writer) error) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fill(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// loop is a recording that never ends.
type loop struct{ *audio.Recording }

func (l loop) NextFrame() ([]byte, error) {
	frame, err := l.Recording.NextFrame()
	if errors.Is(err, io.EOF) {
		l.Rewind()
		return l.Recording.NextFrame()
	}
	return frame, err
}

// Loop returns a recording that never ends, as Opus frames.
func Loop(t testing.TB, name string) client.FrameSource {
	t.Helper()
	source, err := audio.NewRecording(Recording(t, name), 48000)
	if err != nil {
		t.Fatal(err)
	}
	return loop{source}
}

// Speak says a recording over and over until the test ends or stop is called.
func Speak(t testing.TB, v *client.Voice, name string) (stop func()) {
	t.Helper()
	source := Loop(t, name)
	ctx, cancel := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() {
		err := v.Play(ctx, source)
		if ctx.Err() == nil && v.Err() == nil {
			t.Errorf("speaking %s: %v", name, err)
		}
	})
	stop = func() { cancel(); task.Wait() }
	t.Cleanup(stop)
	return stop
}

// Ear decodes what one speaker says. Where a speaker pauses, and sends nothing, it
// hears silence as long as the pause.
type Ear struct {
	dec  *audio.Decoder
	buf  *audio.JitterBuffer
	next uint32 // timestamp at which PCM ends
	PCM  audio.PCM
}

// longestPause is what an ear takes for a pause, in samples.
const longestPause = 2 * audio.Rate

// NewEar returns an ear that has heard nothing.
func NewEar(t testing.TB) *Ear {
	t.Helper()
	dec, err := audio.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	return &Ear{dec: dec, buf: audio.NewJitterBuffer(5), PCM: audio.PCM{Rate: audio.Rate, Channels: 1}}
}

// Hear takes in a packet.
func (e *Ear) Hear(t testing.TB, sequence uint16, timestamp uint32, opus []byte) {
	t.Helper()
	e.buf.Push(sequence, audio.Frame{Opus: opus, Timestamp: timestamp})
	for e.buf.Ready() {
		f, there := e.buf.Pop()
		if !there {
			continue // the next frame's timestamp tells how long it was
		}
		if pause := f.Timestamp - e.next; len(e.PCM.Samples) > 0 && pause <= longestPause {
			e.PCM.Samples = append(e.PCM.Samples, make([]float32, pause)...)
		}
		pcm, err := e.dec.Decode(f.Opus)
		if err != nil {
			t.Fatalf("received Opus: %v", err)
		}
		e.PCM.Samples = append(e.PCM.Samples, pcm...)
		e.next = f.Timestamp + uint32(len(pcm))
	}
}

// Seconds is how much was heard.
func (e *Ear) Seconds() float64 { return float64(len(e.PCM.Samples)) / float64(e.PCM.Rate) }

// Listen returns the next seconds of what a user says.
func Listen(t testing.TB, v *client.Voice, user proto.Snowflake, seconds float64) audio.PCM {
	t.Helper()
	ear := NewEar(t)
	limit := time.After(Timeout + time.Duration(seconds*float64(time.Second)))
	for ear.Seconds() < seconds {
		select {
		case p, ok := <-v.Packets():
			if !ok {
				t.Fatalf("voice ended while listening: %v", v.Err())
			}
			if p.UserID == user {
				ear.Hear(t, p.Sequence, p.Timestamp, p.Opus)
			}
		case <-limit:
			t.Fatalf("heard only %.1f of %.1f s of user %d", ear.Seconds(), seconds, user)
		}
	}
	return ear.PCM
}

// attempts is how often Hears listens. Browsers on a starved machine drop sound on
// its way to and from the speakers, which has nothing to do with the server.
const attempts = 4

// Hears captures until what is heard is the recording want, at most a few times, and
// fails if it never is, or if it once is the recording other.
func Hears(t testing.TB, who string, capture func() audio.PCM, want, other string) {
	t.Helper()
	for try := 1; !heard(t, who, capture(), want, other, try); try++ {
	}
}

// heard judges a capture and reports whether that was the last.
func heard(t testing.TB, who string, capture audio.PCM, want, other string, try int) (done bool) {
	t.Helper()
	same, different := score(t, who, capture, want), score(t, who, capture, other)
	switch {
	case different > match.Different:
		t.Errorf("%s is %s, but is to be %s", who, other, want)
		return true
	case same >= match.Same:
		return true
	case try == attempts:
		t.Errorf("%s was not %s in %d captures", who, want, attempts)
		return true
	}
	return false
}

// Sound is what somebody is to hear.
type Sound struct {
	Who         string
	Capture     func(testing.TB) audio.PCM
	Want, Other string // recordings, as for Hears
}

// HearAll is Hears for several who listen at the same time. All have captured before any
// capture is judged, which takes the processor that the next needs.
func HearAll(t *testing.T, sounds ...Sound) {
	t.Helper()
	for try := 1; len(sounds) > 0; try++ {
		captures := make([]audio.PCM, len(sounds))
		ok := t.Run("capture", func(t *testing.T) {
			for i, s := range sounds {
				t.Run(s.Who, func(t *testing.T) {
					t.Parallel()
					captures[i] = s.Capture(t)
				})
			}
		})
		if !ok {
			return
		}
		var again []Sound
		for i, s := range sounds {
			if !heard(t, s.Who, captures[i], s.Want, s.Other, try) {
				again = append(again, s)
			}
		}
		sounds = again
	}
}

// At captures the next seconds that a native client hears of a user.
func At(v *client.Voice, user proto.Snowflake, seconds float64) func(testing.TB) audio.PCM {
	return func(t testing.TB) audio.PCM { return Listen(t, v, user, seconds) }
}

// Matches fails unless heard is the recording want and not the recording other.
func Matches(t testing.TB, who string, heard audio.PCM, want, other string) {
	t.Helper()
	if s := score(t, who, heard, want); s < match.Same {
		t.Errorf("%s scores %.2f as %s, at least %.1f is wanted", who, s, want, match.Same)
	}
	if s := score(t, who, heard, other); s > match.Different {
		t.Errorf("%s scores %.2f as %s, but is to be %s", who, s, other, want)
	}
}

// references are the recordings that captures were compared with.
var references sync.Map

func reference(t testing.TB, name string) *match.Reference {
	t.Helper()
	made, known := references.Load(name)
	if !known {
		made, _ = references.LoadOrStore(name, match.NewReference(Recording(t, name)))
	}
	return made.(*match.Reference)
}

// score returns how well heard matches a recording; silence scores 0.
func score(t testing.TB, who string, heard audio.PCM, name string) float64 {
	t.Helper()
	s, err := reference(t, name).Score(heard)
	if err != nil {
		t.Logf("%s: %v", who, err)
		return 0
	}
	t.Logf("%s scores %.2f as %s", who, s, name)
	return s
}

// Silent fails if v gets a packet of the user in the time given. Packets that
// are under way when it is called are let through first.
func Silent(t testing.TB, v *client.Voice, user proto.Snowflake, span time.Duration) {
	t.Helper()
	settle := time.After(500 * time.Millisecond)
	var quiet <-chan time.Time
	for {
		select {
		case p, ok := <-v.Packets():
			if !ok {
				t.Fatalf("voice ended: %v", v.Err())
			}
			if quiet != nil && p.UserID == user {
				t.Fatalf("heard user %d, who must not be heard", user)
			}
		case <-settle:
			quiet = time.After(span)
		case <-quiet:
			return
		}
	}
}
