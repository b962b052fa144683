package test

import (
	"fmt"
	"testing"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// enter brings a page into the lounge as a guest and tells who it is.
func enter(t *testing.T, s *harness.Server, p browser.Page, name string) *browser.App {
	t.Helper()
	a := browser.Enter(t, p, s.URL(), s.Invite(t, s.Chat), name)
	a.Join(t, s.Lounge)
	return a
}

// others waits until a page hears so many people, and returns who they are.
func others(t *testing.T, a *browser.App, count int) []proto.Snowflake {
	t.Helper()
	a.Wait(t, fmt.Sprintf("window.hubbub.remoteStreams().size === %d", count))
	var ids []proto.Snowflake
	a.Eval(t, "[...window.hubbub.remoteStreams().keys()]", &ids)
	return ids
}

// In one channel: a browser with each recording, and a native client.
func TestBrowsersTalk(t *testing.T) {
	for name, second := range map[string]func(testing.TB, browser.Options) browser.Page{
		"Chromium and Chromium": func(t testing.TB, o browser.Options) browser.Page { return browser.Chromium(t, o) },
		"Chromium and Firefox":  func(t testing.TB, o browser.Options) browser.Page { return browser.StartFirefox(t, o) },
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t)
			ann := enter(t, s, browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)}), "Ann")
			bob := enter(t, s, second(t, browser.Options{Microphone: harness.WAV48(t, harness.LJSpeech)}), "Bob")
			atAnn, atBob := others(t, ann, 1)[0], others(t, bob, 1)[0]
			harness.HearAll(t,
				harness.Sound{Who: "Bob at Ann", Capture: ann.At(atAnn, 5), Want: harness.LJSpeech, Other: harness.JFK},
				harness.Sound{Who: "Ann at Bob", Capture: bob.At(atBob, 5), Want: harness.JFK, Other: harness.LJSpeech},
			)

			cy, v := s.Join(t, "cy", s.Lounge, client.VoiceOptions{})
			harness.Speak(t, v, harness.JFK)
			harness.HearAll(t,
				harness.Sound{Who: "Bob at Cy", Capture: harness.At(v, atAnn, 4), Want: harness.LJSpeech, Other: harness.JFK},
				harness.Sound{Who: "Cy at Bob", Capture: bob.At(cy.ID, 4), Want: harness.JFK, Other: harness.LJSpeech},
			)
		})
	}
}
