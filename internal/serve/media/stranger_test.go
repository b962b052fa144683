package media

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/disgoorg/disgo/voice"
	"github.com/fxamacker/cbor/v2"
	"github.com/pion/stun/v3"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
)

func binding(user, pwd string, more ...stun.Setter) []byte {
	setters := append([]stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername(user)}, more...)
	return stun.MustBuild(append(setters, stun.NewShortTermIntegrity(pwd), stun.Fingerprint)...).Raw
}

// strangers is one datagram of each kind that a worker tells apart, as it may come from an
// address of nobody. Some would be a peer's first.
func strangers(t testing.TB) map[string][]byte {
	media := func(second byte, ssrc uint32, at int) []byte {
		pkt := make([]byte, 200)
		pkt[0], pkt[1] = 0x90, second
		binary.BigEndian.PutUint32(pkt[at:], ssrc)
		return pkt
	}
	unauthenticated, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername("ufrag2:x"))
	if err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, 120)
	copy(hello, []byte{22, 0xFE, 0xFD})
	return map[string][]byte{
		"discovery":                  discovery(16),
		"discovery of a stranger":    discovery(99),
		"discovery of a browser":     discovery(32),
		"check":                      binding("ufrag2:remote", password, stun.RawAttribute{Type: stun.AttrPriority, Value: make([]byte, 4)}),
		"short check":                binding("ufrag2:", password),
		"check, wrong password":      binding("ufrag2:remote", "a password that is wrong"),
		"check of a stranger":        binding("nobody:remote", password),
		"check without checksums":    unauthenticated.Raw,
		"check without attributes":   stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw,
		"STUN error":                 stun.MustBuild(stun.TransactionID, stun.BindingError).Raw,
		"ping":                       {0x13, 0x37, 0xCA, 0xFE, 0, 0, 0, 1},
		"keepalive":                  {1, 0, 0, 0, 0, 0, 0, 0},
		"ClientHello":                hello,
		"RTP of a peer":              media(0x78, 16, 8),
		"RTP of a stranger":          media(0x78, 99, 8),
		"RTCP of a peer":             media(200, 16, 4),
		"RTCP of a stranger":         media(200, 99, 4),
		"TURN channel data":          {0x40, 0, 0, 4, 1, 2, 3, 4},
		"QUIC":                       append([]byte{0xC3, 0, 0, 0, 1}, make([]byte, 1195)...),
		"discovery's answer":         append([]byte{0, 2, 0, 70}, make([]byte, 70)...),
		"one byte":                   {0},
		"nothing":                    {},
		"as much as a datagram has":  make([]byte, udp.MaxDatagram),
		"a relay's, had it one here": media(0x78, farSSRC, 8),
	}
}

// TestNoAnswerIsLargerThanItsQuestion sends each kind of datagram from an address of its
// own, IPv4 and IPv6, whole, cut and forged, while a peer talks: what goes back there is
// never more than what came.
func TestNoAnswerIsLargerThanItsQuestion(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for name, datagram := range strangers(t) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			listener := &sfu.AddPeer{Peer: 1, Channel: 1, SSRC: 16}
			b.browser(2, browser.AEADAES128GCM)
			speaker, crypt := b.native(3, proto.ModeAES256GCM)
			b.relayed()
			said := packets(3, 2000, crypt)
			next := 0
			for _, shape := range shapes(datagram, rng) {
				for from, signalled := range map[string]string{"198.51.100.9:4000": "203.0.113.7", "[2001:db8::9]:4000": "2001:db8:1::7"} {
					listener.From = netip.MustParseAddr(signalled)
					b.do(sfu.Command{Remove: &sfu.RemovePeer{Peer: 1}})
					b.do(sfu.Command{Add: listener})
					b.do(sfu.Command{Native: &sfu.SetNative{Peer: 1, Mode: proto.ModeAES256GCM, Key: [32]byte{1}}})
					b.step(2 * attemptWindow)
					s := b.net.Listen(netip.MustParseAddrPort(from))
					b.write(s, shape)
					b.step(0)
					for range 5 {
						b.write(speaker, said[next])
						b.step(leastGap)
						next++
					}
					out := 0
					for got := b.read(s); got != nil; got = b.read(s) {
						if rtp.Kind(got) == rtp.RTP && strings.HasSuffix(name, "check") {
							continue // who passed a check has proved to be there
						}
						out += len(got)
					}
					if out > len(shape) {
						t.Fatalf("%d bytes out for %d in from %s", out, len(shape), from)
					}
				}
			}
		})
	}
}

