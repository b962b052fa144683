package client

import (
	"testing"
	"time"
)

// A gateway that says that a session is lost is there: what was waited for it before does
// not make the next Identify late.
func TestALostSessionIsNotWaitedForLong(t *testing.T) {
	b := backoff{min: 250 * time.Millisecond, max: 30 * time.Second}
	for range 10 {
		b.next()
	}
	if d := b.nextGateway(true); d > identifyAgain {
		t.Errorf("identifies in %v", d)
	}
	if d := b.nextGateway(false); d < 15*time.Second {
		t.Errorf("asks a gateway that does not answer in %v", d)
	}
}
