package media

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/pion/dtls/v3"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/relay"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
)

const relayID sfu.PeerID = 1 << 20

// relays returns what the two ends of a channel's relay are told.
func relays(channel uint64, a, b *rig) (atA, atB sfu.Command) {
	there := sfu.RelayKey{SSRC: 0xA0000, Key: [32]byte{1}}
	back := sfu.RelayKey{SSRC: 0xB0000, Key: [32]byte{2}}
	return sfu.Command{Relay: &sfu.AddRelay{Peer: relayID, Channel: channel, Addr: b.Addr(b.worker), Out: there, In: back}},
		sfu.Command{Relay: &sfu.AddRelay{Peer: relayID, Channel: channel, Addr: a.Addr(a.worker), Out: back, In: there}}
}

// newSpread returns two workers that relay channel 7 to one another.
func newSpread(t testing.TB) (a, b *rig) {
	a = newRig(t, Config{Workers: 2})
	b = &rig{workers: a.workers, t: t, worker: 1, events: a.events}
	atA, atB := relays(7, a, b)
	a.post(atA)
	b.post(atB)
	a.settle()
	b.settle()
	return a, b
}

func TestASpreadChannelIsOne(t *testing.T) {
	a, b := newSpread(t)
	near := a.native(1, 7, proto.ModeAES256GCM)
	far := b.native(2, 7, proto.ModeXChaCha20)
	stranger := b.native(3, 8, proto.ModeAES256GCM)
	page := b.page(4, 7, dtls.SRTP_AEAD_AES_128_GCM)
	for i := range 20 {
		said := fmt.Sprintf("from the near side %d", i)
		near.send(i+1, said)
		far.hears(near, said)
		if pkt := page.hear(); string(pkt.Payload) != said || pkt.SSRC != near.ssrc || pkt.Marker != (i == 0) {
			t.Fatalf("the page got %q under %+v", pkt.Payload, pkt.Header)
		}
	}
	for i := range 20 {
		said := fmt.Sprintf("from the far side %d", i)
		far.send(i+1, said)
		near.hears(far, said)
		if pkt := page.hear(); string(pkt.Payload) != said {
			t.Fatalf("the page got %q", pkt.Payload)
		}
	}
	for i := range 20 {
		said := fmt.Sprintf("from the page %d", i)
		page.say(i+1, said)
		far.hear()
		if h, got := near.hear(); got != said || h.SSRC != 4<<4 {
			t.Fatalf("got %q under %+v", got, h)
		}
	}
	a.settle()
	b.settle()
	near.nothing()
	far.nothing()
	stranger.nothing()
	a.expect("the near side speaks", speaking(1, true))
	a.expect("the page speaks", speaking(4, true))
}

func TestWhoIsThereLosesNothingAsAChannelSpreads(t *testing.T) {
	a := newRig(t, Config{Workers: 2})
	b := &rig{workers: a.workers, t: t, worker: 1, events: a.events}
	speaker, near := a.native(1, 7, proto.ModeAES256GCM), a.native(2, 7, proto.ModeAES256GCM)
	next := 0
	say := func() string {
		next++
		said := fmt.Sprint("word ", next)
		speaker.send(next, said)
		return said
	}
	var last uint16
	nearHears := func(said string) {
		t.Helper()
		h, got := near.hear()
		if got != said || h.SSRC != speaker.ssrc || next > 1 && h.Sequence != last+1 {
			t.Fatalf("got %q as number %d after %d, want %q", got, h.Sequence, last, said)
		}
		last = h.Sequence
	}
	for range 5 {
		nearHears(say())
	}
	atA, atB := relays(7, a, b)
	b.post(atB)
	a.post(atA)
	nearHears(say())
	var far []*client
	for id := range sfu.PeerID(3) {
		far = append(far, b.native(10+id, 7, proto.ModeAES256GCM))
		a.settle()
		said := say()
		nearHears(said)
		for _, c := range far {
			c.hears(speaker, said)
		}
	}
	for id := range sfu.PeerID(3) {
		b.post(sfu.Command{Remove: &sfu.RemovePeer{Peer: 10 + id}})
		nearHears(say())
	}
	for _, r := range []*rig{b, a} {
		r.post(sfu.Command{Remove: &sfu.RemovePeer{Peer: relayID}})
	}
	nearHears(say())
}

