package signalling

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/proto"
)

const (
	crowdSize   = 200
	crowdWindow = 60 * time.Millisecond // over 250 µs for each of them
)

// newCrowd returns a channel of crowdSize where nothing waits, and the connection
// of its first member.
func newCrowd(t testing.TB) (*room, ConnID) {
	r := newRoom(t)
	for user := range crowdSize {
		r.join(9, proto.Snowflake(user+1))
	}
	r.settle()
	clear(r.inbox)
	return r, 1
}

// settle lets everything that waits be told.
func (r *room) settle() {
	r.t.Helper()
	for due := r.shard.Due(); due != 0; due = r.shard.Due() {
		r.now = max(r.now, due)
		r.shard.Tell(r.now)
		r.drain()
	}
	r.now = r.now.Add(crowdWindow)
}

// enters joins a user and keeps what everybody got.
func (r *room) enters(user proto.Snowflake) ConnID {
	r.t.Helper()
	conn := r.identify(9, claims(user, 1))
	r.frame(conn, proto.VoiceOpSelectProtocol, selectUDP)
	return conn
}

// newsFor returns what a connection got since, as "op user…".
func (r *room) newsFor(conn ConnID) []string {
	list := []string{}
	for _, p := range r.take(conn) {
		users := usersOf(r.t, p)
		if len(users) > 5 {
			list = append(list, fmt.Sprintf("%d %d users", p.Op, len(users)))
		} else {
			list = append(list, strings.TrimRight(fmt.Sprint(p.Op, " ", strings.Trim(fmt.Sprint(users), "[]")), " "))
		}
	}
	return list
}

// usersOf returns whom a payload is about.
func usersOf(t testing.TB, p payload) []proto.Snowflake {
	var d struct {
		One  proto.Snowflake   `json:"user_id"`
		Many []proto.Snowflake `json:"user_ids"`
	}
	if p.Op != proto.VoiceOpReady && p.Op != proto.VoiceOpSessionDescription && p.Op != proto.VoiceOpResumed {
		if err := json.Unmarshal(p.D, &d); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
	}
	if d.One != 0 {
		d.Many = append(d.Many, d.One)
	}
	return d.Many
}

func (r *room) wantTold(conn ConnID, want ...string) {
	r.t.Helper()
	if got := r.newsFor(conn); !slices.Equal(got, want) {
		r.t.Errorf("connection %d was told %q, want %q", conn, got, want)
	}
}

func TestNewcomersOfACrowdAreToldOfTogether(t *testing.T) {
	r, first := newCrowd(t)
	a := r.enters(1001) // after a quiet time: at once
	r.wantTold(first, "11 1001")
	b, c := r.enters(1002), r.enters(1003)
	r.wantTold(first)
	r.wantTold(a, "2", "4", "11 200 users")
	r.wantTold(b, "2", "4", "11 201 users")
	r.wantTold(c, "2", "4", "11 202 users")
	if due := r.shard.Due(); due == 0 || due.Sub(r.now) > crowdWindow {
		t.Fatalf("due in %v", due.Sub(r.now))
	}
	r.shard.Tell(r.now) // not yet
	r.drain()
	r.wantTold(first)
	r.settle()
	r.wantTold(first, "11 1002 1003")
	r.wantTold(a, "11 1002 1003")
	r.wantTold(b, "11 1003")
	r.wantTold(c)
	if r.shard.Due() != 0 {
		t.Error("something waits still")
	}
}

