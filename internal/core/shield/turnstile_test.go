package shield

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

func TestTurnstileLetsABurstThrough(t *testing.T) {
	s := NewTurnstile(10, time.Second, 2*time.Second)
	for i := range 11 {
		if wait, ok := s.Ask(start, false); wait != 0 || !ok {
			t.Fatalf("%d waits %v", i, wait)
		}
	}
	for i := range 20 {
		want := time.Duration(i+1) * 100 * time.Millisecond
		if wait, ok := s.Ask(start, false); wait != want || !ok {
			t.Fatalf("%d waits %v, want %v", i, wait, want)
		}
	}
	if _, ok := s.Ask(start, false); ok {
		t.Error("one too many")
	}
	if s.Full(start) {
		t.Error("full, though no resume waits")
	}
	if wait, ok := s.Ask(start, true); wait != 0 || !ok {
		t.Errorf("a resume waits %v behind others", wait)
	}
}

func TestOthersWaitBehindResumes(t *testing.T) {
	s := NewTurnstile(10, 0, 2*time.Second)
	for range 21 {
		if _, ok := s.Ask(start, true); !ok {
			t.Fatal("a resume is refused")
		}
	}
	if _, ok := s.Ask(start, false); ok || !s.Full(start) {
		t.Error("room behind a full row of resumes")
	}
	now := start.Add(time.Second)
	if wait, ok := s.Ask(now, false); wait != 1100*time.Millisecond || !ok {
		t.Errorf("waits %v for ten resumes", wait)
	}
}

// event is a client that comes, or gets its turn.
type event struct {
	at     clock.Time
	resume bool
	turn   bool
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// TestStorm cuts 40,000 sessions at one instant, a fifth of which must begin anew. Who is
// refused comes back after one to five seconds, as the documentation has it.
func TestStorm(t *testing.T) {
	const (
		clients = 40_000
		rate    = 500
		most    = 10 * time.Second
	)
	s := NewTurnstile(rate, 2*time.Second, most)
	random := rand.New(rand.NewPCG(1, 2))
	var queue events
	for i := range clients {
		heap.Push(&queue, event{at: start.Add(time.Duration(random.Int64N(int64(400 * time.Millisecond)))), resume: i%5 != 0})
	}
	var last [2]clock.Time
	var refused, waiting, longest, through int
	perSecond := map[time.Duration]int{}
	for queue.Len() > 0 {
		e := heap.Pop(&queue).(event)
		switch wait, ok := time.Duration(0), false; {
		case e.turn:
			waiting--
			through++
			perSecond[e.at.Sub(start)/time.Second]++
			last[kind(e.resume)] = e.at
			continue
		default:
			if wait, ok = s.Ask(e.at, e.resume); !ok {
				refused++
				e.at = e.at.Add(time.Second + time.Duration(random.Int64N(int64(4*time.Second))))
			} else {
				waiting++
				e.at, e.turn = e.at.Add(wait), true
			}
			heap.Push(&queue, e)
		}
		longest = max(longest, waiting)
	}
	resumed, all := last[1].Sub(start), last[0].Sub(start)
	t.Logf("%d through: resumes after %v, all after %v; %d refusals, at most %d waiting", through, resumed, all, refused, longest)
	if through != clients || resumed > 32_000/rate*time.Second*5/4 || all > (clients/rate+20)*time.Second {
		t.Errorf("%d through, resumes in %v, all in %v", through, resumed, all)
	}
	if bound := 2 * rate * 12; longest > bound {
		t.Errorf("%d wait at once, want at most %d", longest, bound)
	}
	for second, n := range perSecond {
		if n > 2*rate+2 && second > 0 || n > 4*rate {
			t.Errorf("%d in second %d", n, second)
		}
	}
}

func kind(resume bool) int {
	if resume {
		return 1
	}
	return 0
}
