package voice

import (
	"sync"

	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/proto"
)

// placement shares the node's one placement between its connections and its shards.
type placement struct {
	mu   sync.Mutex
	core *signalling.Placement
}

// acquire counts one session more on a channel and returns the channel's home and the
// session's worker.
func (p *placement) acquire(channel proto.Snowflake) (home, worker int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Acquire(channel)
}

// find returns the home of a channel that has sessions.
func (p *placement) find(channel proto.Snowflake) (home int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Home(channel)
}

// release takes back one acquire.
func (p *placement) release(channel proto.Snowflake, worker int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.core.Release(channel, worker)
}
