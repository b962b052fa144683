package ops

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/fingerprint"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/logging"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"

	"crypto"
	"crypto/tls"

	"hubbub.dev/hubbub/proto"
)

// Sizes of the native transport (RFC 3550, and Discord's Voice Connections).
const (
	rtpHeader  = 12
	rtcpHeader = 8
	nonceSize  = 4
)

// media is a person's transport: say sends one Opus frame, heard has what comes.
type media struct {
	say   func(sequence int, opus []byte)
	heard chan []byte
}

// socket opens a UDP socket at the person's address towards the media worker.
func (p *person) socket() *net.UDPConn {
	p.t.Helper()
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: p.addr.AsSlice()}, &net.UDPAddr{IP: net.ParseIP(p.ready.IP), Port: p.ready.Port})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// exchange sends a datagram until there is an answer that is wanted, and keeps it.
func (p *person) exchange(conn *net.UDPConn, request []byte, wanted func([]byte) bool) []byte {
	p.t.Helper()
	buf := make([]byte, 2048)
	for range 20 {
		if _, err := conn.Write(request); err != nil {
			p.t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience / 20))
		for {
			n, err := conn.Read(buf)
			if err != nil {
				break
			}
			_, _ = p.seen.Write(buf[:n])
			if wanted(buf[:n]) {
				_ = conn.SetReadDeadline(time.Time{})
				return buf[:n]
			}
		}
	}
	p.t.Fatalf("no answer from the media worker for %s", p.name)
	return nil
}

func header(sequence int, payloadType byte, ssrc uint32) []byte {
	h := make([]byte, rtpHeader)
	h[0], h[1] = 0x80, payloadType
	binary.BigEndian.PutUint16(h[2:], uint16(sequence))
	binary.BigEndian.PutUint32(h[4:], uint32(sequence)*960)
	binary.BigEndian.PutUint32(h[8:], ssrc)
	return h
}

func isRTCP(pkt []byte) bool { return pkt[1] >= 192 && pkt[1] < 224 }

// native connects as a native client does.
func (p *person) native() *media {
	p.t.Helper()
	conn := p.socket()
	discovery := make([]byte, 74)
	binary.BigEndian.PutUint16(discovery, 1)
	binary.BigEndian.PutUint16(discovery[2:], 70)
	binary.BigEndian.PutUint32(discovery[4:], p.ready.SSRC)
	answer := p.exchange(conn, discovery, func(b []byte) bool { return len(b) == 74 && b[1] == 2 })
	own := strings.TrimRight(string(answer[8:72]), "\x00")
	if own != p.addr.String() {
		p.t.Errorf("%s is told that it is at %s, not %s", p.name, own, p.addr)
	}
	data, err := json.Marshal(proto.VoiceUDPData{Address: own, Port: int(binary.BigEndian.Uint16(answer[72:])), Mode: proto.ModeAES256GCM})
	if err != nil {
		p.t.Fatal(err)
	}
	p.voice.send(int(proto.VoiceOpSelectProtocol), proto.VoiceSelectProtocol{Protocol: proto.ProtocolUDP, Data: data})
	var d proto.VoiceSessionDescription
	decode(p.t, p.voice.await(int(proto.VoiceOpSessionDescription), "").D, &d)
	key := make([]byte, len(d.SecretKey))
	for i, b := range d.SecretKey {
		key[i] = byte(b)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		p.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		p.t.Fatal(err)
	}
	m := &media{heard: make(chan []byte, 1024)}
	var nonce [12]byte
	m.say = func(sequence int, opus []byte) {
		binary.BigEndian.PutUint32(nonce[:], binary.BigEndian.Uint32(nonce[:])+1)
		h := header(sequence, 0x78, p.ready.SSRC)
		_, _ = conn.Write(append(aead.Seal(h, nonce[:], opus, h), nonce[:nonceSize]...))
	}
	p.tasks.Go(func() { p.receiveNative(conn, aead, m.heard) })
	p.t.Cleanup(func() { _ = conn.Close() })
	return m
}

func (p *person) receiveNative(conn *net.UDPConn, aead cipher.AEAD, heard chan<- []byte) {
	buf := make([]byte, 2048)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		pkt := buf[:n]
		if n < rtpHeader+nonceSize || pkt[0]>>6 != 2 {
			_, _ = p.seen.Write(pkt)
			continue
		}
		clear := rtpHeader
		if isRTCP(pkt) {
			clear = rtcpHeader
		} else if pkt[0]&0x10 != 0 {
			clear += 4
		}
		var nonce [12]byte
		copy(nonce[:], pkt[n-nonceSize:])
		plain, err := aead.Open(nil, nonce[:], pkt[clear:n-nonceSize], pkt[:clear])
		if err != nil {
			p.t.Errorf("%s got a packet that does not open: %v", p.name, err)
			return
		}
		_, _ = p.seen.Write(pkt[:clear])
		_, _ = p.seen.Write(plain)
		if !isRTCP(pkt) {
			if pkt[0]&0x10 != 0 {
				plain = plain[4*binary.BigEndian.Uint16(pkt[clear-2:]):]
			}
			deliver(heard, plain)
		}
	}
}

// deliver queues unless nobody reads.
func deliver(heard chan<- []byte, opus []byte) {
	select {
	case heard <- opus:
	default:
	}
}

