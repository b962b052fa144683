package test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/internal/serve/node"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// gauges returns a metric of each of two media workers.
func gauges(t *testing.T, s *harness.Server, name string) (out [2]float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.AdminToken())
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	found := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		for worker := range out {
			if text, ok := strings.CutPrefix(lines.Text(), fmt.Sprintf(`hubbub_media_%s{worker="%d"} `, name, worker)); ok {
				if out[worker], err = strconv.ParseFloat(text, 64); err != nil {
					t.Fatal(err)
				}
				found++
			}
		}
	}
	if found != len(out) {
		t.Fatalf("%s of %d workers: %s", name, found, resp.Status)
	}
	return out
}

// gauged waits until a metric is so; workers publish theirs once a second.
func gauged(t *testing.T, s *harness.Server, name string, want func([2]float64) bool) {
	t.Helper()
	end, tick := time.After(harness.Timeout), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for got := gauges(t, s, name); !want(got); got = gauges(t, s, name) {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s of the workers: %v", name, got)
		}
	}
}

// A channel with more people than one worker takes is still one channel.
func TestChannelOnTwoWorkers(t *testing.T) {
	s := harness.Start(t, func(c *node.Config) { c.Workers, c.SpreadFrom = 2, 2 })
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
	gauged(t, s, "peers", func(n [2]float64) bool { return n == [2]float64{4, 3} })
	gauged(t, s, "relays", func(n [2]float64) bool { return n == [2]float64{1, 1} })
	for i, l := range listeners {
		harness.Hears(t, fmt.Sprint("ann at listener ", i), func() audio.PCM { return harness.Listen(t, l.Voice, ann.ID, 3) }, harness.JFK, harness.LJSpeech)
	}

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
	gauged(t, s, "relayed_received_total", func(n [2]float64) bool { return n[0] > 0 && n[1] > 0 })

	// Once the second worker has nobody of it, the channel is on one again.
	for _, l := range listeners {
		ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout)
		if err := l.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	gauged(t, s, "relays", func(n [2]float64) bool { return n == [2]float64{} })
	_, again := s.Join(t, "again", s.Lounge, client.VoiceOptions{})
	harness.Listen(t, again, ann.ID, 0.5)
}
