package test

import (
	"testing"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// Two native clients, one in each encryption mode, hear each other.
func TestNativeClientsTalk(t *testing.T) {
	s := harness.Start(t)
	ann, a := s.Join(t, "ann", s.Lounge, client.VoiceOptions{Mode: proto.ModeAES256GCM})
	bob, b := s.Join(t, "bob", s.Lounge, client.VoiceOptions{Mode: proto.ModeXChaCha20})
	harness.Speak(t, a, harness.JFK)
	harness.Speak(t, b, harness.LJSpeech)
	harness.Hears(t, "ann at bob", func() audio.PCM { return harness.Listen(t, b, ann.ID, 4) }, harness.JFK, harness.LJSpeech)
	harness.Hears(t, "bob at ann", func() audio.PCM { return harness.Listen(t, a, bob.ID, 4) }, harness.LJSpeech, harness.JFK)
}
