package udp

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/bpf"
)

// memoryQueue is how many datagrams wait at a Memory before more are lost.
const memoryQueue = 1024

// Network connects sockets in memory. Datagrams to an address without a socket are
// lost, as are those to a full queue.
type Network struct {
	mu      sync.Mutex
	sockets map[netip.AddrPort]*Memory
}

// NewNetwork returns a network without sockets.
func NewNetwork() *Network { return &Network{sockets: make(map[netip.AddrPort]*Memory)} }

// Listen returns the socket at an address, in place of an earlier one.
func (n *Network) Listen(addr netip.AddrPort) *Memory {
	m := &Memory{network: n, local: addr, signal: make(chan struct{}, 1)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets[addr] = m
	return m
}

func (n *Network) find(addr netip.AddrPort) *Memory {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sockets[addr]
}

// Memory is the in-memory twin of Conn. Once its queue has been full, it allocates
// nothing.
type Memory struct {
	network *Network
	local   netip.AddrPort
	signal  chan struct{}

	mu      sync.Mutex
	queue   [memoryQueue]Message
	head, n int
	dropped uint64
}

// LocalAddr returns the socket's address.
func (m *Memory) LocalAddr() netip.AddrPort { return m.local }

// Wake makes the read that waits now, or the next that would, return at once.
func (m *Memory) Wake() {
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

// Gather does nothing: what was sent is there.
func (m *Memory) Gather(time.Duration) {}

// Doze does nothing, for the same reason.
func (m *Memory) Doze(time.Duration) {}

// Aside is not needed: nobody is woken by a Memory's datagrams at a price.
func (m *Memory) Aside([]bpf.RawInstruction, time.Duration) error { return errors.ErrUnsupported }

// ReadBatch is Conn's.
func (m *Memory) ReadBatch(ms []Message, wait time.Duration) (int, error) {
	if n := m.take(ms); n > 0 || wait <= 0 {
		return n, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-m.signal:
	case <-timer.C:
	}
	return m.take(ms), nil
}

func (m *Memory) take(ms []Message) (count int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; count < len(ms) && m.n > 0; count++ {
		from := &m.queue[m.head]
		ms[count].Size = copy(ms[count].Buffer, from.Buffer)
		if from.Size > ms[count].Size {
			ms[count].Size = 0
		}
		ms[count].Addr = from.Addr
		m.head = (m.head + 1) % memoryQueue
		m.n--
	}
	return count
}

// WriteBatch is Conn's.
func (m *Memory) WriteBatch(ms []Message) (sent int) {
	for i := range ms {
		to := m.network.find(ms[i].Addr)
		if to == nil {
			continue
		}
		for offset, last := 0, false; !last; last = offset == ms[i].Size {
			var part []byte
			part, offset = ms[i].datagram(offset)
			if to.put(m.local, part) {
				sent++
			}
		}
	}
	return sent
}

func (m *Memory) put(from netip.AddrPort, datagram []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n == memoryQueue {
		m.dropped++
		return false
	}
	slot := &m.queue[(m.head+m.n)%memoryQueue]
	slot.Buffer = append(slot.Buffer[:0], datagram...)
	slot.Size, slot.Addr = len(datagram), from
	m.n++
	m.Wake()
	return true
}

// Dropped returns how many datagrams found the queue full.
func (m *Memory) Dropped() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dropped
}

// Refused returns 0: a Memory takes all segments.
func (m *Memory) Refused() uint64 { return 0 }

// Close takes the socket off its network.
func (m *Memory) Close() error {
	m.network.mu.Lock()
	defer m.network.mu.Unlock()
	if m.network.sockets[m.local] == m {
		delete(m.network.sockets, m.local)
	}
	return nil
}
