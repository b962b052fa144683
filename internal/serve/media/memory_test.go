package media

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"github.com/pion/stun/v3"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
)

// from has a datagram come from address(id).
func (b *bench) from(id int, datagram []byte) {
	m := [1]udp.Message{{Buffer: datagram, Size: len(datagram), Addr: address(id)}}
	b.turn(b.now, m[:])
}

func (b *bench) silentNative(id int) {
	ssrc := uint32(id) * 16
	b.do(sfu.Command{Add: &sfu.AddPeer{Peer: sfu.PeerID(id), Channel: uint64(id / 10), SSRC: ssrc}})
	b.do(sfu.Command{Native: &sfu.SetNative{Peer: sfu.PeerID(id), Mode: proto.ModeAES256GCM, Key: [32]byte{byte(id), byte(id >> 8)}}})
	b.from(id, discovery(ssrc))
	b.from(id, []byte{0x13, 0x37, 0xCA, 0xFE, 0, 0, 0, 1})
}

func (b *bench) silentBrowser(id int) {
	profile := browser.AEADAES128GCM
	b.do(sfu.Command{Add: &sfu.AddPeer{Peer: sfu.PeerID(id), Channel: uint64(id / 10), SSRC: uint32(id) * 16}})
	b.do(sfu.Command{Browser: &sfu.SetBrowser{
		Peer: sfu.PeerID(id), LocalUfrag: fmt.Sprint("ufrag", id), LocalPwd: password, OpusPT: 111, AudioLevelID: 1,
	}})
	b.from(id, stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(fmt.Sprintf("ufrag%d:remote", id)),
		stun.NewShortTermIntegrity(password), stun.Fingerprint).Raw)
	keying := make([]byte, profile.MaterialSize())
	binary.BigEndian.PutUint32(keying, uint32(id))
	b.do(sfu.Command{Keys: &sfu.SetSRTPKeys{Peer: sfu.PeerID(id), Profile: uint16(profile), Keying: keying}})
}

// TestMemoryOfSilentPeers keeps what a worker holds of one who only listens within its
// budget: 4 KiB for a native client, 16 KiB for a browser whose handshake is over.
func TestMemoryOfSilentPeers(t *testing.T) {
	const count = 2000
	for _, c := range []struct {
		name   string
		add    func(*bench, int)
		budget uint64
	}{{"native", (*bench).silentNative, 4 << 10}, {"browser", (*bench).silentBrowser, 16 << 10}} {
		b := newBench(t)
		before := heap()
		for id := range count {
			c.add(b, id+1)
		}
		if got := len(b.byAddr); got != count {
			t.Fatalf("%s: %d of %d peers have an address", c.name, got, count)
		}
		each := (heap() - before) / count
		t.Logf("%s: %d bytes a peer", c.name, each)
		if each > c.budget {
			t.Errorf("%s: %d bytes a peer, at most %d", c.name, each, c.budget)
		}
		runtime.KeepAlive(b)
	}
}
