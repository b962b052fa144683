package media

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	"github.com/pion/stun/v3"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
)

// dialer is a browser's transport without its media: ICE checks by hand, and pion's
// DTLS client over the socket they went through.
type dialer struct {
	*client
	id sfu.PeerID
}

// dialer adds a browser peer with this fingerprint, whose check has been answered.
func (r *rig) dialer(id sfu.PeerID, fingerprint string) *dialer {
	r.t.Helper()
	r.post(sfu.Command{Add: &sfu.AddPeer{Peer: id, Channel: 1, SSRC: uint32(id) << 4}})
	r.post(sfu.Command{Browser: &sfu.SetBrowser{
		Peer: id, LocalUfrag: fmt.Sprint("ufrag", id), LocalPwd: password, Fingerprint: fingerprint, OpusPT: 111,
	}})
	r.settle()
	d := &dialer{client: r.dial(uint32(id) << 4), id: id}
	d.check()
	if got := d.read(); rtp.Kind(got) != rtp.STUN {
		r.t.Fatalf("check answered with %x", got)
	}
	return d
}

func (d *dialer) check() {
	d.write(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(fmt.Sprintf("ufrag%d:x", d.id)),
		stun.RawAttribute{Type: stun.AttrUseCandidate}, stun.NewShortTermIntegrity(password), stun.Fingerprint).Raw)
}

// unconnected lets pion write to an address over a connected socket.
type unconnected struct{ *net.UDPConn }

func (u unconnected) WriteTo(b []byte, _ net.Addr) (int, error) { return u.Write(b) }

// shake runs the DTLS client. The caller closes what it gets.
func (d *dialer) shake(certificate *tls.Certificate, options ...dtls.ClientOption) (*dtls.Conn, error) {
	options = append(options,
		dtls.WithInsecureSkipVerify(true),
		dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{Writer: io.Discard}))
	if certificate != nil {
		options = append(options, dtls.WithCertificates(*certificate))
	}
	d.conn.SetReadDeadline(time.Time{})
	conn, err := dtls.ClientWithOptions(unconnected{d.conn}, d.conn.RemoteAddr(), options...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func newCertificate(t testing.TB) (*tls.Certificate, string) {
	t.Helper()
	c, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	return &c, browser.FingerprintOf(c.Certificate[0]).String()
}

var bothProfiles = dtls.WithSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM)

func TestHandshakePrefersGCM(t *testing.T) {
	r := newRig(t, Config{})
	certificate, fingerprint := newCertificate(t)
	conn, err := r.dialer(1, fingerprint).shake(certificate, bothProfiles)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	keys := r.expect("keys", func(ev sfu.Event) bool { return ev.Keys != nil }).Keys
	if keys.Profile != uint16(browser.AEADAES128GCM) {
		t.Errorf("profile %d", keys.Profile)
	}
	state, _ := conn.ConnectionState()
	material, err := state.ExportKeyingMaterial(browser.ExporterLabel, nil, browser.AEADAES128GCM.MaterialSize())
	if err != nil || !bytes.Equal(material, keys.Keying) {
		t.Errorf("the sides have different keys, %v", err)
	}
	if got := tlsFingerprint(state); got != r.Fingerprint() {
		t.Errorf("the server's certificate is %s, announced %s", got, r.Fingerprint())
	}
}

func tlsFingerprint(s dtls.State) string {
	return browser.FingerprintOf(s.PeerCertificates[0]).String()
}

// ended is a DTLS connection whose client has sent close_notify.
type ended struct{ closed bool }

func (*ended) Read([]byte) (int, error) { return 0, io.EOF }

func (e *ended) Close() error {
	e.closed = true
	return nil
}

// TestCloseNotifyIsLost does without pion's client, which closes its socket before
// or after it has written close_notify.
func TestCloseNotifyIsLost(t *testing.T) {
	b := newBench(t)
	b.browser(1, browser.AEADAES128GCM)
	for _, released := range []bool{true, false} {
		h := &handshake{worker: b.worker, peer: 1}
		h.pipe = newPipe(h.send)
		b.peers[0].browser.handshake = h
		if released {
			h.pipe.release()
		}
		var conn ended
		h.linger(t.Context(), &conn)
		b.step(0)
		if !conn.closed {
			t.Error("the DTLS connection is still open")
		}
		if got := len(b.events); released && got != 0 {
			t.Errorf("the worker's own end of a handshake is reported: %+v", b.events)
		}
	}
	if len(b.events) != 1 || b.events[0].Lost == nil || *b.events[0].Lost != (sfu.PeerLost{Peer: 1, Reason: sfu.LostClosed}) {
		t.Errorf("got %+v", b.events)
	}
}

