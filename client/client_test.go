package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

func TestJoinAndTalk(t *testing.T) {
	for _, mode := range []string{proto.ModeAES256GCM, proto.ModeXChaCha20} {
		t.Run(mode, func(t *testing.T) {
			f := newFake(t)
			_, v := f.joined(t, VoiceOptions{Mode: mode})
			if f.mode != mode || v.Channel() != fakeChannel {
				t.Fatalf("mode %q in channel %d", f.mode, v.Channel())
			}
			for i := range 3 {
				if err := v.Send([]byte{0xF8, byte(i)}); err != nil {
					t.Fatal(err)
				}
			}
			f.expect("speaking 1")
			var last uint16
			for i := range 3 {
				pkt := f.nextRTP()
				if pkt[0] != 0x80 || pkt[1] != 0x78 || pkt[13] != byte(i) || binary.BigEndian.Uint32(pkt[8:]) != fakeSSRC+1 {
					t.Fatalf("packet %d is % x", i, pkt)
				}
				if seq := binary.BigEndian.Uint16(pkt[2:]); i > 0 && seq != last+1 {
					t.Fatalf("sequence %d after %d", seq, last)
				}
				last = binary.BigEndian.Uint16(pkt[2:])
			}

			first := f.speak(7, "one")
			p := nextPacket(t, v)
			if p.UserID != fakeSpeaker || p.SSRC != speakerSSRC || p.Sequence != 7 || string(p.Opus) != "one" || p.AudioLevel != 30 {
				t.Fatalf("packet %+v", p)
			}
			second := f.speak(8, "two")
			_ = nextPacket(t, v)
			f.mu.Lock()
			f.send(first)
			f.send(second)
			f.send([]byte("noise that opens with nothing at all, of some length"))
			f.mu.Unlock()
			f.speak(9, "three")
			if p := nextPacket(t, v); string(p.Opus) != "three" {
				t.Fatalf("a replayed packet came through: %+v", p)
			}
			eventually(t, "a ping", func() bool { return v.Stats().RTT > 0 })
			s := v.Stats()
			if s.Received != 3 || s.Replayed != 2 || s.Malformed != 1 || s.Signalling.Sent == 0 || s.Signalling.Received == 0 {
				t.Fatalf("stats %+v", s)
			}
			if err := v.Leave(deadline(t)); err != nil {
				t.Fatal(err)
			}
			f.expect("op4 null")
			if err := v.Send(silence); !errors.Is(err, ErrClosed) {
				t.Fatalf("Send after Leave: %v", err)
			}
		})
	}
}

