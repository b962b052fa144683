package voice

import (
	"net/netip"
	"sync"

	"hubbub.dev/hubbub/internal/core/clock"
)

// How many connections may be without a session at once: on this node, and from
// one address, which may be a proxy with many clients behind it.
const (
	lobbySize       = 8192
	lobbyPerAddress = 1024
)

// lobby is the connections that have no session yet.
type lobby struct {
	mu        sync.Mutex
	deadlines map[*client]waiting
	addresses map[netip.Prefix]int
}

type waiting struct {
	until clock.Time
	from  netip.Prefix
}

func newLobby() lobby {
	return lobby{deadlines: make(map[*client]waiting), addresses: make(map[netip.Prefix]int)}
}

// enter admits a connection from a "host:port" and reports whether there was room.
func (l *lobby) enter(c *client, remote string, until clock.Time) bool {
	from := source(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.deadlines) >= lobbySize || l.addresses[from] >= lobbyPerAddress {
		return false
	}
	l.deadlines[c] = waiting{until: until, from: from}
	l.addresses[from]++
	return true
}

// source is what counts as one address: an IPv4 address, or an IPv6 network that
// one subscriber has to itself.
func source(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 32
	if at.Addr().Unmap().Is6() {
		bits = 64
	}
	from, _ := at.Addr().Unmap().WithZone("").Prefix(bits)
	return from
}

func (l *lobby) leave(c *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.deadlines[c]
	if !ok {
		return
	}
	delete(l.deadlines, c)
	if l.addresses[w.from]--; l.addresses[w.from] == 0 {
		delete(l.addresses, w.from)
	}
}

// expired returns the connections whose time is up.
func (l *lobby) expired(now clock.Time) []*client {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*client
	for c, w := range l.deadlines {
		if !now.Before(w.until) {
			out = append(out, c)
		}
	}
	return out
}

func (l *lobby) all() []*client {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*client, 0, len(l.deadlines))
	for c := range l.deadlines {
		out = append(out, c)
	}
	return out
}
