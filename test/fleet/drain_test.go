//go:build linux

package fleet

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// crowdPeers natives in crowdChannels channels are on the node that is drained.
const (
	crowdPeers    = 200
	crowdChannels = 8
)

// numbers is a source of 20 ms packets that carry their number, from 1 on.
type numbers struct {
	last  uint64
	frame [40]byte
}

func (n *numbers) NextFrame() ([]byte, error) {
	n.last++
	n.frame[0] = 0xF8 // CELT, 20 ms, one frame
	binary.BigEndian.PutUint64(n.frame[1:], n.last)
	return n.frame[:], nil
}

// hum is a note without end, for a page to hear.
type hum struct{ *audio.Recording }

func newHum(t testing.TB) hum {
	t.Helper()
	pcm := audio.PCM{Rate: audio.Rate, Channels: 1, Samples: make([]float32, audio.Rate)}
	for i := range pcm.Samples {
		pcm.Samples[i] = 0.3 * float32(math.Sin(2*math.Pi*440*float64(i)/audio.Rate))
	}
	r, err := audio.NewRecording(pcm, 48000)
	if err != nil {
		t.Fatal(err)
	}
	return hum{r}
}

func (h hum) NextFrame() ([]byte, error) {
	frame, err := h.Recording.NextFrame()
	if err == io.EOF {
		h.Rewind()
		return h.Recording.NextFrame()
	}
	return frame, err
}

func play(t testing.TB, v *client.Voice, source client.FrameSource) {
	var task sync.WaitGroup
	task.Go(func() { _ = v.Play(t.Context(), source) })
	t.Cleanup(task.Wait)
}

// count is what one native hears of numbers.
type count struct {
	frames, lost, doubled int
	pause                 time.Duration // the longest
}

type witness struct {
	mu sync.Mutex
	count
	last uint64
	at   time.Time
}

// attend listens until the test ends, to one speaker's numbers, and then leaves.
func attend(t testing.TB, v *client.Voice, to proto.Snowflake) *witness {
	w := &witness{}
	var task sync.WaitGroup
	task.Go(func() {
		for p := range v.Packets() {
			if p.UserID == to && len(p.Opus) == 40 {
				w.hear(binary.BigEndian.Uint64(p.Opus[1:]))
			}
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = v.Leave(ctx)
		task.Wait()
	})
	return w
}

func (w *witness) hear(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.frames++
	if w.last == 0 {
		w.last, w.at = number, now
		return
	}
	if number <= w.last {
		w.doubled++
		return
	}
	w.lost += int(number - w.last - 1)
	w.pause = max(w.pause, now.Sub(w.at))
	w.last, w.at = number, now
}

// begin counts anew, and returns what was counted.
func (w *witness) begin() count {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.count
	if w.last > 0 {
		was.pause = max(was.pause, time.Since(w.at)) // it may be silent now
	}
	w.count = count{}
	return was
}

func (w *witness) heard() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frames
}

// listening makes a page tell the longest time for which nothing was to be heard of what
// it plays of a user.
const listening = `((user) => {
	const context = new AudioContext();
	const meter = context.createAnalyser();
	meter.fftSize = 256;
	const samples = new Float32Array(meter.fftSize);
	let track, source, last = performance.now(), longest = 0;
	setInterval(() => {
		const stream = window.hubbub.remoteStreams().get(user);
		const next = stream?.getAudioTracks()[0];
		if (next !== track) {
			source?.disconnect();
			track = next;
			source = stream && context.createMediaStreamSource(stream);
			source?.connect(meter);
		}
		meter.getFloatTimeDomainData(samples);
		const now = performance.now();
		if (Math.max(...samples) > 0.02) last = now;
		longest = Math.max(longest, now - last);
	}, 5);
	window.pause = () => { const was = longest; longest = 0; last = Math.max(last, performance.now() - was); return was; };
	return context.resume();
})`

// crowd is people in channels who hear the first one of theirs.
type crowd []*witness

func (p *platform) crowd(peers int, ids []proto.Snowflake) (c crowd) {
	p.t.Helper()
	channels := len(ids)
	first := make([]proto.Snowflake, channels)
	for i := range peers {
		who := p.person(fmt.Sprint("peer-", i))
		v := p.enter(who, ids[i%channels])
		if i < channels {
			first[i] = who.id
			attend(p.t, v, 0)
			play(p.t, v, &numbers{})
			continue
		}
		c = append(c, attend(p.t, v, first[i%channels]))
	}
	return c
}

