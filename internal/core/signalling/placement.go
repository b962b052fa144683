package signalling

import "hubbub.dev/hubbub/proto"

// DefaultSpreadFrom is how many peers of a channel are on its home worker before others
// take some: at five who speak, about as many as a core sends to at a quarter of what
// it can.
const DefaultSpreadFrom = 500

// Placement says which worker a session's peer goes to. A channel has a home, the
// worker with the fewest peers when its first session comes, whose shard owns all of
// its sessions until the last one is gone. Its peers go there too until there are
// many of them; the rest go each to the worker with the fewest. Nobody is ever moved.
type Placement struct {
	spreadFrom int
	channels   map[proto.Snowflake]*pin
	peers      []int // of each worker
}

// pin is a channel with sessions, and how many of them are on its home worker.
type pin struct{ home, sessions, atHome int }

// NewPlacement returns a placement on a number of workers, whose channels have
// spreadFrom peers at home before they spread; 0: DefaultSpreadFrom.
func NewPlacement(workers, spreadFrom int) *Placement {
	if spreadFrom <= 0 {
		spreadFrom = DefaultSpreadFrom
	}
	return &Placement{spreadFrom: spreadFrom, channels: make(map[proto.Snowflake]*pin), peers: make([]int, workers)}
}

// Acquire counts one session more of a channel and returns the channel's home and the
// worker of the session's peer.
func (p *Placement) Acquire(channel proto.Snowflake) (home, worker int) {
	at := p.channels[channel]
	if at == nil {
		at = &pin{home: p.idlest(0)}
		p.channels[channel] = at
	}
	worker = at.home
	if at.atHome >= p.spreadFrom {
		worker = p.idlest(at.home)
	}
	at.sessions++
	if worker == at.home {
		at.atHome++
	}
	p.peers[worker]++
	return at.home, worker
}

// idlest returns the worker with the fewest peers, and of several the preferred one if
// it is among them.
func (p *Placement) idlest(preferred int) int {
	worker := preferred
	for other, n := range p.peers {
		if n < p.peers[worker] {
			worker = other
		}
	}
	return worker
}

// Home returns the home of a channel that has sessions.
func (p *Placement) Home(channel proto.Snowflake) (home int, ok bool) {
	at := p.channels[channel]
	if at == nil {
		return 0, false
	}
	return at.home, true
}

// Release takes back one Acquire that returned worker.
func (p *Placement) Release(channel proto.Snowflake, worker int) {
	at := p.channels[channel]
	at.sessions--
	if worker == at.home {
		at.atHome--
	}
	p.peers[worker]--
	if at.sessions == 0 {
		delete(p.channels, channel)
	}
}

// Channels returns how many channels have sessions, and Peers how many a worker has.
func (p *Placement) Channels() int { return len(p.channels) }

// Peers returns how many peers a worker has.
func (p *Placement) Peers(worker int) int { return p.peers[worker] }
