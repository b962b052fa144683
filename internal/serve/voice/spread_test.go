package voice

import (
	"testing"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/proto"
)

func TestBigChannelSpreadsOverWorkers(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *fakeMedia) { c.SpreadFrom = 2 })
	a, _, readyA := w.join(9, claims(1, 1))
	_, _, readyB := w.join(9, claims(2, 1))
	c, _, readyC := w.join(9, claims(3, 1))
	if readyA.Port != 50000 || readyB.Port != 50000 || readyC.Port != 50001 {
		t.Errorf("ports %d, %d, %d", readyA.Port, readyB.Port, readyC.Port)
	}
	w.placed(2, 1)
	isRelay := func(p posted) bool { return p.Relay != nil }
	first, second := w.command(isRelay), w.command(isRelay)
	if first.worker != 0 || second.worker != 1 || first.Relay.In != second.Relay.Out || first.Relay.Addr.Port() != 50001 {
		t.Errorf("relays %+v and %+v", first, second)
	}
	far := w.command(func(p posted) bool { return p.Add != nil && p.worker == 1 }).Add.Peer

	// What the second worker says of its peer goes to the channel's own shard.
	for _, op := range []proto.VoiceOpcode{11, 11} {
		a.expect(op, nil)
	}
	w.service.Event(1, sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: far, On: true}})
	var speaking proto.VoiceSpeaking
	if a.expect(proto.VoiceOpSpeaking, &speaking); speaking.UserID != 3 || speaking.SSRC != readyC.SSRC || speaking.Speaking == 0 {
		t.Errorf("told of %+v", speaking)
	}
	for range 3 {
		if r := receive(t, w.reports); r.Worker != map[proto.Snowflake]int{1: 0, 2: 0, 3: 1}[r.User] {
			t.Errorf("report %+v", r)
		}
	}
	// And what a moderator says of it goes to the second worker.
	w.publish(guild.VoiceCommand{Guild: testGuild, User: 3, Join: 1, Update: &guild.VoiceFlags{Mute: true}})
	if p := w.command(func(p posted) bool { return p.Update != nil }); p.worker != 1 || p.Update.Peer != far {
		t.Errorf("posted %+v", p)
	}
	for _, s := range w.settle() {
		if s.Worker != map[proto.Snowflake]int{1: 0, 2: 0, 3: 1}[s.User] {
			t.Errorf("session %+v", s)
		}
	}

	_ = c.ws.Close(websocket.StatusNormalClosure, "")
	w.until(func(list []signalling.Info) bool { return len(list) == 2 })
	w.placed(2, 0)
	gone := w.command(func(p posted) bool { return p.Remove != nil && p.Remove.Peer == first.Relay.Peer })
	if gone.worker != 0 {
		t.Errorf("posted %+v", gone)
	}
	// The next to come is the first on the second worker again.
	if _, _, ready := w.join(9, claims(4, 1)); ready.Port != 50001 {
		t.Errorf("port %d", ready.Port)
	}
}

// Events of peers that no shard has made change nothing.
func TestEventsOfNobody(t *testing.T) {
	w := newWorld(t, nil)
	for _, peer := range []sfu.PeerID{0, 99, 1 << 48, 1 << 63, 1<<64 - 1} {
		w.service.Event(0, sfu.Event{Lost: &sfu.PeerLost{Peer: peer}})
	}
	w.service.Event(1, sfu.Event{})
	w.join(9, claims(1, 1))
}
