package media

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/disgoorg/disgo/voice"
	"github.com/pion/stun/v3"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
)

// leastGap is as often as a client may send for long.
const leastGap = 2500 * time.Microsecond

const password = "a password of enough length"

// bench is a worker on a network in memory, whose time the test moves.
type bench struct {
	*worker
	t      testing.TB
	now    clock.Time
	net    *udp.Network
	server netip.AddrPort
	events []sfu.Event
	rx     []udp.Message
}

func newBench(t testing.TB) *bench { return newBenchOver(t, nil) }

// newBenchOver is newBench with a memory that outlives the worker.
func newBenchOver(t testing.TB, m *memory) *bench {
	b := &bench{
		t: t, now: clock.Time(time.Hour), net: udp.NewNetwork(),
		server: netip.MustParseAddrPort("192.0.2.1:50000"), rx: udp.NewBatch(),
	}
	c, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	b.worker = newWorker(0, b.net.Listen(b.server), c, Config{Wait: mostWait, Log: slog.New(slog.DiscardHandler)}, m)
	if m != nil {
		b.settle(b.now, 0)
	}
	b.sink = func(_ int, ev sfu.Event) { b.events = append(b.events, ev) }
	return b
}

// certificate is made once: it costs more than most tests.
var certificate = sync.OnceValues(selfSigned)

// step lets time pass and the worker do what has come.
func (b *bench) step(d time.Duration) {
	b.now = b.now.Add(d)
	for {
		n, _ := b.socket.ReadBatch(b.worker.rx, 0)
		b.turn(b.now, b.worker.rx[:n])
		if n == 0 && b.commands.Len() == 0 && b.outputs.Len() == 0 {
			return
		}
	}
}

// frame lets the time of one frame pass and the worker do what has come, save its
// housekeeping.
func (b *bench) frame() {
	b.now = b.now.Add(20 * time.Millisecond)
	n, _ := b.socket.ReadBatch(b.worker.rx, 0)
	b.turn(b.now, b.worker.rx[:n])
	b.nextHousekeeping = b.now.Add(time.Hour)
}

// allocations returns how many a round makes after 1,100, which fill the queues in
// memory once.
func allocations(round func()) float64 {
	for range 1100 {
		round()
	}
	return testing.AllocsPerRun(200, round)
}

func (b *bench) do(c sfu.Command) {
	b.commands.Post(order{command: c})
	b.step(0)
}

func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 4000)
}

// native adds a native peer that did discovery from address(id).
func (b *bench) native(id int, mode string) (*udp.Memory, voice.Encrypter) {
	b.t.Helper()
	b.do(sfu.Command{Add: &sfu.AddPeer{Peer: sfu.PeerID(id), Channel: 1, SSRC: uint32(id) * 16}})
	key := [32]byte{byte(id), byte(id >> 8)}
	b.do(sfu.Command{Native: &sfu.SetNative{Peer: sfu.PeerID(id), Mode: mode, Key: key}})
	s := b.net.Listen(address(id))
	b.write(s, discovery(uint32(id)*16))
	b.step(0)
	if got := b.read(s); len(got) != 74 {
		b.t.Fatalf("discovery answered with %x", got)
	}
	crypt, err := voice.NewEncrypter(voice.EncryptionMode(mode), key[:])
	if err != nil {
		b.t.Fatal(err)
	}
	return s, crypt
}

// browser adds a browser peer whose keys are known and whose check came from
// address(id).
func (b *bench) browser(id int, profile browser.Profile) *udp.Memory {
	b.t.Helper()
	b.do(sfu.Command{Add: &sfu.AddPeer{Peer: sfu.PeerID(id), Channel: 1, SSRC: uint32(id) * 16}})
	b.do(sfu.Command{Browser: &sfu.SetBrowser{
		Peer: sfu.PeerID(id), LocalUfrag: fmt.Sprint("ufrag", id), LocalPwd: password, OpusPT: 111, AudioLevelID: 1,
	}})
	keying := make([]byte, profile.MaterialSize())
	binary.BigEndian.PutUint32(keying, uint32(id))
	b.do(sfu.Command{Keys: &sfu.SetSRTPKeys{Peer: sfu.PeerID(id), Profile: uint16(profile), Keying: keying}})
	s := b.net.Listen(address(id))
	b.check(s, id, password, true)
	if got := b.read(s); rtp.Kind(got) != rtp.STUN {
		b.t.Fatalf("check answered with %x", got)
	}
	return s
}

// check sends an ICE connectivity check.
func (b *bench) check(s *udp.Memory, id int, pwd string, nominate bool) {
	b.t.Helper()
	setters := []stun.Setter{
		stun.TransactionID, stun.BindingRequest, stun.NewUsername(fmt.Sprintf("ufrag%d:remote", id)),
	}
	if nominate {
		setters = append(setters, stun.RawAttribute{Type: stun.AttrUseCandidate})
	}
	setters = append(setters, stun.NewShortTermIntegrity(pwd), stun.Fingerprint)
	b.write(s, stun.MustBuild(setters...).Raw)
	b.step(0)
}

func (b *bench) write(s *udp.Memory, datagram []byte) {
	s.WriteBatch([]udp.Message{{Buffer: datagram, Size: len(datagram), Addr: b.server}})
}

// read returns the next datagram at s, or nil.
func (b *bench) read(s *udp.Memory) []byte {
	if n, _ := s.ReadBatch(b.rx[:1], 0); n == 0 {
		return nil
	}
	return b.rx[0].Buffer[:b.rx[0].Size]
}

// packets seals count packets of 140 bytes of a native peer.
func packets(id, count int, crypt voice.Encrypter) [][]byte {
	out := make([][]byte, count)
	for i := range out {
		c := client{ssrc: uint32(id) * 16, crypt: crypt}
		out[i] = c.sealed(i, strings.Repeat("v", 140))
	}
	return out
}
