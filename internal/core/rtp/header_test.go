package rtp

import (
	"bytes"
	"testing"
)

// packet builds an RTP packet by hand: flags are the X and P bits, extension is the
// block with its preamble.
func packet(flags byte, csrcs int, extension, payload []byte) []byte {
	pkt := []byte{0x80 | flags | byte(csrcs), 0x80 | 111, 0x12, 0x34, 0, 0, 0x03, 0xC0, 0xCA, 0xFE, 0xBA, 0xBE}
	pkt = append(pkt, bytes.Repeat([]byte{0xCC}, 4*csrcs)...)
	pkt = append(pkt, extension...)
	return append(pkt, payload...)
}

func TestParse(t *testing.T) {
	oneByte := []byte{0xBE, 0xDE, 0, 2, 0, 0x10, 0x85, 0x31, 7, 8, 0, 0}
	twoByte := []byte{0x10, 0x05, 0, 2, 1, 1, 0x85, 0, 20, 2, 7, 8}
	for _, c := range []struct {
		name    string
		pkt     []byte
		length  int
		payload string
		level   AudioLevel
		leveled bool
	}{
		{"bare", packet(0, 0, nil, []byte("opus")), 12, "opus", 0, false},
		{"empty payload", packet(0, 0, nil, nil), 12, "", 0, false},
		{"CSRCs", packet(0, 15, nil, []byte("opus")), 72, "opus", 0, false},
		{"one-byte extensions", packet(0x10, 1, oneByte, []byte("opus")), 28, "opus", 0x85, true},
		{"two-byte extensions", packet(0x10, 0, twoByte, []byte("opus")), 24, "opus", 0x85, true},
		{"other profile", packet(0x10, 0, []byte{0xAB, 0xCD, 0, 1, 0x10, 5, 0, 0}, nil), 20, "", 0, false},
		{"padding", packet(0x20, 0, nil, []byte("opus\x00\x00\x03")), 12, "opus", 0, false},
		{"all padding", packet(0x20, 0, nil, []byte{0, 2}), 12, "", 0, false},
	} {
		h, n, ok := Parse(c.pkt)
		if !ok || n != c.length {
			t.Errorf("%s: length %d, ok %v; want %d", c.name, n, ok, c.length)
			continue
		}
		if !h.Marker || h.PayloadType != 111 || h.Sequence != 0x1234 || h.Timestamp != 960 || h.SSRC != 0xCAFEBABE {
			t.Errorf("%s: %+v", c.name, h)
		}
		if got := h.Payload(c.pkt); string(got) != c.payload {
			t.Errorf("%s: payload %q, want %q", c.name, got, c.payload)
		}
		level, ok := h.AudioLevel(c.pkt, 1)
		if ok != c.leveled || level != c.level {
			t.Errorf("%s: audio level %#x %v", c.name, level, ok)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := packet(0x10, 2, []byte{0xBE, 0xDE, 0, 1, 0x10, 5, 0, 0}, nil)
	for n := range good {
		if _, _, ok := Parse(good[:n]); ok {
			t.Errorf("a header cut to %d bytes was taken", n)
		}
	}
	for name, pkt := range map[string][]byte{
		"version 1":      append([]byte{0x40}, good[1:]...),
		"zero padding":   packet(0x20, 0, nil, []byte{1, 0}),
		"padding beyond": packet(0x20, 0, nil, []byte{1, 3}),
		"no padding":     packet(0x20, 0, nil, nil),
	} {
		if _, _, ok := Parse(pkt); ok {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestExtensionElements(t *testing.T) {
	for _, c := range []struct {
		name      string
		extension []byte
		id        uint8
		want      string
		ok        bool
	}{
		{"second of three", []byte{0xBE, 0xDE, 0, 2, 0x10, 'a', 0x21, 'b', 'c', 0x30, 'd', 0}, 2, "bc", true},
		{"absent", []byte{0xBE, 0xDE, 0, 1, 0x10, 'a', 0, 0}, 2, "", false},
		{"id 0", []byte{0xBE, 0xDE, 0, 1, 0, 0, 0, 0}, 0, "", false},
		{"id 15 ends the block", []byte{0xBE, 0xDE, 0, 2, 0xF0, 'x', 0x10, 'a', 0, 0, 0, 0}, 1, "", false},
		{"element past the block", []byte{0xBE, 0xDE, 0, 1, 0x13, 'a', 'b', 'c'}, 1, "", false},
		{"two-byte, empty", []byte{0x10, 0, 0, 1, 7, 0, 0, 0}, 7, "", true},
		{"two-byte, past the block", []byte{0x10, 0, 0, 1, 7, 3, 0, 0}, 7, "", false},
		{"two-byte, cut", []byte{0x10, 0, 0, 1, 0, 0, 0, 7}, 7, "", false},
	} {
		pkt := packet(0x10, 0, c.extension, []byte("payload"))
		h, _, ok := Parse(pkt)
		if !ok {
			t.Fatalf("%s: does not parse", c.name)
		}
		got, ok := h.Extension(pkt, c.id)
		if ok != c.ok || string(got) != c.want {
			t.Errorf("%s: %q %v, want %q %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestPutHeader(t *testing.T) {
	h := Header{Marker: true, PayloadType: 120, Sequence: 65535, Timestamp: 1 << 31, SSRC: 7}
	for _, ext := range []LevelExtension{{}, {ID: 1, Level: MakeAudioLevel(42, true)}, {ID: 14, Level: Silent}, {ID: 15}} {
		pkt := append(make([]byte, ext.HeaderSize()), "opus"...)
		PutHeader(pkt, h, ext)
		got, n, ok := Parse(pkt)
		if !ok || n != ext.HeaderSize() || string(got.Payload(pkt)) != "opus" {
			t.Fatalf("%+v: %x", ext, pkt)
		}
		level, ok := got.AudioLevel(pkt, ext.ID)
		if ok != ext.Present() || ok && level != ext.Level {
			t.Errorf("%+v: level %v %v", ext, level, ok)
		}
		if got.Marker != h.Marker || got.PayloadType != h.PayloadType || got.Sequence != h.Sequence ||
			got.Timestamp != h.Timestamp || got.SSRC != h.SSRC {
			t.Errorf("wrote %+v, read %+v", h, got)
		}
	}
	if l := MakeAudioLevel(200, true); l.Level() != 127 || !l.Voice() {
		t.Errorf("a level past the range became %d", l.Level())
	}
}

func TestKind(t *testing.T) {
	stun := make([]byte, 28)
	copy(stun, []byte{0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42})
	discovery := make([]byte, 74)
	copy(discovery, []byte{0, 1, 0, 70, 0x21, 0x12, 0xA4, 0x42})
	with := func(first, second byte) []byte {
		pkt := make([]byte, 40)
		pkt[0], pkt[1] = first, second
		return pkt
	}
	for _, c := range []struct {
		name string
		pkt  []byte
		want Protocol
	}{
		{"nothing", nil, Unknown},
		{"keepalive that starts like RTP", []byte{0x80, 0, 0, 0, 0, 0, 0, 0}, Unknown},
		{"STUN", stun, STUN},
		{"STUN of another length", stun[:24], Unknown},
		{"IP discovery for an SSRC equal to the cookie", discovery, Unknown},
		{"DTLS handshake", with(22, 254), DTLS},
		{"DTLS 1.3 record", with(0x2F, 0), DTLS},
		{"ZRTP", with(16, 0), Unknown},
		{"TURN channel", with(64, 0), Unknown},
		{"RTP", with(0x90, 120), RTP},
		{"RTP with marker", with(0x80, 0x80|111), RTP},
		{"sender report", with(0x80, 200), RTCP},
		{"payload feedback", with(0x81, 206), RTCP},
		{"past the range", with(192, 200), Unknown},
	} {
		if got := Kind(c.pkt); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestDropNames(t *testing.T) {
	seen := map[string]bool{}
	for d := range DropCount + 1 {
		if name := d.String(); name == "" || seen[name] {
			t.Errorf("drop %d is called %q", d, name)
		} else {
			seen[name] = true
		}
	}
}

func TestIsSilence(t *testing.T) {
	for payload, want := range map[string]bool{
		"": true, "\xF8": true, "\xF8\x00": true, "\xF8\xFF\xFE": true,
		"\xF8\xFF\xFF": false, "\x78\x01\x02": false, "\xF8\xFF\xFE\x00": false,
	} {
		if IsSilence([]byte(payload)) != want {
			t.Errorf("%x: silence %v", payload, !want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(packet(0x30, 3, []byte{0xBE, 0xDE, 0, 1, 0x10, 5, 0, 0}, []byte{1, 1}))
	f.Add(packet(0x10, 0, []byte{0x10, 0, 0, 1, 7, 0, 0, 0}, nil))
	f.Fuzz(func(t *testing.T, pkt []byte) {
		Kind(pkt)
		h, n, ok := Parse(pkt)
		if !ok {
			return
		}
		if n+len(h.Payload(pkt))+int(h.padding) != len(pkt) {
			t.Fatalf("header %d, payload %d, padding %d of %d", n, len(h.Payload(pkt)), h.padding, len(pkt))
		}
		for id := range 256 {
			if value, ok := h.Extension(pkt, uint8(id)); ok && len(value) > n-HeaderSize {
				t.Fatalf("element %d of %d bytes in a header of %d", id, len(value), n)
			}
		}
		IsSilence(h.Payload(pkt))
	})
}

func TestHotPathAllocatesNothing(t *testing.T) {
	pkt := packet(0x10, 0, []byte{0xBE, 0xDE, 0, 1, 0x10, 5, 0, 0}, make([]byte, 160))
	dst := make([]byte, LevelHeaderSize)
	r, w := NewReceiver(48000), Window{}
	s := NewSender(48000)
	index := uint64(0)
	if n := testing.AllocsPerRun(100, func() {
		h, _, _ := Parse(pkt)
		level, _ := h.AudioLevel(pkt, 1)
		PutHeader(dst, h, LevelExtension{ID: 3, Level: level})
		r.Update(uint16(index), uint32(index)*960, 1)
		s.Update(uint32(index)*960, 160, 1)
		index++
		if w.Fresh(index) {
			w.Commit(index)
		}
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkParse(b *testing.B) {
	pkt := packet(0x10, 0, []byte{0xBE, 0xDE, 0, 1, 0x10, 5, 0, 0}, make([]byte, 160))
	b.ReportAllocs()
	for b.Loop() {
		h, _, _ := Parse(pkt)
		h.AudioLevel(pkt, 1)
	}
}