func TestNewcomerThatIsHeardOrGoneIsToldOfFirst(t *testing.T) {
	r, first := newCrowd(t)
	r.enters(1001)
	b := r.enters(1002)
	r.take(first)
	r.take(b)
	r.frame(b, proto.VoiceOpClientFlags, `{"flags":3}`)
	r.frame(b, proto.VoiceOpSpeaking, `{"speaking":1,"delay":0}`)
	r.wantTold(first) // its SSRC can wait as well while there are no packets
	r.speaks(1002, true)
	r.wantTold(first, "11 1002", "5 1002", "18 1002")
	r.speaks(1002, false)
	r.wantTold(first, "5 1002")

	c, d := r.enters(1003), r.enters(1004)
	r.speaks(1, true) // somebody else
	r.wantTold(2, "11 1001", "11 1002", "5 1002", "18 1002", "5 1002", "5 1")
	r.take(c)
	r.take(d)
	r.shard.Closed(r.now, c, 1000)
	r.drain()
	r.wantTold(first, "11 1003 1004")
	r.wantTold(d)
	r.settle()
	r.wantTold(first, "13 1003")
	r.wantTold(d, "13 1003")
	if e := r.enters(1005); r.newsFor(e)[2] != "11 203 users" {
		t.Error("the newcomer was told of others than those present")
	}
}

func TestResumeAcrossARound(t *testing.T) {
	r, first := newCrowd(t)
	seq := func(conn ConnID) int { p := r.take(conn); return p[len(p)-1].Seq }
	r.enters(1001)
	firstSeq := seq(first)
	b := r.enters(1002)
	bSeq := seq(b)
	c := r.enters(1003)
	r.take(c)
	for _, conn := range []ConnID{first, b} {
		r.shard.Closed(r.now, conn, 1006)
	}
	r.settle()
	r.enters(1004)
	// An old member gets what it has missed, by numbers.
	r.wantTold(r.resume(9, claims(1, 1), firstSeq), "9", "11 1002 1003", "11 1004")
	// The newcomer's introduction was not over, so it starts anew.
	r.wantTold(r.resume(9, claims(1002, 1), bSeq), "9", "11 203 users")

	// Resumed within the window, before the round.
	d := r.enters(1005)
	last := seq(d)
	r.shard.Closed(r.now, d, 1006)
	e := r.resume(9, claims(1005, 1), last)
	r.wantTold(e, "9")
	f := r.enters(1006)
	r.settle()
	r.wantTold(e, "11 1006")
	r.take(f)
	r.wantTold(f)
}

func TestNobodyLeftNothingWaits(t *testing.T) {
	r := newRoom(t)
	for user := range proto.Snowflake(crowdSize) {
		r.enters(user + 1)
	}
	for conn := range r.last {
		r.shard.Closed(r.now, conn+1, 1000)
	}
	r.settle()
	r.empty()
	if len(r.shard.gathering) != 0 {
		t.Error("a channel that is gone still gathers")
	}
}

// follower is a client as the model test sees it.
type follower struct {
	user  proto.Snowflake
	conn  ConnID
	seen  []payload
	base  int // length of seen when the connection began
	again int // payloads up to here may repeat what was known
	cut   bool
}

func (f *follower) last() int {
	for _, p := range slices.Backward(f.seen) {
		if p.Seq != 0 {
			return p.Seq
		}
	}
	return 0
}

// knows returns whom the client takes to be present.
func (f *follower) knows(t testing.TB) map[proto.Snowflake]bool {
	known := map[proto.Snowflake]bool{}
	for i, p := range f.seen {
		for _, user := range usersOf(t, p) {
			switch p.Op {
			case proto.VoiceOpClientsConnect:
				if known[user] && i >= f.again {
					t.Fatalf("%d is told of %d twice", f.user, user)
				}
				if user == f.user {
					t.Fatalf("%d is told of itself", user)
				}
				known[user] = true
			case proto.VoiceOpClientDisconnect:
				delete(known, user)
			case proto.VoiceOpSpeaking:
				if !known[user] {
					t.Fatalf("%d hears %d before it is told of it", f.user, user)
				}
			}
		}
	}
	return known
}

