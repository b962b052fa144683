package media

import (
	"testing"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

func addPeer(id sfu.PeerID) sfu.Command {
	return sfu.Command{Add: &sfu.AddPeer{Peer: id, Channel: 1, SSRC: uint32(id) << 4}}
}

func (t *table) say(worker int, c sfu.Command) uint64 {
	d := directive{Worker: worker, Command: c}
	t.apply(&d)
	return d.Number
}

// TestTableReplaysTheLast says everything in the order in which it was said, and of
// what was said twice the last.
func TestTableReplaysTheLast(t *testing.T) {
	table := newTable()
	table.say(0, addPeer(1))
	table.say(0, sfu.Command{Native: &sfu.SetNative{Peer: 1, Mode: proto.ModeAES256GCM, Key: [32]byte{1}}})
	table.say(1, addPeer(2))
	table.say(0, sfu.Command{Update: &sfu.UpdatePeer{Peer: 1, Flags: sfu.Muted}})
	last := table.say(0, sfu.Command{Browser: &sfu.SetBrowser{Peer: 1, LocalUfrag: "u"}})
	table.say(0, addPeer(3))
	table.say(0, sfu.Command{Remove: &sfu.RemovePeer{Peer: 3}})
	table.say(0, sfu.Command{Native: &sfu.SetNative{Peer: 9}}) // of nobody
	got := table.replay()
	if len(got) != 3 || got[0].Command.Add.Flags != sfu.Muted || got[1].Worker != 1 || got[2].Command.Browser == nil || got[2].Number != last {
		t.Errorf("got %+v", got)
	}
	table.event(1, &workerEvent{0, sfu.Event{Lost: &sfu.PeerLost{Peer: 1, Reason: sfu.LostConsent}}})
	if got := table.replay(); len(got) != 2 {
		t.Errorf("a lost transport is replayed: %+v", got)
	}
}

func TestTableForgetsEndsThatWereBegun(t *testing.T) {
	table := newTable()
	first := table.say(0, sfu.Command{End: &sfu.EndSource{Channel: 1, SSRC: 4}})
	table.say(1, sfu.Command{End: &sfu.EndSource{Channel: 1, SSRC: 8}})
	table.forget(func(worker int) uint64 {
		if worker == 0 {
			return first
		}
		return 0
	})
	if got := table.replay(); len(got) != 1 || got[0].Command.End.SSRC != 8 {
		t.Errorf("got %+v", got)
	}
	for range 2 * maxEnds {
		table.say(0, sfu.Command{End: &sfu.EndSource{Channel: 1, SSRC: 12}})
	}
	if len(table.ends) > maxEnds {
		t.Errorf("%d ends are kept", len(table.ends))
	}
}

// TestEventsAreToldOnce passes on what is new, whichever child says it.
func TestEventsAreToldOnce(t *testing.T) {
	table := newTable()
	table.say(0, addPeer(1))
	on := sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: 1, On: true}}
	connected := sfu.Event{Connected: &sfu.PeerConnected{Peer: 1}}
	for i, c := range []struct {
		life  int
		event sfu.Event
		want  bool
	}{{1, connected, true}, {1, on, true}, {2, connected, false}, {2, on, false}} {
		if got := table.event(c.life, &workerEvent{0, c.event}); got != c.want {
			t.Errorf("event %d is told: %v", i, got)
		}
	}
	if table.event(2, &workerEvent{0, sfu.Event{Connected: &sfu.PeerConnected{Peer: 7}}}) {
		t.Error("an event of nobody is told")
	}
	if ends := table.hush(2); len(ends) != 0 {
		t.Errorf("who was heard again is hushed: %+v", ends)
	}
	if ends := table.hush(3); len(ends) != 1 || ends[0].Event.Speaking.On {
		t.Errorf("who was not heard again is not hushed: %+v", ends)
	}
}

// TestRelayKeysOfEachLife are alike at both ends and never again.
func TestRelayKeysOfEachLife(t *testing.T) {
	there, back := sfu.RelayKey{SSRC: 4, Key: [32]byte{1}}, sfu.RelayKey{SSRC: 8, Key: [32]byte{2}}
	a := sfu.Command{Relay: &sfu.AddRelay{Peer: 1, Out: there, In: back}}
	b := sfu.Command{Relay: &sfu.AddRelay{Peer: 1, Out: back, In: there}}
	seen := map[[32]byte]bool{there.Key: true, back.Key: true}
	for life := range 3 {
		atA, atB := forLife(a, life).Relay, forLife(b, life).Relay
		if atA.Out != atB.In || atA.In != atB.Out {
			t.Errorf("life %d: the ends have different keys", life)
		}
		for _, key := range [][32]byte{atA.Out.Key, atA.In.Key} {
			if seen[key] {
				t.Errorf("life %d: a key comes again", life)
			}
			seen[key] = true
		}
	}
	if a.Relay.Out != there {
		t.Error("the command was changed")
	}
}
