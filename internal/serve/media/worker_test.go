package media

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/disgoorg/disgo/voice"
	"github.com/pion/stun/v3"
	"github.com/prometheus/client_golang/prometheus"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
)

func TestOpenForwardSealAllocatesNothing(t *testing.T) {
	t.Run("in the process", func(t *testing.T) { openForwardSeal(t, newBench(t)) })
	t.Run("in a child", func(t *testing.T) { openForwardSeal(t, newBenchOver(t, newMemory(128))) })
}

func openForwardSeal(t *testing.T, b *bench) {
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	for id := 2; id < 80; id += 4 {
		b.native(id, proto.ModeAES256GCM)
		b.native(id+1, proto.ModeXChaCha20)
		b.browser(id+2, browser.AEADAES128GCM)
		b.browser(id+3, browser.AESCM128SHA180)
	}
	voice := packets(1, 1400, crypt)
	next := 0
	if n := allocations(func() {
		b.write(speaker, voice[next])
		b.frame()
		next++
	}); n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
	if got := b.verdicts[sfu.Forwarded]; got != uint64(next) {
		t.Errorf("%d packets forwarded, want %d", got, next)
	}
}

func TestFloodOfStrangersIsSilence(t *testing.T) {
	b := newBench(t)
	b.native(1, proto.ModeAES256GCM)
	b.browser(2, browser.AEADAES128GCM)
	stranger := b.net.Listen(netip.MustParseAddrPort("198.51.100.9:1"))
	rng := rand.New(rand.NewPCG(1, 2))
	datagram := make([]byte, 200)
	flood := func(count int) {
		for range count {
			for i := range datagram {
				datagram[i] = byte(rng.Uint32())
			}
			switch rng.IntN(4) {
			case 0: // RTP under the native peer's SSRC
				datagram[0], datagram[1] = 0x80, 0x78
				binary.BigEndian.PutUint32(datagram[8:], 16)
			case 1: // RTCP under it
				datagram[0], datagram[1] = 0x80, 200
				binary.BigEndian.PutUint32(datagram[4:], 16)
			case 2: // DTLS
				datagram[0] = 22
			}
			b.write(stranger, datagram[:rng.IntN(len(datagram)+1)])
			b.step(0)
		}
	}
	flood(2000)
	before := heap()
	flood(50_000)
	if after := heap(); after > before+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	if got := b.read(stranger); got != nil {
		t.Errorf("a stranger got %x", got)
	}
	if got := b.refused[rtp.Unauthenticated]; got > attemptsPerWindow {
		t.Errorf("%d decryptions for strangers at one instant, at most %d", got, attemptsPerWindow)
	}
	if len(b.byAddr) != 2 {
		t.Errorf("%d addresses known", len(b.byAddr))
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestChecksAreAuthenticated(t *testing.T) {
	b := newBench(t)
	b.browser(1, browser.AEADAES128GCM)
	stranger := b.net.Listen(address(99))
	b.check(stranger, 1, "a password that is wrong", true)
	b.check(stranger, 2, password, true)
	if got := b.read(stranger); got != nil {
		t.Errorf("answered with %x", got)
	}
	if _, known := b.byAddr[address(99)]; known {
		t.Error("a stranger's address is known")
	}
}

func TestBrowserFollowsNomination(t *testing.T) {
	b := newBench(t)
	b.browser(1, browser.AEADAES128GCM)
	speaker, crypt := b.native(2, proto.ModeAES256GCM)
	voice := packets(2, 4, crypt)
	other := b.net.Listen(address(99))
	hears := func(i int, want, not *udp.Memory) {
		t.Helper()
		b.write(speaker, voice[i])
		b.step(0)
		if got := b.read(want); rtp.Kind(got) != rtp.RTP {
			t.Errorf("packet %d did not come", i)
		}
		if got := b.read(not); got != nil {
			t.Errorf("packet %d also went elsewhere", i)
		}
	}
	first := b.net.Listen(address(1))
	hears(0, first, other)
	b.check(other, 1, password, false)
	b.read(other)
	hears(1, first, other)
	b.check(other, 1, password, true)
	b.read(other)
	hears(2, other, first)
	b.step(addressHold)
	b.check(first, 1, password, false)
	b.read(first)
	hears(3, first, other)
}

func TestBrowserPathsAreBounded(t *testing.T) {
	b := newBench(t)
	b.browser(1, browser.AEADAES128GCM)
	for i := range 100 {
		b.check(b.net.Listen(address(1000+i)), 1, password, i%3 == 0)
	}
	if len(b.byAddr) > paths {
		t.Errorf("%d addresses of one browser are known, at most %d", len(b.byAddr), paths)
	}
	b.do(sfu.Command{Remove: &sfu.RemovePeer{Peer: 1}})
	if len(b.byAddr) != 0 || len(b.byUfrag) != 0 {
		t.Errorf("%d addresses, %d ufrags are left", len(b.byAddr), len(b.byUfrag))
	}
}

func TestConsentTimesOut(t *testing.T) {
	b := newBench(t)
	s := b.browser(1, browser.AEADAES128GCM)
	for range 5 {
		b.step(consentTimeout - time.Second)
		b.check(s, 1, password, true)
	}
	if len(b.events) != 0 {
		t.Fatalf("events: %+v", b.events)
	}
	for range 40 {
		b.step(time.Second)
	}
	if len(b.events) != 1 || b.events[0].Lost == nil || *b.events[0].Lost != (sfu.PeerLost{Peer: 1, Reason: sfu.LostConsent}) {
		t.Fatalf("events: %+v", b.events)
	}
	for b.read(s) != nil {
	}
	b.check(s, 1, password, true)
	if got := b.read(s); got != nil {
		t.Errorf("a lost browser was answered with %x", got)
	}
}

func TestCommandsGivenTwice(t *testing.T) {
	b := newBench(t)
	listener, listenerCrypt := b.native(1, proto.ModeAES256GCM)
	speaker, crypt := b.native(2, proto.ModeAES256GCM)
	voice := packets(2, 2, crypt)
	hear := func(i int) []byte {
		b.write(speaker, voice[i])
		b.step(0)
		got := append([]byte(nil), b.read(listener)...)
		if _, err := listenerCrypt.Decrypt(12, got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := hear(0)
	b.do(sfu.Command{Native: &sfu.SetNative{Peer: 1, Mode: proto.ModeAES256GCM, Key: [32]byte{1}}})
	second := hear(1)
	if string(first[len(first)-4:]) == string(second[len(second)-4:]) {
		t.Error("one nonce for two packets under one key")
	}

	s := b.browser(3, browser.AEADAES128GCM)
	out := b.peers[2].browser.out
	b.do(sfu.Command{Browser: &sfu.SetBrowser{Peer: 3, LocalUfrag: "ufrag3", LocalPwd: password}})
	b.do(sfu.Command{Keys: &sfu.SetSRTPKeys{Peer: 3, Profile: 7, Keying: make([]byte, 56)}})
	if b.peers[2].browser.out != out {
		t.Error("the keys were replaced")
	}
	b.read(s)
}

func TestBadCommandsAreRefused(t *testing.T) {
	b := newBench(t)
	b.native(1, proto.ModeAES256GCM)
	b.do(sfu.Command{Add: &sfu.AddPeer{Peer: 2, Channel: 1, SSRC: 32}})
	for _, c := range []sfu.Command{
		{},
		{Native: &sfu.SetNative{Peer: 9}},
		{Native: &sfu.SetNative{Peer: 2, Mode: "rot13"}},
		{Native: &sfu.SetNative{Peer: 2, Mode: proto.ModeXSalsa20}},
		{Keys: &sfu.SetSRTPKeys{Peer: 1}},
		{Browser: &sfu.SetBrowser{Peer: 2, LocalUfrag: "u", Fingerprint: "nonsense"}},
		{Browser: &sfu.SetBrowser{Peer: 1, LocalUfrag: "u"}},
		{Keys: &sfu.SetSRTPKeys{Peer: 2, Profile: 7, Keying: []byte("short")}},
		{Keys: &sfu.SetSRTPKeys{Peer: 2, Profile: 99, Keying: make([]byte, 56)}},
		{Remove: &sfu.RemovePeer{Peer: 9}},
	} {
		b.do(c)
	}
	if b.peers[0].native == nil || b.peers[1].native != nil || b.peers[1].browser == nil || b.peers[1].browser.in != nil {
		t.Errorf("peers: %+v, %+v", b.peers[0], b.peers[1])
	}
}

func TestTransportCanBeChosenAgain(t *testing.T) {
	b := newBench(t)
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	b.browser(2, browser.AEADAES128GCM)
	b.do(sfu.Command{Native: &sfu.SetNative{Peer: 2, Mode: proto.ModeAES256GCM, Key: [32]byte{2}}})
	if len(b.byUfrag) != 0 || len(b.byAddr) != 1 {
		t.Errorf("%d ufrags and %d addresses are left of the browser", len(b.byUfrag), len(b.byAddr))
	}
	s := b.net.Listen(address(77))
	b.write(s, discovery(32))
	b.step(0)
	b.read(s)
	b.write(speaker, packets(1, 1, crypt)[0])
	b.step(0)
	if got := b.read(s); rtp.Kind(got) != rtp.RTP {
		t.Errorf("got %x", got)
	}
}

func TestReportsReachBrowsers(t *testing.T) {
	b := newBench(t)
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	s := b.browser(2, browser.AEADAES128GCM)
	reports := 0
	for _, pkt := range packets(1, 400, crypt) {
		b.write(speaker, pkt)
		b.step(20 * time.Millisecond)
		for got := b.read(s); got != nil; got = b.read(s) {
			if rtp.Kind(got) == rtp.RTCP {
				reports++
			}
		}
	}
	if reports != 2 {
		t.Errorf("%d sender reports in 8 s", reports)
	}
}

func TestStats(t *testing.T) {
	b := newBench(t)
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	b.native(2, proto.ModeAES256GCM)
	for _, pkt := range packets(1, 10, crypt) {
		b.write(speaker, pkt)
	}
	b.write(speaker, []byte("stray"))
	b.step(0)
	b.nextHousekeeping = b.now
	b.step(0)
	m := &Media{workers: []*worker{b.worker}}
	s := m.Stats(0)
	if s.Forwarded != 10 || s.Peers != 2 || s.Channels != 1 || s.Speaking != 1 || s.Drops["unknown"] != 1 ||
		s.PacketsIn != 13 || s.PacketsOut != 12 || s.Port != 50000 {
		t.Errorf("got %+v", s)
	}
	if _, err := json.Marshal(s); err != nil {
		t.Error(err)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(collector{m}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range families {
		if f.GetName() == "hubbub_media_packets_forwarded_total" {
			found = f.GetMetric()[0].GetCounter().GetValue() == 10
		}
	}
	if !found {
		t.Errorf("no count of forwarded packets among %d families", len(families))
	}
}

// FuzzReceive takes any datagram from a stranger, from a native and a browser peer, and
// from another worker's address. A stranger never gets back more than it sent.
func FuzzReceive(f *testing.F) {
	f.Add(discovery(16))
	f.Add([]byte{0x13, 0x37, 0xCA, 0xFE, 0, 0, 0, 1})
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("ufrag2:x"),
		stun.NewShortTermIntegrity(password), stun.Fingerprint).Raw)
	f.Add(append([]byte{0x80, 0x78, 0, 1, 0, 0, 0, 0, 0, 0, 0, 16}, make([]byte, 40)...))
	f.Add(append([]byte{0x80, 200, 0, 6, 0, 0, 0, 16}, make([]byte, 40)...))
	f.Add(newBench(f).relayed().packet(farSSRC, 1, "voice"))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		if len(datagram) > udp.MaxDatagram || rtp.Kind(datagram) == rtp.DTLS {
			return // the handshake is pion's
		}
		b := newBench(t)
		n, _ := b.native(1, proto.ModeAES256GCM)
		s := b.browser(2, browser.AEADAES128GCM)
		stranger := b.net.Listen(address(9))
		for _, from := range []*udp.Memory{stranger, n, s, b.relayed().Memory} {
			b.write(from, datagram)
			b.step(time.Millisecond)
		}
		if got := b.read(stranger); len(got) > len(datagram) {
			t.Errorf("%d bytes for %d", len(got), len(datagram))
		}
	})
}

// BenchmarkLoop is one packet from the client's seal through the worker's read, open,
// forward and one seal for each listener.
func BenchmarkLoop(b *testing.B) {
	add := map[string]func(*bench, int){
		"aes256gcm": func(w *bench, id int) { w.native(id, proto.ModeAES256GCM) },
		"xchacha20": func(w *bench, id int) { w.native(id, proto.ModeXChaCha20) },
		"srtp-gcm":  func(w *bench, id int) { w.browser(id, browser.AEADAES128GCM) },
		"srtp-cm":   func(w *bench, id int) { w.browser(id, browser.AESCM128SHA180) },
	}
	for _, kind := range []string{"aes256gcm", "xchacha20", "srtp-gcm", "srtp-cm"} {
		for _, listeners := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", kind, listeners), func(b *testing.B) {
				w := newBench(b)
				speaker, crypt := w.native(1, proto.ModeAES256GCM)
				for id := range listeners {
					add[kind](w, id+2)
				}
				w.socket = discard{w.socket.(*udp.Memory)}
				c := client{ssrc: 16, crypt: crypt}
				payload := []byte(strings.Repeat("v", 140))
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					w.write(speaker, c.crypt.Encrypt(c.header(i), payload))
					w.now = w.now.Add(20 * time.Millisecond)
					w.nextHousekeeping = w.now.Add(time.Hour) // browsers must not time out
					n, _ := w.socket.ReadBatch(w.worker.rx, 0)
					w.turn(w.now, w.worker.rx[:n])
					i++
				}
				if got := w.packetsOut; got < uint64(i*listeners) {
					b.Fatalf("%d packets out, want %d", got, i*listeners)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i*listeners), "ns/delivered")
			})
		}
	}
}