// However sessions enter, leave, speak, are cut and resume: everybody is told of
// everybody, once, and of no one who is not there.
func TestCrowdModel(t *testing.T) {
	for seed := range uint64(8) {
		r, _ := newCrowd(t)
		random := rand.New(rand.NewPCG(seed, 1))
		clients := map[proto.Snowflake]*follower{}
		collect := func() {
			for _, f := range clients {
				f.seen = append(f.seen, r.take(f.conn)...)
			}
		}
		any := func(cut bool) *follower {
			for _, user := range slices.Sorted(maps.Keys(clients)) {
				if f := clients[user]; f.cut == cut && random.IntN(3) == 0 {
					return f
				}
			}
			return nil
		}
		next := proto.Snowflake(5000)
		steps := []func(){
			func() { next++; clients[next] = &follower{user: next, conn: r.enters(next)} },
			func() { next++; clients[next] = &follower{user: next, conn: r.enters(next)} },
			func() {
				if f := any(false); f != nil {
					r.shard.Closed(r.now, f.conn, 1000)
					r.drain()
					delete(clients, f.user)
				}
			},
			func() {
				if f := any(false); f != nil {
					r.shard.Event(r.now, sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: r.session(f.user).peer, On: random.IntN(2) == 0}})
					r.drain()
				}
			},
			func() {
				if f := any(false); f != nil {
					r.shard.Closed(r.now, f.conn, 1006)
					for n := random.IntN(4); n > 0 && len(f.seen) > f.base+3; n-- {
						f.seen = f.seen[:len(f.seen)-1] // lost on the way
					}
					f.cut = true
				}
			},
			func() {
				if f := any(true); f != nil {
					f.conn, f.cut, f.base = r.resume(9, claims(f.user, 1), f.last()), false, len(f.seen)
					f.seen = append(f.seen, r.take(f.conn)...)
					f.again = len(f.seen)
				}
			},
			func() {
				r.now = r.now.Add(time.Duration(random.IntN(int(crowdWindow))))
				r.shard.Tell(r.now)
				r.drain()
			},
		}
		for range 600 {
			steps[random.IntN(len(steps))]()
			collect()
		}
		r.settle()
		collect()
		for _, f := range clients {
			if f.cut {
				continue
			}
			known := f.knows(t)
			for _, x := range r.session(f.user).channel.present {
				if x.user != f.user && !known[x.user] {
					t.Errorf("seed %d: %d was not told of %d", seed, f.user, x.user)
				}
				delete(known, x.user)
			}
			if len(known) > 0 {
				t.Errorf("seed %d: %d takes %v to be present", seed, f.user, slices.Sorted(maps.Keys(known)))
			}
		}
	}
}

// A client may have got a part of its introduction before it was cut.
func TestResumeStartsOverWithWhoIsGone(t *testing.T) {
	r := newRoom(t)
	r.join(9, 1)
	b := r.join(9, 2)
	r.speaks(1, true)
	c := r.enters(3) // is told of 1 and 2, then of the SSRC of 1, which gets lost
	got := r.take(c)
	r.shard.Closed(r.now, c, 1006)
	r.shard.Closed(r.now, b, 1000)
	r.drain()
	r.wantTold(r.resume(9, claims(3, 1), got[1].Seq), "9", "13 2", "11 1", "5 1")
}

func TestLeaversOfACrowdAreToldOfTogether(t *testing.T) {
	r, first := newCrowd(t)
	leaves := func(user proto.Snowflake) {
		r.shard.Closed(r.now, ConnID(user), 1000)
		r.drain()
	}
	leaves(10)
	r.wantTold(first, "13 10")
	leaves(11)
	again := r.identify(9, claims(11, 2)) // the same user, with a join of its own
	r.frame(again, proto.VoiceOpSelectProtocol, selectUDP)
	leaves(12)
	r.wantTold(again, "2", "4", "11 198 users") // and 12 among them
	r.wantTold(first)
	r.settle()
	r.wantTold(first, "13 11", "13 12", "11 11")
	r.wantTold(again, "13 12")

	// Who comes back and is heard is gone before it is back.
	leaves(13)
	r.enters(1300)
	leaves(14)
	back := r.identify(9, claims(14, 2))
	r.frame(back, proto.VoiceOpSelectProtocol, selectUDP)
	r.speaks(14, true)
	r.wantTold(first, "13 13", "13 14", "11 1300 14", "5 14")
	r.settle()
	r.wantTold(first)
}

