package test

import (
	"testing"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// After a restart of the whole server, or of all nodes of a fleet at once, everybody is
// back in the call, without a reload and without being asked.
func TestEverybodyComesBackAfterARestart(t *testing.T) {
	s := harness.Start(t)
	page := enter(t, s, browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)}), "Ann")
	page.Eval(t, `window.unreloaded = true`, nil)
	var me proto.Snowflake
	page.Eval(t, "window.hubbub.state().users[0]", &me)
	bob, v := s.Join(t, "bob", s.Lounge, client.VoiceOptions{})
	harness.Speak(t, v, harness.LJSpeech)
	harness.Listen(t, v, me, 0.5)

	s.Restart(t)
	// One after the other: that Ann is heard shows that her page has come back, which
	// believes for a moment that it was never away.
	harness.Hears(t, "Ann at Bob", func() audio.PCM { return harness.Listen(t, v, me, 4) }, harness.JFK, harness.LJSpeech)
	page.Wait(t, `window.hubbub.state().connected && window.unreloaded`)
	harness.Hears(t, "Bob at Ann", func() audio.PCM { return page.Capture(t, bob.ID, 5) }, harness.LJSpeech, harness.JFK)
	if v.Err() != nil {
		t.Fatal(v.Err())
	}
}
