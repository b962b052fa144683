// Package browser drives a headless Chromium over the DevTools Protocol and a
// headless Firefox over WebDriver BiDi, as far as the end-to-end tests need it:
// one page each, with a recording for a microphone. It knows nothing of the page
// that it opens; App does.
package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"hubbub.dev/hubbub/test/lifeline"
)

// startTimeout bounds the start of a browser: the first one on a busy machine
// reads a few hundred megabytes from disk.
const startTimeout = time.Minute

// Page is one page in a browser process of its own.
type Page interface {
	// Navigate opens a URL and waits until it has loaded.
	Navigate(ctx context.Context, url string) error
	// Eval evaluates an expression in the page, waits for it if it is a promise,
	// and decodes the JSON of its value into answer unless that is nil.
	Eval(ctx context.Context, expression string, answer any) error
	// Name is the browser's.
	Name() string
}

// start runs a program until the test ends and returns what the first group of
// ready matches in its standard error.
func start(t testing.TB, binary string, ready *regexp.Regexp, env []string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(binary)
	if err != nil {
		t.Fatalf("%s is missing: run `make deps`", binary)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	lifeline.Attach(cmd.SysProcAttr)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(found)
		lines := bufio.NewScanner(stderr)
		told := false
		for lines.Scan() {
			if m := ready.FindStringSubmatch(lines.Text()); m != nil && !told {
				told = true
				found <- m[1]
			}
		}
	})
	t.Cleanup(func() {
		// The group, since a browser is many processes; all of them are ours.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		reader.Wait()
		_ = cmd.Wait()
	})
	select {
	case answer, ok := <-found:
		if !ok {
			t.Fatalf("%s ended before it was ready", binary)
		}
		return answer
	case <-time.After(startTimeout):
		t.Fatalf("%s did not start", binary)
	}
	return ""
}

// newProfile returns an empty directory, removed when the test ends. It is none
// of t.TempDir's, whose removal must succeed: a browser's last children may still
// be writing.
func newProfile(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hubbub-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Options say what a page's microphone hears.
type Options struct {
	// Microphone is a WAV file of 48 kHz that is said over and over.
	Microphone string
	// Flags are more of Chromium's command line.
	Flags []string
}

// Chromium starts a Chromium that ends with the test.
func Chromium(t testing.TB, o Options) *Chrome {
	t.Helper()
	profile := newProfile(t)
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
		"--no-first-run", "--no-default-browser-check", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio",
		"--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding",
		"--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
		"--use-file-for-fake-audio-capture=" + o.Microphone,
		"--autoplay-policy=no-user-gesture-required",
		"--remote-debugging-port=0", "--user-data-dir=" + filepath.Join(profile, "data"),
	}, o.Flags...)
	url := start(t, "chromium", regexp.MustCompile(`DevTools listening on (ws://\S+)`), []string{"HOME=" + profile, "TMPDIR=" + profile}, append(args, "about:blank")...)
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	c := &Chrome{}
	var err error
	if c.rpc, err = dialRPC(ctx, url, c.event); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.rpc.close)
	if err := c.attach(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// attach makes the page and listens to its network.
func (c *Chrome) attach(ctx context.Context) error {
	var target struct {
		TargetID string `json:"targetId"`
	}
	if err := c.rpc.call(ctx, "", "Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return err
	}
	var session struct {
		SessionID string `json:"sessionId"`
	}
	if err := c.rpc.call(ctx, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session); err != nil {
		return err
	}
	c.session = session.SessionID
	for _, domain := range []string{"Page.enable", "Network.enable"} {
		if err := c.rpc.call(ctx, c.session, domain, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Chrome is a page in Chromium.
type Chrome struct {
	rpc     *rpc
	session string
	frames  frameCounter
}

// Name returns "Chromium".
func (c *Chrome) Name() string { return "Chromium" }

// Navigate opens a URL and waits until it has loaded.
func (c *Chrome) Navigate(ctx context.Context, url string) error {
	var answer struct {
		ErrorText string `json:"errorText"`
	}
	if err := c.rpc.call(ctx, c.session, "Page.navigate", map[string]any{"url": url}, &answer); err != nil {
		return err
	}
	if answer.ErrorText != "" {
		return fmt.Errorf("browser: %s: %s", url, answer.ErrorText)
	}
	return c.Eval(ctx, loaded, nil)
}

// loaded is an expression that waits for the document.
const loaded = `document.readyState === "complete" || new Promise((done) => addEventListener("load", () => done(true)))`

// jsonOf makes an expression's value JSON, after waiting for it.
func jsonOf(expression string) string {
	return "Promise.resolve(" + expression + ").then((value) => JSON.stringify(value) ?? \"null\")"
}

// Eval evaluates an expression in the page.
func (c *Chrome) Eval(ctx context.Context, expression string, answer any) error {
	var got struct {
		Result struct {
			Value json.RawMessage `json:"value"` // text, if nothing was thrown
		} `json:"result"`
		Exception *struct {
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	err := c.rpc.call(ctx, c.session, "Runtime.evaluate", map[string]any{
		"expression": jsonOf(expression), "awaitPromise": true, "returnByValue": true, "userGesture": true,
	}, &got)
	if err != nil {
		return err
	}
	if got.Exception != nil {
		return fmt.Errorf("browser: %s %s", got.Exception.Text, got.Exception.Exception.Description)
	}
	return decode(got.Result.Value, answer)
}

// decode takes JSON out of the text that a browser returned it as.
func decode(value json.RawMessage, answer any) error {
	if answer == nil {
		return nil
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), answer)
}

// Frames is how many WebSocket payload bytes the page sent and received, by the
// path of the socket's URL.
type Frames struct{ Sent, Received int }

type frameCounter struct {
	mu     sync.Mutex
	paths  map[string]string // request id → URL
	counts map[string]Frames
}

// SocketBytes returns the payload bytes of every WebSocket so far, by URL.
func (c *Chrome) SocketBytes() map[string]Frames {
	c.frames.mu.Lock()
	defer c.frames.mu.Unlock()
	out := make(map[string]Frames, len(c.frames.counts))
	for id, n := range c.frames.counts {
		f := out[c.frames.paths[id]]
		out[c.frames.paths[id]] = Frames{f.Sent + n.Sent, f.Received + n.Received}
	}
	return out
}

func (c *Chrome) event(method string, params json.RawMessage) {
	var e struct {
		RequestID string `json:"requestId"`
		URL       string `json:"url"`
		Response  struct {
			PayloadData string `json:"payloadData"`
			Opcode      int    `json:"opcode"`
		} `json:"response"`
	}
	if json.Unmarshal(params, &e) != nil {
		return
	}
	size := len(e.Response.PayloadData)
	if e.Response.Opcode == 2 {
		size = base64.StdEncoding.DecodedLen(size)
	}
	f := &c.frames
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.paths == nil {
		f.paths, f.counts = map[string]string{}, map[string]Frames{}
	}
	n := f.counts[e.RequestID]
	switch method {
	case "Network.webSocketCreated":
		f.paths[e.RequestID] = e.URL
	case "Network.webSocketFrameSent":
		f.counts[e.RequestID] = Frames{n.Sent + size, n.Received}
	case "Network.webSocketFrameReceived":
		f.counts[e.RequestID] = Frames{n.Sent, n.Received + size}
	}
}
