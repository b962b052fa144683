package media

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/child"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// supervised is a rig whose workers are in a child process.
type supervised struct {
	*rig
	supervisor *Supervisor
}

func newSupervised(t testing.TB, cfg Config) *supervised {
	t.Helper()
	cfg.Bind, cfg.Workers = loopback, max(cfg.Workers, 1)
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := NewSupervisor(cfg, Command{Env: []string{asChild + "=1"}})
	if err != nil {
		t.Fatal(err)
	}
	r := &supervised{rig: startRig(t, s), supervisor: s}
	r.serves(0)
	return r
}

// serves waits for a child that is not the old one and returns its process id.
func (r *supervised) serves(old int) int {
	r.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); ; {
		if pid := r.supervisor.PID(); pid != 0 && pid != old {
			return pid
		}
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatal("no child serves")
		}
	}
}

// kill ends the child as a crash does.
func (r *supervised) kill() {
	r.t.Helper()
	pid := r.supervisor.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	r.serves(pid)
}

// quiet checks that nothing was said since it was looked at last but of the speaking.
func (r *supervised) quiet() {
	r.t.Helper()
	for {
		select {
		case ev := <-r.events:
			if ev.Speaking == nil {
				r.t.Errorf("a crash is told: %+v", ev)
			}
		default:
			return
		}
	}
}

// talk has someone say numbers every 20 ms until stopped.
type talk struct {
	stop  chan struct{}
	tasks sync.WaitGroup
	said  atomic.Int64
}

func startTalk(t testing.TB, say func(i int, text string)) *talk {
	k := &talk{stop: make(chan struct{})}
	k.tasks.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 1; ; i++ {
			select {
			case <-tick.C:
			case <-k.stop:
				return
			}
			say(i, fmt.Sprintf("%08d", i))
			k.said.Store(int64(i))
		}
	})
	t.Cleanup(k.end)
	return k
}

func (k *talk) end() {
	select {
	case <-k.stop:
	default:
		close(k.stop)
	}
	k.tasks.Wait()
}

// hearing is what someone heard of another: the numbers, in order, and the pauses.
type hearing struct {
	last, lost, double int
	sequence           uint16
	timestamp          uint32
	backwards          int
	gap                time.Duration
	at                 time.Time
}

func (h *hearing) hear(text string, sequence uint16, timestamp uint32) {
	var n int
	if _, err := fmt.Sscanf(text, "%d", &n); err != nil {
		return
	}
	now := time.Now()
	if h.last > 0 {
		h.gap = max(h.gap, now.Sub(h.at))
		switch {
		case n <= h.last:
			h.double++
		default:
			h.lost += n - h.last - 1
		}
		if int16(sequence-h.sequence) <= 0 || int32(timestamp-h.timestamp) <= 0 {
			h.backwards++
		}
	}
	h.last, h.at, h.sequence, h.timestamp = n, now, sequence, timestamp
}

func (h *hearing) check(t *testing.T, who string) {
	t.Helper()
	t.Logf("%s: %d heard last, %d lost, longest pause %v", who, h.last, h.lost, h.gap.Round(time.Millisecond))
	if h.lost > 5 || h.double > 0 || h.backwards > 0 {
		t.Errorf("%s: %d lost, %d twice, %d times the numbers went back", who, h.lost, h.double, h.backwards)
	}
}

// TestCrashIsNotHeard kills the child again and again, while natives and browsers of
// each kind talk and one only listens.
func TestCrashIsNotHeard(t *testing.T) {
	r := newSupervised(t, Config{})
	speaker := r.native(2, 7, proto.ModeAES256GCM)
	other := r.native(3, 7, proto.ModeXChaCha20)
	listener := r.native(4, 7, proto.ModeAES256GCM) // sends nothing, ever
	pages := []*page{r.page(5, 7, dtls.SRTP_AEAD_AES_128_GCM), r.page(6, 7, dtls.SRTP_AES128_CM_HMAC_SHA1_80)}
	talks := []*talk{startTalk(t, speaker.send), startTalk(t, pages[0].say)}

	// heard is by whom, and of whom: the SSRC.
	type pair struct {
		who  string
		ssrc uint32
	}
	var mu sync.Mutex
	heard := map[pair]*hearing{}
	note := func(who string, ssrc uint32, text string, sequence uint16, timestamp uint32) {
		mu.Lock()
		defer mu.Unlock()
		p := pair{who, ssrc}
		if heard[p] == nil {
			heard[p] = &hearing{}
		}
		heard[p].hear(text, sequence, timestamp)
	}
	stop := make(chan struct{})
	var ears sync.WaitGroup
	for who, c := range map[string]*client{"other": other, "listener": listener} {
		ears.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				pkt := c.read()
				if len(pkt) < 40 || pkt[1] != 0x78 {
					continue
				}
				h, text, ok := c.open(pkt)
				if !ok {
					t.Errorf("%s can not open a packet", who)
					return
				}
				note(who, h.SSRC, text, h.Sequence, h.Timestamp)
			}
		})
	}
	for i, p := range pages {
		ears.Go(func() {
			for {
				select {
				case <-stop:
					return
				case pkt := <-p.heard:
					note(fmt.Sprint("page ", i), pkt.SSRC, string(pkt.Payload), pkt.SequenceNumber, pkt.Timestamp)
				}
			}
		})
	}
	const kills = 3
	for i := range kills {
		until(t, &talks[0].said, int64(50*(i+1)))
		if i == 0 {
			for len(r.events) > 0 { // of the first packets
				<-r.events
			}
		}
		r.kill()
	}
	until(t, &talks[0].said, 50*(kills+1))
	r.quiet()
	close(stop)
	ears.Wait()
	for _, k := range talks {
		k.end()
	}
	want := 0
	for p, h := range heard {
		want++
		h.check(t, fmt.Sprintf("%s hears %#x", p.who, p.ssrc))
	}
	if want != 2*2+2+1 {
		t.Errorf("%d pairs hear each other, want 7", want)
	}
}