func TestMuteOnOneSideIsSilenceOnTheOther(t *testing.T) {
	a, b := newSpread(t)
	near, far := a.native(1, 7, proto.ModeAES256GCM), b.native(2, 7, proto.ModeAES256GCM)
	far.send(1, "heard")
	near.hears(far, "heard")
	b.post(sfu.Command{Update: &sfu.UpdatePeer{Peer: 2, Flags: sfu.Muted}})
	b.settle()
	far.send(2, "muted")
	b.settle()
	a.settle()
	near.nothing()
	b.post(sfu.Command{Update: &sfu.UpdatePeer{Peer: 2, Flags: sfu.Deafened}})
	b.settle()
	near.send(1, "not for the deafened")
	far.send(3, "heard again")
	near.hears(far, "heard again")
	far.nothing()
}

// farWorker is the other end of a bench's relay, of which the test has the keys.
type farWorker struct {
	*udp.Memory
	*relay.Link
	b   *bench
	buf [2048]byte
}

const farSSRC = 0x7000

// relayed joins the bench's channel to a worker that the test plays.
func (b *bench) relayed() *farWorker {
	b.t.Helper()
	at := address(1 << 16)
	in, out := sfu.RelayKey{SSRC: 0xB0000, Key: [32]byte{1}}, sfu.RelayKey{SSRC: 0xA0000, Key: [32]byte{2}}
	b.do(sfu.Command{Relay: &sfu.AddRelay{Peer: relayID, Channel: 1, Addr: at, In: in, Out: out}})
	link, err := relay.New(&sfu.AddRelay{In: out, Out: in})
	if err != nil {
		b.t.Fatal(err)
	}
	return &farWorker{Memory: b.net.Listen(at), Link: link, b: b}
}

// packet seals packet number i of a speaker.
func (f *farWorker) packet(ssrc uint32, i int, payload string) []byte {
	n := f.Seal(f.buf[:], &sfu.Delivery{
		Header:  rtp.Header{Sequence: uint16(i), Timestamp: uint32(i * 960), SSRC: ssrc},
		Payload: []byte(payload),
	})
	return f.buf[:n]
}

func (f *farWorker) say(ssrc uint32, i int, payload string) {
	f.b.write(f.Memory, f.packet(ssrc, i, payload))
	f.b.step(0)
}

// hears returns what the other worker's next packet carries.
func (f *farWorker) hears() (sfu.Packet, bool) {
	pkt := f.b.read(f.Memory)
	if pkt == nil {
		return sfu.Packet{}, false
	}
	var p sfu.Packet
	if drop := f.Open(pkt, &p); drop != rtp.Accepted {
		f.b.t.Fatal(drop)
	}
	return p, true
}

func TestRelaysDoNotRelayOn(t *testing.T) {
	b := newBench(t)
	far := b.relayed()
	other := address(1<<16 + 1)
	b.do(sfu.Command{Relay: &sfu.AddRelay{
		Peer: relayID + 1, Channel: 1, Addr: other, In: sfu.RelayKey{SSRC: 0xC0000}, Out: sfu.RelayKey{SSRC: 0xD0000},
	}})
	third := b.net.Listen(other)
	ear := b.nativeEar(2)
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	far.say(farSSRC, 1, "from the other worker")
	if got := b.read(ear.Memory); rtp.Kind(got) != rtp.RTP {
		t.Fatal("the listener heard nothing")
	}
	if b.read(third) != nil || b.read(far.Memory) != nil {
		t.Error("relayed on")
	}
	b.write(speaker, packets(1, 1, crypt)[0])
	b.step(0)
	if p, ok := far.hears(); !ok || p.Header.SSRC != 16 || len(p.Payload) != 140 {
		t.Errorf("the other worker heard %+v", p)
	}
	if b.read(third) == nil {
		t.Error("the third worker heard nothing")
	}
	b.step(time.Second)
	b.nextHousekeeping = b.now
	b.step(0)
	if s := b.published.Load(); s.RelayedIn != 1 || s.RelayedOut != 2 || s.Relays != 2 || s.Peers != 2 {
		t.Errorf("got %+v", s)
	}
}

