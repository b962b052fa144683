package signalling

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

func TestResumeReplaysWhatWasMissed(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(9, 1), r.join(9, 2)
	_ = b
	r.shard.Closed(r.now, a, 1006)
	r.speaks(2, true)
	r.speaks(2, false)
	third := r.join(9, 3)
	r.beat(59*time.Second, b, third)

	again := r.resume(9, claims(1, 1), 6)
	ssrc2 := r.session(2).ssrc
	r.expect(again, `9 null`,
		fmt.Sprintf(`5 {"speaking":1,"ssrc":%d,"user_id":"2"} #7`, ssrc2),
		fmt.Sprintf(`5 {"speaking":0,"ssrc":%d,"user_id":"2"} #8`, ssrc2),
		`11 {"user_ids":["3"]} #12`)
	if len(r.commands) != 0 {
		t.Errorf("the worker was told %+v: a cut is none of its business", r.commands)
	}
	r.beat(2*time.Minute, again, b, third)
	if r.closed[again] != 0 {
		t.Errorf("resumed connection closed with %d", r.closed[again])
	}
}

func TestResumeBeforeTheOthersWereKnownStartsOver(t *testing.T) {
	r := newRoom(t)
	b := r.join(9, 2)
	a := r.identify(9, claims(1, 1))
	r.frame(a, proto.VoiceOpSelectProtocol, selectUDP)
	got := r.take(a)
	description := got[1]
	r.shard.Closed(r.now, a, 1006)
	r.speaks(2, true)
	_ = b

	again := r.resume(9, claims(1, 1), description.Seq-1)
	replayed := r.take(again)
	if len(replayed) != 4 || replayed[1].raw != description.raw ||
		replayed[2].raw != `{"op":11,"d":{"user_ids":["2"]}}` || replayed[3].Op != proto.VoiceOpSpeaking {
		t.Errorf("replayed %v", replayed)
	}
}

func TestResumeOfOldVersionsTellsWhoIsPresent(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(4, 1), r.join(9, 2)
	_ = b
	r.speaks(2, true)
	r.speaks(2, false)
	r.shard.Closed(r.now, a, 1006)
	again := r.resume(4, claims(1, 1), -1)
	r.expect(again, `9 null`, `11 {"user_ids":["2"]}`, fmt.Sprintf(`5 {"speaking":0,"ssrc":%d,"user_id":"2"}`, r.session(2).ssrc))
}

func TestResumeTakesOverFromALivingConnection(t *testing.T) {
	r := newRoom(t)
	a := r.join(9, 1)
	again := r.resume(9, claims(1, 1), 2)
	if r.closed[a] != proto.VoiceCloseDisconnected || r.closed[again] != 0 {
		t.Errorf("old %d, new %d", r.closed[a], r.closed[again])
	}
	// What is left of the old connection changes nothing.
	r.frame(a, proto.VoiceOpSpeaking, `{}`)
	r.shard.Closed(r.now, a, 1000)
	r.drain()
	r.session(1)
}

func TestResumeRefused(t *testing.T) {
	r := newRoom(t)
	a := r.join(9, 1)
	b := r.join(9, 2)
	r.shard.Closed(r.now, a, 1006)
	wrong := claims(1, 1)
	wrong.Bitrate = 9
	for name, conn := range map[string]ConnID{
		"unknown session": r.resume(9, claims(3, 1), 2),
		"another token":   r.resume(9, wrong, 2),
		"from the future": r.resume(9, claims(1, 1), 2000),
	} {
		if r.closed[conn] != proto.VoiceCloseSessionInvalid {
			t.Errorf("%s: closed with %d", name, r.closed[conn])
		}
	}
	for range historyFrames {
		r.speaks(2, true)
		r.speaks(2, false)
	}
	if late := r.resume(9, claims(1, 1), 5); r.closed[late] != proto.VoiceCloseSessionInvalid {
		t.Errorf("more missed than kept: closed with %d", r.closed[late])
	}
	r.beat(61*time.Second, b)
	if late := r.resume(9, claims(1, 1), int(r.session(2).channel.history.last)); r.closed[late] != proto.VoiceCloseSessionInvalid {
		t.Errorf("after the window: closed with %d", r.closed[late])
	}
}

