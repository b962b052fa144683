package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/logging"
	"github.com/pion/stun/v3"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/proto"
)

// identity is the certificate that all browsers of a process show: making one each
// would load this side alone.
var identity = sync.OnceValues(func() (tls.Certificate, error) { return selfsign.GenerateSelfSigned() })

// answered is what the server's SDP fragment says.
type answered struct {
	ufrag, password string
	fingerprint     string
}

func parseAnswer(sdp string) (a answered, ok bool) {
	for line := range strings.Lines(sdp) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "a=ice-ufrag":
			a.ufrag = value
		case "a=ice-pwd":
			a.password = value
		case "a=fingerprint":
			a.fingerprint = value
		}
	}
	return a, a.ufrag != "" && a.password != "" && a.fingerprint != ""
}

// selectBrowser joins as a page does: an SDP fragment, a connectivity check, DTLS.
func (p *party) selectBrowser(ctx context.Context, m *member, conn *net.UDPConn) error {
	certificate, err := identity()
	if err != nil {
		return err
	}
	ufrag := fmt.Sprintf("%08x", rand.Uint32())
	offer := fmt.Sprintf("a=fingerprint:%s\na=ice-ufrag:%s\na=ice-pwd:%016x%016x\na=rtpmap:%d opus/48000/2\n"+
		"a=extmap:%d urn:ietf:params:rtp-hdrext:ssrc-audio-level\n",
		browser.FingerprintOf(certificate.Certificate[0]), ufrag, rand.Uint64(), rand.Uint64(), browserOpus, browserExt)
	d, err := p.selectProtocol(ctx, m, proto.ProtocolWebRTC, offer)
	if err != nil {
		return err
	}
	server, ok := parseAnswer(d.SDP)
	if !ok {
		return errors.New("the server's SDP fragment lacks ufrag, password or fingerprint")
	}
	check, err := bindingRequest(server, ufrag)
	if err != nil {
		return err
	}
	answer := func(b []byte) bool { return rtp.Kind(b) == rtp.STUN && b[0] == 1 }
	if err := exchange(ctx, conn, check, answer); err != nil {
		return fmt.Errorf("ICE: %w", err)
	}
	profile, keying, err := handshake(ctx, conn, certificate, server.fingerprint)
	if err != nil {
		return fmt.Errorf("DTLS: %w", err)
	}
	m.seat.ssrc = rand.Uint32()
	m.seat.link, err = newBrowserLink(profile, keying, check)
	return err
}

// bindingRequest makes the connectivity check that nominates the only pair there is
// (RFC 8445 section 7.1).
func bindingRequest(server answered, ufrag string) ([]byte, error) {
	attribute := func(t stun.AttrType, value []byte) stun.Setter { return stun.RawAttribute{Type: t, Value: value} }
	var priority, tieBreaker [8]byte
	binary.BigEndian.PutUint32(priority[:], 110<<24|65535<<8|255)
	binary.BigEndian.PutUint64(tieBreaker[:], rand.Uint64())
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest,
		stun.NewUsername(server.ufrag+":"+ufrag),
		attribute(stun.AttrPriority, priority[:4]),
		attribute(stun.AttrICEControlling, tieBreaker[:]),
		attribute(stun.AttrUseCandidate, nil),
		stun.NewShortTermIntegrity(server.password), stun.Fingerprint)
	if err != nil {
		return nil, err
	}
	return m.Raw, nil
}

// handshake is the DTLS client's, and returns what the SRTP keys are cut from.
func handshake(ctx context.Context, conn *net.UDPConn, certificate tls.Certificate, fingerprint string) (browser.Profile, []byte, error) {
	borrowed := &borrowedConn{UDPConn: conn}
	client, err := dtls.ClientWithOptions(borrowed, conn.RemoteAddr(),
		dtls.WithCertificates(certificate),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithInsecureSkipVerify(true),
		dtls.WithVerifyPeerCertificate(func(certificates [][]byte, _ [][]*x509.Certificate) error {
			if len(certificates) == 0 || !strings.EqualFold(browser.FingerprintOf(certificates[0]).String(), fingerprint) {
				return errors.New("not the certificate of the SDP fragment")
			}
			return nil
		}),
		dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{Writer: io.Discard}),
	)
	if err != nil {
		return 0, nil, err
	}
	// The connection lives on as SRTP, without the close_notify that would end it.
	defer func() { borrowed.giveBack(); _ = client.Close() }()
	if err := client.HandshakeContext(ctx); err != nil {
		return 0, nil, err
	}
	selected, agreed := client.SelectedSRTPProtectionProfile()
	state, known := client.ConnectionState()
	if !agreed || !known {
		return 0, nil, errors.New("no SRTP profile agreed on")
	}
	profile := browser.Profile(selected)
	keying, err := state.ExportKeyingMaterial(browser.ExporterLabel, nil, profile.MaterialSize())
	return profile, keying, err
}

// borrowedConn is a UDP socket for the time of a DTLS handshake.
type borrowedConn struct {
	*net.UDPConn
	over atomic.Bool
}

// ReadFrom returns DTLS alone: media may come before the handshake is known to be
// over.
func (c *borrowedConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, err := c.Read(b)
		if c.over.Load() {
			return 0, nil, net.ErrClosed
		}
		if err != nil || rtp.Kind(b[:n]) == rtp.DTLS {
			return n, c.RemoteAddr(), err
		}
	}
}

// WriteTo writes to the one peer there is.
func (c *borrowedConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if c.over.Load() {
		return 0, net.ErrClosed
	}
	return c.Write(b)
}

// giveBack ends all reads and writes through c and leaves the socket open.
func (c *borrowedConn) giveBack() {
	c.over.Store(true)
	_ = c.UDPConn.SetReadDeadline(time.Unix(1, 0))
}

// SetDeadline sets the deadline of reads: writes do not wait.
func (c *borrowedConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline leaves the one of giveBack alone.
func (c *borrowedConn) SetReadDeadline(t time.Time) error {
	if c.over.Load() {
		return nil
	}
	return c.UDPConn.SetReadDeadline(t)
}

// Close leaves the socket open.
func (c *borrowedConn) Close() error {
	c.giveBack()
	return nil
}