// shapes returns a datagram, cut and with bytes of it changed.
func shapes(datagram []byte, rng *rand.Rand) [][]byte {
	out := [][]byte{datagram}
	for range 40 {
		forged := append([]byte(nil), datagram...)
		if len(forged) > 0 && rng.IntN(2) == 0 {
			forged = forged[:rng.IntN(len(forged))]
		}
		for range rng.IntN(4) {
			if len(forged) > 0 {
				forged[rng.IntN(len(forged))] = byte(rng.Uint32())
			}
		}
		out = append(out, forged)
	}
	return out
}

// TestShortChecksGetNoAnswer sends authentic checks that their answers would exceed.
func TestShortChecksGetNoAnswer(t *testing.T) {
	b := newBench(t)
	b.browser(2, browser.AEADAES128GCM)
	s := b.net.Listen(netip.MustParseAddrPort("[2001:db8::9]:4000"))
	b.write(s, binding("ufrag2:", password))
	b.step(0)
	if got := b.read(s); got != nil || b.strays[strayAmplified] != 1 {
		t.Errorf("answered with %d bytes", len(got))
	}
}

// TestAFloodingNetworkCostsNoDecryption floods under a real SSRC: its network is blocked
// soon, a peer there goes on talking, and newcomers from elsewhere come in.
func TestAFloodingNetworkCostsNoDecryption(t *testing.T) {
	b := newBench(t)
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	listener, _ := b.native(2, proto.ModeAES256GCM)
	said := packets(1, 3000, crypt)
	stranger := b.net.Listen(netip.AddrPortFrom(address(200).Addr(), 666)) // in the peers' network
	junk := strangers(t)["RTP of a peer"]
	junk[196] = 0xFF // a nonce that no replay window knows
	heard := 0
	for i := range said {
		for range 20 {
			b.write(stranger, junk)
		}
		b.write(speaker, said[i])
		b.step(leastGap)
		for got := b.read(listener); got != nil; got = b.read(listener) {
			heard++
		}
	}
	if heard < len(said) {
		t.Errorf("%d of %d packets heard", heard, len(said))
	}
	if got := b.strays[strayBlocked]; got < 45_000 || b.refused[rtp.Unauthenticated] > 15_000 {
		t.Errorf("%d blocked, %d decrypted", got, b.refused[rtp.Unauthenticated])
	}
	b.step(0)
	if s := *b.published.Load(); s.BlockedNetworks != 1 || s.Drops["blocked"] == 0 || s.Attacked {
		t.Errorf("stats: %+v", s)
	}
	b.browser(70_000, browser.AEADAES128GCM) // of another network
	b.step(10 * time.Second)
	if s := *b.published.Load(); s.BlockedNetworks != 0 {
		t.Error("still blocked after the flood")
	}
}

// TestBlockedNetworksNewcomersWait blocks a network: a browser's check from there gets no
// answer until that is over.
func TestBlockedNetworksNewcomersWait(t *testing.T) {
	b := newBench(t)
	b.do(sfu.Command{Add: &sfu.AddPeer{Peer: 2, Channel: 1, SSRC: 32}})
	b.do(sfu.Command{Browser: &sfu.SetBrowser{Peer: 2, LocalUfrag: "ufrag2", LocalPwd: password, OpusPT: 111}})
	stranger := b.net.Listen(netip.MustParseAddrPort("198.51.100.9:1"))
	for range 6000 {
		b.write(stranger, []byte("junk"))
		b.step(0)
	}
	s := b.net.Listen(netip.MustParseAddrPort("198.51.100.10:1"))
	b.check(s, 2, password, true)
	if got := b.read(s); got != nil {
		t.Errorf("answered with %x", got)
	}
	b.step(6 * time.Second)
	b.check(s, 2, password, true)
	if got := b.read(s); got == nil {
		t.Error("no answer after the flood")
	}
}