func TestComebacksAreLimited(t *testing.T) {
	r := newRoom(t)
	r.join(9, 1)
	var last ConnID
	for i := range maxComebacks {
		if i%2 == 0 {
			last = r.resume(9, claims(1, 1), int(r.session(1).channel.history.last))
		} else {
			last = r.identify(9, claims(1, 1))
		}
		if r.closed[last] != 0 {
			t.Fatalf("comeback %d: closed with %d", i, r.closed[last])
		}
	}
	for name, conn := range map[string]ConnID{
		"resume": r.resume(9, claims(1, 1), -1), "identify": r.identify(9, claims(1, 1)),
	} {
		if r.closed[conn] != proto.VoiceCloseRateLimited {
			t.Errorf("%s too many: closed with %d", name, r.closed[conn])
		}
	}
	if r.closed[last] != 0 {
		t.Errorf("the session that is there was closed with %d", r.closed[last])
	}
	r.frame(last, proto.VoiceOpSelectProtocol, selectUDP)
	r.beat(time.Minute, last)
	if again := r.identify(9, claims(1, 1)); r.closed[again] != 0 {
		t.Errorf("a minute later: closed with %d", r.closed[again])
	}
}

func TestCutSessionEndsAfterTheWindow(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(9, 1), r.join(9, 2)
	r.shard.Closed(r.now, a, 1006)
	r.beat(59*time.Second, b)
	r.session(1)
	if len(r.commands)+len(r.reports) != 0 {
		t.Fatalf("told %+v, %+v within the window", r.commands, r.reports)
	}
	r.pass(2 * time.Second)
	r.expect(b, `13 {"user_id":"1"} #7`)
	if len(r.commands) != 1 || r.commands[0].Remove == nil || len(r.reports) != 1 || r.reports[0].Connected {
		t.Errorf("told %+v, %+v", r.commands, r.reports)
	}
}

func TestMissedHeartbeats(t *testing.T) {
	r := newRoom(t)
	a := r.join(9, 1)
	r.pass(19 * time.Second)
	r.frame(a, proto.VoiceOpHeartbeat, `{"t":1}`)
	r.pass(19 * time.Second)
	if r.closed[a] != 0 {
		t.Fatalf("closed with %d in time", r.closed[a])
	}
	r.pass(2 * time.Second)
	if r.closed[a] != proto.VoiceCloseSessionTimeout {
		t.Fatalf("closed with %d", r.closed[a])
	}
	if again := r.resume(9, claims(1, 1), 2); r.closed[again] != 0 {
		t.Errorf("not resumable: %d", r.closed[again])
	}
}

func TestSessionWithoutTransportEnds(t *testing.T) {
	r := newRoom(t)
	a := r.identify(9, claims(1, 1))
	r.beat(61*time.Second, a)
	if r.closed[a] != proto.VoiceCloseSessionTimeout {
		t.Errorf("never selected: closed with %d", r.closed[a])
	}
	b := r.join(9, 2)
	r.shard.Event(r.now, sfu.Event{Lost: &sfu.PeerLost{Peer: r.session(2).peer, Reason: sfu.LostClosed}})
	r.beat(14*time.Second, b)
	r.frame(b, proto.VoiceOpSelectProtocol, selectUDP)
	r.beat(time.Minute, b)
	if r.closed[b] != 0 {
		t.Errorf("selected again: closed with %d", r.closed[b])
	}
	r.shard.Event(r.now, sfu.Event{Lost: &sfu.PeerLost{Peer: r.session(2).peer, Reason: sfu.LostClosed}})
	r.beat(16*time.Second, b)
	if r.closed[b] != proto.VoiceCloseSessionTimeout {
		t.Errorf("closed its transport: closed with %d", r.closed[b])
	}
	r.empty()
}

func TestLostTransportEndsTheSession(t *testing.T) {
	for _, reason := range []sfu.LostReason{sfu.LostConsent, sfu.LostHandshake} {
		r := newRoom(t)
		a := r.join(9, 1)
		r.shard.Event(r.now, sfu.Event{Lost: &sfu.PeerLost{Peer: r.session(1).peer, Reason: reason}})
		r.drain()
		if r.closed[a] != proto.VoiceCloseSessionInvalid || len(r.reports) != 1 || r.reports[0].Connected {
			t.Errorf("reason %d: closed with %d, reports %+v", reason, r.closed[a], r.reports)
		}
		r.empty()
	}
}

