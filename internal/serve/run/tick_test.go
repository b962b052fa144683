package run

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTickersTickTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := NewTicker(time.Second)
		defer first.Stop()
		time.Sleep(371 * time.Millisecond)
		second := NewTicker(time.Second)
		defer second.Stop()
		quarter := NewTicker(250 * time.Millisecond)
		defer quarter.Stop()
		var before time.Time
		for range 10 {
			a := <-first.C
			synctest.Wait()
			if b := <-second.C; !a.Equal(b) {
				t.Fatalf("%v apart", a.Sub(b))
			}
			if q := <-quarter.C; !before.IsZero() && a.Sub(q) != 750*time.Millisecond {
				t.Fatalf("the oldest quarter is %v before the second", a.Sub(q))
			}
			if !before.IsZero() && a.Sub(before) != time.Second {
				t.Fatalf("a tick after %v", a.Sub(before))
			}
			before = a
		}
	})
}

func TestTickerWaitsForItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tick := NewTicker(time.Second)
		time.Sleep(10 * time.Second)
		<-tick.C
		select {
		case <-tick.C:
			t.Error("ticks were kept that nobody took")
		default:
		}
		tick.Reset(10 * time.Second)
		<-tick.C
		began := time.Now()
		<-tick.C
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("a tick after %v", d)
		}
		tick.Stop()
		select {
		case <-tick.C:
			t.Error("a tick after the end")
		case <-time.After(time.Minute):
		}
	})
}

func TestEveryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		Every(ctx, time.Second, func() {
			if calls++; calls == 3 {
				cancel()
			}
		})
		if calls != 3 {
			t.Errorf("%d calls", calls)
		}
	})
}
