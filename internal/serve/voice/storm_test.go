package voice

import (
	"net/http"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

// TestStormWaitsItsTurn lets one a second in after a burst: some pass, five wait, and the
// others are closed with the code from which clients resume or join anew.
func TestStormWaitsItsTurn(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *fakeMedia) { c.AdmitPerSecond = 1 })
	first, signed, _ := w.join(8, claims(1, 1))
	c := claims(2, 1)
	var late, others []*voiceClient
	for range 10 {
		late, others = append(late, w.dial("?v=8")), append(others, w.dial("?v=8"))
	}
	for _, v := range late {
		v.expect(proto.VoiceOpHello, nil)
		v.send(proto.VoiceOpIdentify, identify(c, c.Sign(testKey)))
	}
	for w.service.turns.Refused() == 0 {
		w.settle()
	}
	if n := w.service.turns.Waiting(); n > 6 {
		t.Errorf("%d wait", n)
	}

	first.cut()
	back := w.dial("?v=8")
	back.expect(proto.VoiceOpHello, nil)
	one := claims(1, 1)
	back.send(proto.VoiceOpResume, proto.VoiceResume{ServerID: testGuild, ChannelID: testChannel, SessionID: one.Session, Token: signed})
	back.expect(proto.VoiceOpResumed, nil) // comes before those who wait
	for _, v := range others {
		v.expect(proto.VoiceOpHello, nil)
		v.send(proto.VoiceOpResume, proto.VoiceResume{ServerID: testGuild, ChannelID: testChannel, SessionID: one.Session, Token: signed})
	}
	for limit := time.Now().Add(deadline); time.Now().Before(limit); w.settle() {
		resp, err := http.Get(w.server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			return
		}
	}
	t.Error("the door stays open")
}
