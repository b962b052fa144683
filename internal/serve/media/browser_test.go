package media

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	pionrtp "github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

const audioLevelURI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"

// page is a browser: pion's whole WebRTC stack, on loopback only.
type page struct {
	t        testing.TB
	pc       *webrtc.PeerConnection
	track    *webrtc.TrackLocalStaticRTP
	fragment browser.Fragment
	heard    chan *pionrtp.Packet
	ready    chan struct{}
	keys     *sfu.SetSRTPKeys
}

func newPage(t testing.TB, profiles ...dtls.SRTPProtectionProfile) *page {
	t.Helper()
	var engine webrtc.MediaEngine
	opus := webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2},
		PayloadType:        111,
	}
	if err := engine.RegisterCodec(opus, webrtc.RTPCodecTypeAudio); err != nil {
		t.Fatal(err)
	}
	extension := webrtc.RTPHeaderExtensionCapability{URI: audioLevelURI}
	if err := engine.RegisterHeaderExtension(extension, webrtc.RTPCodecTypeAudio); err != nil {
		t.Fatal(err)
	}
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetIPFilter(net.IP.IsLoopback)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetHandleUndeclaredSSRCWithoutAnswer(true)
	settings.SetSRTPProtectionProfiles(profiles...)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&engine), webrtc.WithSettingEngine(settings))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, pc: pc, heard: make(chan *pionrtp.Packet, 256), ready: make(chan struct{})}
	t.Cleanup(p.close)
	p.track, err = webrtc.NewTrackLocalStaticRTP(opus.RTPCodecCapability, "audio", "page")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.AddTrack(p.track); err != nil {
		t.Fatal(err)
	}
	pc.OnTrack(func(remote *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			pkt, _, err := remote.ReadRTP()
			if err != nil {
				return
			}
			p.heard <- pkt
		}
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			close(p.ready)
		}
	})
	return p
}

func (p *page) close() {
	if err := p.pc.GracefulClose(); err != nil {
		p.t.Error(err)
	}
}

// offer makes the page's offer and reads the fragment that Select Protocol carries.
func (p *page) offer() {
	p.t.Helper()
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		p.t.Fatal(err)
	}
	<-gathered
	if p.fragment, err = browser.ParseFragment(p.pc.LocalDescription().SDP); err != nil {
		p.t.Fatal(err)
	}
}

// answer gives the page what a Session Description would have told it.
func (p *page) answer(r *rig, ufrag, pwd string) {
	p.t.Helper()
	lines := []string{
		"v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0", "a=ice-lite",
		fmt.Sprintf("m=audio %d UDP/TLS/RTP/SAVPF 111", r.Port(r.worker)), "c=IN IP4 127.0.0.1",
		"a=mid:0", "a=sendrecv", "a=rtcp-mux", "a=setup:passive", "a=rtpmap:111 opus/48000/2",
		fmt.Sprintf("a=extmap:%d %s", p.fragment.AudioLevel, audioLevelURI),
		"a=fingerprint:" + r.Fingerprint(), "a=ice-ufrag:" + ufrag, "a=ice-pwd:" + pwd,
		fmt.Sprintf("a=candidate:1 1 UDP 2130706431 127.0.0.1 %d typ host", r.Port(r.worker)), "a=end-of-candidates", "",
	}
	err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: strings.Join(lines, "\r\n")})
	if err != nil {
		p.t.Fatal(err)
	}
}

// page adds a peer whose client is a browser, and connects it.
func (r *rig) page(id sfu.PeerID, channel uint64, profiles ...dtls.SRTPProtectionProfile) *page {
	r.t.Helper()
	p := newPage(r.t, profiles...)
	p.offer()
	r.addPage(id, channel, p, p.fragment.Fingerprint.String())
	select {
	case <-p.ready:
	case <-time.After(patience):
		r.t.Fatal("the page does not connect")
	}
	// The page may be done before the worker has the keys.
	p.keys = r.expect("keys", func(ev sfu.Event) bool { return ev.Keys != nil && ev.Keys.Peer == id }).Keys
	r.expect("the page connects", connected(id))
	return p
}

func (r *rig) addPage(id sfu.PeerID, channel uint64, p *page, fingerprint string) {
	r.t.Helper()
	ufrag, pwd := fmt.Sprintf("page%d", id), strings.Repeat("pwd.", 6)
	r.post(sfu.Command{Add: &sfu.AddPeer{Peer: id, Channel: channel, SSRC: uint32(id) << 4}})
	r.post(sfu.Command{Browser: &sfu.SetBrowser{
		Peer: id, LocalUfrag: ufrag, LocalPwd: pwd, RemoteUfrag: p.fragment.Ufrag, Fingerprint: fingerprint,
		OpusPT: p.fragment.Opus, AudioLevelID: p.fragment.AudioLevel,
	}})
	p.answer(r, ufrag, pwd)
}

