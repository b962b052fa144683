package browser

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/test/harness"
)

// loopback is a page whose microphone comes back to it over WebRTC.
const loopback = `<!doctype html><title>loopback</title><script>
window.hubbub = { streams: new Map(), remoteStreams() { return this.streams; }, state() { return {}; } };
window.call = async () => {
  const here = new RTCPeerConnection(), there = new RTCPeerConnection();
  here.onicecandidate = (e) => e.candidate && there.addIceCandidate(e.candidate);
  there.onicecandidate = (e) => e.candidate && here.addIceCandidate(e.candidate);
  there.ontrack = (e) => {
    const sound = new Audio();
    sound.srcObject = e.streams[0];
    sound.play();
    window.hubbub.streams.set("1", e.streams[0]);
  };
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  for (const track of microphone.getTracks()) here.addTrack(track, microphone);
  await here.setLocalDescription();
  await there.setRemoteDescription(here.localDescription);
  await there.setLocalDescription();
  await here.setRemoteDescription(there.localDescription);
  return "called";
};
</script>`

// The drivers and the matcher are tried without the server, so that a failure of
// the tests above them is the server's or the app's.
func TestMicrophoneComesThrough(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(loopback))
	}))
	defer server.Close()
	for name, launch := range map[string]func(testing.TB) Page{
		"Chromium": func(t testing.TB) Page { return Chromium(t, Options{Microphone: harness.WAV48(t, harness.JFK)}) },
		"Firefox":  func(t testing.TB) Page { return StartFirefox(t, Options{Microphone: harness.WAV48(t, harness.JFK)}) },
	} {
		t.Run(name, func(t *testing.T) {
			a := &App{Page: launch(t)}
			a.do(t, func(ctx context.Context) error { return a.Navigate(ctx, server.URL) })
			var answer string
			a.Eval(t, `window.call()`, &answer)
			if answer != "called" || a.Name() != name {
				t.Fatalf("%s answered %q", a.Name(), answer)
			}
			harness.Hears(t, name, func() audio.PCM { return a.Capture(t, 1, 5) }, harness.JFK, harness.LJSpeech)
			err := a.Page.Eval(t.Context(), `Promise.reject(new Error("no luck"))`, nil)
			if err == nil || !strings.Contains(err.Error(), "no luck") {
				t.Fatalf("a rejection came back as %v", err)
			}
		})
	}
}