// until waits for a talk to come to a number.
func until(t *testing.T, said *atomic.Int64, n int64) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); said.Load() < n; {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("only %d said", said.Load())
		}
	}
}

// open decrypts a packet.
func (c *client) open(pkt []byte) (h struct {
	SSRC      uint32
	Sequence  uint16
	Timestamp uint32
}, text string, ok bool) {
	pkt = append([]byte(nil), pkt...)
	clear, skip := 12, 0
	if pkt[0]&0x10 != 0 {
		clear += 4
		skip = 4 * int(binary.BigEndian.Uint16(pkt[14:]))
	}
	plain, err := c.crypt.Decrypt(clear, pkt)
	if err != nil || len(plain) < skip {
		return h, "", false
	}
	h.Sequence, h.Timestamp = binary.BigEndian.Uint16(pkt[2:]), binary.BigEndian.Uint32(pkt[4:])
	h.SSRC = binary.BigEndian.Uint32(pkt[8:])
	return h, string(plain[skip:]), true
}

// TestUpgradeLosesNothing has one child follow another.
func TestUpgradeLosesNothing(t *testing.T) {
	r := newSupervised(t, Config{})
	speaker := r.native(2, 7, proto.ModeAES256GCM)
	listener := r.native(3, 7, proto.ModeAES256GCM)
	talk := startTalk(t, speaker.send)
	var h hearing
	for i := range 4 {
		for next := int(talk.said.Load()) + 20; h.last < next; {
			if head, text, ok := listener.open(listener.read()); ok {
				h.hear(text, head.Sequence, head.Timestamp)
			}
		}
		if i == 3 {
			break
		}
		old := r.supervisor.PID()
		r.until("the child is ready", func() bool { return r.upgrade() == nil })
		r.serves(old)
	}
	h.check(t, "the listener")
	if h.lost > 0 {
		t.Errorf("%d packets lost", h.lost)
	}
}

func (r *supervised) upgrade() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.supervisor.Upgrade(ctx, child.Own)
}

func (r *supervised) until(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatal(what)
		}
	}
}

// TestStuckChildIsReplaced stops the child, as a debugger or a fault of the host does.
func TestStuckChildIsReplaced(t *testing.T) {
	r := newSupervised(t, Config{})
	speaker := r.native(2, 7, proto.ModeAES256GCM)
	listener := r.native(3, 7, proto.ModeAES256GCM)
	speaker.send(1, "before")
	listener.hears(speaker, "before")
	pid := r.supervisor.PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.serves(pid)
	speaker.send(2, "after")
	listener.hears(speaker, "after")
}

// TestCommandsOfTheMeantime posts commands while no child lives.
func TestCommandsOfTheMeantime(t *testing.T) {
	r := newSupervised(t, Config{})
	speaker := r.native(2, 7, proto.ModeAES256GCM)
	listener := r.native(3, 7, proto.ModeAES256GCM)
	leaver := r.native(4, 7, proto.ModeAES256GCM)
	speaker.send(1, "before")
	listener.hears(speaker, "before")
	leaver.hears(speaker, "before")
	pid := r.supervisor.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.post(sfu.Command{Remove: &sfu.RemovePeer{Peer: 4}})
	late := r.native(5, 7, proto.ModeAES256GCM)
	speaker.send(2, "after")
	listener.hears(speaker, "after")
	late.hears(speaker, "after")
	leaver.nothing()
}

