package test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/bots/report"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// botProcess is a bot with somebody else's library.
type botProcess struct {
	lines chan report.Line
}

// startBot runs a command until the test ends, with a task and the server's CA in
// its environment.
func startBot(t *testing.T, s *harness.Server, task report.Task, command ...string) *botProcess {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), task.Environment()...)
	cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+s.CAFile(), "NODE_EXTRA_CA_CERTS="+s.CAFile())
	cmd.Stderr = t.Output()
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (run `make deps`?)", err)
	}
	b := &botProcess{lines: make(chan report.Line, 4096)}
	var reader sync.WaitGroup
	reader.Go(func() { b.read(out) })
	t.Cleanup(func() {
		_ = in.Close()
		ended := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer ended.Stop()
		reader.Wait()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", command[0], err)
		}
	})
	return b
}

func (b *botProcess) read(out io.Reader) {
	defer close(b.lines)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var l report.Line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			l = report.Line{Event: "error", Message: lines.Text()}
		}
		select {
		case b.lines <- l:
		default: // nobody listens to opus yet
		}
	}
}

// next returns the bot's next line of one kind.
func (b *botProcess) next(t testing.TB, event string) report.Line {
	t.Helper()
	limit := time.After(harness.Timeout)
	for {
		select {
		case l, ok := <-b.lines:
			switch {
			case !ok:
				t.Fatalf("the bot ended while %q was awaited", event)
			case l.Event == event:
				return l
			case l.Event == "error":
				t.Fatalf("the bot failed: %s", l.Message)
			}
		case <-limit:
			t.Fatalf("the bot did not say %q", event)
		}
	}
}

// at captures the next seconds that the bot hears of a user.
func (b *botProcess) at(user proto.Snowflake, seconds float64) func(testing.TB) audio.PCM {
	return func(t testing.TB) audio.PCM {
		t.Helper()
		ear := harness.NewEar(t)
		limit := time.Now().Add(harness.Timeout)
		for n := uint16(0); ear.Seconds() < seconds; {
			if time.Now().After(limit) {
				t.Fatalf("the bot heard %.1f s of %s, and others all the time", ear.Seconds(), user)
			}
			if l := b.next(t, "opus"); l.User == user.String() {
				ear.Hear(t, n, uint32(n)*audio.FrameSamples, l.Data)
				n++
			}
		}
		return ear.PCM
	}
}

// command returns the binary of a bot or an example.
func command(t *testing.T, name string) string {
	t.Helper()
	binary, err := harness.Command(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// Each library, unmodified: it logs in, joins, plays what a browser hears, and
// hears the browser.
func TestThirdPartyLibraries(t *testing.T) {
	if _, err := os.Stat("discordjs/node_modules/discord.js"); err != nil {
		t.Fatalf("the packages of test/discordjs are missing: run `make deps`")
	}
	modern := []library{
		{name: "discord.js", command: discordjs("@discordjs/voice")},
		{name: "discord.js, voice 0.18", command: discordjs("@discordjs/voice-0.18")},
		{name: "disgo AES-256-GCM", mode: proto.ModeAES256GCM, command: func(t *testing.T) []string { return []string{command(t, "test/bots/disgo")} }},
		{name: "disgo XChaCha20-Poly1305", mode: proto.ModeXChaCha20, command: func(t *testing.T) []string { return []string{command(t, "test/bots/disgo")} }},
	}
	t.Run("modern", func(t *testing.T) { tryLibraries(t, harness.Start(t), modern) })
	legacy := []library{
		{name: "discordgo", command: func(t *testing.T) []string { return []string{command(t, "test/bots/discordgo")} }},
	}
	t.Run("legacy", func(t *testing.T) {
		tryLibraries(t, harness.Start(t, harness.Settings{LegacyEncryption: true}), legacy)
	})
}

// discordjs runs the bot with a version of @discordjs/voice: the newest speaks voice
// gateway v8, the one before v4.
func discordjs(voice string) func(*testing.T) []string {
	return func(*testing.T) []string {
		return []string{"env", "VOICE_PACKAGE=" + voice, "node", "discordjs/bot.mjs"}
	}
}

type library struct {
	name, mode string
	command    func(*testing.T) []string
}

// tryLibraries has two of them at a time in one channel.
func tryLibraries(t *testing.T, s *harness.Server, libraries []library) {
	page := enter(t, s, browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)}), "Ann")
	var me proto.Snowflake
	page.Eval(t, "window.hubbub.state().users[0]", &me)
	play := harness.Ogg(t, harness.LJSpeech)
	try := func(t *testing.T, l library) {
		account := s.Bot(t, l.name)
		b := startBot(t, s, report.Task{
			API: s.HTTPSURL() + "/api", Token: strings.TrimPrefix(account.Token, "Bot "),
			Guild: s.Guild.String(), Channel: s.Lounge.String(), Play: play, Mode: l.mode,
		}, l.command(t)...)
		t.Log(b.next(t, "ready").Message)
		b.next(t, "playing")
		harness.HearAll(t,
			harness.Sound{Who: "the bot at the page", Capture: page.At(account.ID, 5), Want: harness.LJSpeech, Other: harness.JFK},
			harness.Sound{Who: "the page at the bot", Capture: b.at(me, 5), Want: harness.JFK, Other: harness.LJSpeech},
		)
	}
	for pair := range slices.Chunk(libraries, 2) {
		t.Run("libraries", func(t *testing.T) {
			for _, l := range pair {
				t.Run(l.name, func(t *testing.T) {
					t.Parallel()
					try(t, l)
				})
			}
		})
	}
}