// When a crowd leaves, each of the others gets one output with all that it is to know, and
// a client that was cut meanwhile gets the same when it resumes.
func TestManyLeaversAreOneOutput(t *testing.T) {
	r, first := newCrowd(t)
	old := r.join(4, 3000) // of a version without numbers
	cut := r.join(9, 3001)
	r.settle()
	seq := r.shard.channels[testChannel].history.last
	clear(r.inbox)
	r.shard.Closed(r.now, cut, 1006)
	leave := func(from, to int) {
		for user := from; user < to; user++ {
			r.shard.Closed(r.now, ConnID(user), 1000)
			r.drain()
		}
	}
	leave(10, 11) // told at once; the next wait
	leave(11, 20)
	late := r.enters(4000)
	leave(20, 10+2*burstFrom)
	clear(r.inbox)

	r.now = r.shard.Due()
	r.shard.Tell(r.now)
	bursts := map[ConnID]int{}
	for _, o := range r.shard.Drain() {
		if o.Frames != nil {
			bursts[o.Conn]++
		}
		r.output(o)
	}
	if bursts[first] != 1 || bursts[old] != 1 || bursts[late] != 1 || bursts[cut] != 0 || len(bursts) != len(r.shard.channels[testChannel].present)-1 {
		t.Errorf("bursts for %d: %d, %d, %d, %d", len(bursts), bursts[first], bursts[old], bursts[late], bursts[cut])
	}
	var all []string
	for user := 11; user < 10+2*burstFrom; user++ {
		all = append(all, fmt.Sprintf("13 %d", user))
	}
	r.wantTold(late, all[9:]...) // the first nine it never knew
	all = append(all, "11 4000")
	r.wantTold(first, all...)
	for _, p := range r.inbox[old] {
		if p.Seq != 0 {
			t.Errorf("a number for version 4: %v", p)
		}
	}
	r.wantTold(old, all...)
	again := r.resume(9, claims(3001, 1), int(seq))
	r.wantTold(again, append([]string{"9", "13 10"}, all...)...)
}

// BenchmarkCrowdLeaves is a thousand who leave a channel of two thousand at once.
func BenchmarkCrowdLeaves(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		r := newRoom(b)
		for user := range 2000 {
			r.join(9, proto.Snowflake(user+1))
		}
		r.settle()
		b.StartTimer()
		for user := range 1000 {
			r.shard.Closed(r.now, ConnID(user+1), 1000)
		}
		r.now = r.now.Add(time.Second)
		r.shard.Tell(r.now)
		r.shard.Drain()
	}
}

// BenchmarkEnterAndLeaveCrowd is one member that comes and goes in a channel of a
// thousand, both told in a round.
func BenchmarkEnterAndLeaveCrowd(b *testing.B) {
	r := newRoom(b)
	for user := range 1000 {
		r.join(9, proto.Snowflake(user+1))
	}
	s := r.shard
	b.ReportAllocs()
	for user := proto.Snowflake(2000); b.Loop(); user++ {
		conn := r.identify(9, claims(user, 1))
		s.Frame(r.now, conn, Frame{Op: proto.VoiceOpSelectProtocol, D: json.RawMessage(selectUDP)})
		r.now = r.now.Add(time.Second)
		s.Tell(r.now)
		s.Closed(r.now, conn, 1000)
		r.now = r.now.Add(time.Second)
		s.Tell(r.now)
		s.Drain()
		clear(r.inbox)
	}
}
