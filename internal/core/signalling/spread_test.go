package signalling

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

// told returns what workers were told since the last call, as "worker kind".
func (r *room) told() string {
	var lines []string
	for _, p := range r.postings {
		c, kind := p.command, ""
		switch {
		case c.Add != nil:
			kind = "add"
		case c.Native != nil:
			kind = "native"
		case c.Update != nil:
			kind = "update"
		case c.Remove != nil:
			kind = "remove"
		case c.Relay != nil:
			kind = "relay"
		case c.End != nil:
			kind = "end"
		}
		lines = append(lines, fmt.Sprint(p.worker, " ", kind))
	}
	r.postings = nil
	return strings.Join(lines, ", ")
}

// joinOn brings a user in whose peer is placed on a worker, and keeps what was posted.
func (r *room) joinOn(worker int, user proto.Snowflake) ConnID {
	r.t.Helper()
	r.worker = worker
	conn := r.identify(9, claims(user, 1))
	r.frame(conn, proto.VoiceOpSelectProtocol, selectUDP)
	return conn
}

func (r *room) want(told string) {
	r.t.Helper()
	if got := r.told(); got != told {
		r.t.Fatalf("workers were told %q, want %q", got, told)
	}
}

func TestSpreadChannelIsRelayed(t *testing.T) {
	r := newRoom(t)
	r.joinOn(3, 1)
	r.joinOn(3, 2)
	r.want("3 add, 3 native, 3 add, 3 native")
	r.worker = 1
	conn := r.identify(9, claims(3, 1))
	at3, at1 := r.postings[0].command.Relay, r.postings[1].command.Relay
	if at3.Peer != at1.Peer || at3.Channel != uint64(testChannel) || at1.Channel != at3.Channel ||
		at3.In != at1.Out || at3.Out != at1.In || at3.In.Key == at3.Out.Key || at3.In.SSRC == at3.Out.SSRC ||
		at3.Addr != r.shard.cfg.Workers[1].Addr || at1.Addr != r.shard.cfg.Workers[3].Addr {
		t.Errorf("the ends are told %+v and %+v", at3, at1)
	}
	if got := r.take(conn)[0]; !strings.Contains(got.raw, `"port":50001`) {
		t.Errorf("ready %v", got)
	}
	r.frame(conn, proto.VoiceOpSelectProtocol, selectUDP)
	r.want("3 relay, 1 relay, 1 add, 1 native")
	if report := r.reports[len(r.reports)-1]; report.Worker != 1 || !report.Connected {
		t.Errorf("report %+v", report)
	}

	fourth := r.joinOn(0, 4)
	r.want("3 relay, 0 relay, 1 relay, 0 relay, 0 add, 0 native")
	for _, info := range r.shard.List() {
		if want := map[proto.Snowflake]int{1: 3, 2: 3, 3: 1, 4: 0}[info.User]; info.Worker != want {
			t.Errorf("user %d is on worker %d, want %d", info.User, info.Worker, want)
		}
	}

	// A moderator's word goes to the worker that has the peer.
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 3, Join: 1, Update: &guild.VoiceFlags{Mute: true}})
	r.drain()
	r.want("1 update")
	// Who has left one worker is gone on all; who is the last there leaves no relay.
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 2, Join: 1, End: true})
	r.drain()
	r.want("3 remove, 1 end, 0 end")
	r.shard.Closed(r.now, fourth, 1000)
	r.drain()
	r.want("0 remove, 3 remove, 0 remove, 1 remove, 0 remove")
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 1, Join: 1, End: true})
	r.drain()
	r.want("3 remove, 3 remove, 1 remove")
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 3, Join: 1, End: true})
	r.drain()
	r.want("1 remove")
	r.empty()
}

