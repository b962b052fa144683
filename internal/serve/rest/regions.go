package rest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// regionFresh is how long a region counts after its last voice server was heard.
const regionFresh = 10 * time.Second

// maxRegions bounds what announcements can make this node remember.
const maxRegions = 64

// regions knows where voice servers announce themselves.
type regions struct {
	mu    sync.Mutex
	heard map[string]clock.Time
}

func (g *regions) hear(region string, now clock.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.heard == nil {
		g.heard = make(map[string]clock.Time)
	}
	if _, known := g.heard[region]; known || len(g.heard) < maxRegions {
		g.heard[region] = now
	}
}

func (g *regions) fresh(now clock.Time) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for name, at := range g.heard {
		if now.Sub(at) > regionFresh {
			delete(g.heard, name)
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Start listens to voice servers' announcements until the group ends.
func (s *Service) Start(g *run.Group) error {
	unsubscribe, err := s.bus.Subscribe(guild.SubjectVoiceNodes, func(m bus.Message) {
		var n guild.VoiceNode
		if m.Decode(&n) == nil {
			s.voice.hear(n.Region, s.now())
		}
	})
	if err != nil {
		return fmt.Errorf("rest: %w", err)
	}
	g.Go("rest regions", func(ctx context.Context) {
		<-ctx.Done()
		unsubscribe()
	})
	return nil
}

// listRegions answers with the regions that have a voice server now, or the
// server's own while none is heard. Its own is the optimal one.
func (s *Service) listRegions(*request) (reply, error) {
	names := s.voice.fresh(s.now())
	if len(names) == 0 {
		names = []string{s.cfg.Region}
	}
	list := make([]proto.VoiceRegion, len(names))
	for i, name := range names {
		list[i] = proto.VoiceRegion{ID: name, Name: name, Optimal: name == s.cfg.Region}
	}
	return ok(list)
}
