package media

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/edge/child"
	"hubbub.dev/hubbub/internal/serve/run"
)

const (
	// inputQueue holds what a child says. What finds it full is dropped and counted, as
	// events that find a signalling shard's mailbox full are.
	inputQueue = 8192
	// writePatience is how long a child may take to read: one that does not is stuck.
	writePatience = 2 * time.Second
	// stopPatience is how long a child may take to end when it is told to.
	stopPatience = 2 * time.Second
	// lastPatience is how long one may go on that has nothing more to say.
	lastPatience = 200 * time.Millisecond
)

// life is one child process of a supervisor.
type life struct {
	number  int
	process *child.Process
	inputs  *run.Mailbox[frame]
	ended   chan struct{} // closed when nothing more comes from it
	out     *bufio.Writer

	hello, begun, ready bool
	since               time.Time
	said                []WorkerStats // of each worker, the last

	beats []uint64 // of each worker, when last looked at
	stuck []int    // how often in a row it had not moved
}

// start starts a child, which waits until it is told to begin. The caller has locked
// its goroutine to its thread until after bury.
func (s *Supervisor) start(path string) (*life, error) {
	files := []*os.File{s.memory.File()}
	files = append(files, s.files...)
	p, err := child.Start(path, s.command.Args, s.command.Env, files)
	if err != nil {
		return nil, err
	}
	s.lives++
	l := s.live(p)
	s.group.Go("media child reader", func(context.Context) { s.read(l) })
	return l, nil
}

func (s *Supervisor) live(p *child.Process) *life {
	return &life{
		number: s.lives, process: p, inputs: run.NewMailbox[frame](inputQueue), ended: make(chan struct{}), since: time.Now(),
		out: bufio.NewWriterSize(p.Control, 64<<10), beats: make([]uint64, len(s.memories)), stuck: make([]int, len(s.memories)),
		said: make([]WorkerStats, len(s.memories)),
	}
}

// read takes what a child says, until it has ended.
func (s *Supervisor) read(l *life) {
	defer close(l.ended)
	in := bufio.NewReaderSize(l.process.Control, 64<<10)
	for {
		f, err := readFrame(in)
		switch {
		case err != nil:
			return
		case f.Log != nil:
			s.relayLog(f.Log)
		case f.Stats != nil:
			s.publish(l, f.Stats)
		case !l.inputs.Post(f):
			s.dropped.Inc()
		}
	}
}

// publish shows what the workers of a child count, with what those of earlier ones
// counted. Of a child that is killed the last second may be missing.
func (s *Supervisor) publish(l *life, said []WorkerStats) {
	s.counting.Lock() // the child before may not have said its last yet
	defer s.counting.Unlock()
	for i := range min(len(said), len(s.published)) {
		total := said[i].onwards(*s.published[i].Load(), l.said[i])
		s.published[i].Store(&total)
		l.said[i] = said[i]
	}
}

func (s *Supervisor) relayLog(line *logLine) {
	attrs := make([]slog.Attr, 0, len(line.Attrs)/2)
	for i := 0; i+1 < len(line.Attrs); i += 2 {
		attrs = append(attrs, slog.String(line.Attrs[i], line.Attrs[i+1]))
	}
	s.cfg.Log.LogAttrs(context.Background(), slog.Level(line.Level), line.Message, attrs...)
}

// say writes a frame. Flush sends it.
func (l *life) say(f frame) error {
	_ = l.process.Control.SetWriteDeadline(time.Now().Add(writePatience))
	return writeFrame(l.out, f)
}

func (l *life) flush() error {
	_ = l.process.Control.SetWriteDeadline(time.Now().Add(writePatience))
	return l.out.Flush()
}

// begin tells a child all that it is to know, and has it serve.
func (s *Supervisor) begin(l *life) error {
	s.table.forget(func(worker int) uint64 {
		n, _ := s.memories[worker].heading.applied.Get()
		return n
	})
	b := s.beginning
	if err := l.say(frame{Begin: &b}); err != nil {
		return err
	}
	replay := s.table.replay()
	for len(replay) > 0 {
		n := min(len(replay), directiveBatch)
		if err := l.order(replay[:n]); err != nil {
			return err
		}
		replay = replay[n:]
	}
	if err := l.say(frame{Serve: &serving{Number: s.table.last}}); err != nil {
		return err
	}
	l.begun = true
	return l.flush()
}

// order writes commands, and changes their relays' keys in place.
func (l *life) order(batch []directive) error {
	for i := range batch {
		batch[i].Command = forLife(batch[i].Command, l.number)
	}
	return l.say(frame{Orders: batch})
}

// moved reports whether all workers have done something since they were looked at, or
// at least not too often in a row nothing. A worker has something to do each second.
func (l *life) moved(memories []memory) bool {
	for i := range memories {
		beat := atomic.LoadUint64(&memories[i].heading.beat)
		if l.stuck[i]++; beat != l.beats[i] {
			l.beats[i], l.stuck[i] = beat, 0
		}
		if l.stuck[i] >= stuckLooks {
			return false
		}
	}
	return true
}

// bury ends a child, if it has not ended within a time, and returns how it did. The
// memory is nobody else's then.
func (l *life) bury(within time.Duration) error {
	if within <= 0 {
		l.process.Kill()
	} else {
		defer time.AfterFunc(within, l.process.Kill).Stop()
	}
	err := l.process.Wait()
	<-l.ended
	if err != nil {
		return fmt.Errorf("media child %d: %w", l.process.PID(), err)
	}
	return nil
}
