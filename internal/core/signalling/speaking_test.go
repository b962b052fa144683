package signalling

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

func TestSpeakingFlags(t *testing.T) {
	r := newRoom(t)
	v := claims(1, 1)
	v.Permissions |= proto.PermPrioritySpeaker
	a := r.identify(9, v)
	r.frame(a, proto.VoiceOpSelectProtocol, selectUDP)
	b := r.join(4, 2)
	ssrc := r.session(1).ssrc
	says := func(flags int) {
		r.frame(a, proto.VoiceOpSpeaking, fmt.Sprintf(`{"speaking":%d,"delay":0,"ssrc":%d}`, flags, ssrc))
	}
	sees := func(flags int) {
		t.Helper()
		r.expect(b, fmt.Sprintf(`5 {"speaking":%d,"ssrc":%d,"user_id":"1"}`, flags, ssrc))
	}
	says(5)
	sees(0) // media decides, but the SSRC has to be known before any comes
	r.speaks(1, true)
	sees(5)
	if f := r.session(1).posted; f != sfu.Priority {
		t.Errorf("worker knows %v", f)
	}
	says(2)
	sees(2)
	says(0)
	sees(0) // sooner than the worker
	r.speaks(1, false)
	r.expect(b)
	r.speaks(1, true)
	sees(2)
	says(1)
	sees(1)
	r.speaks(1, false)
	sees(0)

	// Without the permission, and from a legacy client.
	r.frame(b, proto.VoiceOpSpeaking, `{"speaking":5}`)
	r.take(a)
	r.speaks(2, true)
	if p := r.take(a); len(p) != 1 || p[0].raw != fmt.Sprintf(`{"op":5,"d":{"speaking":1,"ssrc":%d,"user_id":"2"},"seq":%d}`, r.session(2).ssrc, p[0].Seq) {
		t.Errorf("got %v", p)
	}
	r.frame(b, proto.VoiceOpSpeaking, `{"speaking":false,"delay":0}`)
	if p := r.take(a); len(p) != 1 {
		t.Errorf("got %v", p)
	}
}

// As from Discord: a native client maps an SSRC by the first Speaking, and sees by the
// packets who speaks; a browser, whose packets no page sees, is told of each spurt.
func TestNativeClientsAreToldOfAnSSRCOnce(t *testing.T) {
	r := newRoom(t)
	r.now = r.now.Add(time.Second)
	r.join(9, 1)
	native := r.identifyAs(9, claims(2, 1), false)
	r.frame(native, proto.VoiceOpSelectProtocol, selectUDP)
	web := r.identifyAs(9, claims(3, 1), false)
	r.frame(web, proto.VoiceOpSelectProtocol, selectWebRTC())
	clear(r.inbox)
	spurt := func(times int) {
		for range times {
			r.speaks(1, true)
			r.now = r.now.Add(time.Second)
			r.speaks(1, false)
		}
	}
	sees := func(conn ConnID, flags ...int) {
		t.Helper()
		got, want := []string{}, []string{}
		for _, p := range r.take(conn) {
			got = append(got, fmt.Sprintf("%d %s", p.Op, p.D))
		}
		for _, f := range flags {
			want = append(want, fmt.Sprintf(`5 {"speaking":%d,"ssrc":%d,"user_id":"1"}`, f, r.session(1).ssrc))
		}
		if !slices.Equal(got, want) {
			t.Errorf("connection %d got %v, want %v", conn, got, want)
		}
	}
	r.now = r.now.Add(settleIn)
	spurt(3)
	sees(native, 1)
	sees(web, 1, 0, 1, 0, 1, 0)

	// One who comes now is told the same, though there is silence, and what goes on until
	// it has settled in, and what came last before that once more.
	late := r.identifyAs(9, claims(4, 1), false)
	r.frame(late, proto.VoiceOpSelectProtocol, selectUDP)
	told := r.take(late)
	if last := told[len(told)-1]; string(last.D) != fmt.Sprintf(`{"speaking":1,"ssrc":%d,"user_id":"1"}`, r.session(1).ssrc) {
		t.Errorf("a newcomer was told %v", told)
	}
	clear(r.inbox)
	spurt(1)
	r.now = r.now.Add(settleIn)
	spurt(2)
	sees(late, 1, 0, 1)
	sees(native)
	sees(web, 1, 0, 1, 0, 1, 0)

	// Another kind is news.
	r.frame(ConnID(1), proto.VoiceOpSpeaking, `{"speaking":2}`)
	sees(native)
	spurt(1)
	sees(native, 2)
	sees(web, 2, 0)

	// And so it stays over a resume. After the shard's end they are told once more.
	acknowledged := int(r.session(2).channel.history.last)
	spurt(1)
	back := r.resume(9, claims(2, 1), acknowledged)
	if told := r.take(back); len(told) != 1 || told[0].Op != proto.VoiceOpResumed {
		t.Errorf("resumed with %v", told)
	}
	sees(web, 2, 0)
	spurt(1)
	sees(back)
	st := r.shard.State(r.now, proto.VoiceCloseServerCrashed)
	r.drain()
	restored, err := Restore(r.now, r.shard.cfg, &st)
	if err != nil {
		t.Fatal(err)
	}
	r.shard = restored
	back = r.resume(9, claims(2, 1), acknowledged)
	if told := r.take(back); len(told) != 1 || told[0].Op != proto.VoiceOpResumed {
		t.Errorf("resumed with %v", told)
	}
	web = r.resume(9, claims(3, 1), int(r.session(3).channel.history.last))
	r.take(web)
	spurt(2)
	sees(back, 2)
	sees(web, 2, 0, 2, 0)
}

