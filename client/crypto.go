package client

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"hubbub.dev/hubbub/proto"
)

// nonceSize is what every sealed packet ends with: the changing part of the
// nonce. The rest of the nonce is zero (Voice Connections, "Transport Encryption
// Mode").
const nonceSize = 4

var errSealed = errors.New("client: packet does not open")

// newAEAD returns the cipher of one of the two "rtpsize" modes.
func newAEAD(mode string, key []byte) (cipher.AEAD, error) {
	switch mode {
	case proto.ModeAES256GCM:
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		return cipher.NewGCM(block)
	case proto.ModeXChaCha20:
		return chacha20poly1305.NewX(key)
	}
	return nil, fmt.Errorf("client: encryption mode %q is not spoken", mode)
}

// sealer encrypts what one transport sends. Its counter never repeats: after
// 2^32 packets it refuses, and the transport must be made anew.
type sealer struct {
	aead  cipher.AEAD
	next  uint64
	nonce [chacha20poly1305.NonceSizeX]byte
}

// seal appends the sealed form of a packet to dst: clear bytes authenticated as
// they are, then body encrypted, then the nonce.
func (s *sealer) seal(dst, clear, body []byte) ([]byte, error) {
	if s.next > 1<<32-1 {
		return nil, errors.New("client: nonces of this key are used up")
	}
	binary.BigEndian.PutUint32(s.nonce[:], uint32(s.next))
	s.next++
	dst = append(dst, clear...)
	dst = s.aead.Seal(dst, s.nonce[:s.aead.NonceSize()], body, clear)
	return append(dst, s.nonce[:nonceSize]...), nil
}

// opener decrypts what one transport receives and drops what it has seen.
type opener struct {
	aead   cipher.AEAD
	nonce  [chacha20poly1305.NonceSizeX]byte
	replay replayWindow
}

// open decrypts pkt, whose first clear bytes are authenticated only, in place
// and returns clear and body as one packet.
func (o *opener) open(pkt []byte, clear int) ([]byte, error) {
	end := len(pkt) - nonceSize
	if end < clear+o.aead.Overhead() {
		return nil, errSealed
	}
	suffix := [nonceSize]byte(pkt[end:])
	if o.replay.seen(suffix) {
		return nil, errReplayed
	}
	copy(o.nonce[:], suffix[:])
	body, err := o.aead.Open(pkt[clear:clear], o.nonce[:o.aead.NonceSize()], pkt[clear:end], pkt[:clear])
	if err != nil {
		return nil, errSealed
	}
	o.replay.accept(suffix)
	return pkt[:clear+len(body)], nil
}
