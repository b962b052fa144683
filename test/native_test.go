package test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// Two native clients, one in each encryption mode, hear each other.
func TestNativeClientsTalk(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	ann, a := s.Join(t, "ann", s.Lounge, client.VoiceOptions{Mode: proto.ModeAES256GCM})
	bob, b := s.Join(t, "bob", s.Lounge, client.VoiceOptions{Mode: proto.ModeXChaCha20})
	harness.Speak(t, a, harness.JFK)
	harness.Speak(t, b, harness.LJSpeech)
	harness.HearAll(t,
		harness.Sound{Who: "ann at bob", Capture: harness.At(b, ann.ID, 4), Want: harness.JFK, Other: harness.LJSpeech},
		harness.Sound{Who: "bob at ann", Capture: harness.At(a, bob.ID, 4), Want: harness.LJSpeech, Other: harness.JFK},
	)
}

// A client that asks is told of each time that somebody begins and ends to speak, deaf
// or not.
func TestSpeakingIsToldToWhoAsks(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	events := make(chan proto.SpeakingFlags, 64)
	ann, a := s.Join(t, "ann", s.Lounge, client.VoiceOptions{})
	s.Join(t, "bob", s.Lounge, client.VoiceOptions{SelfDeaf: true, OnSpeaking: func(user proto.Snowflake, flags proto.SpeakingFlags) {
		if user == ann.ID {
			events <- flags
		}
	}})
	// await sends a frame each 20 ms, if there is one, until bob is told.
	await := func(speaking bool, frame []byte) {
		t.Helper()
		deadline := time.After(harness.Timeout)
		for {
			select {
			case flags := <-events:
				if (flags != 0) == speaking {
					return
				}
			case <-time.After(20 * time.Millisecond):
				if frame == nil {
					continue
				}
				if err := a.Send(frame); err != nil {
					t.Fatal(err)
				}
			case <-deadline:
				t.Fatalf("not told, speaking %t", speaking)
			}
		}
	}
	for range 3 {
		await(true, []byte{0xfc, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
		await(false, nil)
	}
}

// Libraries ask for their address once, the moment they are told where to, and wait for
// the answer.
func TestDiscoveryIsAnsweredAtOnce(t *testing.T) {
	s := harness.Start(t)
	user, session, token, at := offer(t, s, "bot")
	for round := range 10 {
		w := dial(t, at, "/?v=8")
		w.send(identifyVoice(s.Guild, s.Lounge, user, session, token))
		var ready proto.VoiceReady
		if err := json.Unmarshal(w.until(int(proto.VoiceOpReady)), &ready); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("udp", net.JoinHostPort(ready.IP, fmt.Sprint(ready.Port)))
		if err != nil {
			t.Fatal(err)
		}
		request := make([]byte, 74)
		binary.BigEndian.PutUint32(request, 1<<16|70)
		binary.BigEndian.PutUint32(request[4:], ready.SSRC)
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, err := conn.Read(request)
		_ = conn.Close()
		if err != nil || n != len(request) {
			t.Fatalf("round %d: %d bytes, %v", round, n, err)
		}
		_ = w.conn.CloseNow()
	}
}
