package media

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/ledger"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/internal/serve/run"
)

const (
	// commandQueue holds the joins of a whole voice server that moves here at once.
	commandQueue = 16384
	// commandBatch is how many commands are carried out between two batches of
	// packets, so that media does not wait for a mass join.
	commandBatch = 256
	// outputQueue holds what DTLS servers want to send.
	outputQueue = 1024
	// housekeeping is how often counters are published and consent is checked.
	housekeeping = time.Second
	// scanSlack is how much later than it asks for the router may be asked who fell silent.
	// While somebody speaks a packet comes meanwhile, so that nothing wakes for it.
	scanSlack = 10 * time.Millisecond
	// attemptsPerWindow bounds the decryptions for strangers in each attemptWindow:
	// 20,000 a second cost less than 1 % of a core, and 20,000 peers come back in one.
	attemptsPerWindow = 1000
	attemptWindow     = 50 * time.Millisecond
)

// socket is what a worker needs of udp.Conn.
type socket interface {
	ReadBatch(ms []udp.Message, wait time.Duration) (int, error)
	Gather(wait time.Duration)
	Doze(interval time.Duration)
	Aside(program []bpf.RawInstruction, every time.Duration) error
	WriteBatch(ms []udp.Message) (sent int)
	Wake()
	Dropped() uint64
	Refused() uint64
	LocalAddr() netip.AddrPort
	Close() error
}

// worker owns the peers that were placed on it. Its fields belong to
// the goroutine of run, save those that say otherwise.
type worker struct {
	index       int
	socket      socket
	legacy      bool
	certificate tls.Certificate
	log         *slog.Logger
	apart       bool // keepalives wake nobody where they are many
	sink        Sink
	group       *run.Group

	closing atomic.Bool   // set by stop
	done    chan struct{} // closed when run has ended

	commands    *run.Mailbox[order]  // written by anyone
	outputs     *run.Mailbox[output] // written by handshakes
	handshaking atomic.Int32         // handshakes that run, by any goroutine

	router  *sfu.Router
	peers   []peer // by sfu.Slot
	byAddr  map[netip.AddrPort]sfu.Slot
	byUfrag map[string]sfu.Slot

	rx      []udp.Message
	outbox  outbox
	packet  sfu.Packet
	fanout  sfu.Fanout
	padding []uint8 // of fanout's packets
	touched byte
	report  sfu.Report
	events  []sfu.Event

	gather   gatherer
	overload overload
	guard    guard
	early    early

	attempts   int
	attemptsAt clock.Time

	store *store // nil: nothing outlives the process
	begun uint64 // number of the command that is carried out

	counters
	nextHousekeeping clock.Time
	published        atomic.Pointer[WorkerStats] // read by anyone
}

// newWorker returns a worker over a socket. What outlives the process is kept in m, and
// nowhere if that is nil.
func newWorker(index int, s socket, certificate tls.Certificate, cfg Config, m *memory) *worker {
	w := &worker{
		index:       index,
		socket:      s,
		legacy:      cfg.Legacy,
		certificate: certificate,
		log:         cfg.Log,
		commands:    run.NewMailbox[order](commandQueue),
		outputs:     run.NewMailbox[output](outputQueue),
		byAddr:      make(map[netip.AddrPort]sfu.Slot),
		byUfrag:     make(map[string]sfu.Slot),
		rx:          udp.NewBatch(),
		outbox:      newOutbox(),
		gather:      gatherer{most: min(max(cfg.Wait, 0), mostWait)},
		guard:       newGuard(cfg.AttackRate),
	}
	forwarding := sfu.Config{MaxSpeakers: cfg.MaxSpeakers}
	if m != nil {
		w.store = newStore(*m)
		forwarding.Records = ledger.NewTable(m.streams, &m.heading.streams)
	}
	w.router = sfu.New(forwarding)
	w.putAside()
	w.published.Store(&WorkerStats{Port: s.LocalAddr().Port()})
	return w
}

// run reads batches until the group stops.
func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	defer w.endHandshakes()
	stop := context.AfterFunc(ctx, w.socket.Wake)
	defer stop()
	now := monotonic.Now()
	w.nextHousekeeping = now.Add(run.Until(housekeeping))
	for ctx.Err() == nil && !w.closing.Load() {
		n, err := w.socket.ReadBatch(w.rx, w.wait(now))
		if err != nil {
			// The group's starter logs it and stops the server: a worker without a
			// socket would leave its channels mute for good.
			panic(fmt.Errorf("media: worker %d: %w", w.index, err))
		}
		began, junk := monotonic.Now(), w.guard.junk
		w.turn(began, w.rx[:n])
		now = monotonic.Now()
		w.busy += now.Sub(began)
		w.gathered += uint64(n)
		w.gather.done += n
		w.waited += time.Duration(n) * w.gather.held()
		w.load(now, w.full(n, w.guard.junk-junk), now.Sub(began))
	}
}

// full reports whether a read of n packets, some of them junk, is a sign that there is
// more to do than the worker can. A flood is none: to deliver less would be no help.
func (w *worker) full(n int, junk uint64) bool { return n == len(w.rx) && 2*junk <= uint64(n) }

// load looks after each turn how much there is to do, and once in a while changes how
// long packets are waited with and how many are given up.
func (w *worker) load(now clock.Time, full bool, took time.Duration) {
	w.overload.observe(full, took)
	if w.overload.due(now) {
		w.overload.update(now, w.socket.Dropped())
		w.router.SetShed(w.overload.shed)
	}
	if w.gather.update(now) {
		w.socket.Gather(w.gather.wait)
		w.socket.Doze(w.gather.doze)
	}
}

