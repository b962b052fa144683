package load

import (
	"bytes"
	"crypto/rand"
	"testing"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/rtp"
)

// far is the server's end of a link.
type far struct {
	open func(datagram []byte) ([]byte, rtp.Drop)
	seal func(dst []byte, h rtp.Header, payload []byte) int
}

func links(t testing.TB) map[string]func() (link, far) {
	t.Helper()
	out := map[string]func() (link, far){
		"mumble": func() (link, far) { return mumblePair(t) },
		"browser": func() (link, far) {
			keying := make([]byte, browser.AEADAES128GCM.MaterialSize())
			_, _ = rand.Read(keying)
			l, err := newBrowserLink(browser.AEADAES128GCM, keying, []byte("check"))
			if err != nil {
				t.Fatal(err)
			}
			clientKey, clientSalt, serverKey, serverSalt, err := browser.KeysFromExporter(keying, browser.AEADAES128GCM)
			if err != nil {
				t.Fatal(err)
			}
			in, err1 := browser.NewInbound(browser.AEADAES128GCM, clientKey, clientSalt)
			server, err2 := browser.NewOutbound(browser.AEADAES128GCM, serverKey, serverSalt)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			sent := uint32(0)
			return l, far{in.Open, func(dst []byte, h rtp.Header, payload []byte) int {
				sent++
				h.PayloadType, h.Sequence = browserOpus, uint16(sent)
				return server.Seal(dst, h, rtp.LevelExtension{}, payload, sent>>16)
			}}
		},
	}
	for _, mode := range []native.Mode{native.AES256GCM, native.XChaCha20Poly1305} {
		out[string(mode)] = func() (link, far) {
			var key [32]byte
			_, _ = rand.Read(key[:])
			l, err := newNativeLink(mode, key)
			if err != nil {
				t.Fatal(err)
			}
			server, err := native.New(mode, key)
			if err != nil {
				t.Fatal(err)
			}
			return l, far{server.Open, func(dst []byte, h rtp.Header, payload []byte) int {
				h.PayloadType = nativeOpus
				return server.Seal(dst, h, rtp.LevelExtension{}, payload)
			}}
		}
	}
	return out
}

func TestLinksTalkToTheServerAcrossARollOver(t *testing.T) {
	for name, make := range links(t) {
		t.Run(name, func(t *testing.T) {
			l, server := make()
			var sealed [datagramSize]byte
			for i := range 70_000 {
				h := rtp.Header{Sequence: uint16(i + 1), Timestamp: uint32(i) * 960, SSRC: 7}
				n := l.seal(sealed[:], []byte("a payload of ours"), h, true)
				plain, drop := server.open(sealed[:n])
				if drop != rtp.Accepted || !bytes.HasSuffix(plain, []byte("a payload of ours")) {
					t.Fatalf("packet %d: %v", i, drop)
				}
				n = server.seal(sealed[:], h, []byte("a payload of theirs"))
				if payload, ok := l.open(sealed[:n]); !ok || string(payload) != "a payload of theirs" {
					t.Fatalf("packet %d: %q", i, payload)
				}
			}
			n := server.seal(sealed[:], rtp.Header{SSRC: 7}, []byte("damaged"))
			sealed[n/2] ^= 1
			if payload, ok := l.open(sealed[:n]); ok {
				t.Errorf("damaged: %q", payload)
			}
			if payload, _ := l.open([]byte("no media")); payload != nil {
				t.Errorf("an answer to a keepalive: %q", payload)
			}
			if n := l.alive(sealed[:]); n == 0 {
				t.Error("no keepalive")
			}
		})
	}
}

func TestHearingAllocatesNothing(t *testing.T) {
	for name, make := range links(t) {
		ll, server := make()
		l := &loop{window: window{size: 140, round: 1}}
		s := &seat{link: ll, hears: true, heard: []stream{{}}, firstHeard: nil, first: 1}
		var sealed [datagramSize]byte
		var payload [140]byte
		i := uint32(0)
		allocs := testing.AllocsPerRun(1000, func() {
			stamp{round: 1, index: i, sent: int64(i)}.put(payload[:])
			n := server.seal(sealed[:], rtp.Header{SSRC: 7}, payload[:])
			got, ok := ll.open(sealed[:n])
			if !ok {
				t.Fatal("not opened")
			}
			l.judge(s, got, int64(i)+1000)
			n = ll.seal(sealed[:], payload[:], rtp.Header{Sequence: uint16(i + 1), SSRC: 9}, true)
			if n == 0 {
				t.Fatal("not sealed")
			}
			i++
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations a packet", name, allocs)
		}
		if l.received != uint64(i) || l.corrupt+l.foreign+l.duplicates != 0 {
			t.Errorf("%s: %d of %d received", name, l.received, i)
		}
	}
}

func BenchmarkHear(b *testing.B) {
	for name, make := range links(b) {
		b.Run(name, func(b *testing.B) {
			ll, server := make()
			l := &loop{window: window{size: 140, round: 1}}
			s := &seat{link: ll, hears: true, heard: []stream{{}}, first: 1}
			var sealed [datagramSize]byte
			var payload [140]byte
			b.ReportAllocs()
			for i := range b.N {
				stamp{round: 1, index: uint32(i)}.put(payload[:])
				n := server.seal(sealed[:], rtp.Header{SSRC: 7}, payload[:])
				got, _ := ll.open(sealed[:n])
				l.judge(s, got, 1000)
			}
		})
	}
}

func FuzzLinkOpen(f *testing.F) {
	makes := links(f)
	l, server := makes["browser"]()
	var sealed [datagramSize]byte
	n := server.seal(sealed[:], rtp.Header{SSRC: 7}, []byte("payload"))
	f.Add(bytes.Clone(sealed[:n]))
	f.Add([]byte{0x80, 0xC8, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0})
	n2, _ := makes[string(native.AES256GCM)]()
	m, _ := makes["mumble"]()
	f.Fuzz(func(t *testing.T, datagram []byte) {
		for _, l := range []link{l, n2, m} {
			if payload, ok := l.open(bytes.Clone(datagram)); payload != nil && !ok {
				t.Errorf("%q is not ok", payload)
			}
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("m=audio 1 ICE/SDP\na=fingerprint:sha-256 AB:CD\na=ice-ufrag:abcd\na=ice-pwd:secret\n")
	f.Fuzz(func(t *testing.T, sdp string) {
		a, ok := parseAnswer(sdp)
		if ok != (a.ufrag != "" && a.password != "" && a.fingerprint != "") {
			t.Errorf("%+v, %v", a, ok)
		}
	})
}