var sdpLine = regexp.MustCompile(`(?m)^a=(ice-ufrag|ice-pwd):(\S+)$`)

// browser connects as a browser does: an SDP fragment, an ICE check, DTLS, SRTP.
func (p *person) browser() *media {
	p.t.Helper()
	certificate, err := selfsign.GenerateSelfSigned()
	if err != nil {
		p.t.Fatal(err)
	}
	sum, err := fingerprint.Fingerprint(certificate.Leaf, crypto.SHA256)
	if err != nil {
		p.t.Fatal(err)
	}
	fragment, err := json.Marshal(strings.Join([]string{
		"a=extmap-allow-mixed", "a=ice-ufrag:page", "a=ice-pwd:pagepagepagepagepagepage", "a=ice-options:trickle",
		"a=fingerprint:sha-256 " + sum, "a=rtpmap:111 opus/48000/2",
	}, "\n"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.voice.send(int(proto.VoiceOpSelectProtocol), proto.VoiceSelectProtocol{Protocol: proto.ProtocolWebRTC, Data: fragment})
	var d proto.VoiceSessionDescription
	decode(p.t, p.voice.await(int(proto.VoiceOpSessionDescription), "").D, &d)
	ice := map[string]string{}
	for _, m := range sdpLine.FindAllStringSubmatch(d.SDP, -1) {
		ice[m[1]] = m[2]
	}
	conn := p.socket()
	check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ice["ice-ufrag"]+":page"),
		stun.RawAttribute{Type: stun.AttrUseCandidate}, stun.NewShortTermIntegrity(ice["ice-pwd"]), stun.Fingerprint).Raw
	p.exchange(conn, check, func(b []byte) bool { return stun.IsMessage(b) && b[0] == 1 && b[1] == 1 })

	m := &media{heard: make(chan []byte, 1024)}
	mux := &muxed{UDPConn: conn, p: p, ready: make(chan struct{}), heard: m.heard}
	secure, state := p.handshake(mux, certificate)
	p.t.Cleanup(func() { _ = secure.Close() })
	cfg := srtp.Config{Profile: srtp.ProtectionProfileAeadAes128Gcm}
	if err := cfg.ExtractSessionKeysFromDTLS(&state, true); err != nil {
		p.t.Fatal(err)
	}
	out, err := srtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
	if err != nil {
		p.t.Fatal(err)
	}
	if mux.in, err = srtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile); err != nil {
		p.t.Fatal(err)
	}
	close(mux.ready)
	m.say = func(sequence int, opus []byte) {
		sealed, err := out.EncryptRTP(nil, append(header(sequence, 111, 1), opus...), nil)
		if err == nil {
			_, err = conn.Write(sealed)
		}
		if err != nil {
			p.t.Error(err)
		}
	}
	return m
}

func (p *person) handshake(mux *muxed, certificate tls.Certificate) (*dtls.Conn, dtls.State) {
	p.t.Helper()
	conn, err := dtls.ClientWithOptions(mux, mux.RemoteAddr(),
		dtls.WithInsecureSkipVerify(true), dtls.WithCertificates(certificate), dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM),
		dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{Writer: io.Discard}))
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		p.t.Fatal(err)
	}
	state, ok := conn.ConnectionState()
	if !ok {
		p.t.Fatal("DTLS without a state")
	}
	return conn, state
}

// muxed is a socket whose DTLS goes to pion, which reads it all the time, and
// whose media goes to the person.
type muxed struct {
	*net.UDPConn
	p     *person
	ready chan struct{} // closed when in is set
	in    *srtp.Context
	heard chan<- []byte
}

func (m *muxed) WriteTo(b []byte, _ net.Addr) (int, error) { return m.Write(b) }

func (m *muxed) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, err := m.Read(b)
		if err != nil {
			return 0, nil, err
		}
		if n < rtcpHeader || b[0]>>6 != 2 {
			_, _ = m.p.seen.Write(b[:n])
			if n > 0 && b[0] >= 20 && b[0] < 64 {
				return n, m.RemoteAddr(), nil
			}
			continue
		}
		select {
		case <-m.ready:
			if err := m.take(b[:n]); err != nil {
				m.p.t.Errorf("%s got a packet that does not open: %v", m.p.name, err)
			}
		default: // between the handshake's last flight and our own keys
		}
	}
}

func (m *muxed) take(pkt []byte) error {
	if isRTCP(pkt) {
		plain, err := m.in.DecryptRTCP(nil, pkt, nil)
		_, _ = m.p.seen.Write(plain)
		return err
	}
	plain, err := m.in.DecryptRTP(nil, pkt, nil)
	_, _ = m.p.seen.Write(plain)
	if err == nil && len(plain) >= rtpHeader {
		deliver(m.heard, plain[rtpHeader:])
	}
	return err
}

// hears waits until what one says is heard by another, saying it again and again.
func hears(who string, m, from *media, text string, first int) error {
	limit := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	said := append([]byte{toc}, text...)
	for n := first; ; n++ {
		from.say(n, said)
		for waiting := true; waiting; {
			select {
			case heard := <-m.heard:
				if string(heard) == string(said) {
					return nil
				}
			case <-again.C:
				waiting = false
			case <-limit:
				return fmt.Errorf("%s does not hear %q", who, text)
			}
		}
	}
}
