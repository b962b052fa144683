package media

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/disgoorg/disgo/voice"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
)

// listen returns a socket of the kernel's that no test starts a worker on.
func listen(b *testing.B, addr netip.Addr) *udp.Conn {
	b.Helper()
	c, err := udp.Listen(addr, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkTurn measures the worker's turns over the kernel's loopback, where
// delivering to the listeners' sockets is billed to the sender. Speakers' packets come
// in turns of as many as the name says. Listener i is at 127.1.0.i, all on one socket,
// which is emptied outside of the measured time. In a child the counters are kept where
// they outlive it.
func BenchmarkTurn(b *testing.B) {
	const listeners = 50
	for _, kind := range []string{"native", "browser"} {
		for _, speakers := range []int{1, 2, 4, 10} {
			for _, sizes := range []int{140, 120} {
				if speakers == 1 && sizes != 140 {
					continue
				}
				for _, where := range []string{"process", "child"} {
					b.Run(fmt.Sprintf("%s/%d-at-once/%d-to-140-bytes/%s", kind, speakers, sizes, where), func(b *testing.B) {
						var m *memory
						if where == "child" {
							m = newMemory(128)
						}
						benchmarkTurn(b, newBenchOver(b, m), kind, speakers, listeners, sizes)
					})
				}
			}
		}
	}
}

func benchmarkTurn(b *testing.B, w *bench, kind string, speakers, listeners, least int) {
	w.socket.Close()
	w.socket = w.net.Listen(w.server)
	crypts := make([]voice.Encrypter, speakers)
	for i := range speakers {
		_, crypts[i] = w.native(1+i, proto.ModeAES256GCM)
		w.do(deafen(1 + i))
	}
	for i := range listeners {
		if kind == "native" {
			w.native(100+i, proto.ModeAES256GCM)
		} else {
			w.browser(100+i, browser.AEADAES128GCM)
		}
	}
	ears := listen(b, netip.MustParseAddr("0.0.0.0"))
	for slot := range w.peers {
		if p := &w.peers[slot]; p.id >= 100 {
			p.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 0, byte(p.id - 99)}), ears.LocalAddr().Port())
		}
	}
	w.socket = listen(b, netip.MustParseAddr("0.0.0.0"))
	in, out := udp.NewBatch(), udp.NewBatch()
	payloads := make([]string, speakers)
	for i := range payloads {
		payloads[i] = strings.Repeat("v", 140-i*7%(140-least+1))
	}
	var spent time.Duration
	b.ReportAllocs()
	before := w.packetsOut
	for n := 0; b.Loop(); n++ {
		for i := range speakers {
			c := client{ssrc: uint32(1+i) * 16, crypt: crypts[i]}
			in[i].Size = copy(in[i].Buffer, c.crypt.Encrypt(c.header(n), []byte(payloads[i])))
			in[i].Addr = address(1 + i)
		}
		w.now = w.now.Add(20 * time.Millisecond)
		w.nextHousekeeping = w.now.Add(time.Hour)
		began := monotonic.Now()
		w.turn(w.now, in[:speakers])
		spent += monotonic.Now().Sub(began)
		for got := 1; got > 0; {
			got, _ = ears.ReadBatch(out, 0)
		}
	}
	delivered := float64(w.packetsOut - before)
	b.ReportMetric(float64(spent.Nanoseconds())/delivered, "ns/delivered")
	b.ReportMetric(delivered/float64(w.sends), "packets/send")
}
