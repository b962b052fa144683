package browser

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	"hubbub.dev/hubbub/internal/core/warm"
)

const (
	gcmTag = 16
	cmTag  = 10
	// indexSize is that of the SRTCP index with its E bit.
	indexSize = 4
)

// gcm is AEAD_AES_128_GCM (RFC 7714).
type gcm struct {
	rtp, rtcp gcmKey
	nonce     [12]byte                            // scratch
	aad       [controlHeaderSize + indexSize]byte // scratch
}

type gcmKey struct {
	aead cipher.AEAD
	keys warm.Object
	salt [12]byte
}

// iv forms the nonce of RFC 7714 sections 8.1 and 9.1: two zero bytes, the SSRC and
// 48 bits of index, which for SRTCP are 16 zero bits and the index.
func (g *gcm) iv(k *gcmKey, ssrc uint32, index uint64) []byte {
	binary.BigEndian.PutUint16(g.nonce[:], 0)
	binary.BigEndian.PutUint32(g.nonce[2:], ssrc)
	binary.BigEndian.PutUint16(g.nonce[6:], uint16(index>>32))
	binary.BigEndian.PutUint32(g.nonce[8:], uint32(index))
	subtle.XORBytes(g.nonce[:], g.nonce[:], k.salt[:])
	return g.nonce[:]
}

func (g *gcm) touch() byte { return g.rtp.keys.Touch() }

// touch reads nothing ahead: what only old clients take is not worth it.
func (*cm) touch() byte { return 0 }

func (g *gcm) sealRTP(pkt []byte, head, plain int, ssrc uint32, index uint64) {
	g.rtp.aead.Seal(pkt[head:head], g.iv(&g.rtp, ssrc, index), pkt[head:plain], pkt[:head])
}

func (g *gcm) openRTP(pkt []byte, head int, ssrc uint32, index uint64) bool {
	_, err := g.rtp.aead.Open(pkt[head:head], g.iv(&g.rtp, ssrc, index), pkt[head:], pkt[:head])
	return err == nil
}

// associated returns the authenticated part of an SRTCP packet, which in the packet
// lies on both sides of the ciphertext (RFC 7714 section 9.2).
func (g *gcm) associated(pkt []byte, index uint32) []byte {
	copy(g.aad[:], pkt[:controlHeaderSize])
	binary.BigEndian.PutUint32(g.aad[controlHeaderSize:], encrypted|index)
	return g.aad[:]
}

func (g *gcm) sealRTCP(pkt []byte, plain int, ssrc, index uint32) {
	g.rtcp.aead.Seal(pkt[controlHeaderSize:controlHeaderSize], g.iv(&g.rtcp, ssrc, uint64(index)),
		pkt[controlHeaderSize:plain], g.associated(pkt, index))
	binary.BigEndian.PutUint32(pkt[plain+gcmTag:], encrypted|index)
}

func (g *gcm) openRTCP(pkt []byte, ssrc, index uint32) bool {
	_, err := g.rtcp.aead.Open(pkt[controlHeaderSize:controlHeaderSize], g.iv(&g.rtcp, ssrc, uint64(index)),
		pkt[controlHeaderSize:len(pkt)-indexSize], g.associated(pkt, index))
	return err == nil
}

func (*gcm) indexEnd() int     { return 0 }
func (*gcm) overheadRTP() int  { return gcmTag }
func (*gcm) overheadRTCP() int { return gcmTag + indexSize }

// cm is AES_CM_128_HMAC_SHA1_80 (RFC 3711).
type cm struct {
	rtp, rtcp cmKey
	// Scratch, kept here because arguments of interface methods would escape.
	counter [aes.BlockSize]byte
	stream  [8 * aes.BlockSize]byte
	sum     [sha1.Size]byte
	word    [4]byte
}

type cmKey struct {
	block cipher.Block
	mac   hash.Hash
	salt  [14]byte
}

// crypt encrypts or decrypts body in place with the key stream of RFC 3711 section
// 4.1.1. It counts for itself because cipher.NewCTR would allocate for every packet.
func (c *cm) crypt(k *cmKey, body []byte, ssrc uint32, index uint64) {
	copy(c.counter[:], k.salt[:])
	high := binary.BigEndian.Uint64(c.counter[:]) ^ uint64(ssrc)
	low := (binary.BigEndian.Uint64(c.counter[8:]) ^ index<<16) &^ 0xFFFF
	binary.BigEndian.PutUint64(c.counter[:], high)
	for len(body) > 0 {
		n := min(len(body), len(c.stream))
		for i := 0; i < n; i += aes.BlockSize {
			binary.BigEndian.PutUint64(c.counter[8:], low)
			k.block.Encrypt(c.stream[i:], c.counter[:])
			low++
		}
		subtle.XORBytes(body, body[:n], c.stream[:n])
		body = body[n:]
	}
}

// tag authenticates what it is given, followed by word for SRTP: the roll-over
// counter, which is not in the packet.
func (c *cm) tag(k *cmKey, covered, word []byte) []byte {
	k.mac.Reset()
	k.mac.Write(covered)
	k.mac.Write(word)
	return k.mac.Sum(c.sum[:0])[:cmTag]
}

func (c *cm) rollover(index uint64) []byte {
	binary.BigEndian.PutUint32(c.word[:], uint32(index>>16))
	return c.word[:]
}

func (c *cm) sealRTP(pkt []byte, head, plain int, ssrc uint32, index uint64) {
	c.crypt(&c.rtp, pkt[head:plain], ssrc, index)
	copy(pkt[plain:], c.tag(&c.rtp, pkt[:plain], c.rollover(index)))
}

func (c *cm) openRTP(pkt []byte, head int, ssrc uint32, index uint64) bool {
	plain := len(pkt) - cmTag
	if subtle.ConstantTimeCompare(pkt[plain:], c.tag(&c.rtp, pkt[:plain], c.rollover(index))) == 0 {
		return false
	}
	c.crypt(&c.rtp, pkt[head:plain], ssrc, index)
	return true
}

func (c *cm) sealRTCP(pkt []byte, plain int, ssrc, index uint32) {
	c.crypt(&c.rtcp, pkt[controlHeaderSize:plain], ssrc, uint64(index))
	binary.BigEndian.PutUint32(pkt[plain:], encrypted|index)
	copy(pkt[plain+indexSize:], c.tag(&c.rtcp, pkt[:plain+indexSize], nil))
}

func (c *cm) openRTCP(pkt []byte, ssrc, index uint32) bool {
	covered := len(pkt) - cmTag
	if subtle.ConstantTimeCompare(pkt[covered:], c.tag(&c.rtcp, pkt[:covered], nil)) == 0 {
		return false
	}
	c.crypt(&c.rtcp, pkt[controlHeaderSize:covered-indexSize], ssrc, uint64(index))
	return true
}

func (*cm) indexEnd() int     { return cmTag }
func (*cm) overheadRTP() int  { return cmTag }
func (*cm) overheadRTCP() int { return indexSize + cmTag }