// What relays brings is bounded by a key, not by where it comes from.
func TestStrangersAreNoRelay(t *testing.T) {
	b := newBench(t)
	far := b.relayed()
	ear := b.nativeEar(2)
	stranger := b.net.Listen(address(9))
	for i := range 3000 {
		pkt := far.packet(farSSRC, 1, "forged")
		pkt[40] ^= byte(i) | 1
		b.write(stranger, pkt)
		b.step(0)
	}
	b.write(stranger, discovery(0xB0000))
	b.write(stranger, append([]byte{0x80, 200, 0, 6, 0, 0xB, 0, 0}, make([]byte, 40)...))
	b.step(0)
	if b.read(stranger) != nil || b.read(ear.Memory) != nil {
		t.Error("a stranger was answered, or heard")
	}
	if b.refused[rtp.Unauthenticated] > attemptsPerWindow {
		t.Errorf("%d decryptions for strangers", b.refused[rtp.Unauthenticated])
	}
	b.step(attemptWindow)
	b.write(stranger, far.packet(farSSRC, 1, "true, from another address"))
	b.step(0)
	if b.read(ear.Memory) == nil {
		t.Error("what a relay's key sealed was not heard")
	}
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	b.write(speaker, packets(1, 1, crypt)[0])
	b.step(0)
	if _, ok := far.hears(); !ok || b.read(stranger) != nil {
		t.Error("the relay goes to another address")
	}
}

// A browser holds one key for all whom it hears, so no speaker's numbers may come twice.
func TestEndedSourcesAreFreedAndNeverComeBack(t *testing.T) {
	b := newBench(t)
	far := b.relayed()
	ears := []ear{b.browserEar(2, browser.AEADAES128GCM), b.browserEar(3, browser.AESCM128SHA180)}
	rollover := func() int { return int(b.peers[mustFind(t, b, 2)].browser.rollover.Next(0)) }
	heard := func(payload string) {
		t.Helper()
		for _, e := range ears {
			pkt := b.read(e.Memory)
			if pkt == nil || !strings.HasSuffix(string(e.open(pkt)), payload) {
				t.Fatalf("%q was not heard", payload)
			}
		}
	}
	silence := func() {
		t.Helper()
		for _, e := range ears {
			if b.read(e.Memory) != nil {
				t.Fatal("heard")
			}
		}
	}
	far.say(farSSRC, 1, "hello")
	heard("hello")
	if rollover() == 0 {
		t.Fatal("no number is given")
	}
	late := append([]byte(nil), far.packet(farSSRC, 2, "late")...)
	b.do(sfu.Command{End: &sfu.EndSource{Channel: 1, SSRC: farSSRC}})
	if rollover() != 0 {
		t.Error("the number is not freed")
	}
	b.write(far.Memory, late)
	b.step(0)
	silence()
	if b.verdicts[sfu.Unrelayed] != 1 {
		t.Errorf("%d packets of one who is gone", b.verdicts[sfu.Unrelayed])
	}
	far.say(farSSRC+16, 1, "another")
	heard("another")
	b.do(sfu.Command{Remove: &sfu.RemovePeer{Peer: relayID}})
	if rollover() != 0 {
		t.Error("the number is not freed with the relay")
	}
	far.say(farSSRC+16, 2, "gone")
	silence()
}

func mustFind(t *testing.T, b *bench, id sfu.PeerID) sfu.Slot {
	t.Helper()
	slot, ok := b.router.Find(id)
	if !ok {
		t.Fatalf("no peer %d", id)
	}
	return slot
}

// What crosses to a worker may have to reach another process.
func TestRelayCommandsArePlainData(t *testing.T) {
	for _, c := range []sfu.Command{
		{Relay: &sfu.AddRelay{
			Peer: relayID, Channel: 7, Addr: address(1), In: sfu.RelayKey{SSRC: 16, Key: [32]byte{1}}, Out: sfu.RelayKey{SSRC: 32, Key: [32]byte{2}},
		}},
		{End: &sfu.EndSource{Channel: 7, SSRC: 16}},
	} {
		data, err := cbor.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back sfu.Command
		if err := cbor.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%+v came back as %+v, %v", c, back, err)
		}
	}
}

