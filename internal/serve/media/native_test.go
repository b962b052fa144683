package media

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

func TestNativePeersHearEachOther(t *testing.T) {
	r := newRig(t, Config{})
	a := r.native(1, 7, proto.ModeAES256GCM)
	b := r.native(2, 7, proto.ModeXChaCha20)
	stranger := r.native(3, 8, proto.ModeAES256GCM)
	for i := range 20 {
		a.send(i, fmt.Sprintf("from a %d", i))
		b.send(1000+i, fmt.Sprintf("from b %d", i))
		b.hears(a, fmt.Sprintf("from a %d", i))
		a.hears(b, fmt.Sprintf("from b %d", i))
	}
	stranger.nothing()
	a.nothing()
	r.expect("a speaks", speaking(1, true))
	r.expect("a is silent", speaking(1, false))
}

func TestConnectedOnce(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.native(1, 7, proto.ModeAES256GCM), r.native(2, 7, proto.ModeAES256GCM)
	a.send(1, "one")
	b.hears(a, "one")
	r.expect("a connects", connected(1))
	a.send(2, "two")
	b.hears(a, "two")
	r.settle()
	for len(r.events) > 0 {
		if ev := <-r.events; ev.Connected != nil {
			t.Fatalf("connected again: %+v", *ev.Connected)
		}
	}
}

func TestListenerHearsBeforeItSends(t *testing.T) {
	r := newRig(t, Config{})
	listener, speaker := r.native(1, 7, proto.ModeAES256GCM), r.native(2, 7, proto.ModeAES256GCM)
	speaker.send(1, "hello")
	listener.hears(speaker, "hello")
}

func TestMuteDeafenRemove(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.native(1, 7, proto.ModeAES256GCM), r.native(2, 7, proto.ModeAES256GCM)
	update := func(id sfu.PeerID, flags sfu.Flags) {
		r.post(sfu.Command{Update: &sfu.UpdatePeer{Peer: id, Flags: flags}})
		r.settle()
	}
	const first = 1
	a.send(first, "heard")
	b.hears(a, "heard")

	update(1, sfu.Muted)
	a.send(first+1, "muted")
	a.send(first+2, "muted")
	r.settle()
	b.nothing()
	update(1, 0)
	a.send(first+3, "heard again")
	h, said := b.hear()
	if said != "heard again" || h.Sequence != uint16(first+1) {
		t.Fatalf("got %q as number %d, want the number after the last heard, %d", said, h.Sequence, first+1)
	}

	update(2, sfu.Deafened)
	a.send(first+4, "deafened")
	r.settle()
	b.nothing()
	update(2, 0)
	a.send(first+5, "undeafened")
	b.hears(a, "undeafened")

	r.post(sfu.Command{Remove: &sfu.RemovePeer{Peer: 1}})
	r.settle()
	a.send(first+6, "removed")
	r.settle()
	b.nothing()
}

func TestPingAndKeepalive(t *testing.T) {
	r := newRig(t, Config{})
	a := r.native(1, 7, proto.ModeAES256GCM)
	a.write([]byte{0x13, 0x37, 0xCA, 0xFE, 1, 2, 3, 4})
	if got, want := a.read(), []byte{0x13, 0x37, 0xF0, 0x0D, 1, 2, 3, 4}; !bytes.Equal(got, want) {
		t.Errorf("ping: got %x, want %x", got, want)
	}
	keepalive := []byte{9, 0, 0, 0, 0, 0, 0, 0}
	a.write(keepalive)
	if got := a.read(); !bytes.Equal(got, keepalive) {
		t.Errorf("keepalive: got %x", got)
	}
	stranger := r.dial(0)
	stranger.write([]byte{0x13, 0x37, 0xCA, 0xFE, 1, 2, 3, 4})
	stranger.write(keepalive)
	stranger.write(discovery(12345))
	r.settle()
	stranger.nothing()
}