func TestHandshakesThatFail(t *testing.T) {
	certificate, fingerprint := newCertificate(t)
	_, other := newCertificate(t)
	for name, c := range map[string]struct {
		fingerprint string
		certificate *tls.Certificate
		options     []dtls.ClientOption
	}{
		"another certificate": {other, certificate, []dtls.ClientOption{bothProfiles}},
		"no certificate":      {fingerprint, nil, []dtls.ClientOption{bothProfiles}},
		"no SRTP":             {fingerprint, certificate, nil},
		"no fingerprint":      {"", certificate, []dtls.ClientOption{bothProfiles}},
		"weak fingerprint":    {"md5 00:11", certificate, []dtls.ClientOption{bothProfiles}},
		"no extended master secret": {fingerprint, certificate, []dtls.ClientOption{
			bothProfiles, dtls.WithExtendedMasterSecret(dtls.DisableExtendedMasterSecret),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{})
			conn, err := r.dialer(1, c.fingerprint).shake(c.certificate, c.options...)
			if err == nil {
				defer conn.Close()
			}
			lost := r.expect("lost", func(ev sfu.Event) bool { return ev.Lost != nil }).Lost
			if *lost != (sfu.PeerLost{Peer: 1, Reason: sfu.LostHandshake}) {
				t.Errorf("got %+v", *lost)
			}
		})
	}
}

// handshakes waits until the worker runs as many as wanted.
func (r *rig) handshakes(want int32) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.workers.(*Media).workers[0].handshaking.Load() != want; {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d handshakes, want %d", r.workers.(*Media).workers[0].handshaking.Load(), want)
		}
		r.settle()
	}
}

func TestMediaEndsTheHandshake(t *testing.T) {
	r := newRig(t, Config{})
	p := r.page(1, 7, dtls.SRTP_AEAD_AES_128_GCM)
	p.say(1, "hello")
	r.handshakes(0)
}

func TestRemovalEndsTheHandshake(t *testing.T) {
	r := newRig(t, Config{})
	certificate, fingerprint := newCertificate(t)
	conn, err := r.dialer(1, fingerprint).shake(certificate, bothProfiles)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.handshakes(1)
	r.post(sfu.Command{Remove: &sfu.RemovePeer{Peer: 1}})
	r.handshakes(0)
}

func TestStrangersStartNoHandshake(t *testing.T) {
	r := newRig(t, Config{})
	_, fingerprint := newCertificate(t)
	r.dialer(1, fingerprint)
	hello := append([]byte{22, 0xFE, 0xFD}, make([]byte, 100)...)
	stranger := r.dial(0)
	for range 100 {
		stranger.write(hello)
	}
	r.settle()
	stranger.nothing()
	if n := r.workers.(*Media).workers[0].handshaking.Load(); n != 0 {
		t.Errorf("%d handshakes", n)
	}
}

func TestHandshakesAreBounded(t *testing.T) {
	r := newRig(t, Config{})
	d := r.dialer(1, "")
	r.workers.(*Media).workers[0].handshaking.Add(maxHandshakes)
	d.write(append([]byte{22, 0xFE, 0xFD}, make([]byte, 100)...))
	r.settle()
	d.nothing()
	r.workers.(*Media).workers[0].handshaking.Add(-maxHandshakes)
}

func TestPipeLosesWhatIsTooMuch(t *testing.T) {
	p := newPipe(func([]byte) {})
	for range 10 * pipeQueue {
		p.deliver([]byte("datagram"))
	}
	if len(p.in) != pipeQueue {
		t.Errorf("%d datagrams wait", len(p.in))
	}
	p.release()
	if _, err := p.WriteTo(nil, nil); err == nil {
		t.Error("written after the release")
	}
}
