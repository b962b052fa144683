package native

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"testing"

	"github.com/disgoorg/disgo/voice"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/nacl/secretbox"
	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/rtp"
)

var testKey = [32]byte{1, 2, 3, 4, 5, 6, 7, 8}

var aeadModes = []Mode{AES256GCM, XChaCha20Poly1305}

func newTransport(t testing.TB, mode Mode) *Transport {
	t.Helper()
	transport, err := New(mode, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return transport
}

// sealAsClient does what a client library does, with the standard ciphers: clear
// says how many bytes of the plain packet stay so.
func sealAsClient(t rapid.TB, mode Mode, plain []byte, clear int, nonce [4]byte) []byte {
	t.Helper()
	var aead cipher.AEAD
	var err error
	if mode == AES256GCM {
		var block cipher.Block
		if block, err = aes.NewCipher(testKey[:]); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	} else {
		aead, err = chacha20poly1305.NewX(testKey[:])
	}
	if err != nil {
		t.Fatal(err)
	}
	full := make([]byte, aead.NonceSize())
	copy(full, nonce[:])
	pkt := aead.Seal(bytes.Clone(plain[:clear]), full, plain[clear:], plain[:clear])
	return append(pkt, nonce[:]...)
}

// sealLegacy does what discordgo does.
func sealLegacy(plain []byte) []byte {
	var nonce [24]byte
	copy(nonce[:], plain[:12])
	return secretbox.Seal(bytes.Clone(plain[:12]), plain[12:], &nonce, &testKey)
}

func plainPacket(seq uint16, ext rtp.LevelExtension, payload string) []byte {
	return packetOf(rtp.Header{PayloadType: 120, Sequence: seq, Timestamp: uint32(seq) * 960, SSRC: 7}, ext, []byte(payload))
}

func packetOf(h rtp.Header, ext rtp.LevelExtension, payload []byte) []byte {
	pkt := append(make([]byte, ext.HeaderSize()), payload...)
	rtp.PutHeader(pkt, h, ext)
	return pkt
}

func TestOpen(t *testing.T) {
	csrc := plainPacket(1, rtp.LevelExtension{}, "opus")
	csrc[0] |= 2
	csrc = append(csrc[:12:12], "\x00\x00\x00\x01\x00\x00\x00\x02opus"...)
	both := plainPacket(1, rtp.LevelExtension{ID: 1, Level: 5}, "opus")
	both[0] |= 1
	both = append(both[:12:12], append([]byte{0, 0, 0, 1}, both[12:]...)...)
	for _, mode := range aeadModes {
		for _, c := range []struct {
			name  string
			plain []byte
			clear int
		}{
			{"bare", plainPacket(1, rtp.LevelExtension{}, "opus"), 12},
			{"empty", plainPacket(1, rtp.LevelExtension{}, ""), 12},
			{"extension", plainPacket(1, rtp.LevelExtension{ID: 1, Level: 0x85}, "opus"), 16},
			{"CSRCs", csrc, 20},
			{"CSRC and extension", both, 20},
		} {
			transport := newTransport(t, mode)
			pkt := sealAsClient(t, mode, c.plain, c.clear, [4]byte{0, 0, 0, 1})
			plain, drop := transport.Open(bytes.Clone(pkt))
			if drop != rtp.Accepted || !bytes.Equal(plain, c.plain) {
				t.Errorf("%s, %s: %x, %v", mode, c.name, plain, drop)
			}
			if _, drop := transport.Open(bytes.Clone(pkt)); drop != rtp.Replayed {
				t.Errorf("%s, %s again: %v", mode, c.name, drop)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, mode := range aeadModes {
		plain := plainPacket(1, rtp.LevelExtension{ID: 1, Level: 5}, "opus")
		good := sealAsClient(t, mode, plain, 16, [4]byte{0, 0, 0, 1})
		transport := newTransport(t, mode)
		for n := range good {
			if _, drop := transport.Open(bytes.Clone(good[:n])); drop == rtp.Accepted {
				t.Errorf("%s: a packet cut to %d bytes was taken", mode, n)
			}
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x40
			if _, drop := transport.Open(bad); drop == rtp.Accepted {
				t.Errorf("%s: byte %d may be changed", mode, i)
			}
		}
		long := bytes.Clone(good)
		binary.BigEndian.PutUint16(long[14:], 0xFFFF)
		if _, drop := transport.Open(long); drop != rtp.Malformed {
			t.Errorf("%s: an extension longer than its packet: %v", mode, drop)
		}
		// None of it used up the nonce.
		if _, drop := transport.Open(good); drop != rtp.Accepted {
			t.Errorf("%s: the packet itself: %v", mode, drop)
		}
	}
}

// TestDisgo talks with disgo's own encrypter in both directions, long enough for
// the byte order of its nonces to be settled.
func TestDisgo(t *testing.T) {
	for _, mode := range aeadModes {
		peer, err := voice.NewEncrypter(voice.EncryptionMode(mode), testKey[:])
		if err != nil {
			t.Fatal(err)
		}
		transport := newTransport(t, mode)
		for seq := range uint16(1000) {
			plain := plainPacket(seq, rtp.LevelExtension{}, "opus from a bot")
			pkt := bytes.Clone(peer.Encrypt([12]byte(plain), plain[12:]))
			got, drop := transport.Open(bytes.Clone(pkt))
			if drop != rtp.Accepted || !bytes.Equal(got, plain) {
				t.Fatalf("%s: packet %d: %v", mode, seq, drop)
			}
			if _, drop := transport.Open(pkt); drop != rtp.Replayed {
				t.Fatalf("%s: packet %d again: %v", mode, seq, drop)
			}
		}
		dst := make([]byte, 1500)
		for _, ext := range []rtp.LevelExtension{{}, {ID: 1, Level: 0x85}} {
			h := rtp.Header{PayloadType: 120, Sequence: 3, SSRC: 9}
			n := transport.Seal(dst, h, ext, []byte("opus to a bot"))
			head, want := 12, "opus to a bot"
			if ext.Present() {
				head, want = 16, "\x10\x85\x00\x00opus to a bot"
			}
			got, err := peer.Decrypt(head, dst[:n])
			if err != nil || string(got) != want {
				t.Errorf("%s: disgo reads %q, %v", mode, got, err)
			}
		}
	}
}

func TestSealIsOpened(t *testing.T) {
	payload := []byte("a frame of Opus")
	for _, mode := range []Mode{AES256GCM, XChaCha20Poly1305, XSalsa20Poly1305} {
		from, to := newTransport(t, mode), newTransport(t, mode)
		for seq := range uint16(300) {
			ext := rtp.LevelExtension{ID: uint8(seq % 2), Level: 0x85}
			h := rtp.Header{Marker: true, PayloadType: 120, Sequence: seq, Timestamp: 960, SSRC: 7}
			dst := bytes.Repeat([]byte{0xEE}, 200)
			n := from.Seal(dst, h, ext, payload)
			if n == 0 || n > ext.HeaderSize()+len(payload)+Overhead {
				t.Fatalf("%s: sealed to %d bytes", mode, n)
			}
			if bytes.Count(dst[n:], []byte{0xEE}) != len(dst)-n {
				t.Fatalf("%s: wrote past the packet", mode)
			}
			plain, drop := to.Open(dst[:n])
			want := packetOf(h, ext, payload)
			if drop != rtp.Accepted || !bytes.Equal(plain, want) {
				t.Fatalf("%s: packet %d: %x, %v", mode, seq, plain, drop)
			}
		}
		short := make([]byte, rtp.HeaderSize+len(payload)+Overhead-1)
		if n := from.Seal(short, rtp.Header{}, rtp.LevelExtension{}, payload); n != 0 {
			t.Errorf("%s: sealed %d bytes into too few", mode, n)
		}
	}
}

func TestRTCP(t *testing.T) {
	compound := rtp.AppendReceiverReport(nil, 7, []rtp.ReportBlock{{SSRC: 9, Jitter: 3}})
	for _, mode := range aeadModes {
		from, to := newTransport(t, mode), newTransport(t, mode)
		dst := make([]byte, 200)
		n := from.SealRTCP(dst, compound)
		pkt := dst[:n]
		if rtp.Kind(pkt) != rtp.RTCP || !bytes.Equal(pkt[:8], compound[:8]) {
			t.Errorf("%s: the header is not in the clear: %x", mode, pkt)
		}
		again := bytes.Clone(pkt)
		if plain, drop := to.OpenRTCP(pkt); drop != rtp.Accepted || !bytes.Equal(plain, compound) {
			t.Errorf("%s: %x, %v", mode, plain, drop)
		}
		if _, drop := to.OpenRTCP(again); drop != rtp.Replayed {
			t.Errorf("%s: again: %v", mode, drop)
		}
		client := sealAsClient(t, mode, compound, 8, [4]byte{0, 0, 0, 9})
		if plain, drop := to.OpenRTCP(client); drop != rtp.Accepted || !bytes.Equal(plain, compound) {
			t.Errorf("%s: from a client: %v", mode, drop)
		}
		if _, drop := to.OpenRTCP(make([]byte, 27)); drop != rtp.Malformed {
			t.Errorf("%s: too short: %v", mode, drop)
		}
		if n := from.SealRTCP(dst[:len(compound)], compound); n != 0 {
			t.Errorf("%s: sealed %d bytes into too few", mode, n)
		}
		if n := from.SealRTCP(dst, compound[:4]); n != 0 {
			t.Errorf("%s: sealed half a header", mode)
		}
	}
	legacy := newTransport(t, XSalsa20Poly1305)
	if n := legacy.SealRTCP(make([]byte, 200), compound); n != 0 {
		t.Error("the legacy mode sealed RTCP")
	}
	if _, drop := legacy.OpenRTCP(make([]byte, 200)); drop != rtp.Malformed {
		t.Errorf("the legacy mode takes RTCP: %v", drop)
	}
}

func TestLegacy(t *testing.T) {
	transport := newTransport(t, XSalsa20Poly1305)
	for _, seq := range []uint16{65534, 65535, 0, 1} {
		plain := plainPacket(seq, rtp.LevelExtension{ID: 1, Level: 4}, "opus")
		pkt := sealLegacy(plain)
		if got, drop := transport.Open(bytes.Clone(pkt)); drop != rtp.Accepted || !bytes.Equal(got, plain) {
			t.Fatalf("packet %d: %x, %v", seq, got, drop)
		}
		if _, drop := transport.Open(pkt); drop != rtp.Replayed {
			t.Errorf("packet %d again: %v", seq, drop)
		}
	}
	other := plainPacket(2, rtp.LevelExtension{}, "opus")
	other[11]++
	if _, drop := transport.Open(sealLegacy(other)); drop != rtp.UnknownSource {
		t.Errorf("a second source: %v", drop)
	}
	forged := sealLegacy(plainPacket(3, rtp.LevelExtension{}, "opus"))
	forged[20] ^= 1
	if _, drop := transport.Open(forged); drop != rtp.Unauthenticated {
		t.Errorf("a forged packet: %v", drop)
	}
	if _, drop := transport.Open(make([]byte, maxLegacy+1)); drop != rtp.Malformed {
		t.Errorf("an oversize packet: %v", drop)
	}
	if n := transport.Seal(make([]byte, 3000), rtp.Header{}, rtp.LevelExtension{}, make([]byte, 2000)); n != 0 {
		t.Error("sealed an oversize packet")
	}
	// The way discordgo opens what it gets.
	dst := make([]byte, 100)
	n := transport.Seal(dst, rtp.Header{PayloadType: 120, Sequence: 5, SSRC: 9}, rtp.LevelExtension{}, []byte("opus"))
	var nonce [24]byte
	copy(nonce[:], dst[:12])
	if got, ok := secretbox.Open(nil, dst[12:n], &nonce, &testKey); !ok || string(got) != "opus" {
		t.Errorf("discordgo reads %q, %v", got, ok)
	}
}

func TestNoncesAreUsedOnce(t *testing.T) {
	transport := newTransport(t, AES256GCM)
	dst := make([]byte, 100)
	seen := map[[4]byte]bool{}
	seal := func() (nonce [4]byte, ok bool) {
		n := transport.Seal(dst, rtp.Header{}, rtp.LevelExtension{}, nil)
		if n == 0 {
			return nonce, false
		}
		return [4]byte(dst[n-4 : n]), true
	}
	for _, start := range []uint32{0, 1 << 16, 1 << 29} {
		transport.SetNonce(start)
		for range 1000 {
			nonce, ok := seal()
			if !ok || seen[nonce] || nonce[0] < 0x80 || nonce[3] < 0x80 {
				t.Fatalf("nonce %x, sealed %v, seen %v", nonce, ok, seen[nonce])
			}
			seen[nonce] = true
		}
		if transport.Nonce() != start+1000 {
			t.Errorf("the next nonce is %d", transport.Nonce())
		}
	}
	transport.SetNonce(MaxNonce - 1)
	if nonce, ok := seal(); !ok || nonce != [4]byte{0xFF, 0xFF, 0xFF, 0xFF} {
		t.Errorf("the last nonce is %x, %v", nonce, ok)
	}
	transport.SetNonce(1<<32 - 1)
	if _, ok := seal(); ok {
		t.Error("sealed past the last nonce")
	}
	if n := transport.SealRTCP(dst, make([]byte, 8)); n != 0 {
		t.Error("sealed RTCP past the last nonce")
	}
}

func TestUnknownMode(t *testing.T) {
	if _, err := New("aead_rot13", testKey); err == nil {
		t.Error("an unknown mode was taken")
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	for _, mode := range []Mode{AES256GCM, XChaCha20Poly1305, XSalsa20Poly1305} {
		from, to := newTransport(t, mode), newTransport(t, mode)
		dst, payload := make([]byte, 1500), make([]byte, 160)
		h := rtp.Header{PayloadType: 120, SSRC: 7}
		if n := testing.AllocsPerRun(100, func() {
			h.Sequence++
			n := from.Seal(dst, h, rtp.LevelExtension{ID: 1, Level: 3}, payload)
			if _, drop := to.Open(dst[:n]); drop != rtp.Accepted {
				t.Fatal(drop)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per packet", mode, n)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, mode := range aeadModes {
		f.Add(sealAsClient(f, mode, plainPacket(1, rtp.LevelExtension{ID: 1, Level: 5}, "opus"), 16, [4]byte{1}))
	}
	f.Add(sealLegacy(plainPacket(1, rtp.LevelExtension{}, "opus")))
	f.Add([]byte{0x9F, 120, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7})
	f.Fuzz(func(t *testing.T, pkt []byte) {
		for _, mode := range []Mode{AES256GCM, XChaCha20Poly1305, XSalsa20Poly1305} {
			transport := newTransport(t, mode)
			again := bytes.Clone(pkt)
			if _, drop := transport.OpenRTCP(bytes.Clone(pkt)); drop == rtp.Accepted {
				return // then the nonce is used
			}
			_, drop := transport.Open(bytes.Clone(pkt))
			if _, second := transport.Open(again); drop == rtp.Accepted && second != rtp.Replayed {
				t.Fatalf("%s: a replay is %v", mode, second)
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, mode := range []Mode{AES256GCM, XChaCha20Poly1305, XSalsa20Poly1305} {
		b.Run(string(mode), func(b *testing.B) {
			transport := newTransport(b, mode)
			dst, payload := make([]byte, 1500), make([]byte, 160)
			h := rtp.Header{PayloadType: 120, SSRC: 7}
			b.ReportAllocs()
			for b.Loop() {
				transport.Seal(dst, h, rtp.LevelExtension{ID: 1, Level: 3}, payload)
			}
		})
	}
}

// BenchmarkOpen opens a copy of one packet under an ever fresh window, so it counts
// a copy of some 200 bytes too.
func BenchmarkOpen(b *testing.B) {
	for _, mode := range aeadModes {
		b.Run(string(mode), func(b *testing.B) {
			transport := newTransport(b, mode)
			plain := plainPacket(1, rtp.LevelExtension{ID: 1, Level: 5}, string(make([]byte, 160)))
			sealed := sealAsClient(b, mode, plain, 16, [4]byte{0, 0, 0, 1})
			pkt := make([]byte, len(sealed))
			b.ReportAllocs()
			for b.Loop() {
				copy(pkt, sealed)
				transport.replay.settled, transport.replay.window = true, rtp.Window{}
				if _, drop := transport.Open(pkt); drop != rtp.Accepted {
					b.Fatal(drop)
				}
			}
		})
	}
}