func TestBadRelaysAreRefused(t *testing.T) {
	b := newBench(t)
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	at := address(1 << 16)
	for _, c := range []sfu.Command{
		{Relay: &sfu.AddRelay{Peer: relayID, Channel: 1, In: sfu.RelayKey{SSRC: 0x100}}}, // without an address
		{Relay: &sfu.AddRelay{Peer: relayID, Channel: 1, Addr: at, In: sfu.RelayKey{SSRC: 16}}},
		{Relay: &sfu.AddRelay{Peer: 1, Channel: 1, Addr: at, In: sfu.RelayKey{SSRC: 0x100}}},
		{End: &sfu.EndSource{Channel: 1, SSRC: 16}},
		{End: &sfu.EndSource{Channel: 9, SSRC: 16}},
	} {
		b.do(c)
	}
	b.relayed()
	for _, c := range []sfu.Command{
		{Native: &sfu.SetNative{Peer: relayID, Mode: proto.ModeAES256GCM}},
		{Browser: &sfu.SetBrowser{Peer: relayID, LocalUfrag: "u"}},
		{Keys: &sfu.SetSRTPKeys{Peer: relayID, Profile: 7, Keying: make([]byte, 56)}},
		{Update: &sfu.UpdatePeer{Peer: relayID, Flags: sfu.Deafened}},
		{Relay: &sfu.AddRelay{Peer: relayID, Channel: 1, Addr: at, In: sfu.RelayKey{SSRC: 0x100}}},
	} {
		b.do(c)
	}
	b.write(speaker, packets(1, 1, crypt)[0])
	b.step(0)
	if b.relayedOut != 1 || b.router.Relays() != 1 {
		t.Errorf("%d relays, %d packets", b.router.Relays(), b.relayedOut)
	}
}

func TestRelayingAllocatesNothing(t *testing.T) {
	b := newBench(t)
	far := b.relayed()
	speaker, crypt := b.native(1, proto.ModeAES256GCM)
	for id := 2; id < 20; id += 2 {
		b.native(id, proto.ModeAES256GCM)
		b.browser(id+1, browser.AEADAES128GCM)
	}
	own, relayed := packets(1, 1400, crypt), make([][]byte, 1400)
	for i := range relayed {
		relayed[i] = append([]byte(nil), far.packet(farSSRC, i, strings.Repeat("r", 140))...)
	}
	next := 0
	round := func() {
		b.write(speaker, own[next])
		b.write(far.Memory, relayed[next])
		next++
		b.frame()
	}
	if n := allocations(round); n != 0 {
		t.Errorf("%v allocations for a packet each way", n)
	}
	if b.verdicts[sfu.Forwarded] != uint64(2*next) || b.relayedIn != uint64(next) || b.relayedOut != uint64(next) {
		t.Errorf("%d forwarded, %d relayed in, %d out of %d each", b.verdicts[sfu.Forwarded], b.relayedIn, b.relayedOut, next)
	}
}

// TestRelayedSpeakersLeaveTogether has three speakers' packets come in one batch.
func TestRelayedSpeakersLeaveTogether(t *testing.T) {
	b := newBench(t)
	far := b.relayed()
	ear := b.nativeEar(2)
	b.step(time.Second)
	before := b.sends
	for ssrc := range uint32(3) {
		b.write(far.Memory, far.packet(farSSRC+16*ssrc, 1, strings.Repeat("v", 100)))
	}
	b.step(0)
	for range 3 {
		if b.read(ear.Memory) == nil {
			t.Fatal("a packet is missing")
		}
	}
	if sends := b.sends - before; sends != 1 {
		t.Errorf("%d sends for three packets", sends)
	}
}

// BenchmarkRelayed is one packet from another worker through the read, open, forward and
// one seal for each listener.
func BenchmarkRelayed(b *testing.B) {
	for _, listeners := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(listeners), func(b *testing.B) {
			w := newBench(b)
			far := w.relayed()
			for id := range listeners {
				w.native(id+2, proto.ModeAES256GCM)
			}
			w.socket = discard{w.socket.(*udp.Memory)}
			payload := strings.Repeat("v", 140)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.write(far.Memory, far.packet(farSSRC, i, payload))
				w.now = w.now.Add(20 * time.Millisecond)
				w.nextHousekeeping = w.now.Add(time.Hour)
				n, _ := w.socket.ReadBatch(w.worker.rx, 0)
				w.turn(w.now, w.worker.rx[:n])
			}
		})
	}
}
