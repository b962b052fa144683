package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/proto"
)

// eventsFrom returns the names of a session's dispatches after a number.
func eventsFrom(t *testing.T, c *client, seq int) string {
	t.Helper()
	bodies, ok := replayed(c, uint64(seq))
	if !ok {
		t.Fatal("the buffer does not reach back")
	}
	var names []string
	for _, b := range bodies {
		_, rest, _ := strings.Cut(string(b), `"t":"`)
		name, _, _ := strings.Cut(rest, `"`)
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// replayed resumes and cuts the session again.
func replayed(c *client, seq uint64) (bodies [][]byte, ok bool) {
	bodies, _, ok = c.session.Resume(1, seq)
	c.session.Disconnect(1)
	return bodies, ok
}

// want checks what a session got after READY and GUILD_CREATE.
func want(t *testing.T, c *client, names string) {
	t.Helper()
	if got := eventsFrom(t, c, 2); got != names {
		t.Errorf("%s got %q, want %q", c.id, got, names)
	}
}

func event(name string, to ...string) *dispatch {
	return &dispatch{guild: 1, sessions: to, body: session.Body(name, []byte("{}"))}
}

func TestEventsForACrowdWaitForMore(t *testing.T) {
	sh, _ := filled(200)
	now := clock.Time(time.Hour)
	one, other, left := sh.sessions["session 1"], sh.sessions["session 2"], sh.sessions["session 3"]
	event("A").deliver(sh, now) // after a quiet time: at once
	want(t, other, "A")
	event("B").deliver(sh, now)
	prompt := event("C")
	prompt.prompt, prompt.except = one.id, setOf([]string{left.id})
	prompt.deliver(sh, now)
	event("D").deliver(sh, now)
	want(t, one, "A B C")
	want(t, other, "A")
	event("E", other.id).deliver(sh, now) // for one alone: what waited comes first
	want(t, other, "A B C D E")
	voiceServer{&guild.VoiceServer{Guild: 1, Session: one.id}}.deliver(sh, now)
	want(t, one, "A B C D VOICE_SERVER_UPDATE")

	// A newcomer gets what comes after its GUILD_CREATE, and no more.
	c := &client{id: "new", user: 1000, intents: ^proto.Intents(0)}
	register{c}.deliver(sh, now)
	sh.disconnect(now, c)
	open{client: c, guilds: []proto.Snowflake{1}, ready: new(proto.ReadyData)}.deliver(sh, now)
	create := event("GUILD_CREATE", c.id)
	create.opens = true
	create.deliver(sh, now)
	event("F").deliver(sh, now)

	due := sh.due()
	if wait := due.Sub(now); wait <= 0 || wait > 60*time.Millisecond {
		t.Fatalf("due in %v", wait)
	}
	sh.rounds(due - 1)
	want(t, c, "")
	sh.rounds(due)
	want(t, c, "F")
	want(t, one, "A B C D VOICE_SERVER_UPDATE F")
	want(t, other, "A B C D E F")
	want(t, left, "A B D F")
	if sh.due() != 0 {
		t.Error("something waits still")
	}
}

func TestLeaversOfACrowdMissNothingAndLeaveNothing(t *testing.T) {
	sh, _ := filled(150)
	now := clock.Time(time.Hour)
	gone, dead, last := sh.sessions["session 0"], sh.sessions["session 1"], sh.sessions["session 149"]
	event("A").deliver(sh, now)
	event("B").deliver(sh, now)
	left{guild.Membership{User: gone.user, Guild: 1}}.deliver(sh, now)
	want(t, gone, "A B GUILD_DELETE")
	sh.end(dead)
	sh.rounds(sh.due())
	want(t, last, "A B")
	want(t, gone, "A B GUILD_DELETE")

	event("C").deliver(sh, now)
	end := event("GUILD_DELETE")
	end.ends = true
	end.deliver(sh, now)
	want(t, last, "A B C GUILD_DELETE")
	if len(sh.guilds) != 0 || len(last.guilds) != 0 {
		t.Errorf("%d guilds are left", len(sh.guilds))
	}
	if sh.rounds(now.Add(time.Second)); sh.due() != 0 || len(sh.gathering) != 0 {
		t.Error("a guild that is gone still gathers")
	}
}

func TestWaitingEventsAreBounded(t *testing.T) {
	sh, _ := filled(100)
	now := clock.Time(time.Hour)
	for i := range 3 * maxWaiting {
		event(fmt.Sprint(i)).deliver(sh, now)
		if n := len(sh.guilds[1].waiting); n >= maxWaiting {
			t.Fatalf("%d events wait", n)
		}
	}
	sh.rounds(sh.due())
	got := strings.Fields(eventsFrom(t, sh.sessions["session 7"], 2+3*maxWaiting-replayFrames))
	if len(got) != replayFrames || !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) || got[len(got)-1] != fmt.Sprint(3*maxWaiting-1) {
		t.Errorf("%d events, the last %q", len(got), got[len(got)-1])
	}
}
