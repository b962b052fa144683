package load

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/serve/run"
)

const (
	// keepalive is how often every client keeps its path alive.
	keepalive = 5 * time.Second
	// idle bounds a wait when there is nothing to send.
	idle = 100 * time.Millisecond
	// lookEvery is how often sockets are looked at whose datagrams wake nobody.
	lookEvery = time.Millisecond
	// slipAfter is how far a loop may fall behind before it leaves packets out.
	slipAfter   = 100 * time.Millisecond
	readySize   = 256
	orderQueue  = 4096
	wakeMessage = -1 // what epoll says of the eventfd
)

// window is one measurement, or the talk before and between measurements.
type window struct {
	round  uint32
	target int
	talk   float64
	rate   float64 // packets a second
	size   int
	burst  bool // all speakers at once
}

func (w *window) interval() time.Duration { return time.Duration(float64(time.Second) / w.rate) }

// errStopped says that the crowd no longer runs.
var errStopped = errors.New("load: the crowd has stopped")

// crowd carries the media of all clients on a few loops.
type crowd struct {
	loops []*loop
	group *run.Group
	next  atomic.Uint32
}

func newCrowd(n int, offload bool, g *run.Group) (*crowd, error) {
	c := &crowd{group: g}
	for range n {
		l, err := newLoop(offload)
		if err != nil {
			c.release()
			return nil, err
		}
		c.loops = append(c.loops, l)
	}
	for _, l := range c.loops {
		g.Go("load", l.run)
	}
	return c, nil
}

// release frees what the loops hold; they must have ended.
func (c *crowd) release() {
	for _, l := range c.loops {
		l.release()
	}
}

// add gives a seat to a loop, which owns it and its socket from then on.
func (c *crowd) add(ctx context.Context, s *seat) error {
	l := c.loops[int(c.next.Add(1))%len(c.loops)]
	var err error
	if asked := l.ask(ctx, func(l *loop) { err = l.seat(s) }); asked != nil {
		return asked
	}
	return err
}

// begin starts a window: from now on its target's speakers talk. Nobody talks before
// all loops listen for it, however long one of them takes to.
func (c *crowd) begin(ctx context.Context, w window) error {
	speakers := 0
	for _, l := range c.loops {
		if err := l.ask(ctx, func(l *loop) { speakers += l.listen(w) }); err != nil {
			return err
		}
	}
	first := 0
	for _, l := range c.loops {
		if err := l.ask(ctx, func(l *loop) { first = l.begin(first, speakers) }); err != nil {
			return err
		}
	}
	return nil
}

