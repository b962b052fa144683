package load

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/serve/node"
)

// serve is a server in a process of its own, until it is told to end.
func serve(data, addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := node.Start(ctx, node.Config{DataDir: data, HTTP: addr, UDPPort: -1, Log: log})
	if err != nil {
		return err
	}
	<-ctx.Done()
	n.Close(context.Background())
	return nil
}

// TestOverANetwork runs itself again in a namespace, and without the right to does
// nothing but say so.
func TestOverANetwork(t *testing.T) {
	if !Inside() {
		code, err := Apart(t.Context(), "-test.run=^TestOverANetwork$", "-test.v")
		if errors.Is(err, fs.ErrPermission) {
			if !strings.Contains(err.Error(), "root") {
				t.Error(err)
			}
			t.Log(err)
		} else if code != 0 || err != nil {
			t.Errorf("ended with %d, %v", code, err)
		}
		return
	}
	r, err := Run(t.Context(), Config{
		Spawn: []string{os.Args[0], serverProcess}, FloorCommand: []string{os.Args[0], floorProcess}, Network: true, Floor: true, FloorWait: 5 * time.Millisecond,
		Speakers: 5, Listeners: 5, Talk: 1, Rate: 50, Size: 140, Duration: 500 * time.Millisecond, Joins: 4, Events: true,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Windows {
		if whole(t, &r.Windows[i], 5); !r.Windows[i].CPUKnown {
			t.Errorf("%s: the CPU time is not known", r.Windows[i].Target)
		}
	}
	if len(r.Windows) != 3 || r.Settings.Path != "network" {
		t.Errorf("%d windows over the %s", len(r.Windows), r.Settings.Path)
	}
}

func TestNetworkIsForServersThatAreStarted(t *testing.T) {
	for _, cfg := range []Config{
		{Network: true},
		{Network: true, Spawn: []string{"hubbub"}, Mumble: "127.0.0.1:1"},
	} {
		if err := cfg.check(); err == nil || !strings.Contains(err.Error(), "--network") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
