package run

import (
	"context"
	"hash/fnv"
	"os"
	"sync"
	"time"
)

// Ticker ticks as time.Ticker does, but all that are on one host do so at the same
// instants, as far as their periods allow, and those of other hosts at others: to wake a
// process that has nothing else to do costs a hundred times what is done then.
type Ticker struct {
	C <-chan time.Time

	c      chan time.Time
	mu     sync.Mutex
	period time.Duration // 0: stopped
	timer  *time.Timer
}

// NewTicker returns a Ticker. Its first tick comes within the period.
func NewTicker(period time.Duration) *Ticker {
	c := make(chan time.Time, 1)
	t := &Ticker{C: c, c: c, period: period}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(Until(period), t.tick)
	return t
}

// phase is this host's.
var phase = sync.OnceValue(func() time.Duration {
	name, _ := os.Hostname() // without one it shares its phase
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return time.Duration(h.Sum32()) % time.Second
})

// Until returns how long it is until Tickers of a period tick.
func Until(period time.Duration) time.Duration {
	return period - (time.Duration(time.Now().UnixNano())+phase())%period
}

// tick runs in a goroutine of the timer's for a moment.
func (t *Ticker) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.period == 0 {
		return
	}
	select {
	case t.c <- time.Now():
	default: // the one before has not been taken
	}
	next := Until(t.period)
	if next < t.period/2 {
		next += t.period // the clock says that this one is early
	}
	t.timer.Reset(next)
}

// Reset changes the period. A tick that waits to be taken is still there.
func (t *Ticker) Reset(period time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.period != period {
		t.period = period
		t.timer.Reset(Until(period))
	}
}

// Stop ends the ticks.
func (t *Ticker) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.period = 0
	t.timer.Stop()
}

// Every calls f each period until ctx ends. A call that takes longer than a period costs
// the next ones.
func Every(ctx context.Context, period time.Duration, f func()) {
	tick := NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}
