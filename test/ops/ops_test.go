// Package ops tests the built binary as its operator meets it: first start,
// restarts and crashes, control from the shell, floods, and that no client's
// address reaches another. It uses public interfaces only.
package ops

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubbub.dev/hubbub/test/harness"
)

// patience bounds every wait for one event.
const patience = 20 * time.Second

// bins is where the binaries are built.
var bins string

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if bins, err = os.MkdirTemp("", "hubbub-ops"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(bins)
		os.Exit(code)
	}))
}

// checked is the binary with the race detector; shipped is the one that people
// run, whose memory is what counts.
var (
	checked = sync.OnceValues(func() (string, error) {
		path := filepath.Join(bins, "checked")
		return path, harness.Build(path, "cmd/hubbub", "1", "-race")
	})
	shipped = sync.OnceValues(func() (string, error) { return harness.Command(bins, "cmd/hubbub") })
)

func built(t *testing.T, which func() (string, error)) string {
	t.Helper()
	path, err := which()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
