package gateway

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/edge/ws"
	"hubbub.dev/hubbub/proto"
)

const (
	// maxPending bounds the connections without a session from all addresses.
	maxPending = 16384
	// maxGrudges bounds the addresses whose failures are remembered.
	maxGrudges = 16384
)

// door decides who may connect, and knows who is connected: how many without a
// session from each address, and how often an address failed to identify. HTTP
// handlers, readers and writers all pass it, hence the lock.
type door struct {
	perAddress int
	failures   int

	mu      sync.Mutex
	closed  bool
	empty   chan struct{} // closed when the door is and the last one has left
	open    int           // connections, those being upgraded too
	waiting int           // those of them without a session
	pending map[*ws.Conn]struct{}
	callers map[netip.Addr]int
	grudges map[netip.Addr]*session.Limiter
}

func newDoor(perAddress, failures int) *door {
	return &door{
		perAddress: perAddress, failures: failures, empty: make(chan struct{}),
		pending: make(map[*ws.Conn]struct{}), callers: make(map[netip.Addr]int), grudges: make(map[netip.Addr]*session.Limiter),
	}
}

// knock counts a connection that is about to be upgraded, or returns the HTTP
// status to refuse it with.
func (d *door) knock(addr netip.Addr, now clock.Time) (status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch grudge := d.grudges[addr]; {
	case d.closed:
		return http.StatusServiceUnavailable
	case d.callers[addr] >= d.perAddress, d.waiting >= maxPending, grudge != nil && grudge.Spent(now):
		return http.StatusTooManyRequests
	}
	d.open++
	d.waiting++
	d.callers[addr]++
	return 0
}

// giveUp takes a knock back: the upgrade failed.
func (d *door) giveUp(addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(addr)
	d.gone()
}

// enter registers an upgraded connection until it is seated or leaves.
func (d *door) enter(addr netip.Addr, conn *ws.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending[conn] = struct{}{}
	if d.closed {
		goodbye(conn)
	}
}

// seat takes a connection that has a session now out of the address's count.
func (d *door) seat(addr netip.Addr, conn *ws.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unregister(addr, conn)
}

// leave forgets a connection that has ended.
func (d *door) leave(addr netip.Addr, conn *ws.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unregister(addr, conn)
	d.gone()
}

func (d *door) unregister(addr netip.Addr, conn *ws.Conn) {
	if _, ok := d.pending[conn]; ok {
		delete(d.pending, conn)
		d.settle(addr)
	}
}

func (d *door) settle(addr netip.Addr) {
	d.waiting--
	if d.callers[addr]--; d.callers[addr] == 0 {
		delete(d.callers, addr)
	}
}

func (d *door) gone() {
	d.open--
	if d.closed && d.open == 0 {
		close(d.empty)
	}
}

// failed counts a failed Identify. Loopback is excepted: a proxy on this host
// stands there for everyone.
func (d *door) failed(addr netip.Addr, now clock.Time) {
	if addr.IsLoopback() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	grudge := d.grudges[addr]
	if grudge == nil {
		if len(d.grudges) >= maxGrudges {
			d.forgive(now)
		}
		l := session.NewLimiter(d.failures, time.Minute)
		grudge = &l
		d.grudges[addr] = grudge
	}
	grudge.Allow(now)
}

// forgive makes room: it drops the failures whose minute is over, or, when all are
// fresh, all of them, since then the limit is not what holds the flood.
func (d *door) forgive(now clock.Time) {
	for addr, l := range d.grudges {
		if l.Over(now) {
			delete(d.grudges, addr)
		}
	}
	if len(d.grudges) >= maxGrudges {
		clear(d.grudges)
	}
}

// shut refuses everyone from now on and sends those without a session away; the
// channel is closed when the last connection has ended.
func (d *door) shut() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.empty
	}
	d.closed = true
	for conn := range d.pending {
		goodbye(conn)
	}
	if d.open == 0 {
		close(d.empty)
	}
	return d.empty
}

func (d *door) connections() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return float64(d.open)
}

// goodbye asks a client to come back, here or elsewhere, and to resume.
func goodbye(conn *ws.Conn) {
	conn.Send(session.Reconnect(), false)
	conn.Close(proto.CloseUnknownError, "Server is restarting.")
}
