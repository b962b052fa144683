package client

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"hubbub.dev/hubbub/proto"
)

func FuzzPacket(f *testing.F) {
	f.Add([]byte{0x80, 0x78, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 'o', 'p', 'u', 's'})
	f.Add([]byte{0x90, 0x78, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xBE, 0xDE, 0, 1, 0x10, 0x85, 0, 0, 'o'})
	f.Add([]byte{0xB2, 0x78, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xBE, 0xDE, 0xFF, 0xFF, 0xF0, 4})
	f.Add(discoveryRequest(9))
	aead, err := newAEAD(proto.ModeAES256GCM, make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		classify(data)
		opusSamples(data)
		if a, err := parseDiscovery(data, 9); err == nil && !a.IsValid() {
			t.Fatal("discovery without an address")
		}
		o := opener{aead: aead}
		clear, err := clearLength(data)
		if err != nil {
			return
		}
		if p, err := parseRTP(data, clear); err == nil && (len(p.Opus) > len(data)-clear || p.AudioLevel > 127) {
			t.Fatalf("parsed %+v out of %d bytes", p, len(data))
		}
		if _, err := o.open(bytes.Clone(data), clear); err == nil {
			t.Fatal("noise opened")
		}
	})
}

func TestOpenFindsTampering(t *testing.T) {
	for _, mode := range []string{proto.ModeAES256GCM, proto.ModeXChaCha20} {
		aead, err := newAEAD(mode, make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		s := sealer{aead: aead}
		header := make([]byte, rtpHeaderSize)
		pkt, err := s.seal(nil, header, []byte("opus"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range pkt {
			bad := bytes.Clone(pkt)
			bad[i] ^= 1
			if _, err := (&opener{aead: aead}).open(bad, rtpHeaderSize); err == nil {
				t.Fatalf("%s: byte %d changed unnoticed", mode, i)
			}
		}
		for n := range pkt {
			if _, err := (&opener{aead: aead}).open(bytes.Clone(pkt[:n]), min(n, rtpHeaderSize)); err == nil {
				t.Fatalf("%s: %d bytes of it opened", mode, n)
			}
		}
		if plain, err := (&opener{aead: aead}).open(pkt, rtpHeaderSize); err != nil || string(plain[rtpHeaderSize:]) != "opus" {
			t.Fatalf("%s: opened %q, %v", mode, plain, err)
		}
		s.next = 1 << 32
		if _, err := s.seal(nil, header, nil); err == nil {
			t.Fatal("a nonce was used twice")
		}
	}
	if _, err := newAEAD("rot13", nil); err == nil {
		t.Fatal("rot13 is content")
	}
}

func TestReplayWindow(t *testing.T) {
	big := func(n uint32) [nonceSize]byte {
		return [nonceSize]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
	little := func(n uint32) [nonceSize]byte {
		return [nonceSize]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
	}
	for name, nonce := range map[string]func(uint32) [nonceSize]byte{"big-endian": big, "little-endian": little} {
		for _, start := range []uint32{0, 250, 65530, rand.Uint32N(1 << 30)} {
			var w replayWindow
			// Every fourth packet is late by three.
			for i := range uint32(4000) {
				n := start + i
				if i%4 == 3 {
					n -= 3
				} else if i%4 == 0 {
					n += 3
				}
				if w.seen(nonce(n)) {
					t.Fatalf("%s from %d: %d dropped though new", name, start, n)
				}
				w.accept(nonce(n))
				if !w.seen(nonce(n)) {
					t.Fatalf("%s from %d: %d passed twice", name, start, n)
				}
			}
			if !w.seen(nonce(start)) {
				t.Fatalf("%s from %d: older than the window, and passed", name, start)
			}
			w.accept(nonce(start + 1<<20))
			if w.seen(nonce(start+1<<20-5)) || !w.seen(nonce(start+3999)) {
				t.Fatalf("%s from %d: wrong after a jump", name, start)
			}
		}
	}
}

func TestOpusSamples(t *testing.T) {
	for _, c := range []struct {
		frame []byte
		want  uint32
	}{
		{silence, 960}, {[]byte{0xFC, 1}, 960}, {[]byte{0x08}, 960}, {[]byte{0x18}, 2880},
		{[]byte{0x60}, 480}, {[]byte{0x80}, 120}, {[]byte{0xF9}, 1920}, {[]byte{0xFB, 3}, 2880},
		{nil, 0}, {[]byte{0xFB}, 0}, {[]byte{0xFB, 0}, 0}, {[]byte{0xFB, 63}, 0},
	} {
		got, ok := opusSamples(c.frame)
		if ok != (c.want > 0) || ok && got != c.want {
			t.Errorf("% x lasts %d, %v; want %d", c.frame, got, ok, c.want)
		}
	}
}

type discardConn struct{ nopConn }

func (discardConn) Write(b []byte) (int, error) { return len(b), nil }

func TestSendAllocatesNothing(t *testing.T) {
	tr := benchTransport(t)
	frame := make([]byte, 160)
	frame[0] = 0xF8
	if n := testing.AllocsPerRun(1000, func() {
		if err := tr.send(frame); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations for one packet", n)
	}
}

func BenchmarkSend(b *testing.B) {
	tr := benchTransport(b)
	frame := make([]byte, 160)
	frame[0] = 0xF8
	b.ReportAllocs()
	for b.Loop() {
		if err := tr.send(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func benchTransport(t testing.TB) *transport {
	t.Helper()
	aead, err := newAEAD(proto.ModeAES256GCM, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &transport{conn: discardConn{}, seal: sealer{aead: aead}, counters: new(counters)}
}
