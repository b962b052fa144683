package media

import (
	"reflect"
	"sync/atomic"
	"testing"
)

// Counters of a supervisor's workers go on where those of the child before ended, and
// all else is as the child that serves says.
func TestCountersOutliveAChild(t *testing.T) {
	s := &Supervisor{}
	s.published = make([]atomic.Pointer[WorkerStats], 1)
	s.published[0].Store(&WorkerStats{Port: 7})
	first, second := &life{said: make([]WorkerStats, 1)}, &life{said: make([]WorkerStats, 1)}
	say := func(l *life, packets, drops uint64, peers int) {
		stats := WorkerStats{Port: 7, Peers: peers, KernelDrops: packets, Drops: map[string]uint64{"unknown": drops}}
		for _, n := range stats.counters() {
			*n = packets
		}
		s.publish(l, []WorkerStats{stats})
	}
	want := func(packets, drops, kernel uint64, peers int) {
		t.Helper()
		got := s.Stats(0)
		for i, n := range got.counters() {
			if *n != packets {
				t.Errorf("counter %d is %d, want %d", i, *n, packets)
			}
		}
		if got.Drops["unknown"] != drops || got.KernelDrops != kernel || got.Peers != peers || got.Port != 7 {
			t.Errorf("%+v", got)
		}
	}
	say(first, 100, 10, 3)
	say(first, 150, 12, 4)
	want(150, 12, 150, 4)
	say(second, 5, 0, 2)
	want(155, 12, 5, 2) // the socket, and what the kernel counts of it, is the same for all
	say(first, 160, 13, 4)
	want(165, 13, 160, 4)
	say(second, 6, 1, 2)
	want(166, 14, 6, 2)
}

// Every number that a process counts from zero is among counters.
func TestAllCountersAreCarriedOn(t *testing.T) {
	var s WorkerStats
	wide := 0
	for _, f := range reflect.VisibleFields(reflect.TypeFor[WorkerStats]()) {
		if f.Type.Kind() == reflect.Uint64 && f.Name != "KernelDrops" {
			wide++
		}
	}
	if got := len(s.counters()); got != wide {
		t.Errorf("%d of %d counters are carried on", got, wide)
	}
}
