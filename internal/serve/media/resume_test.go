package media

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/disgoorg/disgo/voice"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/internal/serve/run"
	"hubbub.dev/hubbub/proto"
)

// newMemory is what a child would map, on the heap, with room for so many peers and
// streams.
func newMemory(records int) *memory {
	return &memory{
		heading: new(heading), records: make([]record, records), streams: make([]sfu.Record, records),
		sources: make([]browser.Numbering, records*sourcesApart),
	}
}

// bytes returns the memory's parts but for the rollovers, which have no checks.
func (m *memory) bytes() [][]byte {
	return [][]byte{
		unsafe.Slice((*byte)(unsafe.Pointer(m.heading)), unsafe.Sizeof(*m.heading)),
		unsafe.Slice((*byte)(unsafe.Pointer(&m.records[0])), uintptr(len(m.records))*unsafe.Sizeof(record{})),
		unsafe.Slice((*byte)(unsafe.Pointer(&m.streams[0])), uintptr(len(m.streams))*unsafe.Sizeof(sfu.Record{})),
	}
}

// mortal is a bench whose worker dies, with the supervisor's part of it.
type mortal struct {
	*bench
	memory *memory
	table  *table
	crypts map[int]voice.Encrypter
	ears   map[int]*udp.Memory
	used   map[string]bool // receivers and what makes the nonce of what they got
}

func newMortal(t testing.TB) *mortal {
	m := &mortal{bench: newBench(t), memory: newMemory(32), table: newTable(), crypts: map[int]voice.Encrypter{}, ears: map[int]*udp.Memory{}, used: map[string]bool{}}
	m.live()
	return m
}

// live has another worker take the place of the one that there is.
func (m *mortal) live() {
	m.t.Helper()
	c, err := certificate()
	if err != nil {
		m.t.Fatal(err)
	}
	w := newWorker(0, m.worker.socket, c, Config{Wait: mostWait, Log: slog.New(slog.DiscardHandler)}, m.memory)
	w.sink = m.worker.sink
	m.worker, m.events = w, nil
	for _, d := range m.table.replay() {
		w.begin(m.now, order{d.Number, d.Command})
	}
	w.settle(m.now, m.table.last)
}

func (m *mortal) do(c sfu.Command) {
	d := directive{Command: c}
	m.table.apply(&d)
	m.commands.Post(order{d.Number, d.Command})
	m.step(0)
}

// native and browser add peers as those of a bench do.
func (m *mortal) native(id int) {
	m.t.Helper()
	m.do(sfu.Command{Add: &sfu.AddPeer{Peer: sfu.PeerID(id), Channel: 1, SSRC: uint32(id) * 16}})
	key := [32]byte{byte(id)}
	m.do(sfu.Command{Native: &sfu.SetNative{Peer: sfu.PeerID(id), Mode: proto.ModeAES256GCM, Key: key}})
	s := m.net.Listen(address(id))
	m.write(s, discovery(uint32(id)*16))
	m.step(0)
	m.read(s)
	m.ears[id] = s
	crypt, err := voice.NewEncrypter(voice.EncryptionModeAEADAES256GCMRTPSize, key[:])
	if err != nil {
		m.t.Fatal(err)
	}
	m.crypts[id] = crypt
}

func (m *mortal) page(id int) {
	m.t.Helper()
	m.do(sfu.Command{Add: &sfu.AddPeer{Peer: sfu.PeerID(id), Channel: 1, SSRC: uint32(id) * 16}})
	m.do(sfu.Command{Browser: &sfu.SetBrowser{Peer: sfu.PeerID(id), LocalUfrag: ufrag(id), LocalPwd: password, OpusPT: 111, AudioLevelID: 1}})
	keying := make([]byte, browser.AEADAES128GCM.MaterialSize())
	keying[0] = byte(id)
	slot, _ := m.router.Find(sfu.PeerID(id))
	if !m.setKeys(slot, &sfu.SetSRTPKeys{Peer: sfu.PeerID(id), Profile: uint16(browser.AEADAES128GCM), Keying: keying}) {
		m.t.Fatal("keys are refused")
	}
	s := m.net.Listen(address(id))
	m.check(s, id, password, true)
	m.read(s)
	m.ears[id] = s
}

func ufrag(id int) string { return "ufrag" + string(rune('0'+id)) }

// speak has a native peer say packet number i and takes what the others get. It returns
// how many got it.
func (m *mortal) speak(id, i int) (heard int) {
	m.t.Helper()
	c := client{ssrc: uint32(id) * 16, crypt: m.crypts[id]}
	m.from(id, c.sealed(i, "voice"))
	for other := 1; other < 10; other++ {
		s := m.ears[other]
		if s == nil {
			continue
		}
		for pkt := m.read(s); pkt != nil; pkt = m.read(s) {
			if rtp.Kind(pkt) != rtp.RTP {
				continue
			}
			heard++
			// With fewer packets than roll over, a browser's nonce is source and number.
			unique := append(pkt[2:4:4], pkt[8:12]...)
			if pkt[1]&0x7F == opusPayloadType {
				unique = pkt[len(pkt)-4:]
			}
			nonce := string(rune('0'+other)) + string(unique)
			if m.used[nonce] {
				m.t.Fatalf("peer %d is sent %x twice", other, nonce)
			}
			m.used[nonce] = true
		}
	}
	return heard
}

