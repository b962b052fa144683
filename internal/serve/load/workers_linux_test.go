package load

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/serve/node"
)

func TestSpreadChannelIsWhole(t *testing.T) {
	cfg := small(t, func(c *node.Config) { c.Workers, c.SpreadFrom = 2, 3 })
	cfg.Duration = 2500 * time.Millisecond // workers publish once a second
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	whole(t, &r.Windows[0], uint64(cfg.Listeners))
	if len(r.Workers) != 2 || r.Workers[0].Peers != 5 || r.Workers[1].Peers != 5 || r.Workers[0].RelayedOut == 0 {
		t.Errorf("workers %+v", r.Workers)
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "worker 1: 5 peers") {
		t.Errorf("%v, in:\n%s", err, table.String())
	}
}