// everybody waits until each witness has heard n frames since it began.
func (c crowd) everybody(t testing.TB, n int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for _, w := range c {
		for w.heard() < n {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("somebody has heard %d frames of %d", w.heard(), n)
			}
		}
	}
}

// tell prints what each heard since it was told last, and returns the sums.
func (c crowd) tell(t testing.TB, when string) (lost, doubled int) {
	t.Helper()
	var pauses []time.Duration
	most := 0
	for _, w := range c {
		h := w.begin()
		pauses = append(pauses, h.pause)
		lost, doubled, most = lost+h.lost, doubled+h.doubled, max(most, h.lost)
	}
	slices.Sort(pauses)
	at := func(part float64) time.Duration {
		return pauses[int(part*float64(len(pauses)-1))].Round(time.Millisecond)
	}
	t.Logf("%-22s %d listeners: longest pause of each p50 %v, p95 %v, max %v; frames lost %d in all, %d by one at most; %d doubled",
		when, len(pauses), at(0.5), at(0.95), at(1), lost, most, doubled)
	return lost, doubled
}

// TestADrainedNodeIsLeftUnheard drains a voice node with many natives and a page on it. It
// takes all of a small machine, so it alone is beside no other test.
func TestADrainedNodeIsLeftUnheard(t *testing.T) {
	p := startWithoutVoice(t)
	leaving := p.run("voice-a", "voice")
	var rooms []proto.Snowflake
	for i := range crowdChannels {
		rooms = append(rooms, p.channel(fmt.Sprint("room-", i), ""))
	}
	// The page first: it has a time limit, and shares the host with all of them.
	hummer := p.person("hummer")
	humming := p.enter(hummer, rooms[0])
	attend(t, humming, 0)
	play(t, humming, newHum(t))
	var invite proto.Invite
	p.call(http.MethodPost, "/guilds/"+p.guild.String()+"/invites", map[string]any{"channel_id": rooms[0], "max_age": 0}, &invite)
	page := browser.Enter(t, browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)}), p.url, invite.Code, "Cy")
	page.Join(t, rooms[0])
	page.Wait(t, `window.hubbub.remoteStreams().get(`+strconv.Quote(hummer.id.String())+`)`)
	page.Eval(t, listening+`(`+strconv.Quote(hummer.id.String())+`)`, nil)
	c := p.crowd(crowdPeers, rooms)

	before := p.inVoice()
	if len(before) != crowdPeers+2 {
		t.Fatalf("%d are in voice", len(before))
	}
	for id, e := range before {
		if e.Node != "voice-a" || e.Transport == "" {
			t.Fatalf("%d is %+v", id, e)
		}
	}
	p.run("voice-b", "voice")
	c.everybody(t, 50)
	c.tell(t, "joining")
	page.Eval(t, `window.pause()`, nil)
	c.everybody(t, 100)
	calm, _ := c.tell(t, "two seconds of calm")
	var pause float64
	page.Eval(t, `window.pause()`, &pause)
	t.Logf("%-22s the page's longest pause %.0f ms", "two seconds of calm", pause)

	began := time.Now()
	p.drain("front", "voice-a")
	select {
	case <-leaving.Exited():
	case <-time.After(patience):
		t.Fatal("the node does not end")
	}
	t.Logf("voice-a ended after %v", time.Since(began).Round(time.Millisecond))
	if !leaving.Succeeded() {
		t.Error("it did not end well")
	}
	c.everybody(t, 100)
	lost, doubled := c.tell(t, "drain")
	page.Eval(t, `window.pause()`, &pause)
	t.Logf("%-22s the page's longest pause %.0f ms", "drain", pause)
	after := p.inVoice()
	if len(after) != len(before) {
		t.Errorf("%d were in voice, %d are", len(before), len(after))
	}
	for id, was := range before {
		if is := after[id]; is.Node != "voice-b" || is.Channel != was.Channel || is.Transport != was.Transport {
			t.Errorf("%d was %+v and is %+v", id, was, is)
		}
	}
	// A cut of half a second would cost each of them 25 frames. A host that has too much to
	// do loses some in calm, too.
	if lost > 10*len(c)+2*calm || doubled > len(c) {
		t.Errorf("%d frames lost, %d doubled", lost, doubled)
	}
	c.everybody(t, 50)
	c.tell(t, "after")
}
