// Package discovery owns this node's place in the fleet: it announces the node on
// the bus, hears the others, and tells the roles of this process who is there. What
// follows from an announcement is core/fleet's to decide.
package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/serve/run"
)

// Subject is where nodes announce themselves.
const Subject = "fleet.hello"

const (
	// mailboxSize bounds what waits to be taken in: a word of each member, twice. What
	// finds it full is lost, and comes again in a second.
	mailboxSize = 2 * fleet.MaxMembers
	// acquaint is how long a node of a fleet listens before it takes anything: all
	// others have announced themselves by then, were it that none heard it ask.
	acquaint = fleet.Interval + 200*time.Millisecond
	// answerEvery bounds how often others can make this node announce itself.
	answerEvery = 100 * time.Millisecond
)

// ErrDisplaced ends a node whose name another node has taken.
var ErrDisplaced = errors.New("discovery: another node has started under this node's name (--node)")

// Bus is what discovery needs of the bus.
type Bus interface {
	Publish(subject string, m any) error
	Request(ctx context.Context, subject string, m, reply any) error
	Subscribe(subject string, f func(bus.Message)) (unsubscribe func(), err error)
	Connected() bool
	OnReturn(f func())
}

// Config of a node's place.
type Config struct {
	Self fleet.Member // what stays: name, epoch, roles, region, endpoint, capacity
	// Alone is a node that no other can reach: it need not listen before it begins.
	Alone bool
	// Sample fills in how the node is doing, before each announcement; may be nil. It
	// must not block.
	Sample func(*fleet.Member)
	// Mourned is called when others have taken this node for dead and it is not, or
	// must have; may be nil. It must only post to mailboxes.
	Mourned func()
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil for none
}

// Listener is a part of this process that wants to know of the fleet. Its methods
// run on one goroutine and must only post to mailboxes.
type Listener interface {
	// Fleet is called with every new View, and Members with everybody as last heard,
	// after each View and every Interval, be there a bus or not.
	Fleet(*fleet.View)
	Members([]fleet.Member)
}

// order is what the rest of the process asks of the service's goroutine.
type order struct {
	change func(*fleet.Member)
	done   chan struct{}
}

// Service is a node's place in the fleet.
type Service struct {
	cfg       Config
	bus       Bus
	heard     *run.Mailbox[fleet.Member]
	orders    *run.Mailbox[order]
	view      atomic.Pointer[fleet.View]
	listeners []Listener
	met       chan struct{} // closed when the node has heard itself, and so others hear it
	dropped   prometheus.Counter
	back      atomic.Bool     // the bus was away since probe looked last
	gone      chan struct{}   // closed when this node must end
	life      context.Context // of the goroutine; nil before Start

	// The rest belongs to the goroutine.
	table    *fleet.Table
	self     fleet.Member
	answered clock.Time
}

// New returns a service that knows its own node, which is joining.
func New(cfg Config, b Bus) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		cfg: cfg, bus: b, self: cfg.Self,
		heard: run.NewMailbox[fleet.Member](mailboxSize), orders: run.NewMailbox[order](16),
		gone: make(chan struct{}), met: make(chan struct{}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubbub_fleet_dropped_total", Help: "Announcements of nodes that were unreadable or found no room.",
		}),
	}
	s.self.Joining = true
	s.table = fleet.NewTable(monotonic.Now(), s.self)
	s.view.Store(s.table.View())
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(s.dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubbub_fleet_members", Help: "Nodes that take part, as this one knows them.",
		}, func() float64 { return float64(len(s.View().Members())) }))
	}
	return s
}

// Listen adds a listener. It comes before Start.
func (s *Service) Listen(l Listener) { s.listeners = append(s.listeners, l) }

// View returns the fleet as this node knows it now. It is one atomic load.
func (s *Service) View() *fleet.View { return s.view.Load() }

// Displaced is closed when another node has taken this one's name.
func (s *Service) Displaced() <-chan struct{} { return s.gone }

// Start listens to the others and asks who is there.
func (s *Service) Start(g *run.Group) error {
	unsubscribe, err := s.bus.Subscribe(Subject, s.receive)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	deaf, err := s.bus.Subscribe(probeSubject(s.cfg.Self.Name), s.answerProbe)
	if err != nil {
		unsubscribe()
		return fmt.Errorf("discovery: %w", err)
	}
	s.life = g.Context()
	g.Go("discovery", func(ctx context.Context) {
		defer unsubscribe()
		defer deaf()
		s.run(ctx)
	})
	if !s.cfg.Alone {
		s.bus.OnReturn(func() { s.back.Store(true) })
		g.Go("discovery probe", s.probe)
	}
	return nil
}