func TestAttackIsToldAndEnds(t *testing.T) {
	b := newBench(t)
	b.worker.guard = newGuard(1000)
	stranger := b.net.Listen(netip.MustParseAddrPort("198.51.100.9:1"))
	m := &Media{workers: []*worker{b.worker}}
	second := func(count int) bool {
		for range count {
			b.write(stranger, []byte("junk"))
			b.step(0)
		}
		b.step(time.Second)
		return m.Stats(0).Attacked
	}
	for range 3 {
		if second(900) {
			t.Fatal("attacked below the rate")
		}
	}
	second(1100)
	if !second(1100) {
		t.Error("not attacked")
	}
	calm := 0
	for second(0) {
		if calm++; calm > 60 {
			t.Fatal("the attack never ends")
		}
	}
	if calm < 25 {
		t.Errorf("over after %d s", calm)
	}
}

// TestForgedDiscoveryAimsNothing does discovery for a listener from elsewhere than its
// signalling came from: its channel is sent to where it belongs, or nowhere, until
// something is proved.
func TestForgedDiscoveryAimsNothing(t *testing.T) {
	for _, c := range []struct {
		from, at string
		hears    bool
	}{
		{"203.0.113.7", "203.0.113.7:5000", true},
		{"203.0.113.7", "203.0.113.99:5000", true},      // another address of the same NAT
		{"203.0.113.7", "198.51.100.1:5000", false},     // a third party
		{"203.0.113.7", "[2001:db8::1]:5000", true},     // cannot be compared
		{"203.0.113.7", "192.168.1.5:5000", true},       // on this side of the NAT
		{"2001:db8::1", "[2001:db8:0:1::2]:5000", true}, // the same site
		{"2001:db8::1", "[2001:db9::1]:5000", false},
		{"", "198.51.100.1:5000", true}, // behind a proxy
	} {
		t.Run(fmt.Sprint(c.from, " ", c.at), func(t *testing.T) {
			b := newBench(t)
			speaker, crypt := b.native(1, proto.ModeAES256GCM)
			said := packets(1, 10, crypt)
			add := &sfu.AddPeer{Peer: 2, Channel: 1, SSRC: 32}
			if c.from != "" {
				add.From = netip.MustParseAddr(c.from)
			}
			b.do(sfu.Command{Add: add})
			at := b.net.Listen(netip.MustParseAddrPort(c.at))
			key := [32]byte{2}
			b.write(at, discovery(32))
			b.do(sfu.Command{Native: &sfu.SetNative{Peer: 2, Mode: proto.ModeAES256GCM, Key: key}})
			b.write(at, discovery(32))
			b.write(at, make([]byte, 8))
			b.step(0)
			for _, want := range []int{74, 74, 8} {
				if got := b.read(at); len(got) != want {
					t.Fatalf("%d bytes, want an answer of %d", len(got), want)
				}
			}
			hears := func(i int) bool {
				b.write(speaker, said[i])
				b.step(0)
				return b.read(at) != nil
			}
			if got := hears(0); got != c.hears {
				t.Errorf("hears: %v", got)
			}
			proof := &client{ssrc: 32, crypt: encrypter(t, key)}
			b.write(at, proof.sealed(0, "proof"))
			b.step(0)
			if !hears(1) {
				t.Error("does not hear after a packet that decrypts")
			}
		})
	}
}