// populate adds two natives who speak, and two browsers.
func (m *mortal) populate() {
	m.native(1)
	m.native(2)
	m.page(3)
	m.page(4)
}

// TestWorkerGoesOn has everyone hear everyone through any number of deaths.
func TestWorkerGoesOn(t *testing.T) {
	m := newMortal(t)
	m.populate()
	rng := rand.New(rand.NewPCG(3, 4))
	for i := 1; i < 500; i++ {
		m.step(10 * time.Millisecond)
		speaker := 1 + i%2
		if got := m.speak(speaker, i); got != 3 {
			t.Fatalf("packet %d was heard by %d, not by 3", i, got)
		}
		if rng.IntN(20) == 0 {
			m.live()
		}
		for _, ev := range m.events {
			if ev.Lost != nil || ev.Connected != nil && i > 2 {
				t.Fatalf("after packet %d: %+v", i, ev)
			}
		}
		m.events = nil
	}
}

// TestReplayedPacketsAreRefused sends again after a death what came before it.
func TestReplayedPacketsAreRefused(t *testing.T) {
	m := newMortal(t)
	m.populate()
	c := client{ssrc: 16, crypt: m.crypts[1]}
	var old [][]byte
	for i := 1; i < 30; i++ {
		old = append(old, c.sealed(i, "voice"))
		m.from(1, bytes.Clone(old[len(old)-1]))
	}
	m.live()
	for _, pkt := range old {
		m.from(1, bytes.Clone(pkt))
	}
	if m.refused[rtp.Replayed] != uint64(len(old)) {
		t.Errorf("%d of %d are refused", m.refused[rtp.Replayed], len(old))
	}
}

// TestLeaversLeaveNothing removes peers before and after a death.
func TestLeaversLeaveNothing(t *testing.T) {
	m := newMortal(t)
	m.populate()
	m.speak(1, 1)
	m.do(sfu.Command{Remove: &sfu.RemovePeer{Peer: 2}})
	m.live()
	m.speak(1, 2)
	for _, id := range []sfu.PeerID{1, 3, 4} {
		m.do(sfu.Command{Remove: &sfu.RemovePeer{Peer: id}})
	}
	if len(m.table.entries) != 0 {
		t.Errorf("%d entries are left", len(m.table.entries))
	}
	for i := range m.memory.records {
		if m.memory.records[i] != (record{}) {
			t.Errorf("record %d is left: %+v", i, m.memory.records[i])
		}
	}
	for i := range m.memory.streams {
		if m.memory.streams[i] != (sfu.Record{}) {
			t.Errorf("stream %d is left", i)
		}
	}
	for i, n := range m.memory.sources {
		if n != 0 {
			t.Fatalf("source %d is left", i)
		}
	}
}

// TestHandshakeUnderWay lets a worker die between a browser's first check and its keys.
// A client that begins gets a handshake, one that waits for the other's next flight is
// lost at once.
func TestHandshakeUnderWay(t *testing.T) {
	for name, c := range map[string]struct {
		message byte
		lost    bool
	}{"ClientHello": {1, false}, "ClientKeyExchange": {16, true}} {
		t.Run(name, func(t *testing.T) {
			m := newMortal(t)
			m.group = run.NewGroup(t.Context(), slog.New(slog.DiscardHandler))
			m.do(sfu.Command{Add: &sfu.AddPeer{Peer: 1, Channel: 1, SSRC: 16}})
			m.do(sfu.Command{Browser: &sfu.SetBrowser{Peer: 1, LocalUfrag: "ufrag1", LocalPwd: password, OpusPT: 111}})
			m.check(m.net.Listen(address(1)), 1, password, true)
			group := m.group
			m.live()
			m.group = group
			m.from(1, append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50, c.message}, make([]byte, 49)...))
			lost := len(m.events) == 1 && m.events[0].Lost != nil && m.events[0].Lost.Reason == sfu.LostHandshake
			if lost != c.lost {
				t.Errorf("lost %v, want %v: %+v", lost, c.lost, m.events)
			}
			if running := m.handshaking.Load() == 1; running == c.lost {
				t.Errorf("a handshake runs: %v", running)
			}
			m.endHandshakes()
			group.Stop()
			group.Wait()
		})
	}
}

