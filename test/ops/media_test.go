package ops

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// mostLost packets may be missing of what anybody hears of another when the media
// process is killed.
const mostLost = 5

// children returns the processes that the server has started and that run.
func (s *server) children() []int {
	s.t.Helper()
	pids, err := s.Children()
	if err != nil {
		s.t.Fatal(err)
	}
	return pids
}

// mediaProcess waits for a media process that is not the old one.
func (s *server) mediaProcess(old int) int {
	s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); ; {
		if pids := s.children(); len(pids) == 1 && pids[0] != old {
			return pids[0]
		}
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("no media process but %v", s.children())
		}
	}
}

// stream is what somebody hears of one speaker, by the numbers of packets and by when
// they come.
type stream struct {
	packets, lost, back int
	sequence            uint16
	timestamp           uint32
	at                  time.Time
	pause               time.Duration
}

func (h *stream) hear(p *client.Packet) {
	now := time.Now()
	if h.packets++; h.packets > 1 {
		ahead := int16(p.Sequence - h.sequence)
		if ahead <= 0 || int32(p.Timestamp-h.timestamp) <= 0 {
			h.back++
			return
		}
		h.lost += int(ahead) - 1
		h.pause = max(h.pause, now.Sub(h.at))
	}
	h.sequence, h.timestamp, h.at = p.Sequence, p.Timestamp, now
}

// audience is what one caller hears of everybody, by user.
type audience struct {
	mu      sync.Mutex
	streams map[proto.Snowflake]*stream
	numbers map[proto.Snowflake]uint64 // that counters have come to
	missing int                        // numbers left out
}

// attend listens for a caller until the test ends.
func attend(t *testing.T, c *caller) *audience {
	a := &audience{streams: map[proto.Snowflake]*stream{}, numbers: map[proto.Snowflake]uint64{}}
	ctx, cancel := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() {
		for {
			select {
			case p, ok := <-c.voice.Packets():
				if !ok {
					t.Errorf("the voice of %s ended: %v", c.name, c.voice.Err())
					return
				}
				a.hear(&p)
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); task.Wait() })
	return a
}

func (a *audience) hear(p *client.Packet) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams[p.UserID] == nil {
		a.streams[p.UserID] = &stream{}
	}
	a.streams[p.UserID].hear(p)
	if n := number(p.Opus); n > 0 {
		if last := a.numbers[p.UserID]; last > 0 && n > last+1 {
			a.missing += int(n - last - 1)
		}
		a.numbers[p.UserID] = n
	}
}

// begin forgets what was heard but where it ended.
func (a *audience) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missing = 0
	for _, h := range a.streams {
		h.packets, h.lost, h.back, h.pause = 1, 0, 0, 0
	}
}

// judge checks what was heard since begin.
func (a *audience) judge(t *testing.T, who string, speakers, lost int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.streams) != speakers {
		t.Errorf("%s hears %d speakers, not %d", who, len(a.streams), speakers)
	}
	if a.missing > lost {
		t.Errorf("%s misses %d of what was said", who, a.missing)
	}
	for user, h := range a.streams {
		t.Logf("%s of %d: %d packets, %d lost, longest pause %v", who, user, h.packets, h.lost, h.pause.Round(time.Millisecond))
		if h.packets < 10 || h.lost > lost || h.back > 0 {
			t.Errorf("%s of %d: %d packets, %d lost, %d times the numbers went back", who, user, h.packets, h.lost, h.back)
		}
	}
}

// watched makes a page keep its connections, before it has any.
const watched = `(() => {
	window.connections = [];
	const real = window.RTCPeerConnection;
	window.RTCPeerConnection = class extends real {
		constructor(...args) { super(...args); window.connections.push(this); }
	};
	window.incoming = async () => {
		const sum = { connections: window.connections.length, packets: 0, lost: 0, concealed: 0 };
		for (const c of window.connections) for (const s of (await c.getStats()).values()) if (s.type === "inbound-rtp" && s.kind === "audio") {
			sum.packets += s.packetsReceived;
			sum.lost += s.packetsLost;
			sum.concealed += (s.concealedSamples ?? 0) - (s.silentConcealedSamples ?? 0);
		}
		return sum;
	};
	return true;
})()`

