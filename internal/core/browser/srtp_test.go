package browser

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pion/srtp/v3"

	"hubbub.dev/hubbub/internal/core/rtp"
)

var profiles = []Profile{AEADAES128GCM, AESCM128SHA180}

// material is what a DTLS exporter might give: the bytes 0, 1, 2, …
func material(p Profile) []byte {
	m := make([]byte, p.MaterialSize())
	for i := range m {
		m[i] = byte(i)
	}
	return m
}

// newPair returns both ends of the browser's direction.
func newPair(t testing.TB, p Profile) (*Outbound, *Inbound) {
	t.Helper()
	key, salt, _, _, err := KeysFromExporter(material(p), p)
	if err != nil {
		t.Fatal(err)
	}
	out, err := NewOutbound(p, key, salt)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewInbound(p, key, salt)
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

func newPion(t testing.TB, p Profile) *srtp.Context {
	t.Helper()
	key, salt, _, _, err := KeysFromExporter(material(p), p)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := srtp.CreateContext(key, salt, srtp.ProtectionProfile(p),
		srtp.SRTPReplayProtection(64), srtp.SRTCPReplayProtection(64))
	if err != nil {
		t.Fatal(err)
	}
	return peer
}

func header(seq uint16) rtp.Header {
	return rtp.Header{PayloadType: 111, Sequence: seq, Timestamp: uint32(seq) * 960, SSRC: 0xCAFEBABE}
}

func plainPacket(seq uint16, ext rtp.LevelExtension) []byte {
	pkt := append(make([]byte, ext.HeaderSize()), "a frame of Opus"...)
	rtp.PutHeader(pkt, header(seq), ext)
	return pkt
}

func TestKeysFromExporter(t *testing.T) {
	for _, p := range profiles {
		m := material(p)
		clientKey, clientSalt, serverKey, serverSalt, err := KeysFromExporter(m, p)
		// RFC 5764 section 4.2: both keys, then both salts, the client's first.
		want := [][]byte{clientKey, serverKey, clientSalt, serverSalt}
		if err != nil || !bytes.Equal(bytes.Join(want, nil), m) ||
			len(clientKey) != 16 || len(serverKey) != 16 || len(clientSalt) != p.saltSize() {
			t.Errorf("%d: %x, %v", p, want, err)
		}
		if _, _, _, _, err := KeysFromExporter(m[1:], p); err == nil {
			t.Errorf("%d: took too little material", p)
		}
	}
}

func TestBadKeys(t *testing.T) {
	key, salt := make([]byte, 16), make([]byte, 14)
	if _, err := NewInbound(2, key, salt); err == nil {
		t.Error("took a profile that is not supported")
	}
	if _, err := NewOutbound(AEADAES128GCM, key, salt); err == nil {
		t.Error("took a salt that is too long")
	}
	if _, err := NewInbound(AESCM128SHA180, key[:15], salt); err == nil {
		t.Error("took a key that is too short")
	}
}

// TestFromPion opens what pion seals, across a wrap of the sequence numbers.
func TestFromPion(t *testing.T) {
	for _, p := range profiles {
		peer := newPion(t, p)
		_, in := newPair(t, p)
		for i := range 70000 {
			plain := plainPacket(uint16(60000+i), rtp.LevelExtension{ID: uint8(i % 2), Level: 5})
			pkt, err := peer.EncryptRTP(nil, plain, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, drop := in.Open(pkt); drop != rtp.Accepted || !bytes.Equal(got, plain) {
				t.Fatalf("%d: packet %d: %x, %v", p, i, got, drop)
			}
		}
		if index, ok := in.Highest(0xCAFEBABE); !ok || index != 60000+70000-1 {
			t.Errorf("%d: highest index %d, %v", p, index, ok)
		}
	}
}

// TestToPion seals for pion, across a wrap of the sequence numbers.
func TestToPion(t *testing.T) {
	for _, p := range profiles {
		peer := newPion(t, p)
		out, _ := newPair(t, p)
		dst := make([]byte, 200)
		for index := uint32(30000); index < 140000; index++ {
			ext := rtp.LevelExtension{ID: uint8(index % 2), Level: 5}
			n := out.Seal(dst, header(uint16(index)), ext, []byte("a frame of Opus"), index>>16)
			got, err := peer.DecryptRTP(nil, dst[:n], nil)
			if err != nil || !bytes.Equal(got, plainPacket(uint16(index), ext)) {
				t.Fatalf("%d: packet %d: %x, %v", p, index, got, err)
			}
		}
	}
}

// TestPaddingToPion seals packets that are padded, and leaves no room for some.
func TestPaddingToPion(t *testing.T) {
	for _, p := range profiles {
		peer := newPion(t, p)
		out, _ := newPair(t, p)
		dst := bytes.Repeat([]byte{0xFF}, 400)
		for padding := range 256 {
			n := out.SealPadded(dst, header(uint16(padding)), rtp.LevelExtension{ID: 1, Level: 5}, []byte("opus"), uint8(padding), 0)
			got, err := peer.DecryptRTP(nil, dst[:n], nil)
			if err != nil {
				t.Fatalf("%d: %d bytes of padding: %v", p, padding, err)
			}
			h, head, ok := rtp.Parse(got)
			if !ok || string(h.Payload(got)) != "opus" || len(got) != head+len("opus")+padding {
				t.Fatalf("%d: %d bytes of padding: %x", p, padding, got)
			}
			if n := out.SealPadded(dst[:n-1], header(uint16(padding)), rtp.LevelExtension{ID: 1}, []byte("opus"), 255, 0); n != 0 {
				t.Fatalf("%d: sealed into too little: %d", p, n)
			}
		}
	}
}

func TestControlWithPion(t *testing.T) {
	compound := rtp.AppendReceiverReport(nil, 7, []rtp.ReportBlock{{SSRC: 9, Jitter: 3}})
	for _, p := range profiles {
		peer := newPion(t, p)
		out, in := newPair(t, p)
		out.SetIndex(1000)
		for range 3 {
			pkt, err := peer.EncryptRTCP(nil, compound, nil)
			if err != nil {
				t.Fatal(err)
			}
			again := bytes.Clone(pkt)
			if got, drop := in.OpenRTCP(pkt); drop != rtp.Accepted || !bytes.Equal(got, compound) {
				t.Errorf("%d: opened %x, %v", p, got, drop)
			}
			if _, drop := in.OpenRTCP(again); drop != rtp.Replayed {
				t.Errorf("%d: again: %v", p, drop)
			}
			dst := make([]byte, 200)
			n := out.SealRTCP(dst, compound)
			if got, err := peer.DecryptRTCP(nil, dst[:n], nil); err != nil || !bytes.Equal(got, compound) {
				t.Errorf("%d: pion opens %x, %v", p, got, err)
			}
		}
		if out.Index() != 1003 {
			t.Errorf("%d: next index %d", p, out.Index())
		}
	}
}

func TestControlRefuses(t *testing.T) {
	for _, p := range profiles {
		compound := rtp.AppendReceiverReport(nil, 7, nil)
		out, in := newPair(t, p)
		dst := make([]byte, 200)
		good := dst[:out.SealRTCP(dst, compound)]
		for n := range good {
			if _, drop := in.OpenRTCP(bytes.Clone(good[:n])); drop == rtp.Accepted {
				t.Errorf("%d: a packet cut to %d bytes was taken", p, n)
			}
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x80
			if _, drop := in.OpenRTCP(bad); drop == rtp.Accepted {
				t.Errorf("%d: byte %d may be changed", p, i)
			}
		}
		if _, drop := in.OpenRTCP(good); drop != rtp.Accepted {
			t.Errorf("%d: the packet itself: %v", p, drop)
		}
		for ssrc := range uint32(maxStreams) {
			binary.BigEndian.PutUint32(compound[4:], 100+ssrc)
			_, drop := in.OpenRTCP(dst[:out.SealRTCP(dst, compound)])
			if want := ssrc == maxStreams-1; (drop == rtp.UnknownSource) != want {
				t.Errorf("%d: source %d: %v", p, 2+ssrc, drop)
			}
		}
		if out.SealRTCP(dst[:len(compound)], compound) != 0 || out.SealRTCP(dst, compound[:4]) != 0 {
			t.Errorf("%d: sealed where there was no room or no header", p)
		}
		out.SetIndex(1<<32 - 1)
		if out.SealRTCP(dst, compound) != 0 {
			t.Errorf("%d: sealed past the last index", p)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, p := range profiles {
		out, in := newPair(t, p)
		dst := make([]byte, 200)
		ext := rtp.LevelExtension{ID: 1, Level: 5}
		good := dst[:out.Seal(dst, header(1), ext, []byte("opus"), 0)]
		for n := range good {
			if _, drop := in.Open(bytes.Clone(good[:n])); drop == rtp.Accepted {
				t.Errorf("%d: a packet cut to %d bytes was taken", p, n)
			}
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x40
			if _, drop := in.Open(bad); drop == rtp.Accepted {
				t.Errorf("%d: byte %d may be changed", p, i)
			}
		}
		if _, ok := in.Highest(0xCAFEBABE); ok || len(in.media) != 0 {
			t.Errorf("%d: what was refused left %d streams", p, len(in.media))
		}
		again := bytes.Clone(good)
		if _, drop := in.Open(good); drop != rtp.Accepted {
			t.Errorf("%d: the packet itself: %v", p, drop)
		}
		if _, drop := in.Open(again); drop != rtp.Replayed {
			t.Errorf("%d: again: %v", p, drop)
		}
		// A packet from before the first cycle would have a negative index.
		n := out.Seal(dst, header(65000), ext, []byte("opus"), 1<<32-1)
		if _, drop := in.Open(dst[:n]); drop != rtp.Replayed {
			t.Errorf("%d: from before the first cycle: %v", p, drop)
		}
		if n := out.Seal(dst[:24], header(1), ext, []byte("opus"), 0); n != 0 {
			t.Errorf("%d: sealed where there was no room", p)
		}
	}
}

func TestReorderedAcrossTheWrap(t *testing.T) {
	out, in := newPair(t, AEADAES128GCM)
	for _, index := range []uint32{65500, 65534, 65537, 65535, 65536, 65533} {
		dst := make([]byte, 200)
		n := out.Seal(dst, header(uint16(index)), rtp.LevelExtension{}, nil, index>>16)
		again := bytes.Clone(dst[:n])
		if _, drop := in.Open(dst[:n]); drop != rtp.Accepted {
			t.Errorf("packet %d: %v", index, drop)
		}
		if _, drop := in.Open(again); drop != rtp.Replayed {
			t.Errorf("packet %d again: %v", index, drop)
		}
	}
}

func TestSourcesAreBounded(t *testing.T) {
	out, in := newPair(t, AEADAES128GCM)
	dst := make([]byte, 200)
	for ssrc := range uint32(maxStreams + 1) {
		h := header(1)
		h.SSRC = ssrc
		_, drop := in.Open(dst[:out.Seal(dst, h, rtp.LevelExtension{}, nil, 0)])
		if want := ssrc == maxStreams; (drop == rtp.UnknownSource) != want {
			t.Errorf("source %d: %v", ssrc, drop)
		}
	}
	in.Resume(maxStreams, 5)
	if _, ok := in.Highest(maxStreams); ok {
		t.Error("resumed a source too many")
	}
}

// TestResume restarts the receiving end in the middle of a stream.
func TestResume(t *testing.T) {
	out, in := newPair(t, AESCM128SHA180)
	const index = 3<<16 | 100
	in.Resume(0xCAFEBABE, index)
	open := func(index uint32) rtp.Drop {
		dst := make([]byte, 200)
		_, drop := in.Open(dst[:out.Seal(dst, header(uint16(index)), rtp.LevelExtension{}, nil, index>>16)])
		return drop
	}
	if drop := open(index); drop != rtp.Replayed {
		t.Errorf("what was received before: %v", drop)
	}
	if drop := open(index + 1); drop != rtp.Accepted {
		t.Errorf("the next packet: %v", drop)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	for _, p := range profiles {
		out, in := newPair(t, p)
		dst, payload := make([]byte, 1500), make([]byte, 160)
		compound := rtp.AppendReceiverReport(nil, 7, nil)
		h := header(0)
		if n := testing.AllocsPerRun(1000, func() {
			h.Sequence++
			n := out.Seal(dst, h, rtp.LevelExtension{ID: 1, Level: 5}, payload, 0)
			if _, drop := in.Open(dst[:n]); drop != rtp.Accepted {
				t.Fatal(drop)
			}
			if _, drop := in.OpenRTCP(dst[:out.SealRTCP(dst, compound)]); drop != rtp.Accepted {
				t.Fatal(drop)
			}
		}); n != 0 {
			t.Errorf("%d: %v allocations per packet", p, n)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, p := range profiles {
		out, _ := newPair(f, p)
		dst := make([]byte, 200)
		f.Add(bytes.Clone(dst[:out.Seal(dst, header(1), rtp.LevelExtension{ID: 1}, []byte("opus"), 0)]))
		f.Add(bytes.Clone(dst[:out.SealRTCP(dst, rtp.AppendReceiverReport(nil, 7, nil))]))
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		for _, p := range profiles {
			_, in := newPair(t, p)
			_, drop := in.Open(bytes.Clone(pkt))
			if _, again := in.Open(bytes.Clone(pkt)); drop == rtp.Accepted && again != rtp.Replayed {
				t.Fatalf("%d: a replay is %v", p, again)
			}
			_, drop = in.OpenRTCP(bytes.Clone(pkt))
			if _, again := in.OpenRTCP(bytes.Clone(pkt)); drop == rtp.Accepted && again != rtp.Replayed {
				t.Fatalf("%d: a replay is %v", p, again)
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for p, name := range map[Profile]string{AEADAES128GCM: "AEAD_AES_128_GCM", AESCM128SHA180: "AES_CM_128_HMAC_SHA1_80"} {
		b.Run(name, func(b *testing.B) {
			out, _ := newPair(b, p)
			dst, payload := make([]byte, 1500), make([]byte, 160)
			b.ReportAllocs()
			for b.Loop() {
				out.Seal(dst, header(1), rtp.LevelExtension{ID: 1, Level: 5}, payload, 0)
			}
		})
	}
}

// BenchmarkOpen opens a copy of one packet under an ever fresh window, so it counts
// a copy of some 200 bytes too.
func BenchmarkOpen(b *testing.B) {
	for p, name := range map[Profile]string{AEADAES128GCM: "AEAD_AES_128_GCM", AESCM128SHA180: "AES_CM_128_HMAC_SHA1_80"} {
		b.Run(name, func(b *testing.B) {
			out, in := newPair(b, p)
			sealed := make([]byte, 1500)
			sealed = sealed[:out.Seal(sealed, header(1), rtp.LevelExtension{ID: 1, Level: 5}, make([]byte, 160), 0)]
			pkt := make([]byte, len(sealed))
			in.Resume(0xCAFEBABE, 0)
			b.ReportAllocs()
			for b.Loop() {
				copy(pkt, sealed)
				in.media[0].window = rtp.Window{}
				if _, drop := in.Open(pkt); drop != rtp.Accepted {
					b.Fatal(drop)
				}
			}
		})
	}
}

// TestTouchChangesNothing reads ahead and seals as without.
func TestTouchChangesNothing(t *testing.T) {
	for _, profile := range []Profile{AEADAES128GCM, AESCM128SHA180} {
		keying := make([]byte, profile.MaterialSize())
		_, _, key, salt, err := KeysFromExporter(keying, profile)
		if err != nil {
			t.Fatal(err)
		}
		var sealed [2][]byte
		for i := range sealed {
			out, err := NewOutbound(profile, key, salt)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				out.Touch()
			}
			sealed[i] = make([]byte, 200)
			sealed[i] = sealed[i][:out.Seal(sealed[i], rtp.Header{SSRC: 1, Sequence: 2}, rtp.LevelExtension{}, []byte("voice"), 0)]
		}
		if !bytes.Equal(sealed[0], sealed[1]) {
			t.Errorf("%v: %x became %x", profile, sealed[0], sealed[1])
		}
	}
}
