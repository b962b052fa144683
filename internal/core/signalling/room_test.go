package signalling

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/browser"
	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

const (
	testGuild   proto.Snowflake = 41771983423143937
	testChannel proto.Snowflake = 127121515262115840
)

var (
	testKey  = []byte("a key for tests")
	testWall = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

// payload is what a client got.
type payload struct {
	Op  proto.VoiceOpcode
	D   json.RawMessage
	Seq int
	raw string
}

func (p payload) String() string { return p.raw }

// room drives a shard on virtual time and sorts its outputs.
type room struct {
	t        testing.TB
	shard    *Shard
	now      clock.Time
	worker   int // where the next peer is placed
	last     ConnID
	inbox    map[ConnID][]payload
	closed   map[ConnID]proto.CloseCode
	commands []sfu.Command
	postings []posting // the commands, with whom they are for
	reports  []Report
	held     map[proto.Snowflake]int // Identifies and sessions, less those released
	joined   []Joined
	refuse   bool
	asked    []ConnID              // by pings
	heard    map[ConnID]clock.Time // heartbeats that readers answered
}

func newRoom(t testing.TB) *room {
	var counter byte
	var workers []Worker
	for i := range uint16(4) {
		workers = append(workers, Worker{Port: 50000 + i, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 50000+i)})
	}
	return &room{
		t: t, now: 1, worker: 3,
		inbox: map[ConnID][]payload{}, closed: map[ConnID]proto.CloseCode{}, held: map[proto.Snowflake]int{},
		shard: NewShard(Config{
			Node: "node", Home: 3, Workers: workers, Version: "1.2.3",
			Fingerprint: browser.Fingerprint{Algorithm: "sha-256", Sum: make([]byte, 32)},
			Modes:       []string{proto.ModeAES256GCM, proto.ModeXChaCha20},
			Heartbeat:   10 * time.Second, ResumeWindow: time.Minute,
			Random: func(b []byte) {
				for i := range b {
					counter++
					b[i] = counter
				}
			},
		}),
	}
}

func (r *room) drain() {
	for outs := r.shard.Drain(); len(outs) > 0; outs = r.shard.Drain() {
		for _, o := range outs {
			r.output(o)
		}
	}
}

func (r *room) output(o Output) {
	switch {
	case o.Frames != nil:
		for _, frame := range o.Frames {
			r.output(Output{Conn: o.Conn, Frame: frame})
		}
	case o.Frame != nil:
		var p payload
		if err := json.Unmarshal(o.Frame, &p); err != nil {
			r.t.Fatalf("payload %s: %v", o.Frame, err)
		}
		if code, gone := r.closed[o.Conn]; gone {
			r.t.Fatalf("payload %s after close %d", o.Frame, code)
		}
		p.raw = string(o.Frame)
		r.inbox[o.Conn] = append(r.inbox[o.Conn], p)
	case o.Ping:
		r.asked = append(r.asked, o.Conn)
	case o.Close != 0:
		if code, gone := r.closed[o.Conn]; gone {
			r.t.Fatalf("connection %d closed with %d, then %d", o.Conn, code, o.Close)
		}
		r.closed[o.Conn] = o.Close
	case o.Command != nil:
		if r.refuse {
			r.shard.Refused(r.now, o.Worker, *o.Command)
			return
		}
		r.commands = append(r.commands, *o.Command)
		r.postings = append(r.postings, posting{o.Worker, *o.Command})
	case o.Report != nil:
		r.reports = append(r.reports, *o.Report)
	case o.Joined != nil:
		r.joined = append(r.joined, *o.Joined)
	case o.Released != 0:
		if r.held[o.Released]--; r.held[o.Released] < 0 {
			r.t.Fatal("a channel was released more often than acquired")
		}
	default:
		r.t.Fatal("an output without anything")
	}
}

// take returns and forgets what a connection got.
func (r *room) take(conn ConnID) []payload {
	p := r.inbox[conn]
	delete(r.inbox, conn)
	return p
}

