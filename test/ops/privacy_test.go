package ops

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"testing"

	"hubbub.dev/hubbub/proto"
)

// magicCookie is what STUN xors addresses with (RFC 8489 section 14.2).
const magicCookie = 0x2112A442

// TestNobodyLearnsAnAddress has people of both transports call, chat and moderate
// from addresses of their own, and searches all that everybody else was sent, the
// log and the metrics for each address.
func TestNobodyLearnsAnAddress(t *testing.T) {
	s := startServer(t, checked)
	lounge, quiet, chat := s.channel("Lounge"), s.channel("Quiet Room"), s.channel("general")
	anna := newPerson(t, s, "127.83.17.201", "anna")
	ben := newPerson(t, s, "127.94.18.202", "ben")
	page := newPerson(t, s, "127.105.19.203", "page")
	people := []*person{anna, ben, page}
	var transports []*media
	for _, p := range people {
		p.identify()
		p.join(lounge)
		if p == page {
			transports = append(transports, p.browser())
		} else {
			transports = append(transports, p.native())
		}
	}
	for i, p := range people {
		for j, from := range people {
			if i == j {
				continue
			}
			if err := hears(p.name, transports[i], transports[j], from.name+" to "+p.name, 1000*(i+1)); err != nil {
				t.Error(err)
			}
		}
	}
	for _, p := range people {
		p.rest(http.MethodPost, "/channels/"+chat.String()+"/messages", map[string]string{"content": "hello"}, nil)
		for _, path := range []string{
			"/users/@me", "/users/@me/guilds", "/guilds/" + s.guild.String(), "/guilds/" + s.guild.String() + "/channels",
			"/guilds/" + s.guild.String() + "/members?limit=100", "/guilds/" + s.guild.String() + "/voice-states/" + anna.id.String(),
			"/channels/" + chat.String() + "/messages", "/voice/regions", "/gateway", "/invites/" + s.link("Invite"),
		} {
			p.rest(http.MethodGet, path, nil, nil)
		}
		p.voice.send(int(proto.VoiceOpSpeaking), proto.VoiceSpeaking{Speaking: proto.SpeakingVoice, SSRC: p.ready.SSRC})
	}
	// A mute, a move and a cut connection tell the others something, too.
	member := "/guilds/" + s.guild.String() + "/members/"
	s.admin(http.MethodPatch, member+ben.id.String(), map[string]any{"mute": true}, nil)
	s.admin(http.MethodPatch, member+ben.id.String(), map[string]any{"channel_id": quiet}, nil)
	_ = page.voice.conn.CloseNow()
	_ = ben.gateway.conn.CloseNow()
	// A refused token and a malformed request are where logs are tempted.
	rude := anna.dial("/?v=8")
	rude.send(int(proto.VoiceOpIdentify), map[string]string{"token": "wrong"})
	rude.closed()
	rude = anna.dial("/gateway?v=10")
	rude.send(int(proto.OpIdentify), map[string]string{"token": "wrong"})
	if code := rude.closed(); code != proto.CloseAuthenticationFailed {
		t.Errorf("a wrong token closes with %d", code)
	}
	// What was caused above has been sent by the time that a later message comes.
	anna.rest(http.MethodPost, "/channels/"+chat.String()+"/messages", map[string]string{"content": "the end"}, nil)
	for _, p := range []*person{anna, page} {
		for {
			var m proto.Message
			decode(t, p.gateway.await(int(proto.OpDispatch), "MESSAGE_CREATE").D, &m)
			if m.Content == "the end" {
				break
			}
		}
	}
	_, metrics := s.get("/metrics")
	s.terminate()

	for _, p := range people {
		raw := p.addr.As4()
		var xored [4]byte
		binary.BigEndian.PutUint32(xored[:], binary.BigEndian.Uint32(raw[:])^magicCookie)
		forms := map[string][]byte{
			"text": []byte(p.addr.String()), "bytes": raw[:], "STUN form": xored[:], "hex": []byte(hex.EncodeToString(raw[:])),
		}
		places := map[string][]byte{"the log": s.Log.Bytes(), "the metrics": []byte(metrics)}
		for _, other := range people {
			if other != p {
				places["what "+other.name+" was sent"] = other.seen.Bytes()
			}
		}
		for place, content := range places {
			for form, address := range forms {
				if at := bytes.Index(content, address); at >= 0 {
					t.Errorf("%s has the address of %s as %s: %q", place, p.name, form, content[max(0, at-80):min(len(content), at+80)])
				}
			}
		}
		if !bytes.Contains(p.seen.Bytes(), forms["text"]) && !bytes.Contains(p.seen.Bytes(), forms["STUN form"]) {
			t.Errorf("%s was never told its own address: the search finds nothing where there is something", p.name)
		}
	}
}