// hush ends the talk; packets under way are still counted.
func (c *crowd) hush(ctx context.Context) error {
	for _, l := range c.loops {
		err := l.ask(ctx, func(l *loop) {
			l.queue, l.head, l.hushed = l.queue[:0], 0, true
			l.publish()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// count returns what was counted since begin, and how many datagrams the kernel has
// dropped at the clients' sockets so far.
func (c *crowd) count(ctx context.Context) (sum counters, drops uint64, err error) {
	for _, l := range c.loops {
		err = l.ask(ctx, func(l *loop) {
			sum.merge(&l.counters)
			for _, s := range l.seats {
				drops += dropped(s.fd)
			}
		})
		if err != nil {
			return sum, drops, err
		}
	}
	return sum, drops, nil
}

// progress returns deliveries so far and how many there should be.
func (c *crowd) progress() (received, expected uint64) {
	for _, l := range c.loops {
		received += l.shown.received.Load()
		expected += l.shown.expected.Load()
	}
	return received, expected
}

// recount says how many hear each speaker of a target.
func (c *crowd) recount(ctx context.Context, target int) error {
	hearers := map[int]uint64{}
	for _, l := range c.loops {
		err := l.ask(ctx, func(l *loop) {
			for _, s := range l.seats {
				if s.target == target && s.hears {
					hearers[s.room]++
				}
			}
		})
		if err != nil {
			return err
		}
	}
	for _, l := range c.loops {
		err := l.ask(ctx, func(l *loop) {
			for _, s := range l.seats {
				if s.target == target && s.speaks {
					s.speech.fan = hearers[s.room]
					if s.hears {
						s.speech.fan--
					}
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// loop is one goroutine with the media of its seats: it polls their sockets
// together, so that a client costs neither a goroutine nor a thread.
type loop struct {
	epoll, event int
	offload      bool // see Config
	woken        atomic.Bool
	orders       *run.Mailbox[func(*loop)]
	done         chan struct{}

	seats     []*seat
	rx        *inbound
	ready     [readySize]unix.EpollEvent
	out       [datagramSize]byte
	payload   [MaxSize]byte
	window    window
	queue     []turn // of the speakers, soonest at head
	head      int
	hushed    bool // the window is over
	aliveNext int
	aliveAt   clock.Time

	counters
	shown struct{ received, expected atomic.Uint64 } // for others to see while it runs
}

// turn is when a speaker's next packet is due.
type turn struct {
	at   clock.Time
	seat *seat
}

func newLoop(offload bool) (*loop, error) {
	room := datagramSize
	if offload {
		room = segmentedSize
	}
	l := &loop{epoll: -1, event: -1, offload: offload, orders: run.NewMailbox[func(*loop)](orderQueue), rx: newInbound(room), done: make(chan struct{})}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.event, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeMessage})
	}
	if err != nil {
		l.release()
	}
	return l, err
}

func (l *loop) release() {
	for _, s := range l.seats {
		_ = unix.Close(s.fd)
	}
	for _, fd := range []int{l.event, l.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// ask runs f on the loop and waits until it is done.
func (l *loop) ask(ctx context.Context, f func(*loop)) error {
	finished := make(chan struct{})
	if !l.orders.Post(func(l *loop) { f(l); close(finished) }) {
		return errors.New("load: a loop is too far behind")
	}
	l.wake()
	select {
	case <-finished:
		return nil
	case <-l.done:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *loop) wake() {
	if l.woken.CompareAndSwap(false, true) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(l.event, one[:])
	}
}

func (l *loop) run(ctx context.Context) {
	defer close(l.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stop := context.AfterFunc(ctx, l.wake)
	defer stop()
	for ctx.Err() == nil {
		now := monotonic.Now()
		l.send(now)
		l.keepAlive(now)
		if l.offload {
			pause := unix.NsecToTimespec(int64(max(min(l.next().Sub(now), lookEvery), 0)))
			_ = unix.Nanosleep(&pause, nil)
		} else {
			wait(l.epoll, l.next().Sub(now))
		}
		n, _ := unix.EpollWait(l.epoll, l.ready[:], 0)
		for _, event := range l.ready[:max(n, 0)] {
			if event.Fd == wakeMessage {
				l.obey()
				continue
			}
			l.hear(l.seats[event.Fd])
		}
		l.publish()
	}
}

func (l *loop) publish() {
	l.shown.received.Store(l.received)
	l.shown.expected.Store(l.expected)
}

func (l *loop) obey() {
	var count [8]byte
	_, _ = unix.Read(l.event, count[:])
	l.woken.Store(false)
	for {
		select {
		case f := <-l.orders.Receive():
			f(l)
		default:
			return
		}
	}
}

// next returns when there is something to send.
func (l *loop) next() clock.Time {
	at := monotonic.Now().Add(idle)
	if len(l.queue) > 0 {
		at = min(at, l.queue[l.head].at)
	}
	if len(l.seats) > 0 {
		at = min(at, l.aliveAt)
	}
	return at
}

func (l *loop) seat(s *seat) error {
	if err := prepare(s.fd, l.offload); err != nil {
		return err
	}
	if s.speaks {
		s.speech = newSpeech(s.sender)
	}
	err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(len(l.seats))})
	if err == nil {
		l.seats = append(l.seats, s)
	}
	return err
}

// listen ends what went on before and counts what is heard of a window. It returns how
// many speakers of it there are.
func (l *loop) listen(w window) (speakers int) {
	l.window, l.counters, l.hushed = w, counters{}, false
	l.publish()
	l.queue, l.head = l.queue[:0], 0
	for _, s := range l.seats {
		if s.target != w.target {
			continue
		}
		clear(s.heard)
		if s.speaks {
			speakers++
		}
	}
	return speakers
}

// begin has the window's speakers talk. The first is number first of all loops'
// together, and so many there are; it returns the number after its last.
func (l *loop) begin(first, speakers int) int {
	w, now := l.window, monotonic.Now()
	for _, s := range l.seats {
		if s.target != w.target || !s.speaks {
			continue
		}
		s.speech.begin(w.talk, w.rate)
		at := now.Add(time.Millisecond)
		if !w.burst {
			at = at.Add(w.interval() * time.Duration(first) / time.Duration(speakers))
		}
		l.queue = append(l.queue, turn{at, s})
		first++
	}
	return first
}

// send sends what is due. All speakers have one interval, so who has spoken goes to
// the end of the queue.
func (l *loop) send(now clock.Time) {
	interval := l.window.interval()
	for len(l.queue) > 0 {
		t := &l.queue[l.head]
		if now.Before(t.at) {
			return
		}
		if now.Sub(t.at) > slipAfter {
			l.slipped++
		} else {
			l.speak(t.seat)
		}
		t.at = t.at.Add(interval)
		l.head = (l.head + 1) % len(l.queue)
	}
}

func (l *loop) speak(s *seat) {
	what, header := s.speech.tick(l.window.talk, l.window.rate)
	payload := silence
	switch what {
	case frameNone:
		return
	case frameVoice:
		payload = l.payload[:l.window.size]
		stamp{sender: s.sender, round: l.window.round, index: s.speech.index, sent: time.Now().UnixNano()}.put(payload)
	}
	header.SSRC = s.ssrc
	n := s.link.seal(l.out[:], payload, header, what == frameVoice)
	_, _ = unix.Write(s.fd, l.out[:n]) // what is not sent counts as lost
	if what == frameVoice {
		s.speech.index++
		l.sent++
		l.expected += s.speech.fan
	}
}

// keepAlive goes round the seats, so that they do not all send at once.
func (l *loop) keepAlive(now clock.Time) {
	if len(l.seats) == 0 {
		l.aliveAt = now
		return
	}
	for !now.Before(l.aliveAt) {
		l.aliveNext = (l.aliveNext + 1) % len(l.seats)
		s := l.seats[l.aliveNext]
		if n := s.link.alive(l.out[:]); n > 0 {
			_, _ = unix.Write(s.fd, l.out[:n])
		}
		l.aliveAt = max(l.aliveAt, now-clock.Time(idle)).Add(keepalive / time.Duration(len(l.seats)))
	}
}

// hear reads what has come for a seat.
func (l *loop) hear(s *seat) {
	n, _ := l.rx.receive(s.fd)
	if n == 0 {
		return
	}
	now := time.Now().UnixNano()
	for i := range n {
		at := l.rx.arrived(i)
		if at == 0 {
			at = now
		}
		for datagram := range slices.Chunk(l.rx.datagram(i), l.rx.segment(i)) {
			payload, ok := s.link.open(datagram)
			switch {
			case !ok:
				l.corrupt++
			case len(payload) > len(silence):
				l.judge(s, payload, at)
			}
		}
	}
}

// judge checks a payload and counts it.
func (l *loop) judge(s *seat, payload []byte, at int64) {
	p, ok := parseStamp(payload)
	if !ok {
		l.corrupt++
		return
	}
	if s.first == 0 {
		s.first = at
		close(s.firstHeard)
	}
	switch {
	case p.sender-s.base >= uint32(len(s.heard)) || !s.hears:
		l.foreign++
	case s.afar:
		l.follow(s, p, at)
	case p.round != l.window.round || s.target != l.window.target:
		l.stale++
	case l.window.size != len(payload):
		l.corrupt++
	default:
		l.place(s, p, at)
	}
}

// follow counts a packet of a speaker that another process has.
func (l *loop) follow(s *seat, p stamp, at int64) {
	heard := &s.heard[p.sender-s.base]
	switch {
	case l.hushed || heard.round > p.round:
		l.stale++
		return
	case heard.round < p.round:
		*heard = stream{round: p.round, next: p.index, first: p.index}
	case p.index < heard.first:
		l.stale++ // its speaker was not counted yet
		return
	}
	before := heard.next
	l.place(s, p, at)
	l.expected += uint64(heard.next - before)
}

func (l *loop) place(s *seat, p stamp, at int64) {
	switch s.heard[p.sender-s.base].take(p.index) {
	case duplicate:
		l.duplicates++
		return
	case overtaken:
		l.overtaken++
	}
	l.received++
	l.delay.add(time.Duration(at - p.sent))
}