// discordgo returns from its join up to a second after it was told whose SSRC is whose, and
// its bots listen only then. Whom they hear may speak on and on.
func TestNewcomersAreRemindedOfWhoSpeaks(t *testing.T) {
	r := newRoom(t)
	r.now = r.now.Add(time.Second)
	r.join(9, 1)
	r.join(9, 2)
	r.speaks(1, true)
	r.speaks(2, true)
	r.speaks(2, false)
	bot := r.identifyAs(4, claims(3, 1), false)
	r.frame(bot, proto.VoiceOpSelectProtocol, selectUDP)
	web := r.identifyAs(9, claims(4, 1), false)
	r.frame(web, proto.VoiceOpSelectProtocol, selectWebRTC())
	asks := r.identifyAs(9, claims(5, 1), true)
	r.frame(asks, proto.VoiceOpSelectProtocol, selectUDP)
	clear(r.inbox)

	again := fmt.Sprintf(`5 {"speaking":1,"ssrc":%d,"user_id":"1"}`, r.session(1).ssrc)
	times := 0
	for second := 1; second <= 20; second++ {
		r.now = r.now.Add(time.Second)
		for _, conn := range []ConnID{1, 2, bot, web, asks} {
			r.frame(conn, proto.VoiceOpHeartbeat, `{"t":1}`)
		}
		clear(r.inbox)
		r.shard.Tick(r.now)
		r.drain()
		switch second {
		case 2, 5, 10:
			r.expect(bot, again)
			times++
		default:
			r.expect(bot)
		}
		r.expect(web)
		r.expect(asks)
		r.expect(ConnID(1))
	}
	if times != len(reminders) {
		t.Errorf("reminded %d times", times)
	}
}

// A reminder that is due while the connection is cut comes once it is back.
func TestRemindersWaitForAResume(t *testing.T) {
	r := newRoom(t)
	r.now = r.now.Add(time.Second)
	r.join(9, 1)
	r.speaks(1, true)
	bot := r.identifyAs(9, claims(2, 1), false)
	r.frame(bot, proto.VoiceOpSelectProtocol, selectUDP)
	acknowledged := int(r.session(2).channel.history.last)
	r.shard.Closed(r.now, bot, 1006)
	r.drain()
	r.now = r.now.Add(3 * time.Second)
	r.shard.Tick(r.now)
	r.drain()
	back := r.resume(9, claims(2, 1), acknowledged)
	clear(r.inbox)
	r.shard.Tick(r.now)
	r.drain()
	r.expect(back, fmt.Sprintf(`5 {"speaking":1,"ssrc":%d,"user_id":"1"}`, r.session(1).ssrc))
	r.shard.Tick(r.now)
	r.drain()
	r.expect(back)
}