// BenchmarkRooms is a turn of one packet for five listeners of one of many rooms, whose
// members came in no order: what a worker needs of them has left the caches.
func BenchmarkRooms(b *testing.B) {
	const speakers, listeners = 5, 5
	for _, rooms := range []int{1, 50, 500, -500} {
		name, cold := fmt.Sprint(max(rooms, -rooms)*(speakers+listeners), "-peers"), rooms < 0
		if cold {
			rooms, name = -rooms, name+"/cold"
		}
		b.Run(name, func(b *testing.B) {
			var other []byte
			if cold {
				other = make([]byte, 64<<20)
			}
			w := newBenchOver(b, newMemory(rooms*(speakers+listeners)+8))
			crypts := make([]voice.Encrypter, rooms)
			for i := range rooms * (speakers + listeners) {
				id, channel := i+1, uint64(1+i%rooms)
				w.do(sfu.Command{Add: &sfu.AddPeer{Peer: sfu.PeerID(id), Channel: channel, SSRC: uint32(id) * 16}})
				key := [32]byte{byte(id), byte(id >> 8)}
				w.do(sfu.Command{Native: &sfu.SetNative{Peer: sfu.PeerID(id), Mode: proto.ModeAES256GCM, Key: key}})
				w.write(w.net.Listen(address(id)), discovery(uint32(id)*16))
				w.step(0)
				if i < rooms*speakers {
					w.do(deafen(id))
				}
				if i < rooms {
					crypts[i], _ = voice.NewEncrypter(voice.EncryptionMode(proto.ModeAES256GCM), key[:])
				}
			}
			w.socket = discard{w.socket.(*udp.Memory)}
			in := udp.NewBatch()[:1]
			payload := []byte(strings.Repeat("v", 140))
			random := rand.New(rand.NewPCG(1, 2))
			var spent time.Duration
			before := w.packetsOut
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				room := random.IntN(rooms)
				c := client{ssrc: uint32(1+room) * 16, crypt: crypts[room]}
				in[0].Size = copy(in[0].Buffer, c.crypt.Encrypt(c.header(i), payload))
				in[0].Addr = address(1 + room)
				w.now = w.now.Add(20 * time.Millisecond)
				w.nextHousekeeping = w.now.Add(time.Hour)
				for i := 0; i < len(other); i += 64 {
					other[i]++ // leaves nothing of the peers in the caches
				}
				began := monotonic.Now()
				w.turn(w.now, in)
				spent += monotonic.Now().Sub(began)
			}
			if got := w.packetsOut - before; got < uint64(listeners*b.N) {
				b.Fatalf("%d packets out of %d turns", got, b.N)
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(listeners*b.N), "ns/delivered")
		})
	}
}

