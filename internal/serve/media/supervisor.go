package media

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/child"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/internal/serve/run"
)

const (
	// lookEvery is how often it is looked whether the child lives, and stuckLooks how
	// often in a row it may not have moved: ticks that come late because the host is
	// busy count once.
	lookEvery  = 500 * time.Millisecond
	stuckLooks = 4
	// startPatience is how long a child may take to serve.
	startPatience = 30 * time.Second
	// hushAfter is how long after a restart those who spoke before are waited for.
	hushAfter = time.Second
	// When more than freeDeaths children in a row have lived for less than shortLife,
	// the next is started after a pause, which doubles up to mostPause.
	freeDeaths = 3
	shortLife  = 2 * time.Second
	leastPause = 50 * time.Millisecond
	mostPause  = 5 * time.Second
)

// Command is how the child is started. An empty Path is the binary that runs.
type Command struct {
	Path string
	Args []string
	Env  []string // besides this process's
}

// Supervisor is a set of workers in a child process, which it starts again when it
// ends. It has the methods of Media. The sockets, what commands have said, and the
// memory with all counters are its own, so that peers notice nothing of a restart.
//
// Commands wait in one mailbox for all workers, and are refused when it is full. One
// goroutine owns all the rest.
type Supervisor struct {
	cfg         Config
	command     Command
	group       *run.Group
	sink        Sink
	sockets     []*udp.Conn
	files       []*os.File // the sockets, for children
	memory      *child.Memory
	memories    []memory // of the workers
	beginning   beginning
	fingerprint string

	commands *run.Mailbox[directive]
	upgrades chan upgrade
	rests    chan resting
	wills    chan will
	heir     *life         // that the program before in this process started; nil once it is served
	closing  chan struct{} // closed by Close
	done     chan struct{} // closed when run has ended; nil before Start

	table *table
	lives int

	published []atomic.Pointer[WorkerStats]
	counting  sync.Mutex // for changing published
	pid       atomic.Int64
	restarts  prometheus.Counter
	dropped   prometheus.Counter
	metrics   registration
}

// NewSupervisor opens the workers' sockets and makes the certificate of their DTLS
// servers. It fails where no child can be given them.
func NewSupervisor(cfg Config, command Command) (*Supervisor, error) {
	s := newSupervisor(cfg, command)
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

func newSupervisor(cfg Config, command Command) *Supervisor {
	if command.Path == "" {
		command.Path = child.Own
	}
	return &Supervisor{
		cfg: cfg, command: command, table: newTable(), commands: run.NewMailbox[directive](commandQueue),
		upgrades: make(chan upgrade), rests: make(chan resting), wills: make(chan will), closing: make(chan struct{}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubbub_media_restarts_total", Help: "Media child processes that ended unasked and were replaced.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubbub_media_events_dropped_total", Help: "Events of the media child that found the supervisor's queue full.",
		}),
	}
}

// open makes what all children share.
func (s *Supervisor) open() error {
	certificate, err := selfSigned()
	if err != nil {
		return fmt.Errorf("media: making a certificate: %w", err)
	}
	s.fingerprint = fingerprintOf(certificate)
	if s.sockets, err = openSockets(s.cfg, udp.Reserve); err != nil {
		return err
	}
	if s.memory, err = child.NewMemory("hubbub media", len(s.sockets)*memorySize); err != nil {
		return fmt.Errorf("media: shared memory: %w", err)
	}
	return s.share(certificate)
}

// share makes ready what children are given of sockets, memory and certificate.
func (s *Supervisor) share(certificate tls.Certificate) (err error) {
	for i, socket := range s.sockets {
		f, err := socket.File()
		if err != nil {
			return fmt.Errorf("media: worker %d: %w", i, err)
		}
		s.files = append(s.files, f)
	}
	if s.memories, err = divide(s.memory, len(s.sockets)); err != nil {
		return err
	}
	s.published = make([]atomic.Pointer[WorkerStats], len(s.sockets))
	for i, socket := range s.sockets {
		s.published[i].Store(&WorkerStats{Port: socket.LocalAddr().Port()})
	}
	if s.beginning, err = newBeginning(s.cfg, len(s.sockets), certificate); err != nil {
		return err
	}
	s.metrics, err = register(s.cfg.Metrics, s, s.restarts, s.dropped)
	return err
}

