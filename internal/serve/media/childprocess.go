package media

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/child"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/internal/serve/run"
)

// outboxFrames holds what a child has to say. What finds it full is dropped: the
// supervisor has stopped listening, and media does not wait for it.
const outboxFrames = 8192

// offspring is a child process of a Supervisor, from within.
type offspring struct {
	control net.Conn
	in      *bufio.Reader
	out     *run.Mailbox[frame]
	level   slog.LevelVar
	log     *slog.Logger
	group   *run.Group
	memory  *child.Memory
	media   *Media // nil before begin
	serving bool
	speak   chan struct{} // ends a rest
}

// RunChild is the whole life of a child process that a Supervisor started: it returns
// when that asks for it or ends, and with an error when a part of it failed. Beside
// the workers runs what keeps the process's house, which ends with its context.
func RunChild(version string, keepHouse func(context.Context)) error {
	control, err := child.Control()
	if err != nil {
		return err
	}
	o := &offspring{control: control, in: bufio.NewReaderSize(control, 64<<10), out: run.NewMailbox[frame](outboxFrames), speak: make(chan struct{}, 1)}
	o.log = slog.New(&remoteHandler{level: &o.level, out: o.out})
	o.group = run.NewGroup(context.Background(), o.log)
	defer context.AfterFunc(o.group.Context(), func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })()
	o.group.Go("media control writer", o.write)
	o.group.Go("memory", keepHouse)
	o.out.Post(frame{Hello: &hello{Layout: layout, Version: version}})
	err = o.obey()
	failed := o.group.Context().Err() != nil
	if o.media != nil {
		err = errors.Join(err, o.media.Close())
	}
	o.group.Stop()
	o.group.Wait()
	err = errors.Join(err, control.Close())
	if failed {
		return errors.Join(errors.New("media: a worker failed"), err)
	}
	return err
}

// obey carries out what the supervisor says, until that ends.
func (o *offspring) obey() error {
	for {
		f, err := readFrame(o.in)
		switch {
		case errors.Is(err, io.EOF) || o.group.Context().Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("media: control: %w", err)
		case f.Begin != nil:
			err = o.begin(f.Begin)
		case f.Orders != nil:
			err = o.orders(f.Orders)
		case f.Serve != nil:
			err = o.serve(f.Serve)
		case f.Rest:
			o.out.Post(frame{Resting: true})
		case f.Speak:
			select {
			case o.speak <- struct{}{}:
			default:
			}
		case f.Stop:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// begin makes the workers of what the supervisor handed over.
func (o *offspring) begin(b *beginning) error {
	if o.media != nil || b.Sockets < 1 || b.Sockets > 1<<16 {
		return errFrame
	}
	o.level.Set(slog.Level(b.LogLevel))
	key, err := x509.ParsePKCS8PrivateKey(b.Key)
	if err != nil {
		return fmt.Errorf("media: certificate: %w", err)
	}
	f, err := child.File(0)
	if err != nil {
		return err
	}
	if o.memory, err = child.OpenMemory(f); err != nil {
		return err
	}
	memories, err := divide(o.memory, b.Sockets)
	if err != nil {
		return err
	}
	var sockets []*udp.Conn
	for i := range b.Sockets {
		f, err := child.File(1 + i)
		if err != nil {
			return err
		}
		s, err := udp.Inherit(f)
		if err != nil {
			return err
		}
		sockets = append(sockets, s)
	}
	cfg := Config{Legacy: b.Legacy, MaxSpeakers: b.MaxSpeakers, Wait: time.Duration(b.Wait), AttackRate: b.AttackRate, Log: o.log}
	o.media = assemble(cfg, sockets, tls.Certificate{Certificate: [][]byte{b.Certificate}, PrivateKey: key}, memories)
	for _, w := range o.media.workers {
		w.sink = o.event
	}
	return nil
}

// divide gives each worker its part of the memory.
func divide(m *child.Memory, workers int) (parts []memory, err error) {
	if len(m.Bytes) < workers*memorySize {
		return nil, fmt.Errorf("media: %d bytes of memory for %d workers", len(m.Bytes), workers)
	}
	for i := range workers {
		part, _ := layOut(m.Bytes[i*memorySize:])
		parts = append(parts, part)
	}
	return parts, nil
}

// orders gives commands to the workers: at once as long as they do not run.
func (o *offspring) orders(directives []directive) error {
	now := monotonic.Now()
	for _, d := range directives {
		if o.media == nil || d.Worker < 0 || d.Worker >= len(o.media.workers) {
			return errFrame
		}
		w, c := o.media.workers[d.Worker], order{d.Number, d.Command}
		if !o.serving {
			w.begin(now, c)
			continue
		}
		// The supervisor waits with us: its own mailbox is the one that refuses.
		for !w.post(c) {
			select {
			case <-time.After(time.Millisecond):
			case <-o.group.Context().Done():
				return nil
			}
		}
	}
	return nil
}

// serve ends the replay and starts the workers.
func (o *offspring) serve(s *serving) error {
	if o.media == nil || o.serving {
		return errFrame
	}
	now := monotonic.Now()
	for _, w := range o.media.workers {
		w.settle(now, s.Number)
	}
	o.serving = true
	o.media.Start(o.group, o.event)
	o.group.Go("media stats", o.report)
	o.out.Post(frame{Ready: true})
	return nil
}

func (o *offspring) event(worker int, ev sfu.Event) {
	o.out.Post(frame{Event: &workerEvent{worker, ev}})
}

// report tells what the workers have counted.
func (o *offspring) report(ctx context.Context) {
	run.Every(ctx, housekeeping, func() {
		stats := make([]WorkerStats, o.media.Workers())
		for i := range stats {
			stats[i] = o.media.Stats(i)
		}
		o.out.Post(frame{Stats: stats})
	})
}

// write tells the supervisor what there is to tell, to the last.
func (o *offspring) write(ctx context.Context) {
	w := bufio.NewWriterSize(o.control, 64<<10)
	for {
		var f frame
		select {
		case f = <-o.out.Receive():
		default:
			if w.Flush() != nil {
				return
			}
			select {
			case f = <-o.out.Receive():
			case <-ctx.Done():
				return
			}
		}
		if writeFrame(w, f) != nil {
			return
		}
		if !f.Resting {
			continue
		}
		// What there is to say meanwhile waits, for whoever supervises next.
		if w.Flush() != nil {
			return
		}
		select {
		case <-o.speak:
		case <-ctx.Done():
			return
		}
	}
}

// remoteHandler has the supervisor log.
type remoteHandler struct {
	level *slog.LevelVar
	out   *run.Mailbox[frame]
	attrs []string
}

// Enabled implements slog.Handler.
func (h *remoteHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle implements slog.Handler.
func (h *remoteHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a.Key, a.Value.String())
		return true
	})
	h.out.Post(frame{Log: &logLine{int(r.Level), r.Message, attrs}})
	return nil
}

// WithAttrs implements slog.Handler.
func (h *remoteHandler) WithAttrs(more []slog.Attr) slog.Handler {
	with := *h
	with.attrs = with.attrs[:len(with.attrs):len(with.attrs)]
	for _, a := range more {
		with.attrs = append(with.attrs, a.Key, a.Value.String())
	}
	return &with
}

// WithGroup implements slog.Handler. Nothing here uses groups.
func (h *remoteHandler) WithGroup(string) slog.Handler { return h }