// discard is a socket to which sending costs nothing.
type discard struct{ *udp.Memory }

func (discard) WriteBatch(ms []udp.Message) (sent int) {
	for i := range ms {
		sent += ms[i].Datagrams()
	}
	return sent
}

func deafen(id int) sfu.Command {
	return sfu.Command{Update: &sfu.UpdatePeer{Peer: sfu.PeerID(id), Flags: sfu.Deafened}}
}

// TestQuietPeerIsToldOf follows a peer that sends keepalives and then nothing, one that
// sends media alone, and one that does discovery and never anything more.
func TestQuietPeerIsToldOf(t *testing.T) {
	b := newBench(t)
	pinging, _ := b.native(1, proto.ModeAES256GCM)
	talking, crypt := b.native(2, proto.ModeAES256GCM)
	b.native(3, proto.ModeAES256GCM)
	voice := packets(2, 100, crypt)
	said := func() (quiet []sfu.PeerID) {
		for _, ev := range b.events {
			if ev.Quiet != nil {
				quiet = append(quiet, ev.Quiet.Peer)
			}
		}
		b.events = nil
		return quiet
	}
	pass := func(d time.Duration) {
		for ; d > 0; d -= time.Second {
			b.step(time.Second)
		}
	}
	ping := func() { b.write(pinging, make([]byte, 8)) }
	for i := range 6 {
		ping()
		b.write(talking, voice[i])
		pass(5 * time.Second)
	}
	pass(quietAfter - 6*time.Second)
	if quiet := said(); len(quiet) != 0 {
		t.Fatalf("told of %v in time", quiet)
	}
	for range 3 {
		pass(quietAfter)
		if quiet := said(); len(quiet) != 1 || quiet[0] != 1 {
			t.Fatalf("told of %v", quiet)
		}
	}
	// One that comes back is told of again once it has been regular again.
	for range regularFrom - 1 {
		ping()
		pass(5 * time.Second)
	}
	pass(2 * quietAfter)
	if quiet := said(); len(quiet) != 0 {
		t.Fatalf("told of %v, who sent too few", quiet)
	}
	for range regularFrom {
		ping()
		pass(5 * time.Second)
	}
	pass(quietAfter)
	if quiet := said(); len(quiet) != 1 || quiet[0] != 1 {
		t.Errorf("told of %v", quiet)
	}
}