func TestEndByGuild(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(9, 1), r.join(9, 2)
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 1, Join: 1, End: true, Code: 4022})
	r.drain()
	if r.closed[a] != proto.VoiceCloseCallTerminated {
		t.Errorf("closed with %d", r.closed[a])
	}
	r.expect(b, `13 {"user_id":"1"} #7`)
	// An owner since then may know nothing of it (seed 674 of the simulation).
	if len(r.reports) != 1 || r.reports[0].Connected || r.reports[0].Join != 1 {
		t.Errorf("the guild was told %+v", r.reports)
	}
	for name, conn := range map[string]ConnID{
		"resume": r.resume(9, claims(1, 1), 2), "identify": r.identify(9, claims(1, 1)),
	} {
		if r.closed[conn] != proto.VoiceCloseSessionInvalid {
			t.Errorf("%s after the end: %d", name, r.closed[conn])
		}
	}
	// An end that comes before its Identify.
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 3, Join: 4, End: true})
	if conn := r.identify(9, claims(3, 4)); r.closed[conn] != proto.VoiceCloseSessionInvalid {
		t.Errorf("identify of an ended join: %d", r.closed[conn])
	}
	if conn := r.identify(9, claims(3, 5)); r.closed[conn] != 0 {
		t.Errorf("identify of the next join: %d", r.closed[conn])
	}
	// A late end of an earlier join.
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 3, Join: 4, End: true})
	r.session(3)
}

func TestMovedClientHasFiveSeconds(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(9, 1), r.join(9, 2)
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 1, Join: 1, End: true, Moved: true, Code: 4014})
	r.drain()
	r.expect(b, `13 {"user_id":"1"} #7`)
	if len(r.commands) != 1 || r.commands[0].Remove == nil {
		t.Fatalf("media goes on: %+v", r.commands)
	}
	r.pass(4 * time.Second)
	r.frame(a, proto.VoiceOpHeartbeat, `3`)
	r.expect(a, `6 3`)
	r.frame(a, proto.VoiceOpSelectProtocol, selectUDP)
	if r.expect(a); r.closed[a] != 0 || len(r.commands) != 1 {
		t.Fatalf("closed with %d, told %+v", r.closed[a], r.commands)
	}
	r.pass(2 * time.Second)
	if r.closed[a] != proto.VoiceCloseDisconnected {
		t.Errorf("closed with %d", r.closed[a])
	}
	r.shard.Closed(r.now, b, 1000)
	r.drain()
	r.empty()
}

func TestALingeringSessionGoesOnUntilItsChannelHasMoved(t *testing.T) {
	end := guild.VoiceCommand{Guild: testGuild, User: 1, Join: 1, End: true, Code: 4014}
	linger, last := end, end
	linger.Linger, last.Moved = true, true
	begin := func() (r *room, a, b ConnID) {
		r = newRoom(t)
		a, b = r.join(9, 1), r.join(9, 2)
		r.shard.Command(r.now, linger)
		r.drain()
		if len(r.commands) != 0 {
			t.Fatalf("media is touched: %+v", r.commands)
		}
		return r, a, b
	}
	gone := func(r *room, a, b ConnID, code proto.CloseCode) {
		t.Helper()
		if len(r.commands) != 1 || r.commands[0].Remove == nil || r.closed[a] != code {
			t.Fatalf("closed with %d, told %+v", r.closed[a], r.commands)
		}
		r.expect(b, `13 {"user_id":"1"} #7`)
	}
	t.Run("all have arrived", func(t *testing.T) {
		r, a, b := begin()
		r.frame(a, proto.VoiceOpHeartbeat, `3`)
		r.expect(a, `6 3`)
		if reports := r.shard.RollCall(r.now, testGuild); len(reports) != 1 || reports[0].User != 2 {
			t.Errorf("a guild's new owner is told of %+v", reports)
		}
		r.shard.Command(r.now, last)
		r.pass(time.Second)
		if len(r.commands) != 0 || r.closed[a] != 0 {
			t.Fatal("nobody far away has had time to set media up")
		}
		r.pass(time.Second)
		gone(r, a, b, 4014)
	})
	t.Run("nobody says more", func(t *testing.T) {
		r, a, b := begin()
		r.pass(9 * time.Second)
		r.shard.Command(r.now, linger) // does not begin anew
		r.pass(time.Second)
		gone(r, a, b, 4014)
	})
	t.Run("cut", func(t *testing.T) {
		r, a, b := begin()
		r.shard.Closed(r.now, a, 1006)
		r.pass(10 * time.Second)
		gone(r, a, b, 0)
	})
	t.Run("ended", func(t *testing.T) {
		r, a, b := begin()
		r.shard.Command(r.now, end)
		r.drain()
		gone(r, a, b, 4014)
	})
	t.Run("its client has gone over", func(t *testing.T) {
		r, a, b := begin()
		r.shard.Closed(r.now, a, 1000)
		r.drain()
		gone(r, a, b, 0)
	})
	t.Run("its client is back", func(t *testing.T) {
		r, _, _ := begin()
		if again := r.identify(9, claims(1, 1)); r.closed[again] != proto.VoiceCloseSessionInvalid {
			t.Errorf("by the token of before: %d", r.closed[again])
		}
		if again := r.identify(9, claims(1, 2)); r.closed[again] != 0 {
			t.Errorf("by another: %d", r.closed[again])
		}
		r.pass(20 * time.Second)
		r.session(1)
	})
}