// say sends packet number i with an audio level of -20 dBov and voice.
func (p *page) say(i int, payload string) {
	p.t.Helper()
	pkt := &pionrtp.Packet{
		Header:  pionrtp.Header{Version: 2, SequenceNumber: uint16(i), Timestamp: uint32(i) * 960},
		Payload: []byte(payload),
	}
	if err := pkt.SetExtension(p.fragment.AudioLevel, []byte{0x80 | 20}); err != nil {
		p.t.Fatal(err)
	}
	if err := p.track.WriteRTP(pkt); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) hear() *pionrtp.Packet {
	p.t.Helper()
	select {
	case pkt := <-p.heard:
		return pkt
	case <-time.After(patience):
		p.t.Fatal("the page hears nothing")
		return nil
	}
}

func TestBrowserAndNativeHearEachOther(t *testing.T) {
	for name, profile := range map[string]dtls.SRTPProtectionProfile{
		"GCM": dtls.SRTP_AEAD_AES_128_GCM, "CM": dtls.SRTP_AES128_CM_HMAC_SHA1_80,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{})
			n := r.native(2, 7, proto.ModeAES256GCM)
			p := r.page(1, 7, profile)
			keys := p.keys
			if keys.Peer != 1 || keys.Profile != uint16(profile) || len(keys.Keying) != browser.Profile(profile).MaterialSize() {
				t.Errorf("keys of peer %d, profile %d, %d bytes", keys.Peer, keys.Profile, len(keys.Keying))
			}

			for i := range 20 {
				p.say(i+1, fmt.Sprintf("from the page %d", i))
				h, said := n.hear()
				if said != fmt.Sprintf("from the page %d", i) || h.SSRC != 1<<4 || h.PayloadType != 120 {
					t.Fatalf("got %q under %+v", said, h)
				}
			}
			r.expect("the page speaks", speaking(1, true))

			for i := range 20 {
				n.send(i+1, fmt.Sprintf("from the native client %d", i))
			}
			first := p.hear()
			if first.SSRC != 2<<4 || first.PayloadType != 111 || !first.Marker {
				t.Errorf("first packet: %+v", first.Header)
			}
			for i := range 19 {
				pkt := p.hear()
				if want := fmt.Sprintf("from the native client %d", i+1); string(pkt.Payload) != want ||
					pkt.SequenceNumber != first.SequenceNumber+uint16(i+1) || pkt.Marker {
					t.Fatalf("got %q under %+v, want %q", pkt.Payload, pkt.Header, want)
				}
			}
			r.expect("the page is silent", speaking(1, false))
		})
	}
}

func TestBrowsersHearEachOther(t *testing.T) {
	r := newRig(t, Config{})
	a := r.page(1, 7, dtls.SRTP_AEAD_AES_128_GCM)
	b := r.page(2, 7, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	a.say(1, "hello b")
	pkt := b.hear()
	if !bytes.Equal(pkt.Payload, []byte("hello b")) || pkt.SSRC != 1<<4 {
		t.Errorf("b got %q under %+v", pkt.Payload, pkt.Header)
	}
	if level := pkt.GetExtension(b.fragment.AudioLevel); len(level) == 0 || level[0] != 0x80|20 {
		t.Errorf("audio level %x, want %x", level, 0x80|20)
	}
	b.say(1, "hello a")
	if pkt := a.hear(); !bytes.Equal(pkt.Payload, []byte("hello a")) {
		t.Errorf("a got %q", pkt.Payload)
	}
}

func TestWrongFingerprintIsLost(t *testing.T) {
	r := newRig(t, Config{})
	p := newPage(t, dtls.SRTP_AEAD_AES_128_GCM)
	p.offer()
	wrong := p.fragment.Fingerprint
	wrong.Sum = bytes.Clone(wrong.Sum)
	wrong.Sum[0] ^= 1
	r.addPage(1, 7, p, wrong.String())
	lost := r.expect("lost", func(ev sfu.Event) bool { return ev.Lost != nil }).Lost
	if lost.Peer != 1 || lost.Reason != sfu.LostHandshake {
		t.Errorf("got %+v", lost)
	}
}

func TestRemovedPageIsGone(t *testing.T) {
	r := newRig(t, Config{})
	n := r.native(2, 7, proto.ModeXChaCha20)
	p := r.page(1, 7, dtls.SRTP_AEAD_AES_128_GCM)
	p.say(1, "heard")
	if _, said := n.hear(); said != "heard" {
		t.Fatalf("got %q", said)
	}
	r.post(sfu.Command{Remove: &sfu.RemovePeer{Peer: 1}})
	r.settle()
	p.say(2, "removed")
	r.settle()
	n.nothing()
}
