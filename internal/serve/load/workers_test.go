package load

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/serve/node"
)

func TestParseWorkers(t *testing.T) {
	got := parseWorkers(strings.NewReader(`# HELP hubbub_media_peers Peers of the worker.
hubbub_media_peers{worker="1"} 3
hubbub_media_peers{worker="0"} 4
hubbub_media_peers{worker="256"} 4
hubbub_media_peers{worker="-1"} 4
hubbub_media_load{worker="0"} 0.25
hubbub_media_relayed_sent_total{worker="1"} 1e+06
hubbub_media_drops_total{reason="late",worker="0"} 9
hubbub_media_load{worker="1"} much
hubbub_media_load{worker=
other{worker="0"} 1
`))
	if want := []WorkerCount{{Peers: 4, Load: 0.25}, {Worker: 1, Peers: 3, RelayedOut: 1e6}}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzParseWorkers(f *testing.F) {
	f.Add("hubbub_media_peers{worker=\"1\"} 3\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got := parseWorkers(strings.NewReader(text)); len(got) > mostWorkers {
			t.Errorf("%d workers", len(got))
		}
	})
}

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
