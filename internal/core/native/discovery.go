package native

import (
	"encoding/binary"
	"net/netip"
)

const (
	// DiscoverySize is the size in bytes of an IP discovery request and its response.
	DiscoverySize = 74
	// PingSize is the size in bytes of a UDP ping, its response and a keepalive.
	PingSize = 8

	discoveryRequest  = 1
	discoveryResponse = 2
	discoveryLength   = 70 // after type and length
	discoveryAddress  = 8
	discoveryPort     = 72

	pingRequest  = 0x1337CAFE
	pingResponse = 0x1337F00D
)

// ParseDiscovery reads an IP discovery request and returns the SSRC that asks.
func ParseDiscovery(pkt []byte) (ssrc uint32, ok bool) {
	if len(pkt) != DiscoverySize ||
		binary.BigEndian.Uint32(pkt) != discoveryRequest<<16|discoveryLength {
		return 0, false
	}
	return binary.BigEndian.Uint32(pkt[4:]), true
}

// PutDiscoveryResponse writes into dst the response that tells a client the address
// it is seen under, and returns its size: DiscoverySize, or 0 when dst is shorter.
// The response is no longer than the request, so it amplifies nothing.
func PutDiscoveryResponse(dst []byte, ssrc uint32, seen netip.AddrPort) int {
	if len(dst) < DiscoverySize {
		return 0
	}
	dst = dst[:DiscoverySize]
	clear(dst)
	binary.BigEndian.PutUint32(dst, discoveryResponse<<16|discoveryLength)
	binary.BigEndian.PutUint32(dst[4:], ssrc)
	seen.Addr().Unmap().WithZone("").AppendTo(dst[discoveryAddress:discoveryAddress])
	binary.BigEndian.PutUint16(dst[discoveryPort:], seen.Port())
	return DiscoverySize
}

// ParsePing reads a UDP ping and returns the four bytes that its answer must carry.
func ParsePing(pkt []byte) (sequence uint32, ok bool) {
	if len(pkt) != PingSize || binary.BigEndian.Uint32(pkt) != pingRequest {
		return 0, false
	}
	return binary.BigEndian.Uint32(pkt[4:]), true
}

// PutPong writes into dst the answer to a UDP ping, and returns its size: PingSize,
// or 0 when dst is shorter.
func PutPong(dst []byte, sequence uint32) int {
	if len(dst) < PingSize {
		return 0
	}
	binary.BigEndian.PutUint32(dst, pingResponse)
	binary.BigEndian.PutUint32(dst[4:], sequence)
	return PingSize
}
