package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

const joins = 10

// signallingLimit is what one join may cost on the voice WebSocket in either
// direction, in bytes of payload. Discord spoke of 1,200 for a browser's.
const signallingLimit = 1200

// join is what one join took: from op 4 to the first packet heard, and payload
// bytes on both WebSockets until then.
type join struct {
	time           time.Duration
	gateway, voice client.Traffic
}

func summarise(t *testing.T, who string, all []join) {
	t.Helper()
	slices.SortFunc(all, func(a, b join) int { return int(a.time - b.time) })
	m := all[len(all)/2]
	t.Logf("%s: %d joins, op 4 to first packet heard: median %v (%v to %v)", who, len(all),
		m.time.Round(100*time.Microsecond), all[0].time.Round(100*time.Microsecond), all[len(all)-1].time.Round(100*time.Microsecond))
	t.Logf("%s: voice WebSocket %d bytes sent, %d received; gateway %d sent, %d received", who,
		m.voice.Sent, m.voice.Received, m.gateway.Sent, m.gateway.Received)
	for _, j := range all {
		if j.voice.Sent == 0 || j.voice.Sent > signallingLimit || j.voice.Received == 0 || j.voice.Received > signallingLimit {
			t.Errorf("%s: a join took %d and %d bytes on the voice WebSocket, the limit is %d", who, j.voice.Sent, j.voice.Received, signallingLimit)
		}
	}
}

// TestJoins joins a channel where one person speaks, and prints what that took.
// Times are for people to read; bytes are checked.
func TestJoins(t *testing.T) {
	s := harness.Start(t)
	speaker, v := s.Join(t, "speaker", s.Lounge, client.VoiceOptions{})
	harness.Speak(t, v, harness.JFK)
	t.Run("native", func(t *testing.T) { summarise(t, "native", nativeJoins(t, s, speaker.ID)) })
	t.Run("browser", func(t *testing.T) { summarise(t, "browser", browserJoins(t, s, speaker.ID)) })
}

func nativeJoins(t *testing.T, s *harness.Server, speaker proto.Snowflake) []join {
	bot := s.Bot(t, "joiner")
	g := s.Connect(t, s.Client(t, bot.Token, ""))
	left := make(chan bool, joins)
	client.On(g, client.VoiceStateUpdate, func(v proto.VoiceState) {
		if v.UserID == bot.ID && v.ChannelID == nil {
			left <- true
		}
	})
	all := make([]join, joins)
	for i := range all {
		before, start := g.Traffic(), time.Now()
		v := s.JoinAs(t, g, s.Lounge, client.VoiceOptions{})
		for (<-v.Packets()).UserID != speaker {
			if v.Err() != nil {
				t.Fatal(v.Err())
			}
		}
		all[i].time = time.Since(start)
		after := g.Traffic()
		all[i].gateway = client.Traffic{Sent: after.Sent - before.Sent, Received: after.Received - before.Received}
		all[i].voice = v.Stats().Signalling
		ctx, cancel := context.WithTimeout(t.Context(), harness.Timeout)
		if err := v.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		select {
		case <-left: // or it would be counted with the next join
		case <-time.After(harness.Timeout):
			t.Fatal("the voice state did not end")
		}
	}
	return all
}

// sockets sums a page's WebSocket bytes: the gateway's and the voice server's.
func sockets(c *browser.Chrome) (gateway, voice client.Traffic) {
	for url, n := range c.SocketBytes() {
		to := &voice
		if strings.Contains(url, "/gateway") {
			to = &gateway
		}
		to.Sent += int64(n.Sent)
		to.Received += int64(n.Received)
	}
	return gateway, voice
}

func browserJoins(t *testing.T, s *harness.Server, speaker proto.Snowflake) []join {
	chrome := browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.LJSpeech)})
	page := browser.Enter(t, chrome, s.URL(), s.Invite(t, s.Chat), "Joiner")
	all := make([]join, joins)
	for i := range all {
		page.Wait(t, fmt.Sprintf(`document.querySelector('[data-testid="channel-%d"]')`, s.Lounge))
		gateway, voice := sockets(chrome)
		var took float64
		// A remote track is unmuted by its first packet.
		page.Eval(t, fmt.Sprintf(`new Promise((done) => {
			const start = performance.now();
			window.hubbub.join("%d");
			const { port1, port2 } = new MessageChannel();
			port1.onmessage = () => {
				const track = window.hubbub.remoteStreams().get("%d")?.getAudioTracks()[0];
				track && !track.muted ? done(performance.now() - start) : port2.postMessage(0);
			};
			port2.postMessage(0);
		})`, s.Lounge, speaker), &took)
		gatewayAfter, voiceAfter := sockets(chrome)
		all[i] = join{
			time:    time.Duration(took * float64(time.Millisecond)),
			gateway: client.Traffic{Sent: gatewayAfter.Sent - gateway.Sent, Received: gatewayAfter.Received - gateway.Received},
			voice:   client.Traffic{Sent: voiceAfter.Sent - voice.Sent, Received: voiceAfter.Received - voice.Received},
		}
		page.Wait(t, `window.hubbub.state().connected`)
		page.Eval(t, `window.hubbub.leave()`, nil)
		page.Wait(t, `!window.hubbub.state().channel && window.hubbub.remoteStreams().size === 0`)
	}
	return all
}
