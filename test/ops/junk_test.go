package ops

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	// junkRate is how many packets a second the flood is made of, or fewer when this
	// machine cannot send as many beside all else, and junkFor how long it lasts.
	junkRate = 200_000
	junkFor  = 4 * time.Second
	// junkEvery is how often a part of it leaves.
	junkEvery = 2 * time.Millisecond
)

// junkFrom are the flood's sources: the peers' own network, and others.
var junkFrom = []string{"127.0.0.66", "127.1.0.1", "127.2.0.1", "127.3.0.1"}

// floodJunk sends to the call's worker, as fast as it is allowed to, what is nobody's: random
// bytes, media under the callers' SSRCs, checks of unknown peers and discovery of
// unknown SSRCs. The callers' packets have to get through.
func floodJunk(callers ...*listener) func(*testing.T, *server) {
	return func(t *testing.T, s *server) {
		var ssrcs []uint32
		var heard, of []uint64
		for _, l := range callers {
			h, o := l.count()
			ssrcs, heard, of = append(ssrcs, l.spoken()), append(heard, h), append(of, o)
		}
		read, kernel := s.metric("hubbub_media_packets_received_total"), s.metric("hubbub_media_kernel_drops_total")
		sent, took := sendJunk(t, s.udp+s.busy(), ssrcs)
		rate := float64(sent) / took.Seconds()
		for i, l := range callers {
			h, o := l.count()
			h, o = h-heard[i], o-of[i]
			t.Logf("at %.0f junk packets/s: %d of %d packets of a caller heard", rate, h, o)
			if o < 100 || float64(h) < 0.99*float64(o) {
				t.Errorf("only %d of %d packets heard in a flood", h, o)
			}
		}
		s.until("hubbub_media_attacked", func(n float64) bool { return n == 1 })
		s.until("hubbub_media_blocked_networks", func(n float64) bool { return n > 0 })
		t.Logf("%d sent; the worker read %.0f of them, its socket's filter and queue dropped %.0f", sent,
			s.metric("hubbub_media_packets_received_total")-read, s.metric("hubbub_media_kernel_drops_total")-kernel)
		// Newcomers from the callers' own network are welcome again.
		s.until("hubbub_media_blocked_networks", func(n float64) bool { return n == 0 })
	}
}

// sendJunk returns how many packets left in which time.
func sendJunk(t *testing.T, port int, ssrcs []uint32) (sent int, took time.Duration) {
	turn := 0
	var conns []*ipv4.PacketConn
	for _, from := range junkFrom {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		conns = append(conns, ipv4.NewPacketConn(c))
	}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)))
	store := make([]ipv4.Message, 64*64)
	for i := range store {
		store[i] = ipv4.Message{Buffers: [][]byte{junk(i, ssrcs)}, Addr: to}
	}
	tick := time.NewTicker(junkEvery)
	defer tick.Stop()
	begin := time.Now()
	for next := begin; next.Sub(begin) < junkFor; next = <-tick.C {
		for part := 0; part < int(junkRate*junkEvery/time.Second); part += 64 {
			from, at := conns[turn%len(conns)], turn*64%len(store)
			turn++
			n, err := from.WriteBatch(store[at:at+64], 0)
			if err != nil {
				t.Fatal(err)
			}
			sent += n
		}
	}
	return sent, time.Since(begin)
}

// junk returns one packet, of one kind after the other.
func junk(i int, ssrcs []uint32) []byte {
	pkt := make([]byte, 20+rand.IntN(180))
	for at := 0; at+8 <= len(pkt); at += 8 {
		binary.LittleEndian.PutUint64(pkt[at:], rand.Uint64())
	}
	switch i % 4 {
	case 0:
	case 1:
		pkt = append(pkt, make([]byte, 40)...)
		pkt[0], pkt[1] = 0x90, 0x78
		binary.BigEndian.PutUint32(pkt[8:], ssrcs[i/4%len(ssrcs)])
	case 2:
		const user = "nobody:stranger\x00"
		pkt = append(pkt[:20], 0, 6, 0, 15)
		pkt = append(pkt, user...)
		binary.BigEndian.PutUint16(pkt, 1)
		binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)-20))
		binary.BigEndian.PutUint32(pkt[4:], 0x2112A442)
	case 3:
		pkt = append(pkt, make([]byte, 74)...)[:74]
		binary.BigEndian.PutUint32(pkt, 1<<16|70)
	}
	return pkt
}

// spoken returns the SSRC of the caller that is heard.
func (l *listener) spoken() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ssrc
}

// busy returns the worker that has the call.
func (s *server) busy() int {
	s.t.Helper()
	_, body := s.get("/metrics")
	for _, m := range regexp.MustCompile(`hubbub_media_peers\{worker="(\d+)"\} (\d+)`).FindAllStringSubmatch(body, -1) {
		if m[2] != "0" {
			worker, err := strconv.Atoi(m[1])
			if err != nil {
				s.t.Fatal(err)
			}
			return worker
		}
	}
	s.t.Fatal("no worker has peers")
	return 0
}
