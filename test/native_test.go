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
