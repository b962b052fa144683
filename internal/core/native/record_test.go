package native

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// TestNoNonceIsUsedTwice has a transport die and go on from its record any number of
// times, with a record that was damaged in between now and then.
func TestNoNonceIsUsedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom(aeadModes).Draw(t, "mode")
		var record Record
		sealed, opened := map[uint32]bool{}, map[uint32]bool{}
		client := rapid.Uint32().Draw(t, "first nonce")
		little := rapid.Bool().Draw(t, "little endian")
		var life *Transport
		begin := func(known bool) bool {
			var err error
			if life, err = New(mode, testKey); err != nil {
				t.Fatal(err)
			}
			return life.Keep(&record, mode, testKey, known) != Lost
		}
		if !begin(false) {
			t.Fatal("a blank record is damaged")
		}
		dst := make([]byte, 200)
		var packets [][]byte
		refused := 0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"seal", "seal", "control", "open", "open", "open", "again", "die", "damage"}).Draw(t, "step") {
			case "seal":
				n := life.Seal(dst, rtp.Header{PayloadType: 120, SSRC: 7}, rtp.LevelExtension{}, []byte("opus"))
				nonce := binary.BigEndian.Uint32(dst[n-nonceSize:])
				if sealed[nonce] {
					t.Fatalf("nonce %#x is used twice", nonce)
				}
				sealed[nonce] = true
			case "control":
				n := life.SealRTCP(dst, []byte("\x80\xc9\x00\x01\x00\x00\x00\x01"))
				nonce := binary.BigEndian.Uint32(dst[n-nonceSize:])
				if sealed[nonce] {
					t.Fatalf("nonce %#x is used twice", nonce)
				}
				sealed[nonce] = true
			case "open":
				client++
				var nonce [4]byte
				if binary.BigEndian.PutUint32(nonce[:], client); little {
					binary.LittleEndian.PutUint32(nonce[:], client)
				}
				pkt := sealAsClient(t, mode, plainPacket(1, rtp.LevelExtension{}, "opus"), 12, nonce)
				packets = append(packets, append([]byte(nil), pkt...))
				if _, drop := life.Open(pkt); drop != rtp.Accepted {
					// While the byte order is settled a few may be taken for old ones.
					if refused++; refused > undecided {
						t.Fatalf("packet %d: %v", client, drop)
					}
					continue
				}
				opened[client] = true
			case "again":
				if len(packets) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(packets)-1).Draw(t, "which")
				pkt := append([]byte(nil), packets[i]...)
				counter := binary.BigEndian.Uint32(pkt[len(pkt)-4:])
				if little {
					counter = binary.LittleEndian.Uint32(pkt[len(pkt)-4:])
				}
				if _, drop := life.Open(pkt); drop == rtp.Accepted && opened[counter] {
					t.Fatalf("packet %d is taken twice", counter)
				} else if drop == rtp.Accepted {
					opened[counter] = true
				}
			case "die":
				if !begin(true) {
					t.Fatal("a record that was kept is damaged")
				}
			case "damage":
				if rapid.IntRange(0, 30).Draw(t, "rarely") > 0 {
					continue
				}
				bytes := unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
				// The tag, and both counters: without a check are the nonces of the first packets.
				at := rapid.IntRange(0, 23).Draw(t, "at")
				bytes[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
				if begin(true) {
					t.Fatalf("damage at %d is not noticed", at)
				}
				return
			}
		}
	})
}

// TestRecordOfAnotherKey begins anew for a key that nobody had, and not for one that
// may have been in use.
func TestRecordOfAnotherKey(t *testing.T) {
	for _, mode := range []Mode{AES256GCM, XSalsa20Poly1305} {
		var record Record
		if got := newTransport(t, mode).Keep(&record, mode, testKey, true); got != Lost {
			t.Errorf("%s: a blank record of a key in use: %v", mode, got)
		}
		if got := newTransport(t, mode).Keep(&record, mode, testKey, false); got != Began {
			t.Errorf("%s: a new key: %v", mode, got)
		}
		if got := newTransport(t, mode).Keep(&record, mode, testKey, true); got != Resumed {
			t.Errorf("%s: the same key: %v", mode, got)
		}
		if got := newTransport(t, mode).Keep(&record, mode, [32]byte{9}, true); got != Lost {
			t.Errorf("%s: another key in use: %v", mode, got)
		}
		record.Forget()
		if got := newTransport(t, mode).Keep(&record, mode, testKey, false); got != Began {
			t.Errorf("%s: a forgotten record: %v", mode, got)
		}
	}
}

// TestLegacyReplayOutlivesTransport opens a packet again in another life.
func TestLegacyReplayOutlivesTransport(t *testing.T) {
	var record Record
	old := newTransport(t, XSalsa20Poly1305)
	old.Keep(&record, XSalsa20Poly1305, testKey, false)
	if _, drop := old.Open(sealLegacy(plainPacket(5, rtp.LevelExtension{}, "opus"))); drop != rtp.Accepted {
		t.Fatal(drop)
	}
	next := newTransport(t, XSalsa20Poly1305)
	next.Keep(&record, XSalsa20Poly1305, testKey, true)
	if _, drop := next.Open(sealLegacy(plainPacket(5, rtp.LevelExtension{}, "opus"))); drop != rtp.Replayed {
		t.Errorf("the packet again: %v", drop)
	}
	if _, drop := next.Open(sealLegacy(plainPacket(6, rtp.LevelExtension{}, "opus"))); drop != rtp.Accepted {
		t.Errorf("the next packet: %v", drop)
	}
}

func TestKeptTransportAllocatesNothing(t *testing.T) {
	var record Record
	transport := newTransport(t, AES256GCM)
	transport.Keep(&record, AES256GCM, testKey, false)
	dst, payload := make([]byte, 200), []byte("opus")
	if n := testing.AllocsPerRun(1000, func() {
		transport.Seal(dst, rtp.Header{PayloadType: 120}, rtp.LevelExtension{}, payload)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
