package run

import (
	"context"
	"log/slog"
	"runtime/pprof"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGroupNamesStopsAndWaits(t *testing.T) {
	g := NewGroup(context.Background(), slog.New(slog.DiscardHandler))
	label := make(chan string, 1)
	g.Go("worker", func(ctx context.Context) {
		name, _ := pprof.Label(ctx, "task")
		label <- name
		<-ctx.Done()
	})
	if got := <-label; got != "worker" {
		t.Errorf("label %q", got)
	}
	g.Stop()
	g.Wait()
}

func TestPanicStopsTheGroup(t *testing.T) {
	g := NewGroup(context.Background(), slog.New(slog.DiscardHandler))
	g.Go("bad", func(context.Context) { panic("x") })
	g.Wait()
	if g.Context().Err() == nil {
		t.Error("the group goes on without its member")
	}
}

func TestMailboxRefusesInsteadOfBlocking(t *testing.T) {
	b := NewMailbox[int](2)
	for i := range 2 {
		if !b.Post(i) {
			t.Fatalf("message %d refused", i)
		}
	}
	if b.Post(2) {
		t.Error("a full mailbox took one more")
	}
	if b.Refused() != 1 || b.Len() != 2 {
		t.Errorf("refused %d, holds %d", b.Refused(), b.Len())
	}
	if got := <-b.Receive(); got != 0 {
		t.Errorf("out of order: %d", got)
	}
	if !b.Post(3) {
		t.Error("room was not used again")
	}
}
