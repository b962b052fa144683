package test

import (
	"testing"

	"hubbub.dev/hubbub/client"
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
	page.Wait(t, `window.hubbub.state().connected && window.unreloaded`)
	harness.HearAll(t,
		harness.Sound{Who: "Ann at Bob", Capture: harness.At(v, me, 4), Want: harness.JFK, Other: harness.LJSpeech},
		harness.Sound{Who: "Bob at Ann", Capture: page.At(bob.ID, 5), Want: harness.LJSpeech, Other: harness.JFK},
	)
	if v.Err() != nil {
		t.Fatal(v.Err())
	}
}
