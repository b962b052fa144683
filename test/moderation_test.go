package test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// quiet is how long nothing may be heard for it to count as silence.
const quiet = time.Second

// What a moderator does is checked on the media: who hears whom.
func TestModeration(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	ann, a := s.Join(t, "ann", s.Lounge, client.VoiceOptions{})
	bob, b := s.Join(t, "bob", s.Lounge, client.VoiceOptions{})
	harness.Speak(t, a, harness.JFK)
	harness.Speak(t, b, harness.LJSpeech)
	hears := func(v *client.Voice, user proto.Snowflake) { t.Helper(); harness.Listen(t, v, user, 0.5) }
	hears(a, bob.ID)
	hears(b, ann.ID)

	t.Run("mute", func(t *testing.T) {
		s.Moderate(t, ann.ID, map[string]any{"mute": true})
		harness.Silent(t, b, ann.ID, quiet)
		hears(a, bob.ID)
		s.Moderate(t, ann.ID, map[string]any{"mute": false})
		hears(b, ann.ID)
	})
	t.Run("deafen", func(t *testing.T) {
		s.Moderate(t, ann.ID, map[string]any{"deaf": true})
		harness.Silent(t, a, bob.ID, quiet)
		hears(b, ann.ID)
		s.Moderate(t, ann.ID, map[string]any{"deaf": false})
		hears(a, bob.ID)
	})
	t.Run("move", func(t *testing.T) {
		cy, c := s.Join(t, "cy", s.Den, client.VoiceOptions{})
		s.Moderate(t, ann.ID, map[string]any{"channel_id": s.Den})
		hears(c, ann.ID)
		harness.Silent(t, b, ann.ID, quiet)
		if a.Channel() != s.Den || a.Err() != nil {
			t.Fatalf("ann is in %d: %v", a.Channel(), a.Err())
		}
		stop := harness.Speak(t, c, harness.LJSpeech)
		hears(a, cy.ID)
		stop()
		s.Moderate(t, ann.ID, map[string]any{"channel_id": s.Lounge})
		hears(b, ann.ID)
		hears(a, bob.ID)
		harness.Silent(t, c, ann.ID, quiet)
	})
	t.Run("mute outlives a move", func(t *testing.T) {
		s.Moderate(t, ann.ID, map[string]any{"mute": true, "channel_id": s.Den})
		_, c := s.Join(t, "dee", s.Den, client.VoiceOptions{})
		harness.Silent(t, c, ann.ID, quiet)
		s.Moderate(t, ann.ID, map[string]any{"mute": false, "channel_id": s.Lounge})
		hears(b, ann.ID)
	})
	t.Run("disconnect", func(t *testing.T) {
		s.Moderate(t, ann.ID, map[string]any{"channel_id": nil})
		select {
		case <-a.Done():
		case <-time.After(harness.Timeout):
			t.Fatal("ann is still connected")
		}
		if !errors.Is(a.Err(), client.ErrDisconnected) {
			t.Fatalf("ann ended with %v", a.Err())
		}
		harness.Silent(t, b, ann.ID, quiet)
	})
}

// A member's own mute and deafen, and permissions, decide too.
func TestWhoMaySpeak(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	listener, l := s.Join(t, "listener", s.Lounge, client.VoiceOptions{})
	bot := s.Bot(t, "speaker")
	v := s.JoinAs(t, s.Connect(t, s.Client(t, bot.Token, "")), s.Lounge, client.VoiceOptions{SelfDeaf: true})
	harness.Speak(t, v, harness.JFK)
	harness.Speak(t, l, harness.LJSpeech)
	harness.Listen(t, l, bot.ID, 0.5)
	harness.Silent(t, v, listener.ID, quiet)
	if err := v.SetSelf(false, false); err != nil {
		t.Fatal(err)
	}
	harness.Listen(t, v, listener.ID, 0.5)

	everyone := "/guilds/" + s.Guild.String() + "/roles/" + s.Guild.String()
	s.Admin(t, "PATCH", everyone, map[string]any{"permissions": proto.PermDefault &^ proto.PermSpeak}, nil)
	harness.Silent(t, l, bot.ID, quiet)
	s.Admin(t, "PATCH", everyone, map[string]any{"permissions": proto.PermDefault}, nil)
	harness.Listen(t, l, bot.ID, 0.5)
}

// The same on a browser, by the menu that people use.
func TestModerationInTheApp(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	page := enter(t, s, browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)}), "Ann")
	var me proto.Snowflake
	page.Eval(t, "window.hubbub.state().users[0]", &me)
	bob, v := s.Join(t, "bob", s.Lounge, client.VoiceOptions{})
	harness.Speak(t, v, harness.LJSpeech)
	harness.Listen(t, v, me, 0.5)
	page.Wait(t, fmt.Sprintf("window.hubbub.state().speaking.includes(%q)", bob.ID.String()))

	// A guest may moderate nobody, so Ann becomes an administrator.
	var role proto.Role
	s.Admin(t, "POST", "/guilds/"+s.Guild.String()+"/roles", map[string]any{"name": "Admin", "permissions": proto.PermAdministrator}, &role)
	s.Admin(t, "PUT", "/guilds/"+s.Guild.String()+"/members/"+me.String()+"/roles/"+role.ID.String(), nil, nil)
	page.Menu(t, "member-"+bob.ID.String())
	page.Click(t, "menu-mute")
	page.Wait(t, fmt.Sprintf("!window.hubbub.state().speaking.includes(%q)", bob.ID.String()))

	page.Click(t, "mute")
	harness.Silent(t, v, me, quiet)
	page.Click(t, "mute")
	harness.Listen(t, v, me, 0.5)

	s.Moderate(t, me, map[string]any{"channel_id": s.Den})
	page.Wait(t, fmt.Sprintf("window.hubbub.state().connected && window.hubbub.state().channel === %q", s.Den.String()))
	_, d := s.Join(t, "dee", s.Den, client.VoiceOptions{})
	harness.Hears(t, "Ann after the move", func() audio.PCM { return harness.Listen(t, d, me, 4) }, harness.JFK, harness.LJSpeech)
	s.Moderate(t, me, map[string]any{"channel_id": nil})
	page.Wait(t, "!window.hubbub.state().connected")
	harness.Silent(t, d, me, quiet)
}
