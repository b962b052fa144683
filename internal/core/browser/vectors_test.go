package browser

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"strings"
	"testing"

	"hubbub.dev/hubbub/internal/core/rtp"
)

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyDerivation follows RFC 3711 appendix B.3.
func TestKeyDerivation(t *testing.T) {
	master, err := aes.NewCipher(fromHex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"))
	if err != nil {
		t.Fatal(err)
	}
	salt := fromHex(t, "0EC675AD498AFEEBB6960B3AABE6")
	for label, want := range map[byte]string{
		labelEncryption:     "C61E7A93744F39EE10734AFE3FF7A087",
		labelSalt:           "30CBBC08863D8C85D49DB34A9AE1",
		labelAuthentication: "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4",
	} {
		if got := derive(master, salt, label, len(want)/2); !bytes.Equal(got, fromHex(t, want)) {
			t.Errorf("label %d: %X, want %s", label, got, want)
		}
	}
}

// TestCounterMode follows RFC 3711 appendix B.2: the key stream is what zeros turn
// into.
func TestCounterMode(t *testing.T) {
	block, err := aes.NewCipher(fromHex(t, "2B7E151628AED2A6ABF7158809CF4F3C"))
	if err != nil {
		t.Fatal(err)
	}
	key := cmKey{block: block, salt: [14]byte(fromHex(t, "F0F1F2F3F4F5F6F7F8F9FAFBFCFD"))}
	stream := make([]byte, 0xFF02*aes.BlockSize)
	(&cm{}).crypt(&key, stream, 0, 0)
	for offset, want := range map[int]string{
		0:      "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0",
		0xFEFF: "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44",
	} {
		if got := stream[offset*aes.BlockSize:][:48]; !bytes.Equal(got, fromHex(t, want)) {
			t.Errorf("block %#x: %X", offset, got)
		}
	}
}

// vectorGCM holds the session key and salt of RFC 7714 section 16.
func vectorGCM(t *testing.T) *gcm {
	t.Helper()
	block, err := aes.NewCipher(fromHex(t, "000102030405060708090a0b0c0d0e0f"))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	key := gcmKey{aead: aead, salt: [12]byte(fromHex(t, "517569642070726f2071756f"))}
	return &gcm{rtp: key, rtcp: key}
}

// TestGCMMedia follows RFC 7714 section 16.1.1.
func TestGCMMedia(t *testing.T) {
	plain := fromHex(t, `8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
		69736120 696e2070 61727465 73207472 6573`)
	sealed := fromHex(t, `8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
		0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce`)
	out := Outbound{suite: vectorGCM(t)}
	dst := make([]byte, 200)
	h, head, _ := rtp.Parse(plain)
	n := out.Seal(dst, h, rtp.LevelExtension{}, plain[head:], 0)
	if !bytes.Equal(dst[:n], sealed) {
		t.Errorf("sealed %x", dst[:n])
	}
	in := Inbound{suite: vectorGCM(t)}
	if got, drop := in.Open(sealed); drop != rtp.Accepted || !bytes.Equal(got, plain) {
		t.Errorf("opened %x, %v", got, drop)
	}
}

// TestGCMControl follows RFC 7714 section 17.1.
func TestGCMControl(t *testing.T) {
	plain := fromHex(t, `81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
		deadbeef deadbeef deadbeef deadbeef deadbeef`)
	sealed := fromHex(t, `81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
		c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4`)
	out := Outbound{suite: vectorGCM(t)}
	out.SetIndex(0x5d4)
	dst := make([]byte, 200)
	if n := out.SealRTCP(dst, plain); !bytes.Equal(dst[:n], sealed) {
		t.Errorf("sealed %x", dst[:n])
	}
	in := Inbound{suite: vectorGCM(t)}
	if got, drop := in.OpenRTCP(sealed); drop != rtp.Accepted || !bytes.Equal(got, plain) {
		t.Errorf("opened %x, %v", got, drop)
	}
}
