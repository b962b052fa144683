package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// firefoxPrefs let an unattended Firefox use WebRTC on this machine, and keep it
// from talking to anybody else.
const firefoxPrefs = `user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.autoplay.default", 0);
user_pref("media.autoplay.blocking_policy", 0);
user_pref("app.normandy.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("browser.search.update", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("extensions.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,");
user_pref("toolkit.telemetry.enabled", false);
`

// Firefox is a page in Firefox.
type Firefox struct {
	rpc     *rpc
	context string
}

// StartFirefox starts a Firefox that ends with the test.
func StartFirefox(t testing.TB, o Options) *Firefox {
	t.Helper()
	env := soundServer(t, o.Microphone)
	profile := newProfile(t)
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(firefoxPrefs), 0o600); err != nil {
		t.Fatal(err)
	}
	url := start(t, "firefox-esr", regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`), append(env, "MOZ_CRASHREPORTER_DISABLE=1"),
		"--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0", "about:blank")
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	f := &Firefox{}
	var err error
	if f.rpc, err = dialRPC(ctx, strings.TrimRight(url, "/")+"/session", func(string, json.RawMessage) {}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.rpc.close)
	if err := f.open(ctx); err != nil {
		t.Fatal(err)
	}
	return f
}

// open begins the session and finds the page.
func (f *Firefox) open(ctx context.Context) error {
	if err := f.rpc.call(ctx, "", "session.new", map[string]any{"capabilities": map[string]any{}}, nil); err != nil {
		return err
	}
	var tree struct {
		Contexts []struct {
			Context string `json:"context"`
		} `json:"contexts"`
	}
	if err := f.rpc.call(ctx, "", "browsingContext.getTree", map[string]any{}, &tree); err != nil {
		return err
	}
	if len(tree.Contexts) == 0 {
		return fmt.Errorf("browser: Firefox has no page")
	}
	f.context = tree.Contexts[0].Context
	return nil
}

// Name returns "Firefox".
func (f *Firefox) Name() string { return "Firefox" }

// Navigate opens a URL and waits until it has loaded.
func (f *Firefox) Navigate(ctx context.Context, url string) error {
	return f.rpc.call(ctx, "", "browsingContext.navigate", map[string]any{"context": f.context, "url": url, "wait": "complete"}, nil)
}

// Eval evaluates an expression in the page.
func (f *Firefox) Eval(ctx context.Context, expression string, answer any) error {
	var got struct {
		Type   string `json:"type"`
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	err := f.rpc.call(ctx, "", "script.evaluate", map[string]any{
		"expression": jsonOf(expression), "target": map[string]any{"context": f.context},
		"awaitPromise": true, "userActivation": true,
	}, &got)
	if err != nil {
		return err
	}
	if got.Type != "success" {
		return fmt.Errorf("browser: %s", got.Exception.Text)
	}
	return decode(got.Result.Value, answer)
}