func TestGatewayResumesWithoutLoss(t *testing.T) {
	f := newFake(t)
	g := f.client0(t).Gateway(GatewayOptions{})
	got := make(chan string, 16)
	remove := On(g, MessageCreate, func(m proto.Message) { got <- m.Content })
	if err := g.Connect(deadline(t)); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	f.expect("identify token")
	say := func(content string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.dispatch("MESSAGE_CREATE", `{"id":"1","content":%q}`, content)
	}
	hear := func(want string) {
		t.Helper()
		select {
		case content := <-got:
			if content != want {
				t.Fatalf("heard %q, want %q", content, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("did not hear %q", want)
		}
	}
	say("before")
	hear("before")
	f.cutGateway()
	say("meanwhile")
	f.expect("resume s1 2")
	hear("meanwhile")
	say("after")
	hear("after")
	remove()
	say("unheard")
	again := On(g, MessageCreate, func(m proto.Message) { got <- m.Content })
	defer again()
	say("heard")
	for content := ""; content != "heard"; {
		if content = <-got; content != "heard" && content != "unheard" {
			t.Fatalf("heard %q", content)
		}
	}
}

func TestGatewayFallsBackToIdentify(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	f.mu.Lock()
	f.session = 40 // the server forgot
	f.mu.Unlock()
	f.cutGateway()
	f.expect("resume s1 3", "identify token", "op4 300 as s1", "voice identify 300 token-2", "select")
	old := v.Channel()
	if old != fakeChannel || v.Err() != nil {
		t.Fatalf("channel %d, %v", old, v.Err())
	}
	waitTransport(t, v, fakeSSRC+2)
}

func waitTransport(t *testing.T, v *Voice, ssrc uint32) {
	t.Helper()
	eventually(t, "media over there", func() bool {
		tr := v.transport.Load()
		return tr != nil && tr.ssrc == ssrc
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("there was not %s", what)
		}
	}
}

func TestVoiceResumesWhileMediaFlows(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	before := v.transport.Load()
	f.speak(1, "one")
	_ = nextPacket(t, v)
	if err := v.Send([]byte{0xF8, 1}); err != nil {
		t.Fatal(err)
	}
	_ = f.nextRTP()
	f.expect("speaking 1")
	f.cutVoice()
	f.speak(2, "two")
	if p := nextPacket(t, v); string(p.Opus) != "two" {
		t.Fatalf("packet %+v", p)
	}
	if err := v.Send([]byte{0xF8, 2}); err != nil {
		t.Fatal(err)
	}
	_ = f.nextRTP()
	f.expect("voice resume token-1 seq 1", "speaking 1")
	f.closeVoice(proto.VoiceCloseServerCrashed)
	f.expect("voice resume token-1 seq 1", "speaking 1")
	if v.transport.Load() != before {
		t.Fatal("the transport did not outlive the cut")
	}
}

func TestVoiceFollowsMoves(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	f.mu.Lock()
	f.place(301)
	f.mu.Unlock()
	f.expect("voice identify 301 token-2", "select")
	waitTransport(t, v, fakeSSRC+2)
	if v.Channel() != 301 {
		t.Fatalf("channel %d", v.Channel())
	}
	// The other order: the old session is closed before the news comes.
	f.closeVoice(proto.VoiceCloseDisconnected)
	f.mu.Lock()
	f.place(302)
	f.mu.Unlock()
	f.expect("voice identify 302 token-3", "select")
	waitTransport(t, v, fakeSSRC+3)
	if err := v.Move(303); err != nil {
		t.Fatal(err)
	}
	f.expect("op4 303", "voice identify 303 token-4", "select")
}

func TestVoiceRejoinsWhenTheSessionIsLost(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	f.closeVoice(proto.VoiceCloseSessionInvalid)
	f.expect("op4 300", "voice identify 300 token-2", "select")
	waitTransport(t, v, fakeSSRC+2)
}

func TestJoinRightAfterLeave(t *testing.T) {
	f := newFake(t)
	g, v := f.joined(t, VoiceOptions{})
	if err := v.Leave(deadline(t)); err != nil {
		t.Fatal(err)
	}
	f.expect("op4 null")
	f.mu.Lock()
	f.late = true // the end of the old voice state comes after op 4
	f.mu.Unlock()
	if _, err := g.JoinVoice(deadline(t), fakeGuild, 301, VoiceOptions{}); err != nil {
		t.Fatal(err)
	}
	f.expect("op4 301", "voice identify 301 token-2", "select")
}

func TestVoiceEnds(t *testing.T) {
	state := func(channel, session string) func(*fakeServer) {
		return func(f *fakeServer) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.dispatch("VOICE_STATE_UPDATE", `{"guild_id":"%d","channel_id":%s,"user_id":"%d","session_id":%q}`, fakeGuild, channel, fakeUser, session)
		}
	}
	for name, c := range map[string]struct {
		do   func(*fakeServer)
		want error
	}{
		"disconnected": {state("null", "s1"), ErrDisconnected},
		"replaced":     {state(`"300"`, "another"), ErrReplaced},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			_, v := f.joined(t, VoiceOptions{})
			c.do(f)
			select {
			case <-v.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the voice did not end")
			}
			if !errors.Is(v.Err(), c.want) {
				t.Fatalf("ended with %v", v.Err())
			}
			for range v.Packets() {
			}
		})
	}
}

// What ends on purpose says so: the server need not keep it for a resume.
func TestGoodbyes(t *testing.T) {
	f := newFake(t)
	g, v := f.joined(t, VoiceOptions{})
	bye := func(want ...string) {
		t.Helper()
		for len(want) > 0 { // in whatever order the server notices
			select {
			case got := <-f.byes:
				i := slices.Index(want, got)
				if i < 0 {
					t.Fatalf("%s, want %s", got, want)
				}
				want = slices.Delete(want, i, i+1)
			case <-time.After(10 * time.Second):
				t.Fatalf("no %s", want)
			}
		}
	}
	if err := v.Leave(deadline(t)); err != nil {
		t.Fatal(err)
	}
	bye("/ 1000")
	if _, err := g.JoinVoice(deadline(t), fakeGuild, 301, VoiceOptions{}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.place(302)
	f.mu.Unlock()
	bye("/ 1000")
	f.expect("op4 null", "op4 301", "voice identify 301 token-2", "select", "voice identify 302 token-3", "select")
	g.Close()
	bye("/ 1000", "/gateway 1000")
	if err := g.Err(); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Run("token", func(t *testing.T) {
		f := newFake(t)
		f.refuse = proto.CloseAuthenticationFailed
		g := f.client0(t).Gateway(GatewayOptions{})
		defer g.Close()
		err := g.Connect(deadline(t))
		if err == nil || closeCode(err) != proto.CloseAuthenticationFailed || !strings.Contains(err.Error(), "token is not accepted") {
			t.Fatalf("Connect: %v", err)
		}
		if _, err := g.JoinVoice(deadline(t), 1, 2, VoiceOptions{}); err == nil {
			t.Fatal("joined without a session")
		}
	})
	t.Run("full channel", func(t *testing.T) {
		f := newFake(t)
		f.silent = true
		g := f.connected(t)
		ctx, cancel := context.WithCancel(t.Context())
		joined := make(chan error)
		go func() {
			_, err := g.JoinVoice(ctx, fakeGuild, fakeChannel, VoiceOptions{})
			joined <- err
		}()
		f.expect("op4 300")
		cancel()
		if err := <-joined; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "full") {
			t.Fatalf("JoinVoice: %v", err)
		}
		f.expect("op4 null")
	})
	t.Run("mode", func(t *testing.T) {
		f := newFake(t)
		f.modes = []string{"rot13"}
		g := f.connected(t)
		if _, err := g.JoinVoice(deadline(t), fakeGuild, fakeChannel, VoiceOptions{}); err == nil || !strings.Contains(err.Error(), "offers none") {
			t.Fatalf("JoinVoice: %v", err)
		}
	})
	t.Run("twice", func(t *testing.T) {
		f := newFake(t)
		g, _ := f.joined(t, VoiceOptions{})
		if _, err := g.JoinVoice(deadline(t), fakeGuild, 301, VoiceOptions{}); err == nil {
			t.Fatal("two voices in one guild")
		}
	})
	t.Run("config", func(t *testing.T) {
		for _, cfg := range []Config{
			{BaseURL: "localhost:8080"}, {BaseURL: "ftp://localhost"}, {BaseURL: "http://"},
			{BaseURL: "http://h", CAFile: "/nowhere"}, {BaseURL: "http://h", CAFile: writeFile(t, "no certificate")},
		} {
			if _, err := New(cfg); err == nil {
				t.Errorf("New(%+v) is content", cfg)
			}
		}
	})
}

