package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff spaces attempts: each waits a random part of a span that doubles from
// min to max, so that the clients of a server that restarted do not come back
// all at once.
type backoff struct {
	min, max time.Duration
	attempt  int
}

func (b *backoff) reset() { b.attempt = 0 }

func (b *backoff) next() time.Duration {
	span := min(b.min<<min(b.attempt, 20), b.max)
	b.attempt++
	return span/2 + rand.N(span/2+1)
}

// pause waits for d and reports whether ctx was still alive at its end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
