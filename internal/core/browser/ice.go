package browser

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"net/netip"

	"hubbub.dev/hubbub/internal/core/rtp"
)

// STUN, as far as ICE-lite needs it (RFC 8489 section 5, 14 and 18; RFC 8445
// section 16.1).
const (
	stunHeaderSize     = 20
	stunCookie         = 0x2112A442
	bindingRequest     = 0x0001
	bindingSuccess     = 0x0101
	fingerprintXOR     = 0x5354554E
	integritySize      = sha1.Size
	fingerprintSize    = 4
	attributeHeader    = 4
	attrUsername       = 0x0006
	attrIntegrity      = 0x0008
	attrXORMapped      = 0x0020
	attrPriority       = 0x0024
	attrUseCandidate   = 0x0025
	attrFingerprint    = 0x8028
	familyIPv4         = 1
	familyIPv6         = 2
	integrityAttribute = attributeHeader + integritySize
)

// BindingSuccessSize is the most bytes that PutBindingSuccess writes.
const BindingSuccessSize = stunHeaderSize + attributeHeader + 20 +
	integrityAttribute + attributeHeader + fingerprintSize

// Binding is a connectivity check that has been authenticated.
type Binding struct {
	Transaction [12]byte
	Priority    uint32
	// Nominated is set when the browser chose this pair (USE-CANDIDATE).
	Nominated bool
}

// BindingUsername returns the server's part of the USERNAME in a STUN binding
// request, by which its peer is found before anything is authenticated. It is a
// part of pkt.
func BindingUsername(pkt []byte) (localUfrag []byte, ok bool) {
	if !isBindingRequest(pkt) {
		return nil, false
	}
	for rest := pkt[stunHeaderSize:]; ; {
		kind, value, next, more := nextAttribute(rest)
		if !more || kind == attrIntegrity {
			return nil, false
		}
		if kind == attrUsername {
			localUfrag, _, ok = bytes.Cut(value, []byte(":"))
			return localUfrag, ok
		}
		rest = next
	}
}

func isBindingRequest(pkt []byte) bool {
	return rtp.Kind(pkt) == rtp.STUN && binary.BigEndian.Uint16(pkt) == bindingRequest
}

// nextAttribute splits the first attribute from rest, with its padding.
func nextAttribute(rest []byte) (kind uint16, value, next []byte, ok bool) {
	if len(rest) < attributeHeader {
		return 0, nil, nil, false
	}
	size := int(binary.BigEndian.Uint16(rest[2:]))
	padded := attributeHeader + (size+3)&^3
	if len(rest) < padded {
		return 0, nil, nil, false
	}
	return binary.BigEndian.Uint16(rest), rest[attributeHeader : attributeHeader+size], rest[padded:], true
}

// ICE is the ICE-lite agent of one peer: it answers checks and makes none.
type ICE struct {
	mac    hash.Hash
	header [stunHeaderSize]byte // scratch
	sum    [integritySize]byte  // scratch
}

// NewICE takes the password that the server gave the peer in a=ice-pwd.
func NewICE(localPassword string) *ICE {
	return &ICE{mac: hmac.New(sha1.New, []byte(localPassword))}
}

// ParseBinding reads a STUN binding request. It is false for anything else and for
// a request whose MESSAGE-INTEGRITY or FINGERPRINT is missing or wrong: those get no
// answer, so that a stranger learns nothing.
func (a *ICE) ParseBinding(pkt []byte) (b Binding, ok bool) {
	if !isBindingRequest(pkt) {
		return Binding{}, false
	}
	copy(b.Transaction[:], pkt[8:])
	authentic := false
	for rest := pkt[stunHeaderSize:]; len(rest) > 0; {
		kind, value, next, more := nextAttribute(rest)
		if !more {
			return Binding{}, false
		}
		offset := len(pkt) - len(rest)
		switch {
		case kind == attrFingerprint:
			return b, authentic && len(next) == 0 && len(value) == fingerprintSize &&
				binary.BigEndian.Uint32(value) == fingerprint(pkt[:offset])
		case authentic:
			// What comes between the two checksums is not authenticated.
		case kind == attrIntegrity:
			if len(value) != integritySize || !hmac.Equal(value, a.integrity(pkt[:offset])) {
				return Binding{}, false
			}
			authentic = true
		case kind == attrPriority && len(value) == 4:
			b.Priority = binary.BigEndian.Uint32(value)
		case kind == attrUseCandidate:
			b.Nominated = true
		}
		rest = next
	}
	return Binding{}, false
}

// integrity returns the HMAC of a message up to its MESSAGE-INTEGRITY, whose header
// must count that attribute and nothing after it (RFC 8489 section 14.5).
func (a *ICE) integrity(message []byte) []byte {
	copy(a.header[:], message)
	binary.BigEndian.PutUint16(a.header[2:], uint16(len(message)-stunHeaderSize+integrityAttribute))
	a.mac.Reset()
	a.mac.Write(a.header[:])
	a.mac.Write(message[stunHeaderSize:])
	return a.mac.Sum(a.sum[:0])
}

func fingerprint(message []byte) uint32 { return crc32.ChecksumIEEE(message) ^ fingerprintXOR }

// PutBindingSuccess writes into dst the answer to a check that came from this
// address, and returns its size, or 0 when dst is shorter than BindingSuccessSize.
func (a *ICE) PutBindingSuccess(dst []byte, transaction [12]byte, from netip.AddrPort) int {
	if len(dst) < BindingSuccessSize {
		return 0
	}
	binary.BigEndian.PutUint16(dst, bindingSuccess)
	binary.BigEndian.PutUint32(dst[4:], stunCookie)
	copy(dst[8:], transaction[:])
	n := stunHeaderSize
	n += putMappedAddress(dst[n:], dst[4:stunHeaderSize], from)

	sum := a.integrity(dst[:n])
	n += putAttribute(dst[n:], attrIntegrity, integritySize)
	copy(dst[n-integritySize:], sum)

	// The fingerprint covers a header that counts it too.
	binary.BigEndian.PutUint16(dst[2:], uint16(n-stunHeaderSize+attributeHeader+fingerprintSize))
	sum32 := fingerprint(dst[:n])
	n += putAttribute(dst[n:], attrFingerprint, fingerprintSize)
	binary.BigEndian.PutUint32(dst[n-fingerprintSize:], sum32)
	return n
}

// putAttribute writes an attribute's header and returns the attribute's whole size.
func putAttribute(dst []byte, kind uint16, size int) int {
	binary.BigEndian.PutUint16(dst, kind)
	binary.BigEndian.PutUint16(dst[2:], uint16(size))
	return attributeHeader + size
}

// putMappedAddress writes an XOR-MAPPED-ADDRESS, mask being the cookie and the
// transaction (RFC 8489 section 14.2).
func putMappedAddress(dst, mask []byte, from netip.AddrPort) int {
	addr := from.Addr().Unmap()
	size, family := 8, uint16(familyIPv4)
	value := dst[attributeHeader:]
	if addr.Is4() {
		ip := addr.As4()
		copy(value[4:], ip[:])
	} else {
		size, family = 20, familyIPv6
		ip := addr.As16()
		copy(value[4:], ip[:])
	}
	binary.BigEndian.PutUint16(value, family)
	binary.BigEndian.PutUint16(value[2:], from.Port()^stunCookie>>16)
	for i := range value[4:size] {
		value[4+i] ^= mask[i]
	}
	return putAttribute(dst, attrXORMapped, size)
}
