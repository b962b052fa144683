package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/disgoorg/disgo/voice"
	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
)

// TestMessagesAreWhatTheKernelSegments puts packets of any size for a few addresses
// one after the other: what comes out are the same packets, in the same order, and no
// message has a segment that is longer than the first or follows a shorter one.
func TestMessagesAreWhatTheKernelSegments(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := newOutbox()
		type packet struct {
			to   netip.AddrPort
			body string
		}
		var want, got []packet
		size := 0
		for i := range rapid.IntRange(1, 300).Draw(rt, "packets") {
			room := o.next()
			if room == nil {
				break
			}
			if i == 0 || rapid.Bool().Draw(rt, "another size") {
				size = rapid.SampledFrom([]int{1, 60, 140, 141, 1400, udp.MaxDatagram}).Draw(rt, "size")
			}
			for j := range room[:size] {
				room[j] = byte(i)
			}
			to := address(rapid.IntRange(1, 2).Draw(rt, "to"))
			want = append(want, packet{to, string(room[:size])})
			o.put(to, size)
		}
		for _, m := range o.batch {
			if m.Datagrams() > udp.MaxSegments || m.Size > udp.MaxSegmented {
				rt.Fatalf("%d datagrams and %d bytes", m.Datagrams(), m.Size)
			}
			for rest := m.Buffer[:m.Size]; len(rest) > 0; {
				n := min(m.Segment, len(rest))
				got = append(got, packet{m.Addr, string(rest[:n])})
				rest = rest[n:]
			}
		}
		if !slices.Equal(got, want) || o.packets != len(want) {
			rt.Fatalf("%d packets of %d came out, or not in order", len(got), len(want))
		}
	})
}

// ear is a listener that opens what it gets.
type ear struct {
	*udp.Memory
	open func(pkt []byte) (plain []byte)
}

func (b *bench) nativeEar(id int) ear {
	s, crypt := b.native(id, proto.ModeAES256GCM)
	return ear{s, func(pkt []byte) []byte {
		body, err := crypt.Decrypt(12, bytes.Clone(pkt))
		if err != nil {
			b.t.Fatal(err)
		}
		return append(bytes.Clone(pkt[:12]), body...)
	}}
}

func (b *bench) browserEar(id int, profile browser.Profile) ear {
	s := b.browser(id, profile)
	keying := make([]byte, profile.MaterialSize())
	binary.BigEndian.PutUint32(keying, uint32(id))
	_, _, key, salt, err := browser.KeysFromExporter(keying, profile)
	if err != nil {
		b.t.Fatal(err)
	}
	in, err := browser.NewInbound(profile, key, salt)
	if err != nil {
		b.t.Fatal(err)
	}
	return ear{s, func(pkt []byte) []byte {
		plain, drop := in.Open(bytes.Clone(pkt))
		if drop != rtp.Accepted {
			b.t.Fatal(drop)
		}
		return plain
	}}
}

// TestABatchArrivesInOrder has four speakers send packets of all sizes at once, to
// listeners of each kind and to one another.
func TestABatchArrivesInOrder(t *testing.T) {
	b := newBench(t)
	const speakers = 4
	var crypts [speakers + 1]voice.Encrypter
	var sockets [speakers + 1]*udp.Memory
	for id := 1; id <= speakers; id++ {
		sockets[id], crypts[id] = b.native(id, proto.ModeAES256GCM)
	}
	ears := map[string]ear{
		"native": b.nativeEar(10), "GCM": b.browserEar(11, browser.AEADAES128GCM), "CM": b.browserEar(12, browser.AESCM128SHA180),
	}
	before := b.sends
	var want []string
	for round := range 6 {
		for id := 1; id <= speakers; id++ {
			c := client{ssrc: uint32(id) * 16, crypt: crypts[id]}
			said := fmt.Sprintf("%d/%d %s", id, round, strings.Repeat("v", 100+(id*17+round*29)%50))
			b.write(sockets[id], c.sealed(round, said))
			want = append(want, fmt.Sprint(id*16, " ", said))
		}
	}
	b.step(0)
	for name, e := range ears {
		var got []string
		for pkt := b.read(e.Memory); pkt != nil; pkt = b.read(e.Memory) {
			plain := e.open(pkt)
			h, _, ok := rtp.Parse(plain)
			if !ok {
				t.Fatalf("%s: not RTP: %x", name, plain)
			}
			got = append(got, fmt.Sprint(h.SSRC, " ", string(h.Payload(plain))))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for id := 1; id <= speakers; id++ {
		count := 0
		for pkt := b.read(sockets[id]); pkt != nil; pkt = b.read(sockets[id]) {
			if binary.BigEndian.Uint32(pkt[8:]) == uint32(id)*16 {
				t.Errorf("speaker %d hears itself", id)
			}
			count++
		}
		if count != len(want)-6 {
			t.Errorf("speaker %d got %d packets, want %d", id, count, len(want)-6)
		}
	}
	if sends := b.sends - before; sends > 90 {
		t.Errorf("%d sends for %d packets", sends, 3*24+4*18)
	}
}

func TestPaddingIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var w worker
		var packets []*sfu.Delivery
		for range rapid.IntRange(1, 64).Draw(rt, "packets") {
			packets = append(packets, &sfu.Delivery{
				Payload: make([]byte, rapid.IntRange(0, 200).Draw(rt, "size")),
				Level:   sfu.Level{Known: rapid.Bool().Draw(rt, "level")},
			})
		}
		w.padLikeNeighbours(packets)
		if len(w.padding) != len(packets) {
			rt.Fatalf("%d paddings for %d packets", len(w.padding), len(packets))
		}
		for i, padding := range w.padding {
			if padding > maxPadding {
				rt.Fatalf("%d bytes", padding)
			}
			if padding > 0 && i+1 == len(packets) {
				rt.Fatal("the last is padded")
			}
		}
	})
}

func TestManySpeakersAllocateNothing(t *testing.T) {
	b := newBench(t)
	speaker := make([]*udp.Memory, 5)
	voices := make([][][]byte, 5)
	for i := range speaker {
		var crypt voice.Encrypter
		speaker[i], crypt = b.native(1+i, proto.ModeAES256GCM)
		voices[i] = packets(1+i, 1400, crypt)
	}
	b.socket = discard{b.socket.(*udp.Memory)}
	next := 0
	round := func() {
		for i := range speaker {
			b.write(speaker[i], voices[i][next])
		}
		next++
		b.frame()
	}
	if n := allocations(round); n != 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}
