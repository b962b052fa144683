package voice

import (
	"sync"

	"hubbub.dev/hubbub/proto"
)

// placement pins channels to workers, so that no lock is needed where media
// flows: the worker with the fewest sessions takes a new channel and keeps it
// until the last session is gone.
type placement struct {
	mu       sync.Mutex
	channels map[proto.Snowflake]*pin
	sessions []int // per worker
}

type pin struct{ worker, sessions int }

func newPlacement(workers int) placement {
	return placement{channels: make(map[proto.Snowflake]*pin), sessions: make([]int, workers)}
}

// acquire counts one session more on a channel and returns its worker.
func (p *placement) acquire(channel proto.Snowflake) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.channels[channel]
	if at == nil {
		at = &pin{}
		for worker, n := range p.sessions {
			if n < p.sessions[at.worker] {
				at.worker = worker
			}
		}
		p.channels[channel] = at
	}
	at.sessions++
	p.sessions[at.worker]++
	return at.worker
}

// find returns the worker of a channel that has sessions.
func (p *placement) find(channel proto.Snowflake) (worker int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.channels[channel]
	if at == nil {
		return 0, false
	}
	return at.worker, true
}

// release takes back one acquire.
func (p *placement) release(channel proto.Snowflake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.channels[channel]
	at.sessions--
	p.sessions[at.worker]--
	if at.sessions == 0 {
		delete(p.channels, channel)
	}
}
