package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hubbub.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileComesBeforeFlags(t *testing.T) {
	path := writeConfig(t, "udp-port: 51000\nregion: paris\nlegacy-encryption: true\n")
	got, err := configured([]string{"--config", path, "--region=lyon"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"--udp-port=51000", "--region=paris", "--legacy-encryption=true"}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%q is missing from %q", w, got)
		}
	}
	if slices.Index(got, "--region=paris") > slices.Index(got, "--region=lyon") {
		t.Errorf("the file wins over the command line: %q", got)
	}
	if got[0] != "serve" {
		t.Errorf("no command in %q", got)
	}
}

func TestEnvironmentBeatsFile(t *testing.T) {
	t.Setenv("HUBBUB_REGION", "oslo")
	got, err := configured([]string{"--config", writeConfig(t, "region: paris\n")})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(got, "--region=paris") {
		t.Errorf("the file's value hides the environment's: %q", got)
	}
}

func TestUnknownKeysAreErrors(t *testing.T) {
	if _, err := configured([]string{"--config", writeConfig(t, "udpport: 1\n")}); err == nil || !strings.Contains(err.Error(), `"udpport"`) {
		t.Errorf("unknown key of the file: %v", err)
	}
	t.Setenv("HUBBUB_UDPPORT", "1")
	if _, err := configured(nil); err == nil || !strings.Contains(err.Error(), "HUBBUB_UDPPORT") {
		t.Errorf("unknown variable: %v", err)
	}
}

func TestOtherCommandsTakeNoFile(t *testing.T) {
	t.Setenv("HUBBUB_CONFIG", "/does/not/exist")
	args := []string{"ctl", "voice", "list"}
	if got, err := configured(args); err != nil || !slices.Equal(got, args) {
		t.Errorf("%q, %v", got, err)
	}
}