// incoming is what a page has received, concealed in samples of 48 kHz.
type incoming struct{ Connections, Packets, Lost, Concealed int }

func received(t *testing.T, page *browser.App) (in incoming) {
	t.Helper()
	page.Eval(t, `window.incoming()`, &in)
	return in
}

// TestMediaProcessDies kills the media process again and again, while
// natives and a browser talk.
func TestMediaProcessDies(t *testing.T) {
	s := startServer(t, shipped)
	s.expected = `level=ERROR msg="the media process ended and is replaced"`
	lounge := s.channel("Lounge")
	a, b := join(t, s, "anna", lounge), join(t, s, "ben", lounge)
	chromium := browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)})
	page := browser.Enter(t, chromium, s.url(), s.link("Invite"), "Cy")
	page.Eval(t, watched, nil)
	page.Join(t, lounge)
	page.Wait(t, `window.hubbub.remoteStreams().size === 2`)
	// A fourth sees what signalling says.
	witness := newPerson(t, s, "127.0.0.1", "Dee")
	witness.identify()
	witness.join(lounge)

	ears := map[string]*audience{"anna": attend(t, a), "ben": attend(t, b)}
	a.speaks(t, 150)
	joins := s.metric("hubbub_voice_identifies_total") + s.metric("hubbub_voice_resumes_total")
	witness.hush()
	fault := func(name string, lost int, strike func(pid int)) {
		t.Helper()
		for _, e := range ears {
			e.begin()
		}
		before, pid, counted := received(t, page), s.mediaProcess(0), s.metric("hubbub_media_packets_received_total")
		strike(pid)
		s.mediaProcess(pid)
		a.speaks(t, 100)
		for who, e := range ears {
			e.judge(t, name+": "+who, 2, lost)
		}
		after := received(t, page)
		t.Logf("%s: the page got %d packets, lost %d, concealed %d ms", name,
			after.Packets-before.Packets, after.Lost-before.Lost, (after.Concealed-before.Concealed)/48)
		// The new process has said what it counts: that is once a second.
		s.until("hubbub_media_packets_received_total", func(n float64) bool {
			if n < counted {
				t.Errorf("%s: %v packets are counted, after %v", name, n, counted)
			}
			return n != counted
		})
		if after.Connections != 1 || after.Lost-before.Lost > 2*lost || after.Packets-before.Packets < 100 {
			t.Errorf("%s: the page had %+v and has %+v", name, before, after)
		}
	}
	for i := range 3 {
		fault(fmt.Sprint("kill ", i+1), mostLost, func(pid int) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		})
	}
	witness.unaware(t, a.id, b.id)
	if now := s.metric("hubbub_voice_identifies_total") + s.metric("hubbub_voice_resumes_total"); now != joins {
		t.Errorf("%v joined or resumed", now-joins)
	}
	if got := s.metric("hubbub_media_restarts_total"); got != 3 {
		t.Errorf("%v restarts are counted, not 3", got)
	}
}

// hush drops what the voice gateway has said so far.
func (p *person) hush() {
	for len(p.voice.frames) > 0 {
		<-p.voice.frames
	}
}

// unaware checks that the voice gateway has said nothing since, and nothing of people
// who speak all the time: others may have paused.
func (p *person) unaware(t *testing.T, talkers ...proto.Snowflake) {
	t.Helper()
	for len(p.voice.frames) > 0 {
		f := <-p.voice.frames
		var said proto.VoiceSpeaking
		if f.Op == int(proto.VoiceOpSpeaking) {
			decode(t, f.D, &said)
		}
		if f.Op != int(proto.VoiceOpHeartbeatACK) && (said.UserID == 0 || slices.Contains(talkers, said.UserID)) {
			t.Errorf("the voice gateway says op %d %s", f.Op, f.D)
		}
	}
	select {
	case <-p.voice.done:
		t.Errorf("the voice connection ended: %v", p.voice.err)
	default:
	}
}