func TestDiscoverySaysWhereTheClientIs(t *testing.T) {
	r := newRig(t, Config{})
	a := r.native(1, 7, proto.ModeAES256GCM)
	if got, want := a.discover().String(), a.conn.LocalAddr().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAddressFollowsOnlyWhatDecryptsAndIsNew(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.native(1, 7, proto.ModeAES256GCM), r.native(2, 7, proto.ModeAES256GCM)
	first := a.sealed(1, "one")
	a.write(first)
	b.hears(a, "one")

	thief := r.dial(a.ssrc)
	thief.write(first)                 // a replay
	thief.write(discovery(a.ssrc))     // discovery of a latched peer moves nothing
	thief.read()                       // but is answered
	thief.write(append(first, 0, 0))   // what does not decrypt
	thief.write(a.sealed(2, "x")[:30]) // what is cut short
	r.settle()
	b.send(1, "for a")
	a.hears(b, "for a")
	thief.nothing()
	b.nothing()

	moved := r.dial(a.ssrc)
	moved.crypt = a.crypt
	moved.send(3, "from elsewhere")
	b.hears(a, "from elsewhere")
	b.send(2, "for a, moved")
	moved.hears(b, "for a, moved")
	a.nothing()
}

func TestAddressOfALivePeerIsNotTaken(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.native(1, 7, proto.ModeAES256GCM), r.native(2, 7, proto.ModeAES256GCM)
	a.send(1, "here")
	b.hears(a, "here")
	b.send(1, "here too")
	a.hears(b, "here too")
	// A packet of b's that comes from a's address, as b could forge it.
	a.write(b.sealed(2, "forged"))
	a.hears(b, "forged")
	b.send(3, "for a")
	a.hears(b, "for a")
	a.send(2, "for b")
	b.hears(a, "for b")
}

func TestReplayedPacketsAreSilence(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.native(1, 7, proto.ModeAES256GCM), r.native(2, 7, proto.ModeAES256GCM)
	pkt := a.sealed(1, "once")
	for range 100 {
		a.write(pkt)
	}
	b.hears(a, "once")
	r.settle()
	b.nothing()
	a.nothing()
}

func TestLegacyModeIsOffByDefault(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		r := newRig(t, Config{Legacy: legacy})
		old := r.native(1, 7, proto.ModeXSalsa20)
		speaker := r.native(2, 7, proto.ModeAES256GCM)
		speaker.send(1, "hello")
		r.settle()
		if !legacy {
			old.nothing()
			continue
		}
		if got, want := len(old.read()), 12+16+len("hello"); got != want {
			t.Errorf("legacy packet of %d bytes, want %d", got, want)
		}
	}
}

func TestPostAfterClose(t *testing.T) {
	r := newRig(t, Config{})
	r.native(1, 7, proto.ModeAES256GCM)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.Post(0, sfu.Command{Remove: &sfu.RemovePeer{Peer: 1}})
	if s := r.Stats(0); s.Port != r.Port(0) {
		t.Errorf("got %+v", s)
	}
}

func TestFullMailboxRefuses(t *testing.T) {
	m, err := New(Config{Bind: loopback, Workers: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range commandQueue {
		if !m.Post(0, sfu.Command{}) {
			t.Fatal("refused too early")
		}
	}
	if m.Post(0, sfu.Command{}) {
		t.Error("accepted by a full mailbox")
	}
}

func TestNewRefuses(t *testing.T) {
	busy := newRig(t, Config{})
	for name, cfg := range map[string]Config{
		"too many workers": {BasePort: 65535, Workers: 2},
		"fewer than none":  {Workers: -1},
		"negative port":    {BasePort: -1, Workers: 1},
		"port in use":      {Bind: loopback, BasePort: int(busy.Port(0)), Workers: 1},
	} {
		cfg.Log = slog.New(slog.DiscardHandler)
		if m, err := New(cfg); err == nil {
			m.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}