// post gives the worker a command without waiting, and is false when its mailbox is
// full.
func (w *worker) post(o order) bool {
	if !w.commands.Post(o) {
		return false
	}
	w.socket.Wake()
	return true
}

// stop ends run and waits until it no longer uses the socket.
func (w *worker) stop() {
	if w.done == nil {
		return
	}
	w.closing.Store(true)
	w.socket.Wake()
	<-w.done
}

func (w *worker) endHandshakes() {
	for i := range w.peers {
		if b := w.peers[i].browser; b != nil {
			b.endHandshake()
		}
	}
}

// wait returns how long nothing is to be done without a packet or a command.
func (w *worker) wait(now clock.Time) time.Duration {
	if w.commands.Len() > 0 || w.outputs.Len() > 0 {
		return 0
	}
	next := w.nextHousekeeping
	if scan := w.router.NextTimeout(); scan != 0 {
		next = clock.Earliest(next, scan.Add(scanSlack))
	}
	return max(next.Sub(now), 0)
}

// turn does all that there is to do at one instant.
func (w *worker) turn(now clock.Time, batch []udp.Message) {
	if w.store != nil {
		w.store.heading.beat++
	}
	w.drain(now)
	for i := range batch {
		w.receive(now, &batch[i])
	}
	for w.router.NextFanout(&w.fanout) {
		w.deliver(&w.fanout)
	}
	w.router.Tick(now)
	for w.router.NextReport(now, monotonic.At(now), &w.report) {
		w.sendReport()
	}
	w.flush()
	w.events = w.router.Events(w.events[:0])
	for _, ev := range w.events {
		w.sink(w.index, ev)
	}
	if !now.Before(w.nextHousekeeping) {
		w.keepHouse(now)
	}
}

func (w *worker) drain(now clock.Time) {
	for range commandBatch {
		select {
		case o := <-w.commands.Receive():
			w.begin(now, o)
			continue
		case out := <-w.outputs.Receive():
			w.takeOutput(out)
			continue
		default:
		}
		return
	}
}

// order is a command and its number: each worker gets them in rising order.
type order struct {
	number  uint64
	command sfu.Command
}

// begin notes that a command is carried out, and does.
func (w *worker) begin(now clock.Time, o order) {
	if w.begun = o.number; w.store != nil && !w.store.replay {
		w.store.heading.applied.Set(o.number)
	}
	w.apply(now, o.command)
}

// apply carries out one command: the router's part, then the transport's.
func (w *worker) apply(now clock.Time, c sfu.Command) {
	w.gather.done++
	if c.Remove != nil {
		if slot, ok := w.router.Find(c.Remove.Peer); ok {
			w.removePeer(slot)
		}
	}
	if c.End != nil {
		if slot, ok := w.router.FindRemote(c.End.Channel, c.End.SSRC); ok {
			w.releaseSource(slot)
		}
	}
	slot, ok := w.router.Apply(c)
	switch {
	case !ok:
		w.strays[strayCommand]++
	case c.Add != nil:
		p := w.room(slot)
		*p = peer{id: c.Add.Peer, ssrc: c.Add.SSRC, from: c.Add.From}
		if w.store != nil {
			w.store.open(p)
		}
		if addr, asked := w.early.take(now, c.Add.SSRC); asked {
			w.discover(now, addr, c.Add.SSRC)
		}
	case c.Native != nil:
		w.setNative(slot, c.Native)
	case c.Browser != nil:
		w.setBrowser(now, slot, c.Browser)
		if pkt, addr, asked := w.early.takeCheck(now, c.Browser.LocalUfrag); asked {
			w.receiveCheck(now, addr, pkt)
		}
	case c.Keys != nil:
		w.setKeys(slot, c.Keys)
	case c.Relay != nil:
		w.setRelay(slot, c.Relay)
	}
}

// room returns where the transport at a slot is kept. The slots of speakers that
// relays bring have none.
func (w *worker) room(slot sfu.Slot) *peer {
	for int(slot) >= len(w.peers) {
		w.peers = append(w.peers, peer{})
	}
	return &w.peers[slot]
}

// keepHouse ends peers that withdrew consent, says who is quiet and publishes the counters.
func (w *worker) keepHouse(now clock.Time) {
	for slot := range w.peers {
		p := &w.peers[slot]
		switch {
		case p.browser != nil && now.Sub(p.browser.checked) >= consentTimeout:
			w.lose(sfu.Slot(slot), sfu.LostConsent)
		case p.quiet(now):
			p.asked = now
			w.sink(w.index, sfu.Event{Quiet: &sfu.PeerQuiet{Peer: p.id}})
		}
	}
	w.judge(now)
	w.publish(now)
	if w.nextHousekeeping = w.nextHousekeeping.Add(housekeeping); !now.Before(w.nextHousekeeping) {
		w.nextHousekeeping = now.Add(housekeeping)
	}
}

// attempt reports whether a stranger's packet may be decrypted now.
func (w *worker) attempt(now clock.Time, addr netip.AddrPort) bool {
	if now.Sub(w.attemptsAt) >= attemptWindow {
		w.attemptsAt, w.attempts = now, 0
	}
	if w.attempts >= attemptsPerWindow {
		w.stranger(now, addr, false, strayAttempts)
		return false
	}
	w.attempts++
	return true
}