func TestMuteAndDeafen(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(9, 1), r.join(9, 2)
	_ = a
	update := func(join uint64, flags guild.VoiceFlags) {
		r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 1, Join: join, Update: &flags})
		r.drain()
	}
	ssrc := r.session(1).ssrc
	r.speaks(1, true)
	r.take(b)
	update(1, guild.VoiceFlags{Mute: true})
	r.expect(b, fmt.Sprintf(`5 {"speaking":0,"ssrc":%d,"user_id":"1"} #8`, ssrc))
	update(1, guild.VoiceFlags{Mute: true, SelfDeaf: true})
	update(1, guild.VoiceFlags{Mute: true, Deaf: true})
	update(0, guild.VoiceFlags{}) // stale
	var flags []sfu.Flags
	for _, c := range r.commands {
		flags = append(flags, c.Update.Flags)
	}
	if fmt.Sprint(flags) != fmt.Sprint([]sfu.Flags{sfu.Muted, sfu.Muted | sfu.Deafened}) {
		t.Errorf("worker was told %v", flags)
	}

	// Between the token and its Identify, and across a second Identify.
	update(2, guild.VoiceFlags{Deaf: true})
	r.identify(9, claims(1, 2))
	if f := r.session(1).posted; f != sfu.Deafened {
		t.Errorf("new join began with %v", f)
	}
	update(2, guild.VoiceFlags{Mute: true})
	r.identify(9, claims(1, 2))
	if f := r.session(1).posted; f != sfu.Muted {
		t.Errorf("second Identify began with %v", f)
	}
}

func TestFlagsAndPlatformOnlyWhenAnnounced(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(9, 1), r.join(9, 2)
	r.frame(a, proto.VoiceOpClientFlags, `{"flags":3}`)
	r.frame(a, proto.VoiceOpClientPlatform, `{"platform":1}`)
	r.expect(b, `18 {"user_id":"1","flags":3} #7`, `20 {"user_id":"1","platform":1} #8`)
	c := r.identify(9, claims(3, 1))
	r.frame(c, proto.VoiceOpSelectProtocol, selectUDP)
	var ops []proto.VoiceOpcode
	for _, p := range r.take(c) {
		ops = append(ops, p.Op)
	}
	if fmt.Sprint(ops) != "[2 4 11 18 20]" {
		t.Errorf("newcomer got %v", ops)
	}
}

func TestWorkerThatTakesNoCommands(t *testing.T) {
	r := newRoom(t)
	a := r.join(9, 1)
	peer := r.session(1).peer
	r.refuse = true
	r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: 1, Join: 1, Update: &guild.VoiceFlags{Mute: true}})
	r.drain()
	if r.closed[a] != proto.VoiceCloseServerCrashed || len(r.reports) != 1 || r.reports[0].Connected {
		t.Errorf("closed with %d, reports %+v", r.closed[a], r.reports)
	}
	b := r.identify(9, claims(2, 1))
	if r.closed[b] != proto.VoiceCloseServerCrashed {
		t.Errorf("closed with %d", r.closed[b])
	}
	r.empty()
	r.refuse, r.commands = false, nil
	r.pass(time.Second)
	if len(r.commands) != 2 || r.commands[0].Remove.Peer != peer {
		t.Errorf("afterwards the worker was told %+v", r.commands)
	}
	r.pass(time.Second)
	if len(r.commands) != 2 {
		t.Errorf("and again %+v", r.commands)
	}
}

