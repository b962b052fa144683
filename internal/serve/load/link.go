package load

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/rtp"
)

// link is the media transport of one client, used by one loop.
type link interface {
	// open decrypts a datagram in place and returns the payload of media, a part of
	// it. ok is false for what is damaged; other datagrams that a server may send
	// (reports, answers) have no payload and are ok.
	open(datagram []byte) (payload []byte, ok bool)
	// seal writes into dst the datagram with the next payload of a sender's. voice is
	// false for a frame that holds silence.
	seal(dst, payload []byte, h rtp.Header, voice bool) int
	// alive writes into dst what keeps the path open, 0 for nothing.
	alive(dst []byte) int
}

const (
	nativeOpus  = 120 // payload type (Discord, "Voice Connections")
	browserOpus = 111
	browserExt  = 1 // id of the audio level
	speechLevel = 30
)

// nativeLink is a client of Discord's native transport.
type nativeLink struct {
	in    *native.Transport
	out   cipher.AEAD
	nonce [chacha20poly1305.NonceSizeX]byte
	sent  uint32
	beats uint64
}

func newNativeLink(mode native.Mode, key [32]byte) (*nativeLink, error) {
	in, err := native.New(mode, key)
	if err != nil {
		return nil, err
	}
	out, err := newAEAD(mode, key)
	return &nativeLink{in: in, out: out}, err
}

func newAEAD(mode native.Mode, key [32]byte) (cipher.AEAD, error) {
	if mode == native.XChaCha20Poly1305 {
		return chacha20poly1305.NewX(key[:])
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (l *nativeLink) open(datagram []byte) (payload []byte, ok bool) {
	switch rtp.Kind(datagram) {
	case rtp.RTP:
		plain, drop := l.in.Open(datagram)
		if drop != rtp.Accepted {
			return nil, false
		}
		return mediaOf(plain, nativeOpus)
	case rtp.RTCP:
		_, drop := l.in.OpenRTCP(datagram)
		return nil, drop == rtp.Accepted
	}
	return nil, true
}

// mediaOf returns the payload of a plain RTP packet.
func mediaOf(plain []byte, opus uint8) (payload []byte, ok bool) {
	h, _, ok := rtp.Parse(plain)
	if !ok || h.PayloadType != opus {
		return nil, false
	}
	return h.Payload(plain), true
}

// seal counts its nonces from zero, as libraries do: native.Transport's are the
// server's.
func (l *nativeLink) seal(dst, payload []byte, h rtp.Header, _ bool) int {
	h.PayloadType = nativeOpus
	n := rtp.PutHeader(dst, h, rtp.LevelExtension{})
	binary.BigEndian.PutUint32(l.nonce[:], l.sent)
	l.sent++
	end := n + len(l.out.Seal(dst[n:n], l.nonce[:l.out.NonceSize()], payload, dst[:n]))
	return end + copy(dst[end:], l.nonce[:4])
}

func (l *nativeLink) alive(dst []byte) int {
	l.beats++
	binary.LittleEndian.PutUint64(dst, l.beats)
	return 8
}

// browserLink is a browser behind DTLS-SRTP.
type browserLink struct {
	out *browser.Outbound
	// An Inbound takes few sources, so there are as many as there are sources.
	in      []*browser.Inbound
	sources []uint32
	more    func() (*browser.Inbound, error)
	check   []byte // a STUN binding request
	highest uint64 // of the packets sent, with roll-overs
}

const (
	sourcesPerInbound = 8 // what browser.Inbound takes
	maxSources        = 1024
)

func newBrowserLink(profile browser.Profile, keying, check []byte) (*browserLink, error) {
	clientKey, clientSalt, serverKey, serverSalt, err := browser.KeysFromExporter(keying, profile)
	if err != nil {
		return nil, err
	}
	l := &browserLink{check: check}
	l.more = func() (*browser.Inbound, error) { return browser.NewInbound(profile, serverKey, serverSalt) }
	l.out, err = browser.NewOutbound(profile, clientKey, clientSalt)
	return l, err
}

// inbound returns what opens the packets of a source, nil for one source too many.
func (l *browserLink) inbound(ssrc uint32) *browser.Inbound {
	i := slices.Index(l.sources, ssrc)
	if i < 0 {
		if i = len(l.sources); i == maxSources {
			return nil
		}
		l.sources = append(l.sources, ssrc)
	}
	if i /= sourcesPerInbound; i == len(l.in) {
		in, err := l.more()
		if err != nil {
			panic("load: keys that made one Inbound make no other: " + err.Error())
		}
		l.in = append(l.in, in)
	}
	return l.in[i]
}

func (l *browserLink) open(datagram []byte) (payload []byte, ok bool) {
	switch rtp.Kind(datagram) {
	case rtp.RTP:
		in := l.inbound(binary.BigEndian.Uint32(datagram[8:]))
		if in == nil {
			return nil, false
		}
		plain, drop := in.Open(datagram)
		if drop != rtp.Accepted {
			return nil, false
		}
		return mediaOf(plain, browserOpus)
	case rtp.RTCP:
		// A report may come before the first packet of its source.
		in := l.inbound(binary.BigEndian.Uint32(datagram[4:]))
		if in == nil {
			return nil, false
		}
		_, drop := in.OpenRTCP(datagram)
		return nil, drop == rtp.Accepted
	}
	return nil, true
}

func (l *browserLink) seal(dst, payload []byte, h rtp.Header, voice bool) int {
	h.PayloadType = browserOpus
	level := rtp.LevelExtension{ID: browserExt, Level: rtp.Silent}
	if voice {
		level.Level = rtp.MakeAudioLevel(speechLevel, true)
	}
	n := l.out.Seal(dst, h, level, payload, uint32(l.highest>>16))
	if l.highest++; uint16(l.highest) != h.Sequence+1 {
		l.highest = l.highest&^0xFFFF | uint64(h.Sequence) + 1
	}
	return n
}

// alive renews the consent (RFC 7675).
func (l *browserLink) alive(dst []byte) int { return copy(dst, l.check) }
