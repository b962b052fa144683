package load

import (
	"slices"
	"strings"
	"testing"
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
