package node

import "testing"

func TestMemoryIsTrimmedAfterABurst(t *testing.T) {
	const mb = 1 << 20
	var trim trimmer
	for i, step := range []struct {
		allocated, live uint64
		due             bool
	}{
		{5 * mb, 2 * mb, false},     // too little
		{100 * mb, 50 * mb, false},  // in the midst of a burst
		{101 * mb, 50 * mb, true},   // it is over
		{105 * mb, 50 * mb, false},  // it was done
		{113 * mb, 50 * mb, false},  // less than a quarter of what lives
		{114 * mb, 50 * mb, true},   // more
		{122 * mb, 200 * mb, false}, // a large heap is not walked for little
	} {
		if got := trim.due(step.allocated, step.live); got != step.due {
			t.Errorf("step %d: %v", i, got)
		}
	}
	for i := range 2 * trimAgain {
		if got := trim.due(122*mb, 50*mb); got != (i == trimAgain-2) {
			t.Errorf("look %d after the last: %v", i, got)
		}
	}
}
