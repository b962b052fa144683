package shield

import (
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

const (
	// exileFirst is how long after an attack a node is a place for channels again. Each
	// attack that begins within exileMemory of the last doubles it, up to exileLongest, so
	// that whoever follows a channel from node to node moves it ever more seldom.
	exileFirst   = time.Minute
	exileLongest = 16 * time.Minute
	exileMemory  = time.Hour
)

// Exile tells for how long a node that was attacked is better left alone. The zero Exile
// was never attacked.
type Exile struct {
	attacked bool
	term     time.Duration
	last     clock.Time // when it was attacked last
}

// Away takes whether the node is attacked now and reports whether it is, or was not long
// ago.
func (e *Exile) Away(now clock.Time, attacked bool) bool {
	began := attacked && !e.attacked
	e.attacked = attacked
	switch {
	case began && e.last != 0 && now.Sub(e.last) < exileMemory:
		e.term = min(2*e.term, exileLongest)
	case began:
		e.term = exileFirst
	}
	if attacked {
		e.last = now
	}
	return attacked || e.last != 0 && now.Sub(e.last) < e.term
}