func (s *Service) receive(m bus.Message) {
	var member fleet.Member
	if m.Decode(&member) != nil || !s.heard.Post(member) {
		s.dropped.Inc()
	}
}

// Join makes the node take part: from then on guilds and calls are placed on it. It
// first waits until the node knows the others.
func (s *Service) Join(ctx context.Context) error {
	if !s.cfg.Alone {
		select {
		case <-s.met:
		case <-ctx.Done():
			return ctx.Err()
		}
		timer := time.NewTimer(acquaint)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.change(ctx, func(m *fleet.Member) { m.Joining = false })
	return nil
}

// Drain tells all that the node takes nothing new.
//
// Like Join and Leave, it may be called once the service has started.
func (s *Service) Drain(ctx context.Context) {
	s.change(ctx, func(m *fleet.Member) { m.Draining = true })
}

// Leave tells all that the node is gone.
func (s *Service) Leave(ctx context.Context) { s.change(ctx, func(m *fleet.Member) { m.Gone = true }) }

// change alters what the node says of itself and returns when it was said, or with
// ctx.
func (s *Service) change(ctx context.Context, f func(*fleet.Member)) {
	done := make(chan struct{})
	if !s.orders.Post(order{f, done}) {
		return
	}
	select {
	case <-done:
	case <-s.life.Done():
	case <-ctx.Done():
	}
}

func (s *Service) run(ctx context.Context) {
	beats := 4
	if s.cfg.Alone {
		beats = 1 // nobody's silence is to be noticed
	}
	tick := run.NewTicker(fleet.Interval / time.Duration(beats))
	defer tick.Stop()
	s.self.Ask = true
	s.announce(monotonic.Now())
	s.self.Ask = false
	for beat := 1; ; {
		select {
		case <-ctx.Done():
			return
		case m := <-s.heard.Receive():
			s.hear(monotonic.Now(), m)
		case o := <-s.orders.Receive():
			o.change(&s.self)
			s.announce(monotonic.Now())
			close(o.done)
		case <-tick.C:
			now := monotonic.Now()
			s.publish(s.table.Tick(now))
			if beat = (beat + 1) % beats; beat == 0 && !s.self.Gone {
				s.announce(now)
				s.tellMembers()
			}
		}
	}
}

func (s *Service) hear(now clock.Time, m fleet.Member) {
	asked := m.Ask && m.Name != s.self.Name && now.Sub(s.answered) >= answerEvery && !s.self.Gone
	m.Ask = false
	if m.Name == s.self.Name && m.Epoch == s.self.Epoch {
		s.meet()
		if m.Gone && !s.self.Gone {
			s.cfg.Log.Warn("others took this node for dead")
			s.mourned()
			s.announce(now)
		}
	}
	s.publish(s.table.Hear(now, m))
	if asked {
		s.answered = now
		s.announce(now)
	}
	if s.table.Displaced() {
		select {
		case <-s.gone:
		default:
			s.cfg.Log.Error("this node ends", "err", ErrDisplaced, "node", s.self.Name)
			close(s.gone)
		}
	}
}

func (s *Service) mourned() {
	if s.cfg.Mourned != nil {
		s.cfg.Mourned()
	}
}

func (s *Service) meet() {
	select {
	case <-s.met:
	default:
		close(s.met)
	}
}

// announce says how the node is doing.
func (s *Service) announce(now clock.Time) {
	if s.cfg.Sample != nil {
		s.cfg.Sample(&s.self)
	}
	self := s.self
	self.Ask = false
	s.publish(s.table.SetSelf(now, self))
	if s.table.Overslept() {
		s.cfg.Log.Warn("this node was stopped for long enough to be taken for dead")
		s.mourned()
	}
	if err := s.bus.Publish(Subject, s.self); err != nil {
		s.cfg.Log.Warn("node not announced", "err", err)
	}
}

// publish gives everybody the new View, if there is one.
func (s *Service) publish(changed bool) {
	if !changed {
		return
	}
	view := s.table.View()
	s.view.Store(view)
	s.cfg.Log.Info("fleet changed", "members", len(view.Members()))
	s.tellMembers()
	for _, l := range s.listeners {
		l.Fleet(view)
	}
}

func (s *Service) tellMembers() {
	members := s.table.Members()
	for _, l := range s.listeners {
		l.Members(members)
	}
}
