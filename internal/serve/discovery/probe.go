package discovery

import (
	"context"
	"errors"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/serve/run"
)

// The bus knows at once when a process has lost its connection to it: nobody listens
// on the process's subjects any more. So each node asks the next one by name, again
// and again, and tells all when nobody listened twice. That a process hangs, or its
// host is off, only its silence shows.
const (
	probeEvery   = 250 * time.Millisecond
	probeTimeout = 200 * time.Millisecond
	probeMisses  = 2
	// probeCalm is how long after its bus was away a node takes no other for dead: when it
	// comes back, the nodes do one by one.
	probeCalm = 3 * time.Second
)

func probeSubject(node string) string { return "fleet." + node + ".probe" }

type probeAnswer struct {
	Epoch int64 `cbor:"1,keyasint"`
}

func (s *Service) answerProbe(m bus.Message) {
	if err := m.Respond(probeAnswer{s.cfg.Self.Epoch}); err != nil {
		s.cfg.Log.Debug("probe not answered", "err", err)
	}
}

// probe is the body of the goroutine that asks the next node.
func (s *Service) probe(ctx context.Context) {
	tick := run.NewTicker(probeEvery)
	defer tick.Stop()
	calm, misses, asked := time.Now().Add(probeCalm), 0, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.back.Swap(false) || !s.bus.Connected() {
			misses, calm = 0, time.Now().Add(probeCalm)
			continue
		}
		next, ok := s.next()
		if !ok {
			continue
		}
		if next.Name != asked {
			misses, asked = 0, next.Name
		}
		look, cancel := context.WithTimeout(ctx, probeTimeout)
		var answer probeAnswer
		err := s.bus.Request(look, probeSubject(next.Name), struct{}{}, &answer)
		cancel()
		if errors.Is(err, bus.ErrNoResponders) {
			misses++
		} else { // it is there, or slow, which says nothing of it
			misses = 0
		}
		if misses < probeMisses || time.Now().Before(calm) {
			continue
		}
		misses = 0
		s.cfg.Log.Warn("a node has left the bus", "node", next.Name)
		next.Gone = true
		if err := s.bus.Publish(Subject, next); err != nil {
			s.cfg.Log.Warn("node's death not announced", "err", err)
		}
	}
}

// next returns the node after this one by name, or the first.
func (s *Service) next() (fleet.Member, bool) {
	members := s.View().Members()
	for _, m := range members {
		if m.Name > s.cfg.Self.Name {
			return m, true
		}
	}
	if len(members) == 0 || members[0].Name == s.cfg.Self.Name {
		return fleet.Member{}, false
	}
	return members[0], true
}
