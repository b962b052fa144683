//go:build linux

package chaos

import (
	"context"
	"fmt"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// pagePoll is how often the page looks at what it has received: Chromium answers
// from what it knew up to 50 ms before.
const pagePoll = 50 * time.Millisecond

// visitor is a person in a real browser, in the first guild's call.
type visitor struct {
	*browser.App
	w     *world
	id    proto.Snowflake
	guild *community
}

// watched makes a page note how long it receives nothing of each speaker, in all of
// the connections that it ever has.
const watched = `(() => {
	const connections = new Map(), tracks = new Map(), ears = new Map(); // each connection with what its reports said last
	let lost = 0, concealed = 0, base = { lost, concealed }, marks = [], looking = false;
	const real = window.RTCPeerConnection;
	window.RTCPeerConnection = class extends real {
		constructor(...args) { super(...args); connections.set(this, new Map()); }
	};
	const heard = (user) => {
		const at = performance.now(), e = ears.get(user) ?? { at, gap: 0 };
		ears.set(user, e);
		const gap = at - e.at;
		e.gap = Math.max(e.gap, gap);
		if (gap > 150) marks.push({ From: Date.now() - gap, To: Date.now() });
		e.at = at;
	};
	const audio = async (c) => [...(await c.getStats()).values()].filter((s) => s.type === "inbound-rtp" && s.kind === "audio");
	const look = async () => {
		for (const [user, stream] of window.hubbub?.remoteStreams() ?? []) for (const t of stream.getAudioTracks()) tracks.set(t.id, user);
		for (const [c, reports] of connections) {
			if (c.connectionState === "closed") { connections.delete(c); continue; }
			for (const s of await audio(c)) {
				const now = { packets: s.packetsReceived, lost: s.packetsLost, concealed: (s.concealedSamples ?? 0) - (s.silentConcealedSamples ?? 0) };
				const key = s.id + " " + s.ssrc, before = reports.get(key) ?? { packets: 0, lost: 0, concealed: 0 };
				reports.set(key, now);
				lost += now.lost - before.lost;
				concealed += now.concealed - before.concealed;
				const user = tracks.get(s.trackIdentifier);
				if (user && now.packets > before.packets) heard(user);
			}
		}
	};
	setInterval(async () => {
		if (looking) return;
		looking = true;
		try { await look(); } finally { looking = false; }
	}, 50);
	window.chaos = {
		begin() { base = { lost, concealed }; for (const e of ears.values()) e.gap = 0; return true; },
		end() {
			const at = performance.now(), seen = marks;
			marks = [];
			return { Marks: seen, Lost: lost - base.lost, Concealed: (concealed - base.concealed) / 48,
				Gaps: Object.fromEntries([...ears].map(([user, e]) => [user, Math.max(e.gap, at - e.at)])) };
		},
		async knows() {
			const rtp = [];
			for (const c of connections.keys()) for (const s of await audio(c))
				rtp.push([c.connectionState, s.mid, s.ssrc, s.packetsReceived, tracks.get(s.trackIdentifier)].join(" "));
			return JSON.stringify({ streams: [...window.hubbub.remoteStreams().keys()], state: window.hubbub.state(), rtp });
		},
		silent() { const at = performance.now(); return Object.fromEntries([...ears].map(([user, e]) => [user, at - e.at])); },
	};
	return true;
})()`

// received is what the page measured: lost packets, milliseconds that its decoder
// made up, and for each speaker the longest time in which nothing came.
type received struct {
	Lost      int
	Concealed float64
	Gaps      map[string]float64
	Marks     []struct{ From, To float64 } // milliseconds since 1970
}

// visit starts Chromium and has it join the first guild's call.
func (w *world) visit() {
	w.t.Helper()
	g := w.guilds[0]
	page := browser.Chromium(w.t, browser.Options{
		Microphone: harness.WAV48(w.t, harness.JFK),
		Flags:      []string{"--ignore-certificate-errors"}, // each node has an authority of its own
	})
	app := browser.Enter(w.t, page, "https://"+w.gateways()[0], g.invite, "Vera")
	app.Eval(w.t, watched, nil)
	app.Join(w.t, g.lounge)
	w.visitor = &visitor{App: app, w: w, guild: g}
	ctx, cancel := w.step()
	defer cancel()
	var list []guild.VoiceListEntry
	if err := w.admin().Do(ctx, "GET", "/voice", nil, &list); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list {
		if e.Transport == "webrtc" {
			w.visitor.id = e.User
		}
	}
	if w.visitor.id == 0 {
		w.t.Fatalf("the browser is not among %+v", list)
	}
}

func (v *visitor) begin() { v.Eval(v.w.t, "window.chaos.begin()", nil) }

func (v *visitor) end() (got received) {
	v.Eval(v.w.t, "window.chaos.end()", &got)
	return got
}

// visitorAudible is how long natives may hear nothing of the browser: its recording
// has pauses, in which it sends nothing.
const visitorAudible = 3 * time.Second

// wrong says what is not right with the visitor, "" for nothing.
func (v *visitor) wrong() string {
	ctx, cancel := context.WithTimeout(v.w.t.Context(), patience)
	defer cancel()
	var silent map[string]float64
	if err := v.Page.Eval(ctx, "window.chaos.silent()", &silent); err != nil {
		return fmt.Sprintf("the page does not answer: %v", err)
	}
	now := v.w.now()
	for _, p := range v.guild.people {
		if ms, known := silent[p.id.String()]; !known || ms > float64(audible.Milliseconds()) {
			return fmt.Sprintf("the browser has not heard %s (%d) for %.0f ms: %s", p.name, p.id, ms, v.knows(ctx))
		}
		if span := p.ears.silent(v.id, now); span > visitorAudible {
			return fmt.Sprintf("%s has not heard the browser for %v", p.name, span.Round(frameTime))
		}
	}
	return ""
}

// comeBack has the page join again if it left, so that one failure is not the cause of
// all that follow.
func (v *visitor) comeBack() {
	var phase string
	v.Eval(v.w.t, "window.hubbub.state().phase ?? ''", &phase)
	if phase == "" {
		v.Join(v.w.t, v.guild.lounge)
	}
}

// knows is what the page has of the others.
func (v *visitor) knows(ctx context.Context) (text string) {
	_ = v.Page.Eval(ctx, `window.chaos.knows()`, &text) // what it does not say is not known
	return text
}