type frames [][]byte

func (s *frames) NextFrame() ([]byte, error) {
	if len(*s) == 0 {
		return nil, io.EOF
	}
	next := (*s)[0]
	*s = (*s)[1:]
	return next, nil
}

type brokenSource struct{}

var errBroken = errors.New("broken")

func (brokenSource) NextFrame() ([]byte, error) { return nil, errBroken }

func TestPlayEndsInSilence(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	source := frames{{0xF8, 1}, {0xF8, 2}, {0xF8, 3}}
	if err := v.Play(deadline(t), &source); err != nil {
		t.Fatal(err)
	}
	f.expect("speaking 1", "speaking 0")
	var timestamp uint32
	for i := range 3 + silenceFrames {
		pkt := f.nextRTP()
		if quiet := string(pkt[rtpHeaderSize:]) == string(silence); quiet != (i >= 3) {
			t.Fatalf("packet %d is % x", i, pkt)
		}
		if now := binary.BigEndian.Uint32(pkt[4:]); i > 0 && (now-timestamp)%frameSamples != 0 {
			t.Fatalf("timestamp moved by %d", now-timestamp)
		}
		timestamp = binary.BigEndian.Uint32(pkt[4:])
	}
	if err := v.Play(deadline(t), brokenSource{}); !errors.Is(err, errBroken) {
		t.Fatalf("Play: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.Play(ctx, brokenSource{}); err == nil {
		t.Fatal("Play outlived its context")
	}
}

func TestOverflowDropsTheOldest(t *testing.T) {
	v := &Voice{packets: make(chan Packet, 2)}
	for i := range 5 {
		v.deliver(Packet{Sequence: uint16(i)})
	}
	if a, b := <-v.packets, <-v.packets; a.Sequence != 3 || b.Sequence != 4 || v.Stats().Overflow != 3 {
		t.Fatalf("kept %d and %d, dropped %d", a.Sequence, b.Sequence, v.Stats().Overflow)
	}
}

func TestRESTWaitsOutRateLimits(t *testing.T) {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if r.Header.Get("Authorization") != "Bot t" || r.URL.Path != "/api/v10/users/@me" {
			t.Errorf("%s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		if calls == 1 {
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"message":"slow","retry_after":0.001,"global":false}`)
			return
		}
		_, _ = io.WriteString(w, `{"id":"9","username":"u"}`)
	}))
	defer server.Close()
	c, err := New(Config{BaseURL: server.URL + "/", Token: "Bot t"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := c.Me(t.Context())
	if err != nil || u.ID != 9 || calls != 2 {
		t.Fatalf("%+v, %v after %d calls", u, err, calls)
	}
}

func TestRESTErrors(t *testing.T) {
	for body, want := range map[string]proto.APIError{
		`{"code":10003,"message":"Unknown Channel"}`: {Status: 404, ErrorBody: proto.ErrorBody{Code: 10003, Message: "Unknown Channel"}},
		`<html>`: {Status: 404, ErrorBody: proto.ErrorBody{Message: "Not Found"}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, body)
		}))
		c, err := New(Config{BaseURL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Messages(t.Context(), 1, 2, 3)
		var got *proto.APIError
		if !errors.As(err, &got) || got.Status != want.Status || got.Code != want.Code || got.Message != want.Message {
			t.Errorf("error %v, want %v", err, &want)
		}
		c.Close()
		server.Close()
	}
}

func TestHandlersGetWhatDecodes(t *testing.T) {
	g := newFake(t).client0(t).Gateway(GatewayOptions{})
	defer g.Close()
	var got []proto.Snowflake
	On(g, GuildCreate, func(e proto.GuildCreate) { got = append(got, e.ID) })
	for _, d := range []string{`{"id":"1"}`, `{"id":{}}`, `{"id":"2"}`} {
		for _, h := range g.handlers.of("GUILD_CREATE") {
			h.f(json.RawMessage(d))
		}
	}
	if len(got) != 2 || got[1] != 2 {
		t.Fatalf("handler got %v", got)
	}
}
