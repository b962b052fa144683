package test

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// longestGap reads v's packets of a user until done is closed and returns the
// longest time between two of them.
func longestGap(v *client.Voice, user proto.Snowflake, done <-chan struct{}) time.Duration {
	var longest time.Duration
	last := time.Now()
	for {
		select {
		case p := <-v.Packets():
			if p.UserID == user {
				longest = max(longest, time.Since(last))
				last = time.Now()
			}
		case <-done:
			return max(longest, time.Since(last))
		}
	}
}

// TCP connections of both WebSockets are cut at once: both sessions resume, no
// event is lost, and media does not pause.
func TestResumeWhileMediaFlows(t *testing.T) {
	s := harness.Start(t)
	proxy := harness.NewProxy(t, s.URL())
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
	harness.Speak(t, a, harness.JFK)
	harness.Speak(t, b, harness.LJSpeech)
	harness.Listen(t, a, bob.ID, 0.5)
	harness.Listen(t, b, bot.ID, 0.5)

	done := make(chan struct{})
	gaps := make(chan time.Duration, 2)
	go func() { gaps <- longestGap(a, bob.ID, done) }()
	go func() { gaps <- longestGap(b, bot.ID, done) }()
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
		// A frame comes every 20 ms; what is more than some frames late on a busy
		// machine would be heard as a pause.
		if gap := <-gaps; gap > 400*time.Millisecond {
			t.Errorf("media paused for %v", gap)
		}
	}
	if readies.Load() != 1 || a.Err() != nil || g.Err() != nil {
		t.Fatalf("%d READY, voice %v, gateway %v", readies.Load(), a.Err(), g.Err())
	}
	// The voice session resumed rather than began anew: it can still be told things.
	s.Moderate(t, bot.ID, map[string]any{"channel_id": s.Den})
	cy, v := s.Join(t, "cy", s.Den, client.VoiceOptions{})
	_ = cy
	harness.Listen(t, v, bot.ID, 0.5)
}

// A browser keeps its PeerConnection over the same cut.
func TestBrowserResumesWhileMediaFlows(t *testing.T) {
	s := harness.Start(t)
	proxy := harness.NewProxy(t, s.URL())
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