func TestResumeKeepsTheWorker(t *testing.T) {
	r := newRoom(t)
	r.joinOn(3, 1)
	conn := r.joinOn(1, 2)
	r.told()
	r.shard.Closed(r.now, conn, 1006)
	r.worker = 0
	again := r.resume(9, claims(2, 1), 2)
	r.want("")
	r.frame(again, proto.VoiceOpSelectProtocol, selectWebRTC())
	if p := r.postings[0]; p.worker != 1 || p.command.Browser == nil {
		t.Errorf("posted %+v", p)
	}
	if got := r.take(again); !strings.Contains(got[len(got)-1].raw, "192.0.2.7 50001") {
		t.Errorf("the browser is sent to %v", got[len(got)-1])
	}
}

func TestNewIdentifyMayChangeTheWorker(t *testing.T) {
	r := newRoom(t)
	r.joinOn(3, 1)
	r.joinOn(3, 2)
	r.told()
	r.joinOn(1, 2)
	r.want("3 remove, 3 relay, 1 relay, 1 add, 1 native")
	r.joinOn(3, 2)
	r.want("1 remove, 3 remove, 1 remove, 3 add, 3 native")
}

func TestRelaysAreTriedAgain(t *testing.T) {
	r := newRoom(t)
	r.joinOn(3, 1)
	r.told()
	r.refuse = true
	r.worker = 1
	if conn := r.identify(9, claims(2, 1)); r.closed[conn] != proto.VoiceCloseServerCrashed {
		t.Errorf("closed with %d", r.closed[conn])
	}
	r.refuse = false
	r.pass(time.Second)
	// What was to be made and is not needed any more is not made.
	r.want("1 remove, 3 remove, 1 remove")

	r.joinOn(1, 3)
	r.want("3 relay, 1 relay, 1 add, 1 native")
	r.shard.Refused(r.now, 1, sfu.Command{Relay: &sfu.AddRelay{Peer: 99}})
	r.shard.Refused(r.now, 3, sfu.Command{End: &sfu.EndSource{Channel: 1, SSRC: 16}})
	r.pass(time.Second)
	r.want("1 relay, 3 end")
	for range maxUnposted + 100 {
		r.shard.Refused(r.now, 3, sfu.Command{End: &sfu.EndSource{Channel: 1, SSRC: 16}})
	}
	if n := len(r.shard.unposted); n != maxUnposted {
		t.Errorf("%d commands are kept", n)
	}
}

// No two shards of a node may give out the same SSRC or PeerID.
func TestNumbersAreApart(t *testing.T) {
	for _, shards := range []int{1, 2, 3, 256} {
		seen := map[uint32]bool{}
		for home := range shards {
			n := newSSRCs(uint64(home)*0x9E3779B97F4A7C15, home, shards)
			for range 1000 {
				ssrc := n.next()
				if ssrc == 0 || ssrc&3 != 0 || seen[ssrc] {
					t.Fatalf("SSRC %#x of shard %d of %d", ssrc, home, shards)
				}
				seen[ssrc] = true
			}
		}
	}
	r := newRoom(t)
	r.joinOn(3, 1)
	peer := r.session(1).peer
	if HomeOf(peer) != 3 || peer == 3<<homeShift {
		t.Errorf("peer %#x", uint64(peer))
	}
	for _, e := range []sfu.Event{
		{Connected: &sfu.PeerConnected{Peer: peer}}, {Speaking: &sfu.PeerSpeaking{Peer: peer}},
		{Lost: &sfu.PeerLost{Peer: peer}}, {Keys: &sfu.SetSRTPKeys{Peer: peer}},
	} {
		if e.Peer() != peer {
			t.Errorf("%+v is about %d", e, e.Peer())
		}
	}
}

// All SSRCs of a shard come before one comes again.
func TestSSRCsComeBackLate(t *testing.T) {
	n := newSSRCs(1<<40|0x5DEECE66C, 200, 256)
	first := n.next()
	for i := 1; ; i++ {
		if n.next() == first {
			if i < 1<<22-1 {
				t.Errorf("SSRC %#x comes back after %d", first, i)
			}
			return
		}
	}
}
