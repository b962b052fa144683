package test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/client/audio"
	"hubbub.dev/hubbub/test/harness"
)

// example returns the command line of one of the examples so far.
func example(t *testing.T, s *harness.Server, name string, bot harness.Account, arg string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(command(t, "examples/"+name), "--server", s.HTTPSURL(), "--ca", s.CAFile(), "--token", bot.Token,
		"--guild", s.Guild.String(), "--channel", s.Lounge.String(), arg)
	t.Cleanup(func() {
		if cmd.Process != nil && cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// What one example plays, the other records.
func TestExamples(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	directory := t.TempDir()
	record := example(t, s, "record", s.Bot(t, "recorder"), directory)
	said, err := record.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := record.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "recording") {
		t.Log(lines.Text())
	}
	player := s.Bot(t, "player")
	play := example(t, s, "play", player, harness.Ogg(t, harness.LJSpeech))
	play.Stderr = t.Output()
	if err := play.Run(); err != nil {
		t.Fatal(err)
	}
	if err := record.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := record.Wait(); err != nil {
		t.Fatal(err)
	}
	tape := readOgg(t, filepath.Join(directory, player.ID.String()+".ogg"))
	if seconds := float64(len(tape.Samples)) / audio.Rate; seconds < 7 || seconds > 9 {
		t.Errorf("7.7 s were recorded as %.1f s", seconds)
	}
	harness.Matches(t, "the tape", tape, harness.LJSpeech, harness.JFK)
}

func readOgg(t *testing.T, name string) audio.PCM {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := audio.NewOggReader(f)
	if err != nil {
		t.Fatal(err)
	}
	ear := harness.NewEar(t)
	for n := uint16(0); ; n++ {
		frame, err := r.NextFrame()
		if errors.Is(err, io.EOF) {
			return ear.PCM
		}
		if err != nil {
			t.Fatal(err)
		}
		ear.Hear(t, n, uint32(n)*audio.FrameSamples, frame)
	}
}

var _ client.FrameSource = (*audio.OggReader)(nil)
var _ client.FrameSource = (*audio.Recording)(nil)