func TestNoticesAreBounded(t *testing.T) {
	r := newRoom(t)
	for user := range proto.Snowflake(maxNotices + 100) {
		r.shard.Command(r.now, guild.VoiceCommand{Guild: testGuild, User: user + 1, Join: 1, End: true})
	}
	if n := len(r.shard.notices); n != maxNotices {
		t.Errorf("%d notices", n)
	}
	r.pass(11 * time.Minute)
	if n := len(r.shard.notices); n != 0 {
		t.Errorf("%d notices after their time", n)
	}
}

func TestCloseAll(t *testing.T) {
	r := newRoom(t)
	a, b := r.join(9, 1), r.join(4, 2)
	r.shard.CloseAll(r.now, proto.VoiceCloseServerCrashed)
	r.drain()
	if r.closed[a] != proto.VoiceCloseServerCrashed || r.closed[b] != proto.VoiceCloseServerCrashed {
		t.Errorf("closed %v", r.closed)
	}
	if again := r.resume(9, claims(1, 1), 3); r.closed[again] != 0 {
		t.Errorf("not resumable: %d", r.closed[again])
	}
}

func TestRollCall(t *testing.T) {
	r := newRoom(t)
	r.join(8, 1)
	r.shard.Closed(r.now, r.join(8, 2), 1000)
	r.drain()
	said := func() string {
		list := []string{}
		for _, x := range r.shard.RollCall(r.now, testGuild) {
			list = append(list, fmt.Sprint(x.User, x.Connected))
		}
		slices.Sort(list)
		return fmt.Sprint(list)
	}
	if got := said(); got != "[1 true 2 false]" {
		t.Error(got)
	}
	if other := r.shard.RollCall(r.now, testGuild+1); len(other) != 0 {
		t.Errorf("of another guild: %+v", other)
	}
	r.now = r.now.Add(endedLately + time.Second)
	if got := said(); got != "[1 true]" {
		t.Error(got)
	}
}

func TestHas(t *testing.T) {
	r := newRoom(t)
	r.join(8, 1)
	if !r.shard.Has(testGuild, 1, 1) || r.shard.Has(testGuild, 1, 2) || r.shard.Has(testGuild, 2, 1) || r.shard.Has(testGuild+1, 1, 1) {
		t.Error("it takes one join for another")
	}
}

// A join that another gateway session took over is reported as that one's, and still known
// to its client by the session of its token.
func TestAJoinIsAnotherSessions(t *testing.T) {
	r := newRoom(t)
	conn := r.join(9, 1)
	peer := r.session(1).peer
	for _, c := range []guild.VoiceCommand{{Join: 1, Session: "new"}, {Join: 2, Session: "of another join"}, {Join: 1, Update: &guild.VoiceFlags{}}} {
		c.Guild, c.User = testGuild, 1
		r.shard.Command(r.now, c)
	}
	r.drain()
	said := func() {
		t.Helper()
		all := r.shard.RollCall(r.now, testGuild)
		if len(all) != 1 || all[0].Session != "new" || all[0].Identified != "session-1" || all[0].Join != 1 {
			t.Errorf("%+v", all)
		}
	}
	said()
	if got := r.take(conn); len(got) != 0 || r.closed[conn] != 0 || r.session(1).peer != peer {
		t.Errorf("the client was told %v", got)
	}
	r.shard.Closed(r.now, conn, 1006)
	again := r.resume(9, claims(1, 1), -1)
	if r.closed[again] != 0 {
		t.Errorf("not resumed: %d", r.closed[again])
	}
	said()
	// disgo identifies anew by the same token after a cut.
	r.frame(r.identify(9, claims(1, 1)), proto.VoiceOpSelectProtocol, selectUDP)
	said()
}

func TestReportAll(t *testing.T) {
	r := newRoom(t)
	stays, goes := proto.Snowflake(1), proto.Snowflake(2)
	r.join(8, stays)
	r.shard.Closed(r.now, r.join(8, goes), 1000)
	r.drain()
	r.reports = nil
	r.shard.ReportAll(func(g proto.Snowflake) bool { return g != testGuild })
	if r.drain(); len(r.reports) != 0 {
		t.Errorf("of another guild: %+v", r.reports)
	}
	r.shard.ReportAll(func(g proto.Snowflake) bool { return g == testGuild })
	r.drain()
	said := map[proto.Snowflake]bool{}
	for _, report := range r.reports {
		said[report.User] = report.Connected
	}
	if there, known := said[goes]; len(r.reports) != 2 || !said[stays] || !known || there {
		t.Errorf("%+v", r.reports)
	}
}