func newBeginning(cfg Config, sockets int, certificate tls.Certificate) (beginning, error) {
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return beginning{}, fmt.Errorf("media: certificate: %w", err)
	}
	b := beginning{
		Sockets: sockets, Legacy: cfg.Legacy, MaxSpeakers: cfg.MaxSpeakers, Wait: int64(cfg.Wait), AttackRate: cfg.AttackRate,
		Certificate: certificate.Certificate[0], Key: key, LogLevel: int(slog.LevelError),
	}
	for _, level := range []slog.Level{slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
		if cfg.Log.Enabled(context.Background(), level) {
			b.LogLevel = int(level)
		}
	}
	return b, nil
}

// Start runs children until the group stops. The sink gets all events of their workers.
func (s *Supervisor) Start(g *run.Group, sink Sink) {
	s.group, s.sink, s.done = g, sink, make(chan struct{})
	g.Go("media supervisor", s.run)
}

// Post gives a worker a command without waiting. It is false when the mailbox is full.
func (s *Supervisor) Post(worker int, c sfu.Command) bool {
	return s.commands.Post(directive{Worker: worker, Command: c})
}

// Workers returns how many workers there are.
func (s *Supervisor) Workers() int { return len(s.sockets) }

// Port returns a worker's UDP port.
func (s *Supervisor) Port(worker int) uint16 { return s.sockets[worker].LocalAddr().Port() }

// Addr returns where the other workers of this host reach a worker.
func (s *Supervisor) Addr(worker int) netip.AddrPort { return reachable(s.sockets[worker].LocalAddr()) }

// Fingerprint returns the DTLS certificate's fingerprint, as Media's does. It is the
// same for all children.
func (s *Supervisor) Fingerprint() string { return s.fingerprint }

// Stats returns what a worker counted until at most a second ago, in all processes.
func (s *Supervisor) Stats(worker int) WorkerStats { return *s.published[worker].Load() }

// PID returns the process id of the child that serves, or zero.
func (s *Supervisor) PID() int { return int(s.pid.Load()) }

// Close ends the child, waits for it, and closes the sockets.
func (s *Supervisor) Close() error {
	s.metrics.unregister()
	if s.done != nil {
		close(s.closing)
		<-s.done
	}
	return s.release()
}

func (s *Supervisor) release() error {
	err := closeSockets(s.sockets)
	if s.heir != nil {
		err = errors.Join(err, s.heir.process.Control.Close())
	}
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	if s.memory != nil {
		err = errors.Join(err, s.memory.Close())
	}
	return err
}

// run starts one child after the other.
func (s *Supervisor) run(ctx context.Context) {
	defer close(s.done)
	// A child is killed when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	next, heir := s.heir, s.heir
	if s.heir = nil; heir != nil {
		s.group.Go("media child reader", func(context.Context) { s.read(heir) })
	}
	for short := 0; ; {
		l, err := next, error(nil)
		if next = nil; l == nil {
			l, err = s.start(s.command.Path)
		}
		if err == nil {
			next, err = s.serve(ctx, l)
			switch {
			case next != nil: // it was waited for
			case err == nil:
				err = l.bury(lastPatience)
			default:
				err = errors.Join(err, l.bury(0))
			}
			s.pid.Store(0)
		}
		switch {
		case s.ending(ctx):
			if next != nil {
				_ = next.bury(0)
			}
			return
		case next != nil:
			continue
		}
		if l == nil || !l.ready {
			s.command.Path = child.Own // the binary of an upgrade may be gone, or yet another
		}
		s.restarts.Inc()
		lived := time.Duration(0)
		if l != nil {
			lived = time.Since(l.since)
		}
		s.cfg.Log.Error("the media process ended and is replaced", "lived", lived.Round(time.Millisecond), "error", err)
		if lived >= shortLife {
			short = 0
			continue
		}
		if short++; short > freeDeaths {
			s.pause(ctx, min(leastPause<<min(short-freeDeaths, 10), mostPause))
		}
	}
}

func (s *Supervisor) ending(ctx context.Context) bool {
	select {
	case <-s.closing:
		return true
	default:
		return ctx.Err() != nil
	}
}

// pause goes on noting commands while no child lives.
func (s *Supervisor) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case c := <-s.commands.Receive():
			s.table.apply(&c)
		case <-timer.C:
			return
		case <-s.closing:
			return
		case <-ctx.Done():
			return
		}
	}
}
