package test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// counter is a source of frames that are numbered, for a receiver to see which
// are missing.
type counter struct{ n uint32 }

func (c *counter) NextFrame() ([]byte, error) {
	c.n++
	return binary.BigEndian.AppendUint32([]byte{0xF8}, c.n), nil
}

// count says numbers over v until the test ends.
func count(t *testing.T, v *client.Voice) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() { _ = v.Play(ctx, &counter{}) })
	t.Cleanup(func() { cancel(); task.Wait() })
}

// missing listens to somebody who counts until done is closed, and returns how
// many numbers were heard and how many were not.
func missing(v *client.Voice, user proto.Snowflake, done <-chan struct{}) (heard, lost uint32) {
	var last uint32
	for {
		select {
		case p := <-v.Packets():
			if p.UserID != user || len(p.Opus) != 5 {
				continue
			}
			n := binary.BigEndian.Uint32(p.Opus[1:])
			if heard++; heard > 1 {
				lost += n - last - 1
			}
			last = n
		case <-done:
			return heard, lost
		}
	}
}

// TCP connections of both WebSockets are cut at once: both sessions resume, no
// event is lost, and media does not pause.
func TestResumeWhileMediaFlows(t *testing.T) {
	s := harness.Start(t)
	proxy := s.Proxy(t)
	bot := s.Bot(t, "ann")
	c := s.Client(t, bot.Token, "https://"+proxy.Addr())
	g := c.Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice | proto.IntentGuildMessages | proto.IntentMessageContent})
	heard := make(chan string, 64)
	resumed := make(chan bool, 8)
	var readies atomic.Int32
	client.On(g, client.MessageCreate, func(m proto.Message) { heard <- m.Content })
	client.On(g, client.Ready, func(proto.ReadyData) { readies.Add(1) })
	client.On(g, client.Resumed, func(json.RawMessage) { resumed <- true })
	if err := g.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	a := s.JoinAs(t, g, s.Lounge, client.VoiceOptions{})
	bob, b := s.Join(t, "bob", s.Lounge, client.VoiceOptions{})
	count(t, a)
	count(t, b)
	done := make(chan struct{})
	type tally struct{ heard, lost uint32 }
	tallies := make(chan tally, 2)
	for v, user := range map[*client.Voice]proto.Snowflake{a: bob.ID, b: bot.ID} {
		go func() {
			heard, lost := missing(v, user, done)
			tallies <- tally{heard, lost}
		}()
	}
	admin := s.Client(t, s.Bot(t, "writer").Token, "")
	for round := range 3 {
		before := proxy.Accepted()
		proxy.Cut()
		text := fmt.Sprint("message ", round)
		if _, err := admin.SendMessage(t.Context(), s.Chat, text); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-heard:
			if got != text {
				t.Fatalf("heard %q, want %q", got, text)
			}
		case <-time.After(harness.Timeout):
			t.Fatalf("%q was lost", text)
		}
		select {
		case <-resumed:
		case <-time.After(harness.Timeout):
			t.Fatal("the gateway session was not resumed")
		}
		if proxy.Accepted() == before {
			t.Fatal("nothing was reconnected, so nothing was cut")
		}
	}
	close(done)
	for range 2 {
		if n := <-tallies; n.heard == 0 || n.lost > 0 {
			t.Errorf("%d frames were heard and %d lost over the cuts", n.heard, n.lost)
		}
	}
	if readies.Load() != 1 || a.Err() != nil || g.Err() != nil {
		t.Fatalf("%d READY, voice %v, gateway %v", readies.Load(), a.Err(), g.Err())
	}
	// The voice session resumed rather than began anew: it can still be told things.
	s.Moderate(t, bot.ID, map[string]any{"channel_id": s.Den})
	_, v := s.Join(t, "cy", s.Den, client.VoiceOptions{})
	for (<-v.Packets()).UserID != bot.ID {
		if v.Err() != nil {
			t.Fatal(v.Err())
		}
	}
}

// A browser keeps its PeerConnection over the same cut.
func TestBrowserResumesWhileMediaFlows(t *testing.T) {
	s := harness.Start(t)
	proxy := s.Proxy(t)
	page := browser.Enter(t, browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)}),
		"http://"+proxy.Addr(), s.Invite(t, s.Chat), "Ann")
	page.Join(t, s.Lounge)
	var me proto.Snowflake
	page.Eval(t, "window.hubbub.state().users[0]", &me)
	_, v := s.Join(t, "bob", s.Lounge, client.VoiceOptions{})
	harness.Listen(t, v, me, 0.5)
	before := proxy.Accepted()
	proxy.Cut()
	harness.Matches(t, "Ann over the cut", harness.Listen(t, v, me, 4), harness.JFK, harness.LJSpeech)
	page.Wait(t, "window.hubbub.state().connected && !document.querySelector('[data-testid=\"reconnecting\"]')")
	if proxy.Accepted() < before+2 {
		t.Fatalf("%d connections after the cut, want both WebSockets", proxy.Accepted()-before)
	}
	s.Moderate(t, me, map[string]any{"mute": true})
	harness.Silent(t, v, me, quiet)
}
