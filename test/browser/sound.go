package browser

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"hubbub.dev/hubbub/client/audio"
)

// soundServer is a PulseAudio of our own, without hardware: Firefox, unlike
// Chromium, runs no AudioContext on a machine without a sound device. It has a
// speaker that nobody hears and a microphone that hears a recording, over and
// over. It returns the environment that a program finds it by.
func soundServer(t testing.TB, recording string) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hubbub-sound-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	env := []string{"HOME=" + dir, "TMPDIR=" + dir, "XDG_RUNTIME_DIR=" + dir, "PULSE_SERVER=unix:" + socket}
	start(t, "pulseaudio", regexp.MustCompile(`(Daemon startup complete)`), env,
		"-n", "-v", "--log-target=stderr", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes",
		"--load=module-null-sink sink_name=speaker",
		"--load=module-null-sink sink_name=voice",
		"--load=module-remap-source source_name=microphone master=voice.monitor",
		"--load=module-native-protocol-unix auth-anonymous=1 socket="+socket,
	)
	say(t, env, recording)
	return env
}

// say plays a recording into the microphone until the test ends.
func say(t testing.TB, env []string, recording string) {
	t.Helper()
	f, err := os.Open(recording)
	if err != nil {
		t.Fatal(err)
	}
	pcm, err := audio.ReadWAV(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 0, 2*len(pcm.Samples))
	for _, s := range pcm.Mono().Samples {
		v := int16(s * 32767)
		raw = append(raw, byte(v), byte(v>>8))
	}
	cmd := exec.Command("pacat", "--playback", "--device=voice", "--raw", "--rate=48000", "--channels=1", "--format=s16le")
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var task sync.WaitGroup
	task.Go(func() {
		for {
			if _, err := in.Write(raw); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		task.Wait()
	})
}
