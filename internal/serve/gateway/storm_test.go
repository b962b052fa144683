package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

// TestStormWaitsItsTurn lets one a second in after a burst. Three of each kind pass, ten
// wait, and the others are told to come back: by op 9, by op 7, or by the door.
func TestStormWaitsItsTurn(t *testing.T) {
	cfg := defaults()
	cfg.AdmitPerSecond = 1
	w := newWorld(t, cfg)
	first := w.dial("").identify(aliceKey, "", 1)
	var late []*peer
	for range 13 {
		p := w.dial("")
		p.want(proto.OpHello)
		late = append(late, p)
	}
	for _, p := range late {
		p.send(`{"op":2,"d":{"token":%q,"properties":{}}}`, aliceKey)
	}
	refused := func(n float64) {
		t.Helper()
		for w.metric("hubbub_gateway_turned_away_total") < n {
			w.dial("").want(proto.OpHello) // as long as there is a door for resumes
		}
	}
	refused(1)
	if waiting := w.metric("hubbub_gateway_waiting"); waiting > 11 {
		t.Errorf("%v wait", waiting)
	}
	// Resumes have turns of their own, and the door closes when those are given away.
	resume := func() *peer {
		p, err := w.tryDial("")
		if err != nil {
			return nil
		}
		p.want(proto.OpHello)
		p.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":1}}`, aliceKey, first.SessionID)
		return p
	}
	p := resume()
	for p.last == 0 {
		if f, err := p.read(); err != nil || f.T == "RESUMED" {
			break
		}
	}
	for range 30 {
		resume()
		resp, err := http.Get(w.url + "/gateway")
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

// TestRefusedAnswers are an op 9 for who identifies and an op 7 for who resumes.
func TestRefusedAnswers(t *testing.T) {
	cfg := defaults()
	cfg.AdmitPerSecond = 1
	w := newWorld(t, cfg)
	const many = 16
	var identifies, resumes []*peer
	for range many {
		identifies, resumes = append(identifies, w.dial("")), append(resumes, w.dial(""))
	}
	for _, p := range identifies {
		p.want(proto.OpHello)
		p.send(`{"op":2,"d":{"token":%q,"properties":{}}}`, aliceKey)
	}
	for _, p := range resumes {
		p.want(proto.OpHello)
		p.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":1}}`, aliceKey, strings.Repeat("0", 32))
	}
	answers := make(chan frame, 2*many)
	for _, p := range append(identifies, resumes...) {
		go func() {
			if f, err := p.read(); err == nil {
				answers <- f
			}
		}()
	}
	seen := map[int]int{}
	timeout := time.After(patience)
	for seen[int(proto.OpReconnect)] < 1 || seen[int(proto.OpInvalidSession)] < 4 {
		select {
		case f := <-answers:
			seen[f.Op]++
		case <-timeout:
			t.Fatalf("got %v", seen)
		}
	}
}
