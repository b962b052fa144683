package ops

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/browser"
	"hubbub.dev/hubbub/test/harness"
)

// TestServerReplacesItself has the whole server go on as the binary at its path, while
// natives and a browser talk: nobody loses a packet, and all resume.
func TestServerReplacesItself(t *testing.T) {
	s := startServer(t, shipped)
	lounge := s.channel("Lounge")
	a, b := join(t, s, "anna", lounge), join(t, s, "ben", lounge)
	chromium := browser.Chromium(t, browser.Options{Microphone: harness.WAV48(t, harness.JFK)})
	page := browser.Enter(t, chromium, s.url(), s.link("Invite"), "Cy")
	page.Eval(t, watched, nil)
	page.Join(t, lounge)
	page.Wait(t, `window.hubbub.remoteStreams().size === 2`)
	ears := map[string]*audience{"anna": attend(t, a), "ben": attend(t, b)}
	a.speaks(t, 150)
	for name, strike := range map[string]func(){
		"ctl upgrade": func() { s.ctl("upgrade") },
		"SIGUSR2": func() {
			if err := s.Signal(syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, e := range ears {
			e.begin()
		}
		before, media := received(t, page), s.mediaProcess(0)
		strike()
		media = s.mediaProcess(media)
		s.until("hubbub_voice_resumes_total", func(n float64) bool { return n == 3 })
		a.speaks(t, 100)
		for who, e := range ears {
			e.judge(t, name+": "+who, 2, 0)
		}
		after := received(t, page)
		t.Logf("%s: the page got %d packets, lost %d, concealed %d ms", name,
			after.Packets-before.Packets, after.Lost-before.Lost, (after.Concealed-before.Concealed)/48)
		if after.Connections != 1 || after.Lost != before.Lost || after.Packets-before.Packets < 100 {
			t.Errorf("%s: the page had %+v and has %+v", name, before, after)
		}
		if n := s.metric("hubbub_voice_identifies_total"); n != 0 {
			t.Errorf("%s: %v identified anew", name, n)
		}
		if got := s.mediaProcess(0); got != media {
			t.Errorf("%s: the media process is %d, after %d", name, got, media)
		}
		if got := len(voiceList(s)); got != 3 {
			t.Errorf("%s: %d are in voice, not 3", name, got)
		}
	}
	// The guild's word still counts where packets are forwarded.
	s.ctl("member", "mute", "--user", "ben")
	a.speaks(t, 25)
	ears["anna"].begin()
	a.speaks(t, 50)
	if n := ears["anna"].from(b.id); n != 0 {
		t.Errorf("%d packets of ben, who is muted", n)
	}
}

// from returns how many packets of a speaker came since begin.
func (a *audience) from(speaker proto.Snowflake) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.streams[speaker].packets - 1
}

// TestUnfitBinariesAreRefused has a server asked to go on as what does not run, and as what
// runs and then does not serve, or does not understand: the first is refused, the second leaves
// nothing behind, and after the third calls come back as after a crash.
func TestUnfitBinariesAreRefused(t *testing.T) {
	s := newServer(t, shipped)
	s.expected = `level=ERROR`
	real := s.bin
	s.bin = filepath.Join(t.TempDir(), "hubbub")
	s.Path = s.bin
	install := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(s.bin+".new", content, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.bin+".new", s.bin); err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	install(good)
	s.start()
	lounge := s.channel("Lounge")
	a, b := join(t, s, "anna", lounge), join(t, s, "ben", lounge)
	a.hears(t, b, 10)
	media := s.mediaProcess(0)

	install([]byte("#!/bin/sh\nexit 7\n"))
	if _, complaint, code := run(t, real, nil, "ctl", "--data", s.dir, "upgrade"); code == 0 || !strings.Contains(complaint, "does not run") {
		t.Errorf("ctl upgrade to what does not run: %d %s", code, complaint)
	}
	a.hears(t, b, 10)
	if now := s.mediaProcess(0); now != media {
		t.Errorf("the media process is %d after a refusal, not %d", now, media)
	}

	// It says that it is fit, and runs as a media process: as a server it ends at once.
	install([]byte("#!/bin/sh\n[ \"$1\" = succeeds ] && exit 0\n[ \"$1\" = media ] && exec " + real + " media\nexit 7\n"))
	if _, complaint, code := run(t, real, nil, "ctl", "--data", s.dir, "upgrade"); code != 0 {
		t.Errorf("ctl upgrade to what runs: %d %s", code, complaint)
	}
	select {
	case <-s.Exited():
	case <-time.After(patience):
		t.Fatal("a server that does not serve has not ended")
	}
	s.http.CloseIdleConnections()
	install(good)
	s.start() // on the same ports, which nobody holds
	a.hears(t, b, 10)
	b.hears(t, a, 10)

	// It finds what was left unreadable, and begins as after a crash, on the same ports.
	media = s.mediaProcess(0)
	install([]byte(strings.NewReplacer("REAL", real).Replace(`#!/bin/sh
[ "$1" = succeeds ] && exit 0
[ "$1" = media ] && exec REAL media
all=$SUCCESSION_OF_HUBBUB
pid=${all%%:*} all=${all#*:}
state=${all%%:*} all=${all#*:}
listener=${all%%:*} all=${all#*:}
export SUCCESSION_OF_HUBBUB="$pid:$listener:$state:$all"
exec REAL "$@"
`)))
	if _, complaint, code := run(t, real, nil, "ctl", "--data", s.dir, "upgrade"); code != 0 {
		t.Errorf("ctl upgrade to what forgets: %d %s", code, complaint)
	}
	s.logs(t, "nothing is taken over")
	a.hears(t, b, 10)
	b.hears(t, a, 10)
	s.mediaProcess(media) // another, and one alone
}

// logs waits until the server has logged something.
func (s *server) logs(t *testing.T, what string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !strings.Contains(s.Log.String(), what); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the server does not log %q", what)
		}
	}
}

// speaks waits until a caller has said so many frames more.
func (c *caller) speaks(t *testing.T, frames uint64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	until := c.said.last.Load() + frames
	for limit := time.After(patience); c.said.last.Load() < until; {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s does not speak", c.name)
		}
	}
}
