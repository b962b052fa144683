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
	return reachable(c.LocalAddr().Addr().Unmap(), c.RemoteAddr().Addr().Unmap(), s.cfg.PublicIP, s.host, proxied)
}

func reachable(local, remote, public, host netip.Addr, proxied bool) []netip.Addr {
	near := remote.IsLoopback() || remote.IsPrivate() || remote.IsLinkLocalUnicast()
	if public.IsValid() && (!near || proxied) {
		return []netip.Addr{public}
	}
	// Media has IPv4 sockets, whatever the WebSocket came in on.
	if !local.Is4() || local.IsUnspecified() {
		if host.IsValid() && !local.IsLoopback() {
			return []netip.Addr{host}
		}
		local = loopback
	}
	if local.IsLoopback() && host.IsValid() {
		return []netip.Addr{local, host}
	}
	return []netip.Addr{local}
}
