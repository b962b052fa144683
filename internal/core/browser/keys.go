// Package browser owns the server's side of the browser transport: SRTP and SRTCP,
// ICE-lite, and the SDP fragments that the voice gateway carries. It works in place
// on buffers of its caller, from one goroutine; it never does I/O, never allocates
// per packet, and runs no DTLS: it takes the keys that a handshake exported.
package browser

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"fmt"

	"hubbub.dev/hubbub/internal/core/warm"
)

// Profile is a DTLS-SRTP protection profile by its number in the IANA registry.
type Profile uint16

// The profiles, best first (RFC 7714 section 14.2, RFC 5764 section 4.1.2).
const (
	AEADAES128GCM  Profile = 0x0007
	AESCM128SHA180 Profile = 0x0001
)

// ExporterLabel is the label of the TLS exporter for SRTP keys (RFC 5764 section 4.2).
const ExporterLabel = "EXTRACTOR-dtls_srtp"

const masterKeySize = 16

func (p Profile) saltSize() int {
	if p == AEADAES128GCM {
		return 12
	}
	return 14
}

// MaterialSize returns how many bytes to export for KeysFromExporter.
func (p Profile) MaterialSize() int { return 2 * (masterKeySize + p.saltSize()) }

// KeysFromExporter cuts exported keying material into the master keys and salts of
// the DTLS client and server (RFC 5764 section 4.2), which are parts of material. It
// fails when material is not of the profile's MaterialSize.
func KeysFromExporter(material []byte, p Profile) (clientKey, clientSalt, serverKey, serverSalt []byte, err error) {
	if len(material) != p.MaterialSize() {
		return nil, nil, nil, nil, fmt.Errorf("browser: %d bytes of SRTP keying material, want %d",
			len(material), p.MaterialSize())
	}
	cut := func(n int) (part []byte) {
		part, material = material[:n:n], material[n:]
		return part
	}
	clientKey, serverKey = cut(masterKeySize), cut(masterKeySize)
	clientSalt, serverSalt = cut(p.saltSize()), cut(p.saltSize())
	return clientKey, clientSalt, serverKey, serverSalt, nil
}

// Labels of the key derivation (RFC 3711 section 4.3.2). The SRTCP labels follow
// those of SRTP by labelControl.
const (
	labelEncryption     = 0
	labelAuthentication = 1
	labelSalt           = 2
	labelControl        = 3
)

// derive computes one session key with the AES-CM function of RFC 3711 section
// 4.3.3, at a key derivation rate of zero. A salt of 12 bytes counts as one of 14
// that ends in zeros (RFC 7714 section 11).
func derive(master cipher.Block, salt []byte, label byte, size int) []byte {
	var iv [aes.BlockSize]byte
	copy(iv[:14], salt)
	iv[7] ^= label
	key := make([]byte, size)
	cipher.NewCTR(master, iv[:]).XORKeyStream(key, key)
	return key
}

// suite protects packets in place under the session keys of one direction. A
// packet's index is its roll-over counter above its sequence number for RTP, and
// the SRTCP index for RTCP. Buffers for seal have room for the overhead after plain.
type suite interface {
	sealRTP(pkt []byte, head, plain int, ssrc uint32, index uint64)
	openRTP(pkt []byte, head int, ssrc uint32, index uint64) bool
	sealRTCP(pkt []byte, plain int, ssrc, index uint32)
	openRTCP(pkt []byte, ssrc, index uint32) bool
	// indexEnd is how far from the end of an SRTCP packet its index ends.
	indexEnd() int
	overheadRTP() int
	overheadRTCP() int
	touch() byte
}

// encrypted is the E bit before the SRTCP index (RFC 3711 section 3.4).
const encrypted = 1 << 31

// controlHeaderSize is the part of an RTCP packet that stays in the clear.
const controlHeaderSize = 8

func newSuite(p Profile, key, salt []byte) (suite, error) {
	if p != AEADAES128GCM && p != AESCM128SHA180 {
		return nil, fmt.Errorf("browser: unsupported SRTP profile %#04x", uint16(p))
	}
	if len(key) != masterKeySize || len(salt) != p.saltSize() {
		return nil, fmt.Errorf("browser: SRTP master key of %d and salt of %d bytes, want %d and %d",
			len(key), len(salt), masterKeySize, p.saltSize())
	}
	master, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("browser: SRTP master key: %w", err)
	}
	if p == AEADAES128GCM {
		return newGCM(master, salt)
	}
	return newCM(master, salt)
}

func newGCM(master cipher.Block, salt []byte) (*gcm, error) {
	g := &gcm{}
	for i, k := range []*gcmKey{&g.rtp, &g.rtcp} {
		label := byte(i * labelControl)
		block, err := aes.NewCipher(derive(master, salt, label+labelEncryption, masterKeySize))
		if err != nil {
			return nil, fmt.Errorf("browser: SRTP session key: %w", err)
		}
		if k.aead, err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("browser: SRTP session key: %w", err)
		}
		k.keys = warm.Of(k.aead)
		copy(k.salt[:], derive(master, salt, label+labelSalt, len(k.salt)))
	}
	return g, nil
}

func newCM(master cipher.Block, salt []byte) (*cm, error) {
	c := &cm{}
	for i, k := range []*cmKey{&c.rtp, &c.rtcp} {
		label := byte(i * labelControl)
		var err error
		k.block, err = aes.NewCipher(derive(master, salt, label+labelEncryption, masterKeySize))
		if err != nil {
			return nil, fmt.Errorf("browser: SRTP session key: %w", err)
		}
		k.mac = hmac.New(sha1.New, derive(master, salt, label+labelAuthentication, sha1.Size))
		copy(k.salt[:], derive(master, salt, label+labelSalt, len(k.salt)))
	}
	return c, nil
}
