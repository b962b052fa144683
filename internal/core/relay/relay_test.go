package relay

import (
	"bytes"
	"encoding/binary"
	"testing"

	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
)

var (
	there = sfu.RelayKey{SSRC: 0x1000, Key: [32]byte{1}}
	back  = sfu.RelayKey{SSRC: 0x2000, Key: [32]byte{2}}
)

// ends returns both ends of one relay.
func ends(t testing.TB) (a, b *Link) {
	t.Helper()
	a, err := New(&sfu.AddRelay{Out: there, In: back})
	if err != nil {
		t.Fatal(err)
	}
	b, err = New(&sfu.AddRelay{Out: back, In: there})
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func speech(payload string) *sfu.Delivery {
	return &sfu.Delivery{
		Header:  rtp.Header{Sequence: 7, Timestamp: 960, SSRC: 48, Marker: true},
		Level:   sfu.Level{Value: rtp.MakeAudioLevel(20, true), Known: true},
		Payload: []byte(payload),
	}
}

func TestWhatIsSealedOpens(t *testing.T) {
	a, b := ends(t)
	var buf [2048]byte
	for _, change := range []func(*sfu.Delivery){
		func(*sfu.Delivery) {},
		func(d *sfu.Delivery) { d.Level = sfu.Level{} },
		func(d *sfu.Delivery) { d.Priority = true },
		func(d *sfu.Delivery) { d.Header.Marker = false },
		func(d *sfu.Delivery) { d.Payload = nil },
		func(d *sfu.Delivery) { d.Payload = make([]byte, 1400) },
	} {
		for _, way := range [][2]*Link{{a, b}, {b, a}} {
			d := speech("hello")
			change(d)
			n := way[0].Seal(buf[:], d)
			if n == 0 || n > len(d.Payload)+Overhead {
				t.Fatalf("%d bytes", n)
			}
			if ssrc := binary.BigEndian.Uint32(buf[8:]); ssrc != way[0].ssrc || rtp.Kind(buf[:n]) != rtp.RTP {
				t.Errorf("kind %d of SSRC %#x", rtp.Kind(buf[:n]), ssrc)
			}
			var p sfu.Packet
			if drop := way[1].Open(buf[:n], &p); drop != rtp.Accepted {
				t.Fatal(drop)
			}
			got, want := p.Header, d.Header
			if got.Sequence != want.Sequence || got.Timestamp != want.Timestamp || got.SSRC != want.SSRC || got.Marker != want.Marker ||
				p.Level != d.Level || p.Priority != d.Priority || !bytes.Equal(p.Payload, d.Payload) {
				t.Errorf("got %+v, want %+v", p, d)
			}
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	a, b := ends(t)
	var buf [2048]byte
	n := a.Seal(buf[:], speech("hello"))
	var p sfu.Packet
	open := func(l *Link, pkt []byte) rtp.Drop { return l.Open(bytes.Clone(pkt), &p) }
	if drop := open(a, buf[:n]); drop != rtp.Unauthenticated {
		t.Errorf("its own packet: %v", drop)
	}
	for i := range n {
		forged := bytes.Clone(buf[:n])
		forged[i] ^= 1
		if drop := open(b, forged); drop == rtp.Accepted {
			t.Errorf("accepted with byte %d changed", i)
		}
		if drop := open(b, buf[:i]); drop == rtp.Accepted {
			t.Errorf("accepted when cut to %d bytes", i)
		}
	}
	if drop := open(b, buf[:n]); drop != rtp.Accepted {
		t.Errorf("the true packet: %v", drop)
	}
	if drop := open(b, buf[:n]); drop != rtp.Replayed {
		t.Errorf("once more: %v", drop)
	}
	if n := a.Seal(buf[:20], speech("hello")); n != 0 {
		t.Errorf("%d bytes into 20", n)
	}
	if n := a.Seal(buf[:], speech(string(make([]byte, maxInner)))); n != 0 {
		t.Errorf("%d bytes of a payload that is too long", n)
	}
	if n := a.out.Seal(buf[:], rtp.Header{SSRC: there.SSRC}, rtp.LevelExtension{}, []byte("no RTP within")); open(b, buf[:n]) != rtp.Malformed {
		t.Error("accepted without an RTP packet within")
	}
}

// A relay goes on for longer than one key may.
func TestKeysAreRenewed(t *testing.T) {
	a, b := ends(t)
	var buf, late [2048]byte
	var p sfu.Packet
	for round := range 3 * keyNumbers {
		for _, nonce := range []uint32{0, rekeyAfter - 1} {
			a.out.SetNonce(max(nonce, a.out.Nonce()))
			n := a.Seal(buf[:], speech("hello"))
			if number := int(buf[1]); number != round%keyNumbers || rtp.Kind(buf[:n]) != rtp.RTP {
				t.Fatalf("key %d in round %d", number, round)
			}
			if drop := b.Open(buf[:n], &p); drop != rtp.Accepted || string(p.Payload) != "hello" {
				t.Fatalf("round %d: %v, %q", round, drop, p.Payload)
			}
		}
		old := a.out
		n := a.Seal(buf[:], speech("hello"))
		if a.out.key == old.key || a.out.Nonce() != 1 {
			t.Fatal("the key is the old one, or its nonces are used")
		}
		forged := bytes.Clone(buf[:n])
		forged[40] ^= 1
		if drop := b.Open(forged, &p); drop != rtp.Unauthenticated {
			t.Fatalf("forged with the next number: %v", drop)
		}
		before := b.next.Transport
		l := old.Seal(late[:], rtp.Header{PayloadType: old.number, SSRC: there.SSRC}, rtp.LevelExtension{}, plainInner)
		if drop := b.Open(late[:l], &p); drop != rtp.Accepted {
			t.Fatalf("the old key after a forgery: %v", drop)
		}
		if drop := b.Open(buf[:n], &p); drop != rtp.Accepted || b.in.Transport != before {
			t.Fatalf("the first under the next key: %v", drop)
		}
	}
	for _, number := range []byte{b.in.number + 2, b.in.number - 1} {
		n := a.Seal(buf[:], speech("hello"))
		buf[1] = number % keyNumbers
		if drop := b.Open(buf[:n], &p); drop != rtp.Unauthenticated || b.next.Transport != nil {
			t.Errorf("key %d: %v", number, drop)
		}
	}
}

// plainInner is an RTP packet of nothing but a header.
var plainInner = []byte{0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 48}

func TestSealAndOpenAllocateNothing(t *testing.T) {
	a, b := ends(t)
	d, buf := speech("voice of about the usual size"), make([]byte, 2048)
	var p sfu.Packet
	if n := testing.AllocsPerRun(1000, func() {
		n := a.Seal(buf, d)
		if drop := b.Open(buf[:n], &p); drop != rtp.Accepted {
			t.Fatal(drop)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
}

func BenchmarkSealOpen(b *testing.B) {
	from, to := ends(b)
	d, buf := speech(string(make([]byte, 140))), make([]byte, 2048)
	var p sfu.Packet
	b.ReportAllocs()
	for b.Loop() {
		n := from.Seal(buf, d)
		to.Open(buf[:n], &p)
	}
}

// FuzzParse takes any bytes as the packet within, as one who had a relay's key could
// send them.
func FuzzParse(f *testing.F) {
	a, b := ends(f)
	buf := make([]byte, 2048)
	n := a.Seal(buf, speech("hello"))
	plain, _ := b.in.Open(buf[:n])
	f.Add(bytes.Clone(plain[rtp.HeaderSize:]))
	f.Add([]byte{0xA0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, inner []byte) {
		var p sfu.Packet
		if !parse(inner, &p) {
			return
		}
		if len(p.Payload) > len(inner)-rtp.HeaderSize {
			t.Errorf("%d bytes of payload in %d", len(p.Payload), len(inner))
		}
		r := sfu.New(sfu.Config{})
		via, _ := r.Apply(sfu.Command{Relay: &sfu.AddRelay{Peer: 1, Channel: 1, In: there}})
		peer, _ := r.Apply(sfu.Command{Add: &sfu.AddPeer{Peer: 2, Channel: 1, SSRC: 16}})
		r.Connect(peer)
		r.ForwardRelayed(1, via, &p)
		for fanout := (sfu.Fanout{}); r.NextFanout(&fanout); {
			for _, d := range fanout.Packets {
				if !d.Relayed || d.Header.SSRC == 16 {
					t.Errorf("forwarded %+v", d)
				}
			}
		}
	})
}
