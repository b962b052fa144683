package test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// gauges returns a metric of each of the two media workers where a user is.
func gauges(t *testing.T, s *harness.Server, user proto.Snowflake, name string) (out [2]float64) {
	t.Helper()
	found := 0
	for line := range strings.Lines(s.VoiceMetrics(t, user)) {
		for worker := range out {
			if text, ok := strings.CutPrefix(line, fmt.Sprintf(`hubbub_media_%s{worker="%d"} `, name, worker)); ok {
				var err error
				if out[worker], err = strconv.ParseFloat(strings.TrimSpace(text), 64); err != nil {
					t.Fatal(err)
				}
				found++
			}
		}
	}
	if found != len(out) {
		t.Fatalf("%s of %d workers", name, found)
	}
	return out
}

// gauged waits until a metric is so where a user is; workers publish theirs once a
// second.
func gauged(t *testing.T, s *harness.Server, user proto.Snowflake, name string, want func([2]float64) bool) {
	t.Helper()
	end, tick := time.After(harness.Timeout), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for got := gauges(t, s, user, name); !want(got); got = gauges(t, s, user, name) {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s of the workers: %v", name, got)
		}
	}
}

// A channel with more people than one worker takes is still one channel.
func TestChannelOnTwoWorkers(t *testing.T) {
	s := harness.Start(t, harness.Settings{Spread: true})
	ann, a := s.Join(t, "ann", s.Lounge, client.VoiceOptions{})
	harness.Speak(t, a, harness.JFK)
	type listener struct {
		harness.Account
		*client.Voice
	}
	var listeners []listener
	for i := range 6 {
		mode := []string{proto.ModeAES256GCM, proto.ModeXChaCha20}[i%2]
		account, v := s.Join(t, fmt.Sprint("listener ", i), s.Lounge, client.VoiceOptions{Mode: mode})
		listeners = append(listeners, listener{account, v})
		harness.Listen(t, v, ann.ID, 0.5)
	}
	gauged(t, s, ann.ID, "peers", func(n [2]float64) bool { return n == [2]float64{4, 3} })
	gauged(t, s, ann.ID, "relays", func(n [2]float64) bool { return n == [2]float64{1, 1} })
	var sounds []harness.Sound
	for i, l := range listeners {
		sounds = append(sounds, harness.Sound{
			Who: fmt.Sprint("ann at listener ", i), Capture: harness.At(l.Voice, ann.ID, 3), Want: harness.JFK, Other: harness.LJSpeech,
		})
	}
	harness.HearAll(t, sounds...)

	// The third to come is the first on the second worker.
	far, near := listeners[1], listeners[0]
	stop := harness.Speak(t, far.Voice, harness.LJSpeech)
	harness.Hears(t, "the far worker's at ann", func() audio.PCM { return harness.Listen(t, a, far.ID, 3) }, harness.LJSpeech, harness.JFK)
	s.Moderate(t, far.ID, map[string]any{"mute": true})
	harness.Silent(t, a, far.ID, quiet)
	harness.Silent(t, listeners[2].Voice, far.ID, quiet)
	harness.Listen(t, near.Voice, ann.ID, 0.5)
	s.Moderate(t, far.ID, map[string]any{"mute": false})
	harness.Listen(t, a, far.ID, 0.5)
	harness.Listen(t, listeners[2].Voice, far.ID, 0.5)
	s.Moderate(t, far.ID, map[string]any{"deaf": true})
	harness.Silent(t, far.Voice, ann.ID, quiet)
	stop()
	gauged(t, s, ann.ID, "relayed_received_total", func(n [2]float64) bool { return n[0] > 0 && n[1] > 0 })

	// Once the second worker has nobody of it, the channel is on one again.
	for _, l := range listeners {
		ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout)
		if err := l.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	gauged(t, s, ann.ID, "relays", func(n [2]float64) bool { return n == [2]float64{} })
	_, again := s.Join(t, "again", s.Lounge, client.VoiceOptions{})
	harness.Listen(t, again, ann.ID, 0.5)
}
