package browser

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"testing"
	"time"

	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
)

// stepTimeout bounds one step in a page.
const stepTimeout = 40 * time.Second

// App is Hubbub's web app in a page, used as people do: by its inputs and
// buttons, which are found by their data-testid.
type App struct {
	Page
	User proto.Snowflake
}

// Enter opens an invite link as a guest.
func Enter(t testing.TB, p Page, origin, invite, name string) *App {
	t.Helper()
	a := &App{Page: p}
	// The page's origin, for its settings to be there before the app starts: what
	// makes a voice better to hear makes a recording harder to recognise.
	a.do(t, func(ctx context.Context) error { return p.Navigate(ctx, origin) })
	a.Eval(t, `localStorage.setItem("hubbub.prefs", JSON.stringify({
		noiseSuppression: "off", echoCancellation: false, autoGain: false, sounds: false,
	}))`, nil)
	a.do(t, func(ctx context.Context) error {
		return p.Navigate(ctx, origin+"/invite/"+invite+"?test=1&gate=off")
	})
	a.Wait(t, `document.querySelector('[data-testid="guest-name"]')`)
	a.Eval(t, `((input) => {
		Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, `+strconv.Quote(name)+`);
		input.dispatchEvent(new Event("input", { bubbles: true }));
	})(document.querySelector('[data-testid="guest-name"]'))`, nil)
	a.Click(t, "enter")
	a.Wait(t, `window.hubbub`)
	return a
}

// Join clicks a voice channel and waits for the call.
func (a *App) Join(t testing.TB, channel proto.Snowflake) {
	t.Helper()
	a.Click(t, "channel-"+channel.String())
	a.Wait(t, `document.querySelector('[data-testid="voice-connected"]') && window.hubbub.state().connected`)
}

// Click clicks what has the data-testid, once it is there and enabled.
func (a *App) Click(t testing.TB, id string) {
	t.Helper()
	selector := strconv.Quote(`[data-testid="` + id + `"]`)
	a.Wait(t, `((e) => e && !e.disabled)(document.querySelector(`+selector+`))`)
	a.Eval(t, `document.querySelector(`+selector+`).click()`, nil)
}

// Menu opens the context menu of what has the data-testid.
func (a *App) Menu(t testing.TB, id string) {
	t.Helper()
	selector := strconv.Quote(`[data-testid="` + id + `"]`)
	a.Wait(t, `document.querySelector(`+selector+`)`)
	a.Eval(t, `((e) => {
		const { left, top } = e.getBoundingClientRect();
		e.dispatchEvent(new MouseEvent("contextmenu", { bubbles: true, cancelable: true, clientX: left + 4, clientY: top + 4, button: 2 }));
	})(document.querySelector(`+selector+`))`, nil)
}

// Eval evaluates an expression, which must not throw.
func (a *App) Eval(t testing.TB, expression string, answer any) {
	t.Helper()
	a.do(t, func(ctx context.Context) error { return a.Page.Eval(ctx, expression, answer) })
}

// Wait waits until an expression is true.
func (a *App) Wait(t testing.TB, expression string) {
	t.Helper()
	a.do(t, func(ctx context.Context) error {
		err := a.Page.Eval(ctx, `new Promise((done) => {
			const look = () => { (`+expression+`) ? done(true) : setTimeout(look, 50); };
			look();
		})`, nil)
		if err != nil {
			err = fmt.Errorf("waiting for %s: %w", expression, err)
		}
		return err
	})
}

func (a *App) do(t testing.TB, step func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	err := step(ctx)
	if err == nil {
		return
	}
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var text string
	_ = a.Page.Eval(ctx, `document.body.innerText + "\n" + JSON.stringify(window.hubbub?.state())`, &text)
	t.Fatalf("%s: %v\nThe page says:\n%s", a.Name(), err, text)
}

// At captures the next seconds that the page receives from a user.
func (a *App) At(user proto.Snowflake, seconds float64) func(testing.TB) audio.PCM {
	return func(t testing.TB) audio.PCM { return a.Capture(t, user, seconds) }
}

// Capture records what the page receives from a user.
func (a *App) Capture(t testing.TB, user proto.Snowflake, seconds float64) audio.PCM {
	t.Helper()
	id := strconv.Quote(user.String())
	a.Wait(t, `window.hubbub.remoteStreams().get(`+id+`)`)
	var got struct {
		Rate int    `json:"rate"`
		Data string `json:"data"`
	}
	a.Eval(t, fmt.Sprintf(`(async () => {
		const context = new AudioContext();
		await context.resume();
		const source = context.createMediaStreamSource(window.hubbub.remoteStreams().get(%s));
		const tap = context.createScriptProcessor(4096, 1, 1);
		const samples = new Int16Array(Math.ceil(%f * context.sampleRate));
		let at = 0;
		await new Promise((done) => {
			tap.onaudioprocess = (event) => {
				for (const s of event.inputBuffer.getChannelData(0)) {
					if (at === samples.length) return done();
					samples[at++] = Math.max(-1, Math.min(1, s)) * 32767;
				}
			};
			source.connect(tap);
			tap.connect(context.destination);
		});
		tap.disconnect();
		source.disconnect();
		const rate = context.sampleRate;
		await context.close();
		const bytes = new Uint8Array(samples.buffer);
		let text = "";
		for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
		return { rate, data: btoa(text) };
	})()`, id, seconds), &got)
	raw, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		t.Fatal(err)
	}
	p := audio.PCM{Rate: got.Rate, Channels: 1, Samples: make([]float32, len(raw)/2)}
	for i := range p.Samples {
		p.Samples[i] = float32(int16(binary.LittleEndian.Uint16(raw[2*i:]))) / 32768
	}
	return p
}
