package harness

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	// junkEvery is how often a part of a flood leaves.
	junkEvery = 2 * time.Millisecond
	junkBatch = 64
	junkKinds = 4
)

// Flood is what is nobody's, sent to a media worker: random bytes, media, checks of
// unknown peers, and discovery of unknown SSRCs.
type Flood struct {
	From  []string // addresses of this host, in turn
	To    netip.AddrPort
	SSRCs []uint32 // under which the media is; random ones where there are none
	// Rate is how many packets a second are sent, or fewer where this machine cannot
	// send as many beside all else.
	Rate int
	For  time.Duration
}

// Send sends the flood and returns how many packets left in which time.
func (f *Flood) Send() (sent int, took time.Duration, err error) {
	var conns []*ipv4.PacketConn
	for _, from := range f.From {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)})
		if err != nil {
			return 0, 0, err
		}
		defer func() { _ = c.Close() }()
		conns = append(conns, ipv4.NewPacketConn(c))
	}
	if len(conns) == 0 {
		return 0, 0, errors.New("a flood from nowhere")
	}
	store := make([]ipv4.Message, junkBatch*junkBatch)
	for i := range store {
		store[i] = ipv4.Message{Buffers: [][]byte{junk(i, f.SSRCs)}, Addr: net.UDPAddrFromAddrPort(f.To)}
	}
	tick := time.NewTicker(junkEvery)
	defer tick.Stop()
	begin, turn := time.Now(), 0
	for next := begin; next.Sub(begin) < f.For; next = <-tick.C {
		for part := 0; part < int(time.Duration(f.Rate)*junkEvery/time.Second); part += junkBatch {
			from, at := conns[turn%len(conns)], turn*junkBatch%len(store)
			turn++
			n, err := from.WriteBatch(store[at:at+junkBatch], 0)
			if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				return sent, time.Since(begin), err
			}
			sent += max(0, n)
		}
	}
	return sent, time.Since(begin), nil
}

// junk returns one packet, of one kind after the other.
func junk(i int, ssrcs []uint32) []byte {
	pkt := make([]byte, 80+rand.IntN(120))
	for at := 0; at+8 <= len(pkt); at += 8 {
		binary.LittleEndian.PutUint64(pkt[at:], rand.Uint64())
	}
	switch i % junkKinds {
	case 1:
		pkt[0], pkt[1] = 0x90, 0x78
		if len(ssrcs) > 0 {
			binary.BigEndian.PutUint32(pkt[8:], ssrcs[i/junkKinds%len(ssrcs)])
		}
	case 2:
		pkt = append(pkt[:20], "\x00\x06\x00\x0fnobody:stranger\x00"...)
		binary.BigEndian.PutUint16(pkt, 1)
		binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)-20))
		binary.BigEndian.PutUint32(pkt[4:], 0x2112A442)
	case 3:
		pkt = pkt[:74]
		binary.BigEndian.PutUint32(pkt, 1<<16|70)
	}
	return pkt
}

// Metric returns the sum of a metric's series in what /metrics says.
func Metric(text, name string) (sum float64, found bool) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			return 0, false
		}
		sum, found = sum+v, true
	}
	return sum, found
}