// TestEarlyDiscoveryIsAnswered has clients ask before the worker knows them.
func TestEarlyDiscoveryIsAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		later time.Duration
		junk  int // questions of others meanwhile
		want  bool
	}{
		"at once":                {0, 0, true},
		"a moment later":         {100 * time.Millisecond, 10, true},
		"too late":               {2 * time.Second, 0, false},
		"when it was pushed out": {time.Millisecond, earlyQuestions, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.net.Listen(address(1)), b.net.Listen(address(2))
			for _, s := range []*udp.Memory{first, second} {
				b.write(s, discovery(32))
				b.step(0)
			}
			for i := range c.junk {
				b.write(b.net.Listen(address(100+i)), discovery(1<<20+uint32(i)<<4))
				b.step(0)
			}
			b.step(c.later)
			b.do(sfu.Command{Add: &sfu.AddPeer{Peer: 2, Channel: 1, SSRC: 32}})
			b.step(0)
			if got := b.read(first); got != nil {
				t.Errorf("who asked before the last got %x", got)
			}
			if got := b.read(second); (len(got) == 74) != c.want {
				t.Errorf("an answer of %d bytes", len(got))
			}
			b.do(sfu.Command{Remove: &sfu.RemovePeer{Peer: 2}})
			b.do(sfu.Command{Add: &sfu.AddPeer{Peer: 3, Channel: 1, SSRC: 32}})
			b.step(0)
			if got := b.read(second); got != nil {
				t.Errorf("a question was answered twice: %x", got)
			}
		})
	}
}

// TestEarlyCheckIsAnswered has browsers check connectivity before the worker knows them.
func TestEarlyCheckIsAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		later time.Duration
		junk  int // checks of others meanwhile
		pwd   string
		want  bool
	}{
		"at once":                {0, 0, password, true},
		"a moment later":         {100 * time.Millisecond, 10, password, true},
		"too late":               {2 * time.Second, 0, password, false},
		"when it was pushed out": {time.Millisecond, earlyChecks, password, false},
		"with a wrong password":  {0, 0, "a password of somebody's", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.net.Listen(address(1)), b.net.Listen(address(2))
			b.check(first, 2, c.pwd, true)
			b.check(second, 2, c.pwd, true)
			for i := range c.junk {
				b.check(b.net.Listen(address(100+i)), 100+i, password, true)
			}
			b.step(c.later)
			add := func() {
				b.do(sfu.Command{Add: &sfu.AddPeer{Peer: 2, Channel: 1, SSRC: 32}})
				b.do(sfu.Command{Browser: &sfu.SetBrowser{Peer: 2, LocalUfrag: "ufrag2", LocalPwd: password, OpusPT: 111}})
				b.step(0)
			}
			add()
			if got := b.read(first); got != nil {
				t.Errorf("who checked before the last got %x", got)
			}
			if got := b.read(second); (rtp.Kind(got) == rtp.STUN) != c.want {
				t.Errorf("answered with %x", got)
			}
			b.do(sfu.Command{Remove: &sfu.RemovePeer{Peer: 2}})
			add()
			if got := b.read(second); got != nil {
				t.Errorf("a check was answered twice: %x", got)
			}
		})
	}
}

// TestDoubtfulDiscoveryDisplacesNobody forges discovery from a third party and from
// another listener's address.
func TestDoubtfulDiscoveryDisplacesNobody(t *testing.T) {
	b := newBench(t)
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	said := packets(1, 10, crypt)
	listeners := map[int]*udp.Memory{}
	for id, at := range map[int]string{2: "203.0.113.7:5000", 3: "198.51.100.1:5000"} {
		addr := netip.MustParseAddrPort(at)
		b.do(sfu.Command{Add: &sfu.AddPeer{Peer: sfu.PeerID(id), Channel: 1, SSRC: uint32(id) * 16, From: addr.Addr()}})
		b.do(sfu.Command{Native: &sfu.SetNative{Peer: sfu.PeerID(id), Mode: proto.ModeAES256GCM, Key: [32]byte{byte(id)}}})
		listeners[id] = b.net.Listen(addr)
		b.write(listeners[id], discovery(uint32(id)*16))
		b.step(0)
		b.read(listeners[id])
	}
	thief := b.net.Listen(netip.MustParseAddrPort("192.0.2.200:5000"))
	b.write(thief, discovery(32))
	b.write(listeners[3], discovery(32)) // forged
	b.step(0)
	b.read(thief)
	b.read(listeners[3])
	b.write(speaker, said[0])
	b.step(0)
	for id, s := range listeners {
		if b.read(s) == nil {
			t.Errorf("listener %d hears nothing", id)
		}
	}
	if b.read(thief) != nil {
		t.Error("the thief hears")
	}
}

