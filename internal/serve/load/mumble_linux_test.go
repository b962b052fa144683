package load

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"math"
	"testing"

	"hubbub.dev/hubbub/internal/core/rtp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOCB2Vectors has those of draft-krovetz-ocb-00.
func TestOCB2Vectors(t *testing.T) {
	key := unhex(t, "000102030405060708090a0b0c0d0e0f")
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	nonce := ocbBlock(key)
	for _, v := range []struct{ plain, sealed, tag string }{
		{"", "", "bf3108130773ad5ec70ec69e7875a7b0"},
		{"0001020304050607", "c636b3a868f429bb", "a45f5fdea5c088d1d7c8be37cabc8c5c"},
		{"000102030405060708090a0b0c0d0e0f", "52e48f5d19fe2d9869f0c4a4b3d2be57", "f7ee49ae7aa5b5e6645db6b3966136f9"},
	} {
		o := ocb2{block: block}
		var tag ocbBlock
		data := unhex(t, v.plain)
		o.seal(data, &nonce, &tag)
		if hex.EncodeToString(data) != v.sealed || hex.EncodeToString(tag[:]) != v.tag {
			t.Errorf("%q: %x, tag %x", v.plain, data, tag)
		}
		tag = ocbBlock{}
		o.open(data, &nonce, &tag)
		if hex.EncodeToString(data) != v.plain || hex.EncodeToString(tag[:]) != v.tag {
			t.Errorf("%q: opened %x, tag %x", v.plain, data, tag)
		}
	}
}

// mumblePair returns a client's voice and the server's end of it. Both nonces are
// about to carry.
func mumblePair(t testing.TB) (link, far) {
	t.Helper()
	key := unhex(t, "000102030405060708090a0b0c0d0e0f")
	client, server := unhex(t, "f0ffffffffffffffff0000000000000a"), unhex(t, "f0ffffffffffffffff00000000000000")
	l, err1 := newMumbleLink(key, client, server)
	peer, err2 := newMumbleLink(key, server, client)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	open := func(datagram []byte) ([]byte, rtp.Drop) {
		// What a client sends lacks the number of the speaker: its sequence stands there.
		nonce := peer.nonceOf(datagram[0])
		plain := datagram[mumbleHeader:]
		peer.cipher.open(plain, &nonce, &peer.tag)
		if !bytes.Equal(peer.tag[:3], datagram[1:mumbleHeader]) || plain[0] != mumbleOpus {
			return nil, rtp.Unauthenticated
		}
		peer.in = nonce
		return plain, rtp.Accepted
	}
	seal := func(dst []byte, h rtp.Header, payload []byte) int {
		b := appendVarint(append(dst[:mumbleHeader], mumbleOpus), 77)
		b = appendVarint(b, uint32(h.Sequence))
		b = appendVarint(b, uint32(len(payload)))
		return peer.protect(append(b, payload...))
	}
	return l, far{open, seal}
}

func TestMumbleVarint(t *testing.T) {
	for _, v := range []uint32{0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 0x1FFFFF, 0x200000, 1<<28 - 1} {
		b := append(appendVarint(nil, v), "rest"...)
		if got, rest, ok := cutVarint(b); !ok || got != v || string(rest) != "rest" {
			t.Errorf("%#x: %#x, %q, %v", v, got, rest, ok)
		}
	}
	if got, _, ok := cutVarint([]byte{0xF0, 0xFF, 0xFF, 0xFF, 0xFF}); !ok || got != math.MaxUint32 {
		t.Errorf("32 bits: %#x, %v", got, ok)
	}
	for _, bad := range [][]byte{nil, {0x80}, {0xC0, 1}, {0xE0, 1, 2}, {0xF0, 1, 2, 3}, {0xF4}, {0xF8, 1}} {
		if _, _, ok := cutVarint(bad); ok {
			t.Errorf("%x is taken", bad)
		}
	}
}

func FuzzBytesFields(f *testing.F) {
	f.Add(appendBytes(appendField(appendBytes(nil, 1, "key"), 2, 300), 3, "nonce"))
	f.Add([]byte{0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01})
	f.Fuzz(func(t *testing.T, message []byte) {
		fields, err := bytesFields(message)
		if err != nil {
			return
		}
		for field, v := range fields {
			if len(v) > len(message) {
				t.Errorf("field %d has %d bytes of %d", field, len(v), len(message))
			}
		}
	})
}
