package media

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/sfu"
)

const (
	// maxHandshakes bounds those of one worker: at about 100 KiB each, 50 MiB.
	maxHandshakes    = 512
	handshakeTimeout = 10 * time.Second
	// linger is how long a handshake that ended answers retransmissions: a client
	// that lost the last flight asks again after 1 and after 3 seconds.
	linger = 4 * time.Second
)

// errFingerprint says that the client's certificate is not the one it signalled.
var errFingerprint = errors.New("media: certificate does not match the signalled fingerprint")

// handshake is the DTLS server of one browser peer, on a goroutine of its own: it
// computes for milliseconds, which a worker can not wait.
type handshake struct {
	worker      *worker
	peer        sfu.PeerID
	fingerprint browser.Fingerprint
	pipe        *pipe
}

// output is what a handshake has for its worker; exactly one of datagram, keys and
// lost is set.
type output struct {
	from     *handshake
	datagram []byte
	keys     *sfu.SetSRTPKeys
	lost     sfu.LostReason
}

// startHandshake is false when too many run.
func (w *worker) startHandshake(slot sfu.Slot) bool {
	if w.handshaking.Add(1) > maxHandshakes {
		w.handshaking.Add(-1)
		return false
	}
	p := &w.peers[slot]
	h := &handshake{worker: w, peer: p.id, fingerprint: p.browser.fingerprint}
	h.pipe = newPipe(h.send)
	p.browser.handshake = h
	w.group.Go("dtls", h.run)
	return true
}

// endHandshake lets the peer's DTLS state go.
func (b *browserPeer) endHandshake() {
	if b.handshake != nil {
		b.handshake.pipe.release()
		b.handshake = nil
	}
}

// takeOutput does what a handshake asks for, unless its peer has moved on.
func (w *worker) takeOutput(out output) {
	slot, ok := w.router.Find(out.from.peer)
	if !ok || w.peers[slot].browser == nil || w.peers[slot].browser.handshake != out.from {
		return
	}
	p := &w.peers[slot]
	switch {
	case out.keys != nil:
		if w.setKeys(slot, out.keys) {
			w.sink(w.index, sfu.Event{Keys: out.keys})
			// The handshake's end decrypted too, and one who only listens sends no more.
			w.announce(p)
		}
	case out.lost != 0:
		w.lose(slot, out.lost)
	case p.addr.IsValid():
		w.queue(copy(w.next(), out.datagram), p.addr)
	}
}

// send is the pipe's other end. A datagram that finds the mailbox full is lost, as
// on any network.
func (h *handshake) send(datagram []byte) {
	if h.worker.outputs.Post(output{from: h, datagram: datagram}) {
		h.worker.socket.Wake()
	}
}

// tell delivers what must not be lost.
func (h *handshake) tell(ctx context.Context, out output) {
	out.from = h
	for !h.worker.outputs.Post(out) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	h.worker.socket.Wake()
}

func (h *handshake) run(ctx context.Context) {
	defer h.worker.handshaking.Add(-1)
	defer h.pipe.release()
	conn, keys, err := h.shake(ctx)
	if err != nil {
		if ctx.Err() == nil {
			h.worker.log.Debug("DTLS handshake failed", "worker", h.worker.index, "error", err)
			h.tell(ctx, output{lost: sfu.LostHandshake})
		}
		return
	}
	h.tell(ctx, output{keys: keys})
	h.linger(ctx, conn)
}

// shake runs the handshake and exports the SRTP keys (RFC 5764 section 4.2).
func (h *handshake) shake(ctx context.Context) (*dtls.Conn, *sfu.SetSRTPKeys, error) {
	conn, err := dtls.ServerWithOptions(h.pipe, h.pipe.LocalAddr(),
		dtls.WithCertificates(h.worker.certificate),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithClientAuth(dtls.RequireAnyClientCert),
		dtls.WithVerifyPeerCertificate(h.verify),
		// The ICE check has shown that the client is where it says.
		dtls.WithInsecureSkipVerifyHello(true),
		dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{Writer: io.Discard}),
	)
	if err != nil {
		return nil, nil, err
	}
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var keys *sfu.SetSRTPKeys
	if err = conn.HandshakeContext(limited); err == nil {
		keys, err = h.export(conn)
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, keys, nil
}

func (h *handshake) verify(certificates [][]byte, _ [][]*x509.Certificate) error {
	if len(certificates) == 0 || !h.fingerprint.Matches(certificates[0]) {
		return errFingerprint
	}
	return nil
}

func (h *handshake) export(conn *dtls.Conn) (*sfu.SetSRTPKeys, error) {
	selected, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return nil, errors.New("media: no SRTP profile agreed on")
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, errors.New("media: DTLS state is gone")
	}
	profile := browser.Profile(selected)
	keying, err := state.ExportKeyingMaterial(browser.ExporterLabel, nil, profile.MaterialSize())
	if err != nil {
		return nil, fmt.Errorf("media: exporting keys: %w", err)
	}
	return &sfu.SetSRTPKeys{Peer: h.peer, Profile: uint16(profile), Keying: keying}, nil
}

// linger answers retransmissions until the worker closes the pipe, and notices when
// the client closes.
func (h *handshake) linger(ctx context.Context, conn io.ReadCloser) {
	stop := context.AfterFunc(ctx, h.pipe.release)
	defer stop()
	timer := time.AfterFunc(linger, h.pipe.release)
	defer timer.Stop()
	var scratch [256]byte
	for {
		if _, err := conn.Read(scratch[:]); errors.Is(err, io.EOF) {
			break
		}
	}
	if !h.pipe.released.Load() {
		h.tell(ctx, output{lost: sfu.LostClosed})
	}
	// Released first, the pipe swallows the close_notify with which the client would
	// take its whole transport down.
	h.pipe.release()
	_ = conn.Close()
}
