package run

import (
	"context"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/shield"
)

const (
	// turnsPerCore is how many a second come through for each core, unless the operator
	// says otherwise: an identify and what it sets off cost about a millisecond.
	turnsPerCore = 250
	// turnBurst is how many seconds' worth come through without a wait.
	turnBurst = 2 * time.Second
)

// Turnstile lets goroutines through at a bounded rate, resumes first. Those that wait are
// bounded by what the rate lets through in the longest wait; its overflow policy is to
// refuse.
type Turnstile struct {
	most    time.Duration
	waiting atomic.Int64
	refused atomic.Uint64

	mu    sync.Mutex
	turns shield.Turnstile
}

// NewTurnstile returns a turnstile for rate a second of each kind, 0 being 250 for each
// core, where nobody waits longer than most.
func NewTurnstile(rate int, most time.Duration) *Turnstile {
	if rate <= 0 {
		rate = turnsPerCore * runtime.GOMAXPROCS(0)
	}
	return &Turnstile{most: most, turns: shield.NewTurnstile(float64(rate), turnBurst, most)}
}

// Pass waits for the caller's turn. It is false when too many wait already, at once, or
// when ctx ended first.
func (t *Turnstile) Pass(ctx context.Context, now clock.Time, resume bool) bool {
	t.mu.Lock()
	wait, ok := t.turns.Ask(now, resume)
	t.mu.Unlock()
	if !ok {
		t.refused.Add(1)
		return false
	}
	if wait <= 0 {
		return true
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// TurnAway answers a request with a status of refusal, and to come again in one to five
// seconds, which differ so that those who were cut at once do not come back at once.
func TurnAway(w http.ResponseWriter, status int) {
	w.Header().Set("Retry-After", strconv.Itoa(1+rand.N(5)))
	http.Error(w, http.StatusText(status), status)
}

// Full reports whether nobody at all would be let through, however long it waited, and
// counts one who is refused for it.
func (t *Turnstile) Full(now clock.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.turns.Full(now) {
		return false
	}
	t.refused.Add(1)
	return true
}

// Waiting returns how many wait for their turn now.
func (t *Turnstile) Waiting() int64 { return t.waiting.Load() }

// Refused returns how many were told to come back later.
func (t *Turnstile) Refused() uint64 { return t.refused.Load() }
