package browser

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// MaxFragment is the longest SDP fragment that ParseFragment reads, in bytes.
const MaxFragment = 8 << 10

// URIs of the RTP header extensions that the server reads (RFC 6464, RFC 9143).
const (
	uriAudioLevel = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
	uriMid        = "urn:ietf:params:rtp-hdrext:sdes:mid"
)

// Fingerprint is the hash of a DTLS certificate (RFC 8122 section 5).
type Fingerprint struct {
	Algorithm string // sha-256, sha-384 or sha-512
	Sum       []byte
}

// FingerprintOf returns the SHA-256 fingerprint of a certificate in DER.
func FingerprintOf(certificate []byte) Fingerprint {
	sum := sha256.Sum256(certificate)
	return Fingerprint{Algorithm: "sha-256", Sum: sum[:]}
}

// Matches reports whether this is the fingerprint of a certificate in DER.
func (f Fingerprint) Matches(certificate []byte) bool {
	var sum []byte
	switch f.Algorithm {
	case "sha-256":
		s := sha256.Sum256(certificate)
		sum = s[:]
	case "sha-384":
		s := sha512.Sum384(certificate)
		sum = s[:]
	case "sha-512":
		s := sha512.Sum512(certificate)
		sum = s[:]
	default:
		return false
	}
	return subtle.ConstantTimeCompare(sum, f.Sum) == 1
}

// String returns the fingerprint as SDP writes it.
func (f Fingerprint) String() string {
	var b strings.Builder
	b.WriteString(f.Algorithm)
	for i, octet := range f.Sum {
		b.WriteByte(" :"[min(i, 1)])
		fmt.Fprintf(&b, "%02X", octet)
	}
	return b.String()
}

// ParseFingerprint reads what String writes, in either case. It is false for another
// algorithm and for a sum of the wrong size.
func ParseFingerprint(value string) (Fingerprint, bool) {
	algorithm, digits, _ := strings.Cut(value, " ")
	f := Fingerprint{Algorithm: strings.ToLower(algorithm)}
	size := map[string]int{"sha-256": 32, "sha-384": 48, "sha-512": 64}[f.Algorithm]
	sum, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	f.Sum = sum
	return f, err == nil && size != 0 && len(sum) == size
}

// Fragment is what a browser says of its transport in Select Protocol.
type Fragment struct {
	Ufrag, Password string
	Fingerprint     Fingerprint
	// Opus is the payload type that the browser sends and takes Opus under.
	Opus uint8
	// AudioLevel and Mid are header extension ids, zero where not offered.
	AudioLevel, Mid uint8
}

// ParseFragment reads the lines that Discord's browser clients keep of their offer;
// the order and any other lines do not matter. It fails when the fragment is too
// long or lacks a valid ufrag, password, fingerprint or Opus payload type.
func ParseFragment(s string) (Fragment, error) {
	if len(s) > MaxFragment {
		return Fragment{}, fmt.Errorf("browser: SDP fragment of %d bytes, at most %d", len(s), MaxFragment)
	}
	var f Fragment
	opus := false
	for line := range strings.Lines(s) {
		attribute, ok := strings.CutPrefix(strings.TrimSpace(line), "a=")
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(attribute, ":")
		switch name {
		case "ice-ufrag":
			f.Ufrag = value
		case "ice-pwd":
			f.Password = value
		case "fingerprint":
			if parsed, ok := ParseFingerprint(value); ok {
				f.Fingerprint = parsed
			}
		case "rtpmap":
			if payloadType, ok := parseOpus(value); ok && !opus {
				f.Opus, opus = payloadType, true
			}
		case "extmap":
			f.parseExtension(value)
		}
	}
	switch {
	case !isICE(f.Ufrag, 4):
		return Fragment{}, errors.New("browser: SDP fragment without a valid a=ice-ufrag")
	case !isICE(f.Password, 22):
		return Fragment{}, errors.New("browser: SDP fragment without a valid a=ice-pwd")
	case f.Fingerprint.Sum == nil:
		return Fragment{}, errors.New("browser: SDP fragment without a usable a=fingerprint")
	case !opus:
		return Fragment{}, errors.New("browser: SDP fragment without a=rtpmap for opus/48000/2")
	}
	return f, nil
}

// isICE checks an ice-ufrag or ice-pwd by RFC 8839 section 5.4.
func isICE(s string, least int) bool {
	if len(s) < least || len(s) > 256 {
		return false
	}
	for _, c := range []byte(s) {
		if c != '+' && c != '/' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// parseOpus reads "111 opus/48000/2".
func parseOpus(value string) (payloadType uint8, ok bool) {
	number, encoding, _ := strings.Cut(value, " ")
	n, err := strconv.ParseUint(number, 10, 7)
	return uint8(n), err == nil && strings.EqualFold(strings.TrimSpace(encoding), "opus/48000/2")
}

// parseExtension reads "1 urn:…" or "1/sendonly urn:…". Ids past 14 need the
// two-byte form, which the server does not write.
func (f *Fragment) parseExtension(value string) {
	fields := strings.Fields(value)
	if len(fields) < 2 {
		return
	}
	number, _, _ := strings.Cut(fields[0], "/")
	id, err := strconv.ParseUint(number, 10, 4)
	if err != nil || id == 0 || id == 15 {
		return
	}
	switch fields[1] {
	case uriAudioLevel:
		f.AudioLevel = uint8(id)
	case uriMid:
		f.Mid = uint8(id)
	}
}

// AnswerParams is what the server says of its transport.
type AnswerParams struct {
	// Addresses are where the media worker is reached, best first, at least one and
	// all with the port of the first.
	Addresses       []netip.AddrPort
	Ufrag, Password string
	Fingerprint     Fingerprint
}

// Answer returns the SDP fragment for a Session Description, in the shape of
// Discord's, from which the browser's page builds its remote description.
func Answer(p AnswerParams) string {
	first := p.Addresses[0]
	var b strings.Builder
	fmt.Fprintf(&b, "m=audio %d ICE/SDP\n", first.Port())
	fmt.Fprintf(&b, "a=fingerprint:%s\n", p.Fingerprint)
	family := "IP4"
	if first.Addr().Unmap().Is6() {
		family = "IP6"
	}
	fmt.Fprintf(&b, "c=IN %s %s\n", family, first.Addr().Unmap())
	fmt.Fprintf(&b, "a=rtcp:%d\n", first.Port())
	fmt.Fprintf(&b, "a=ice-ufrag:%s\na=ice-pwd:%s\n", p.Ufrag, p.Password)
	for i, a := range p.Addresses {
		// Host candidates of one component: type preference 126, then the order here
		// (RFC 8445 section 5.1.2.1).
		priority := 126<<24 | (65535-i)<<8 | 255
		fmt.Fprintf(&b, "a=candidate:%d 1 UDP %d %s %d typ host\n", i+1, priority, a.Addr().Unmap(), a.Port())
	}
	return b.String()
}
