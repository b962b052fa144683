package node

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"hubbub.dev/hubbub/internal/serve/media"
	"hubbub.dev/hubbub/internal/serve/run"
)

const (
	// trimEvery is how often it is looked whether memory can go back to the system.
	trimEvery = 10 * time.Second
	// trimFrom is how much must have been allocated since the last time, and trimRate
	// how much a second at most lately: while clients join in masses what they leave
	// behind is used again.
	trimFrom = 8 << 20
	trimRate = 1 << 20
	// trimAgain is after how many looks it is done once more: what was sent to clients
	// is kept until their next heartbeat.
	trimAgain = 5
)

// trimmer decides when to collect garbage and give memory back. Calls in progress
// allocate next to nothing, so what a burst of joins left behind would stay until the
// runtime's own collection, two minutes later, and for longer in the process's size.
type trimmer struct {
	last, trimmed uint64 // bytes allocated since the start: lately, and at the last trim
	again         int    // looks until it is done once more, 0 for none
}

// due takes how much was allocated since the start and how much is live, in bytes.
func (t *trimmer) due(allocated, live uint64) bool {
	lately, since := allocated-t.last, allocated-t.trimmed
	t.last = allocated
	if t.again > 0 {
		t.again--
	}
	switch {
	case lately > trimRate*uint64(trimEvery/time.Second):
		return false
	case since >= max(trimFrom, live/4):
		t.again = trimAgain + 1
	case t.again != 1:
		return false
	}
	t.trimmed = allocated
	return true
}

// RunMedia is the whole life of the child process that the media workers run in.
func RunMedia(version string) error { return media.RunChild(version, trimMemory) }

func trimMemory(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	var t trimmer
	run.Every(ctx, trimEvery, func() {
		metrics.Read(samples)
		if t.due(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	})
}
