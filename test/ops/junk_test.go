package ops

import (
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"

	"hubbub.dev/hubbub/test/harness"
)

const (
	// junkRate is how many packets a second the flood is made of, or fewer when this
	// machine cannot send as many beside all else, and junkFor how long it lasts.
	junkRate = 200_000
	junkFor  = 4 * time.Second
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
		flood := harness.Flood{
			From: junkFrom, To: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(s.udp+s.busy())), SSRCs: ssrcs,
			Rate: junkRate, For: junkFor,
		}
		sent, took, err := flood.Send()
		if err != nil {
			t.Fatal(err)
		}
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