// TestDamagedMemory changes any byte of what a dead worker left: a peer may be lost, or
// silent, but nobody is sent a nonce twice.
func TestDamagedMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	lost := 0
	for range 300 {
		m := newMortal(t)
		m.populate()
		for i := 1; i < 12; i++ {
			m.step(10 * time.Millisecond)
			m.speak(1+i%2, i)
		}
		parts := m.memory.bytes()
		part := parts[rng.IntN(len(parts))]
		used := 4 * len(part) / len(m.memory.records) // there are so many peers and half as many streams
		part[rng.IntN(max(used, 16))] ^= byte(1 + rng.IntN(255))
		m.live()
		for _, ev := range m.events {
			if ev.Lost != nil {
				lost++
			}
		}
		for i := 12; i < 20; i++ {
			m.step(10 * time.Millisecond)
			m.speak(1+i%2, i)
		}
	}
	if lost == 0 {
		t.Error("no damage was ever noticed")
	}
}

// TestLayout keeps parts of the shared memory apart and on pages of their own.
func TestLayout(t *testing.T) {
	if memorySize%pageSize != 0 {
		t.Errorf("%d bytes for a worker are no whole pages", memorySize)
	}
	var p path
	for _, addr := range []string{"192.0.2.1:4000", "[2001:db8:1:2:3:4:5:6]:65535"} {
		want := netip.MustParseAddrPort(addr)
		if p.set(want); p.get() != want {
			t.Errorf("%v came back as %v", want, p.get())
		}
		p[2] ^= 1 << 30
		if got := p.get(); got.IsValid() {
			t.Errorf("a damaged address is %v", got)
		}
	}
}

// FuzzMemory lets a worker go on from any memory.
func FuzzMemory(f *testing.F) {
	f.Add([]byte{0, 0, 1, 7, 1, 0, 9, 200, 2, 0, 3, 1})
	f.Fuzz(func(t *testing.T, changes []byte) {
		m := newMortal(t)
		m.populate()
		for i := 1; i < 6; i++ {
			m.speak(1+i%2, i)
		}
		parts := m.memory.bytes()
		for ; len(changes) >= 4; changes = changes[4:] {
			part := parts[int(changes[0])%len(parts)]
			at := int(changes[1])<<8 | int(changes[2])
			part[at%len(part)] ^= changes[3]
		}
		clear(m.used) // a check is no proof against those who know it
		m.live()
		clear(m.used)
		for i := 6; i < 9; i++ {
			m.from(1, (&client{ssrc: 16, crypt: m.crypts[1]}).sealed(i, "voice"))
		}
	})
}

// FuzzFrame reads what another process may send.
func FuzzFrame(f *testing.F) {
	for _, sample := range []frame{
		{Hello: &hello{Layout: layout, Version: "1"}},
		{Begin: &beginning{Sockets: 2, Certificate: []byte{1}}},
		{Orders: []directive{{Worker: 1, Number: 2, Command: sfu.Command{Add: &sfu.AddPeer{Peer: 1, Channel: 2, SSRC: 4}}}}},
		{Event: &workerEvent{Event: sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: 1, On: true}}}},
		{Stats: []WorkerStats{{Port: 5, Drops: map[string]uint64{"x": 1}}}},
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := writeFrame(w, sample); err != nil {
			f.Fatal(err)
		}
		w.Flush()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bufio.NewReader(bytes.NewReader(raw))
		table := newTable()
		for {
			got, err := readFrame(r)
			if err != nil {
				return
			}
			for i := range got.Orders {
				table.apply(&got.Orders[i])
			}
			if got.Event != nil {
				table.event(1, got.Event)
			}
			table.replay()
		}
	})
}

// BenchmarkReplay is a child's way to where the last one was: 5,000 natives and 500
// browsers in channels of ten, a tenth of whom spoke.
func BenchmarkReplay(b *testing.B) {
	m := newMortal(b)
	m.memory = newMemory(6000)
	m.live()
	for i := range 5500 {
		id := sfu.PeerID(i + 1)
		channel, ssrc := uint64(i/10), uint32(id)*16
		m.do(sfu.Command{Add: &sfu.AddPeer{Peer: id, Channel: channel, SSRC: ssrc}})
		if i%11 == 10 {
			m.do(sfu.Command{Browser: &sfu.SetBrowser{Peer: id, LocalUfrag: fmt.Sprint("ufrag", i), LocalPwd: password, OpusPT: 111}})
			slot, _ := m.router.Find(id)
			m.setKeys(slot, &sfu.SetSRTPKeys{Peer: id, Profile: uint16(browser.AEADAES128GCM), Keying: make([]byte, browser.AEADAES128GCM.MaterialSize())})
			continue
		}
		m.do(sfu.Command{Native: &sfu.SetNative{Peer: id, Mode: proto.ModeAES256GCM}})
		m.from(i+1, discovery(ssrc))
		if slot, _ := m.router.Find(id); i%10 == 0 {
			m.packet.Payload = []byte("voice")
			m.router.Forward(m.now, slot, &m.packet)
		}
	}
	for b.Loop() {
		m.live()
	}
}
