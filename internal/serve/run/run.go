// Package run owns how goroutines start, how they are told things and how they take
// turns: the one starter that names, labels and counts every goroutine, the bounded
// mailbox that never blocks its sender, the ticker, and the turnstile. It never holds product state.
package run

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/pprof"
	"sync"
)

// Group starts goroutines that share one life: they get a context that ends when
// Stop is called, and Wait returns when all have ended.
type Group struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	log    *slog.Logger
	labels sync.Map // of the group's context with a label, by name: goroutines share it
}

// NewGroup returns a group whose context ends with parent or on Stop.
func NewGroup(parent context.Context, log *slog.Logger) *Group {
	ctx, cancel := context.WithCancel(parent)
	return &Group{ctx: ctx, cancel: cancel, log: log}
}

// Context returns the context that ends when the group is stopped.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f in a goroutine with the pprof label "task"=name. A panic in f is
// logged with its stack and stops the whole group: half a server is worse than
// none, and a supervisor restarts it.
func (g *Group) Go(name string, f func(ctx context.Context)) {
	g.wg.Add(1)
	ctx := g.labelled(name)
	go func() {
		defer g.wg.Done()
		defer func() {
			if r := recover(); r != nil {
				g.log.Error("task panicked", "task", name, "panic", r, "stack", string(debug.Stack()))
				g.cancel()
			}
		}()
		pprof.SetGoroutineLabels(ctx)
		f(ctx)
	}()
}

func (g *Group) labelled(name string) context.Context {
	if ctx, ok := g.labels.Load(name); ok {
		return ctx.(context.Context)
	}
	ctx, _ := g.labels.LoadOrStore(name, pprof.WithLabels(g.ctx, pprof.Labels("task", name)))
	return ctx.(context.Context)
}

// Stop ends the group's context. It does not wait.
func (g *Group) Stop() { g.cancel() }

// Wait blocks until every goroutine of the group has ended.
func (g *Group) Wait() { g.wg.Wait() }
