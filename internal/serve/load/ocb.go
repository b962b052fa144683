package load

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// ocb2 is OCB2-AES128 as Mumble's voice uses it (Rogaway 2004). It is broken as an
// authenticated cipher and is here to measure beside, not to protect.
type ocb2 struct {
	block cipher.Block
	// Scratch: as locals they would escape into the cipher's interface.
	delta, sum, work, pad [aes.BlockSize]byte
}

type ocbBlock = [aes.BlockSize]byte

// double multiplies a block by two in GF(2^128).
func double(b *ocbBlock) {
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	carry := high >> 63
	binary.BigEndian.PutUint64(b[:8], high<<1|low>>63)
	binary.BigEndian.PutUint64(b[8:], low<<1^carry*0x87)
}

func xor(dst *ocbBlock, a, b []byte) { subtle.XORBytes(dst[:], a, b) }

// begin starts a packet under a nonce.
func (o *ocb2) begin(nonce *ocbBlock) {
	o.block.Encrypt(o.delta[:], nonce[:])
	clear(o.sum[:])
}

// lastPad makes the pad of the last block, of size bytes.
func (o *ocb2) lastPad(size int) {
	double(&o.delta)
	clear(o.work[:])
	binary.BigEndian.PutUint64(o.work[8:], uint64(size)*8)
	xor(&o.work, o.work[:], o.delta[:])
	o.block.Encrypt(o.pad[:], o.work[:])
}

// tag ends a packet.
func (o *ocb2) tag(tag *ocbBlock) {
	o.work = o.delta
	double(&o.work)
	xor(&o.delta, o.delta[:], o.work[:])
	xor(&o.work, o.delta[:], o.sum[:])
	o.block.Encrypt(tag[:], o.work[:])
}

// seal encrypts data in place.
func (o *ocb2) seal(data []byte, nonce, tag *ocbBlock) {
	o.begin(nonce)
	for ; len(data) > aes.BlockSize; data = data[aes.BlockSize:] {
		double(&o.delta)
		xor(&o.sum, o.sum[:], data)
		xor(&o.work, o.delta[:], data)
		o.block.Encrypt(o.work[:], o.work[:])
		subtle.XORBytes(data, o.delta[:], o.work[:])
	}
	o.lastPad(len(data))
	o.work = o.pad
	copy(o.work[:], data)
	xor(&o.sum, o.sum[:], o.work[:])
	subtle.XORBytes(data, data, o.pad[:])
	o.tag(tag)
}

// open decrypts data in place; the caller compares the tag.
func (o *ocb2) open(data []byte, nonce, tag *ocbBlock) {
	o.begin(nonce)
	for ; len(data) > aes.BlockSize; data = data[aes.BlockSize:] {
		double(&o.delta)
		xor(&o.work, o.delta[:], data)
		o.block.Decrypt(o.work[:], o.work[:])
		subtle.XORBytes(data, o.delta[:], o.work[:])
		xor(&o.sum, o.sum[:], data)
	}
	o.lastPad(len(data))
	subtle.XORBytes(data, data, o.pad[:])
	o.work = o.pad
	copy(o.work[:], data)
	xor(&o.sum, o.sum[:], o.work[:])
	o.tag(tag)
}