// TestSpeakersThatFellSilent checks that a crash leaves nobody speaking for ever.
func TestSpeakersThatFellSilent(t *testing.T) {
	r := newSupervised(t, Config{})
	speaker := r.native(2, 7, proto.ModeAES256GCM)
	listener := r.native(3, 7, proto.ModeAES256GCM)
	for i := range 5 {
		speaker.send(i+1, "voice")
		listener.hears(speaker, "voice")
	}
	r.expect("speaks", speaking(2, true))
	r.kill()
	r.expect("is silent", speaking(2, false))
}

// TestSpreadChannelOutlivesChild kills the child in which two workers relay a channel,
// to a page and a native on the other worker than the speaker's.
func TestSpreadChannelOutlivesChild(t *testing.T) {
	r := newSupervised(t, Config{Workers: 2})
	a, b := r.rig, &rig{workers: r.workers, t: t, worker: 1, events: r.events}
	atA, atB := relays(7, a, b)
	a.post(atA)
	b.post(atB)
	speaker := a.native(1, 7, proto.ModeAES256GCM)
	far := b.native(2, 7, proto.ModeXChaCha20)
	page := b.page(4, 7, dtls.SRTP_AEAD_AES_128_GCM)
	var last uint16
	for i := range 40 {
		said := fmt.Sprintf("word %d", i)
		speaker.send(i+1, said)
		far.hears(speaker, said)
		pkt := page.hear()
		if string(pkt.Payload) != said || pkt.SSRC != speaker.ssrc || i > 0 && pkt.SequenceNumber != last+1 {
			t.Fatalf("the page got %q as number %d after %d", pkt.Payload, pkt.SequenceNumber, last)
		}
		last = pkt.SequenceNumber
		if i%10 == 9 {
			r.kill()
		}
	}
	// Who leaves while no child lives is gone at both ends.
	pid := r.supervisor.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.post(sfu.Command{Remove: &sfu.RemovePeer{Peer: 1}})
	b.post(sfu.Command{End: &sfu.EndSource{Channel: 7, SSRC: speaker.ssrc}})
	other := a.native(5, 7, proto.ModeAES256GCM)
	other.send(1, "another")
	far.hears(other, "another")
	if pkt := page.hear(); string(pkt.Payload) != "another" || pkt.SSRC != other.ssrc {
		t.Errorf("the page got %q of %#x", pkt.Payload, pkt.SSRC)
	}
}

// TestHandshakeOfADeadChild kills the child between a page's check and its keys: the
// page is told at once that it has to begin anew, or gets through.
func TestHandshakeOfADeadChild(t *testing.T) {
	r := newSupervised(t, Config{})
	p := newPage(t, dtls.SRTP_AEAD_AES_128_GCM)
	p.offer()
	r.kill()
	r.addPage(1, 7, p, p.fragment.Fingerprint.String())
	r.kill()
	r.expect("the page connects or is lost", func(ev sfu.Event) bool {
		return ev.Connected != nil || ev.Lost != nil && ev.Lost.Reason == sfu.LostHandshake
	})
}

// TestCloseEndsChild leaves no process behind, also when one was never ready.
func TestCloseEndsChild(t *testing.T) {
	for _, ready := range []bool{true, false} {
		cfg := Config{Bind: loopback, Workers: 1, Log: slog.New(slog.DiscardHandler)}
		s, err := NewSupervisor(cfg, Command{Env: []string{asChild + "=1"}})
		if err != nil {
			t.Fatal(err)
		}
		g := run.NewGroup(context.Background(), cfg.Log)
		s.Start(g, func(int, sfu.Event) {})
		pid := 0
		if ready {
			pid = (&supervised{&rig{t: t}, s}).serves(0)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		g.Wait()
		if pid != 0 && syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d lives", pid)
		}
	}
}

// TestChildThatCanNotBegin is told, and tried again without hurry.
func TestChildThatCanNotBegin(t *testing.T) {
	cfg := Config{Bind: loopback, Workers: 1, Log: slog.New(slog.DiscardHandler)}
	s, err := NewSupervisor(cfg, Command{Path: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	s.command.Env = []string{asChild + "=1"} // of the binary that it falls back to
	r := &supervised{startRig(t, s), s}
	r.serves(0)
	r.until("the child is ready", func() bool { return r.upgrade() == nil })
	for _, path := range []string{"/nonexistent", "/bin/true"} {
		if err := r.supervisor.Upgrade(t.Context(), path); err == nil {
			t.Errorf("an upgrade to %s succeeds", path)
		}
	}
	speaker, listener := r.native(2, 7, proto.ModeAES256GCM), r.native(3, 7, proto.ModeAES256GCM)
	speaker.send(1, "heard")
	listener.hears(speaker, "heard")
}