// expect takes what a connection got and compares it: "op d" or "op d #seq".
func (r *room) expect(conn ConnID, want ...string) {
	r.t.Helper()
	got := []string{}
	for _, p := range r.take(conn) {
		line := fmt.Sprintf("%d %s", p.Op, p.D)
		if p.Seq != 0 {
			line += fmt.Sprintf(" #%d", p.Seq)
		}
		got = append(got, line)
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("connection %d got\n  %s\nwant\n  %s", conn, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (r *room) pass(d time.Duration) {
	for ; d > 0; d -= time.Second {
		r.now = r.now.Add(min(d, time.Second))
		r.shard.Beaten(r.now, func(c ConnID) clock.Time { return r.heard[c] })
		r.shard.Tick(r.now)
		r.drain()
	}
}

// beat passes time in which the given connections send heartbeats.
func (r *room) beat(d time.Duration, conns ...ConnID) {
	for ; d > 0; d -= time.Second {
		r.pass(min(d, time.Second))
		for _, c := range conns {
			r.frame(c, proto.VoiceOpHeartbeat, "7")
			r.inbox[c] = nil
		}
	}
}

func claims(user proto.Snowflake, join uint64) token.Voice {
	return token.Voice{
		Guild: testGuild, Channel: testChannel, User: user, Join: join,
		Permissions: proto.PermDefault, Expires: testWall.Add(token.VoiceLifetime),
		Session: fmt.Sprintf("session-%d", user),
	}
}

// identify identifies a client that follows who speaks, as the tests do.
func (r *room) identify(version int, v token.Voice) ConnID {
	r.t.Helper()
	return r.identifyAs(version, v, true)
}

func (r *room) identifyAs(version int, v token.Voice, speakingEvents bool) ConnID {
	r.t.Helper()
	d, _ := json.Marshal(proto.VoiceIdentify{
		ServerID: v.Guild, ChannelID: v.Channel, UserID: v.User, SessionID: v.Session, Token: v.Sign(testKey),
		SpeakingEvents: speakingEvents,
	})
	return r.greet(version, proto.VoiceOpIdentify, string(d))
}

func (r *room) resume(version int, v token.Voice, ack int) ConnID {
	r.t.Helper()
	d, _ := json.Marshal(proto.VoiceResume{
		ServerID: v.Guild, ChannelID: v.Channel, SessionID: v.Session, Token: v.Sign(testKey), SeqAck: &ack,
	})
	return r.greet(version, proto.VoiceOpResume, string(d))
}

func (r *room) greet(version int, op proto.VoiceOpcode, d string) ConnID {
	r.t.Helper()
	step := Greet(testKey, testWall.Add(time.Duration(r.now)), version, Frame{Op: op, D: json.RawMessage(d)})
	if step.Admit == nil {
		r.t.Fatalf("not admitted: %+v", step)
	}
	r.last++
	step.Admit.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")}
	step.Admit.Worker = r.worker
	if !step.Admit.Resume {
		r.held[step.Admit.Claims.Channel]++
	}
	r.shard.Admit(r.now, r.last, *step.Admit)
	r.drain()
	return r.last
}

func (r *room) frame(conn ConnID, op proto.VoiceOpcode, d string) {
	r.shard.Frame(r.now, conn, Frame{Op: op, D: json.RawMessage(d)})
	r.drain()
}

const selectUDP = `{"protocol":"udp","data":{"address":"192.0.2.1","port":9,"mode":"aead_aes256_gcm_rtpsize"}}`

// join brings a user into the channel over UDP and forgets what everybody got.
func (r *room) join(version int, user proto.Snowflake) ConnID {
	r.t.Helper()
	conn := r.identify(version, claims(user, 1))
	r.frame(conn, proto.VoiceOpSelectProtocol, selectUDP)
	if code := r.closed[conn]; code != 0 {
		r.t.Fatalf("join ended with %d", code)
	}
	clear(r.inbox)
	r.commands, r.postings, r.reports = nil, nil, nil
	return conn
}

func (r *room) session(user proto.Snowflake) *session {
	r.t.Helper()
	x := r.shard.members[member{testGuild, user}]
	if x == nil {
		r.t.Fatalf("user %d has no session", user)
	}
	return x
}

func (r *room) speaks(user proto.Snowflake, on bool) {
	r.t.Helper()
	r.shard.Event(r.now, sfu.Event{Speaking: &sfu.PeerSpeaking{Peer: r.session(user).peer, On: on}})
	r.drain()
}

// empty checks that nothing is left of anybody.
func (r *room) empty() {
	r.t.Helper()
	s := r.shard
	if len(s.members)+len(s.peers)+len(s.channels) != 0 {
		r.t.Errorf("left over: %d members, %d peers, %d channels", len(s.members), len(s.peers), len(s.channels))
	}
	for channel, n := range maps.All(r.held) {
		if n != 0 {
			r.t.Errorf("channel %d is still held %d times", channel, n)
		}
	}
}
