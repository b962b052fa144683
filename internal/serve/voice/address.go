package voice

import (
	"crypto/rand"
	"net"
	"net/netip"

	"hubbub.dev/hubbub/internal/edge/ws"
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func secretRandom(b []byte) { _, _ = rand.Read(b) } // never fails

// hostAddress returns this host's first IPv4 address that is not a loopback, or
// the zero Addr.
func hostAddress() netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}
	}
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// addresses returns where the client of a connection reaches this host's media:
// what it reached the WebSocket under, or the public address when it comes from
// outside or through a proxy. Browsers on this host get an address beside the
// loopback, since Firefox passes over a loopback candidate.
func (s *Service) addresses(c *ws.Conn, proxied bool) []netip.Addr {
	v := vantage{
		local: c.LocalAddr().Addr().Unmap(), remote: c.RemoteAddr().Addr().Unmap(),
		named: named(c.Host()), public: s.cfg.PublicIP, host: s.host, bound: s.cfg.Bound, proxied: proxied,
	}
	list, doubtful := v.reachable()
	if doubtful {
		s.warnNAT.Do(func() {
			s.cfg.Log.Warn("a client from outside was told a private media address and will hear nothing: set --public-ip, and forward the UDP ports")
		})
	}
	return list
}

// named returns the address in a Host header that names one, or the zero Addr.
func named(host string) netip.Addr {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// vantage is what is known of how a client reaches this host.
type vantage struct {
	local, remote netip.Addr // ends of its WebSocket, as seen here
	named         netip.Addr // what it dialled, when that is an address
	public, host  netip.Addr
	bound         netip.Addr // where alone media arrives; invalid or unspecified for wherever
	proxied       bool
}

// origin returns the address that a client's media probably comes from too: that of its
// WebSocket, unless a proxy stands there or may, as one does on a private address.
func origin(remote netip.Addr, proxied bool) netip.Addr {
	remote = remote.Unmap().WithZone("")
	if proxied || !remote.IsGlobalUnicast() || near(remote) {
		return netip.Addr{}
	}
	return remote
}

func near(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}

// reachable returns the addresses to offer, the likeliest first, and whether none
// of them can be right.
func (v vantage) reachable() (list []netip.Addr, doubtful bool) {
	outside := v.proxied || v.remote.IsValid() && !near(v.remote)
	switch {
	case outside && v.public.IsValid():
		return []netip.Addr{v.public}, false
	case outside && near(v.local) && v.named.IsGlobalUnicast() && !near(v.named):
		// Behind NAT: the client got here by an address that leads here.
		return []netip.Addr{v.named}, false
	}
	if v.bound.IsValid() && !v.bound.IsUnspecified() {
		return []netip.Addr{v.bound}, outside && near(v.bound)
	}
	doubtful = outside && near(v.local)
	if !v.local.IsValid() || v.local.IsUnspecified() || v.local.IsLoopback() {
		// Native clients dial the first address, and few of them know IPv6.
		if v.host.IsValid() {
			return []netip.Addr{loopback, v.host}, doubtful
		}
		return []netip.Addr{loopback}, doubtful
	}
	if v.local.Is6() && v.host.IsValid() {
		return []netip.Addr{v.host, v.local}, doubtful
	}
	return []netip.Addr{v.local}, doubtful
}
