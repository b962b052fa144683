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

// identifyAgain is the longest wait before the next Identify of a session that a gateway
// has answered that it is lost: it is there and lets in as many as it can ("Invalid
// Session": one to five seconds).
const identifyAgain = 5 * time.Second

// nextGateway is next for a gateway, which may have said that the session is lost.
func (b *backoff) nextGateway(lost bool) time.Duration {
	d := b.next()
	if lost {
		d = min(d, identifyAgain)
	}
	return d
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