func encrypter(t *testing.T, key [32]byte) voice.Encrypter {
	t.Helper()
	e, err := voice.NewEncrypter(voice.EncryptionModeAEADAES256GCMRTPSize, key[:])
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestAFloodShedsNothing reads whole batches of junk for a second: no delivery is given up,
// as it is when the batches are the peers'.
func TestAFloodShedsNothing(t *testing.T) {
	for _, c := range []struct {
		junk uint64
		shed bool
	}{{udp.Batch, false}, {udp.Batch/2 + 1, false}, {udp.Batch / 2, true}, {0, true}} {
		b := newBench(t)
		for range 1000 {
			b.now = b.now.Add(time.Millisecond)
			b.load(b.now, b.full(udp.Batch, c.junk), time.Millisecond)
		}
		if got := b.overload.shed > 0; got != c.shed {
			t.Errorf("with %d of %d packets of nobody: shed %v", c.junk, udp.Batch, b.overload.shed)
		}
	}
}

func TestStrangersAllocateNothing(t *testing.T) {
	b := newBench(t)
	b.native(1, proto.ModeAES256GCM)
	b.browser(2, browser.AEADAES128GCM)
	all := strangers(t)
	turn := junk(b, all)
	if n := testing.AllocsPerRun(10_000, turn); n != 0 {
		t.Errorf("%v allocations for a packet of a stranger", n)
	}
}

// junk returns a turn of the worker with one packet of a stranger that gets no answer:
// of all kinds, from 200 networks, as if it came 100,000 times a second.
func junk(b *bench, all map[string][]byte) func() {
	var kinds []string
	for name, datagram := range all {
		if rtp.Kind(datagram) != rtp.DTLS && !strings.HasPrefix(name, "discovery") && !strings.HasSuffix(name, "check") {
			kinds = append(kinds, name)
		}
	}
	slices.Sort(kinds)
	batch := udp.NewBatch()[:1]
	i := 0
	return func() {
		batch[0].Addr = address(1<<16 + i%200<<8)
		batch[0].Size = copy(batch[0].Buffer, all[kinds[i%len(kinds)]])
		b.now = b.now.Add(10 * time.Microsecond)
		b.nextHousekeeping = b.now.Add(time.Hour)
		b.turn(b.now, batch)
		i++
	}
}

func BenchmarkStranger(b *testing.B) {
	w := newBench(b)
	w.native(1, proto.ModeAES256GCM)
	w.browser(2, browser.AEADAES128GCM)
	all := strangers(b)
	for name, kind := range map[string]string{"mixed": "", "known_ssrc": "RTP of a peer", "check": "check, wrong password"} {
		b.Run(name, func(b *testing.B) {
			some := all
			if kind != "" {
				some = map[string][]byte{"x": all[kind]}
			}
			turn := junk(w, some)
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
		})
	}
}

// TestOriginsAreCarried by a command to another process, and so is that there is none.
func TestOriginsAreCarried(t *testing.T) {
	for _, from := range []netip.Addr{{}, netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::1")} {
		want := sfu.AddPeer{Peer: 1, Channel: 2, SSRC: 16, From: from}
		data, err := cbor.Marshal(sfu.Command{Add: &want})
		if err != nil {
			t.Fatal(err)
		}
		var got sfu.Command
		if err := cbor.Unmarshal(data, &got); err != nil || *got.Add != want {
			t.Errorf("%+v became %+v, %v", want, got.Add, err)
		}
	}
}
