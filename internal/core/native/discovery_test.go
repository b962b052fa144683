package native

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

func discoveryPacket(ssrc byte) []byte {
	pkt := make([]byte, DiscoverySize)
	copy(pkt, []byte{0, 1, 0, 70, 0, 0, 0, ssrc})
	return pkt
}

func TestDiscovery(t *testing.T) {
	if ssrc, ok := ParseDiscovery(discoveryPacket(42)); !ok || ssrc != 42 {
		t.Errorf("ssrc %d, %v", ssrc, ok)
	}
	response := discoveryPacket(42)
	response[1] = 2
	for name, pkt := range map[string][]byte{
		"short": discoveryPacket(1)[:73], "long": append(discoveryPacket(1), 0), "response": response, "empty": nil,
	} {
		if _, ok := ParseDiscovery(pkt); ok {
			t.Errorf("%s: taken as a request", name)
		}
	}
	for addr, want := range map[string]string{
		"203.0.113.9:50000":                              "203.0.113.9",
		"[::ffff:203.0.113.9]:50000":                     "203.0.113.9",
		"[2001:db8::7]:50000":                            "2001:db8::7",
		"[fe80::1%eth0]:50000":                           "fe80::1",
		"[ffff:ffff:ffff:ffff:ffff:ffff:fff:ffff]:50000": "ffff:ffff:ffff:ffff:ffff:ffff:fff:ffff",
	} {
		dst := bytes.Repeat([]byte{0xEE}, 80)
		n := PutDiscoveryResponse(dst, 42, netip.MustParseAddrPort(addr))
		text, _, terminated := strings.Cut(string(dst[8:72]), "\x00")
		if n != DiscoverySize || !bytes.Equal(dst[:8], []byte{0, 2, 0, 70, 0, 0, 0, 42}) || text != want || !terminated ||
			dst[72] != 50000>>8 || dst[73] != 50000&0xFF || dst[74] != 0xEE {
			t.Errorf("%s: %x", addr, dst)
		}
	}
	if n := PutDiscoveryResponse(make([]byte, 73), 1, netip.AddrPort{}); n != 0 {
		t.Errorf("wrote %d bytes into too few", n)
	}
}

func TestPing(t *testing.T) {
	ping := []byte{0x13, 0x37, 0xCA, 0xFE, 1, 2, 3, 4}
	sequence, ok := ParsePing(ping)
	dst := make([]byte, 8)
	if n := PutPong(dst, sequence); !ok || n != 8 || !bytes.Equal(dst, []byte{0x13, 0x37, 0xF0, 0x0D, 1, 2, 3, 4}) {
		t.Errorf("answered %x, %v", dst, ok)
	}
	if PutPong(dst[:7], 0) != 0 {
		t.Error("wrote a pong into too few bytes")
	}
}

func TestAnswersAllocateNothing(t *testing.T) {
	dst, pkt := make([]byte, DiscoverySize), discoveryPacket(1)
	addr := netip.MustParseAddrPort("[2001:db8::7]:50000")
	if n := testing.AllocsPerRun(100, func() {
		ssrc, _ := ParseDiscovery(pkt)
		PutDiscoveryResponse(dst, ssrc, addr)
		sequence, _ := ParsePing(pkt[:8])
		PutPong(dst, sequence)
	}); n != 0 {
		t.Errorf("%v allocations per answer", n)
	}
}

func FuzzControlPackets(f *testing.F) {
	f.Add(discoveryPacket(1))
	f.Add([]byte{0x13, 0x37, 0xCA, 0xFE, 1, 2, 3, 4})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, pkt []byte) {
		_, discovery := ParseDiscovery(pkt)
		_, ping := ParsePing(pkt)
		if discovery && ping {
			t.Fatalf("%x is two things at once", pkt)
		}
	})
}

func BenchmarkDiscovery(b *testing.B) {
	dst, pkt := make([]byte, DiscoverySize), discoveryPacket(1)
	addr := netip.MustParseAddrPort("203.0.113.9:50000")
	b.ReportAllocs()
	for b.Loop() {
		ssrc, _ := ParseDiscovery(pkt)
		PutDiscoveryResponse(dst, ssrc, addr)
	}
}
