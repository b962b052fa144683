//go:build linux

package fleet

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tone is a source of 20 ms packets that never ends.
type tone struct{}

func (tone) NextFrame() ([]byte, error) {
	frame := make([]byte, 100)
	frame[0] = 0xF8 // CELT, 20 ms, one frame
	for i := range frame[1:] {
		frame[1+i] = byte(7 * i)
	}
	return frame, nil
}

func speak(t testing.TB, v *client.Voice) {
	ctx, cancel := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() {
		if err := v.Play(ctx, tone{}); ctx.Err() == nil && v.Err() == nil {
			t.Errorf("speaking: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); task.Wait() })
}

// ear notes what comes of one speaker.
type ear struct {
	mu      sync.Mutex
	heard   int
	lost    int // by the gaps of sequence numbers
	last    time.Time
	longest time.Duration // between two packets
	next    map[uint32]uint16
	again   chan struct{} // has a token after each packet
}

func listen(t testing.TB, v *client.Voice, to proto.Snowflake) *ear {
	e := &ear{next: map[uint32]uint16{}, again: make(chan struct{}, 1)}
	var task sync.WaitGroup
	task.Go(func() {
		for packet := range v.Packets() {
			if packet.UserID == to {
				e.hear(packet)
			}
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = v.Leave(ctx)
		task.Wait()
	})
	return e
}

func (e *ear) hear(p client.Packet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if !e.last.IsZero() {
		e.longest = max(e.longest, now.Sub(e.last))
	}
	if next, known := e.next[p.SSRC]; known {
		e.lost += int(p.Sequence - next)
	}
	e.heard, e.last, e.next[p.SSRC] = e.heard+1, now, p.Sequence+1
	select {
	case e.again <- struct{}{}:
	default:
	}
}

// fresh forgets what was heard and waits for n more packets.
func (e *ear) fresh(t testing.TB, n int) {
	t.Helper()
	e.mu.Lock()
	e.heard, e.lost, e.longest = 0, 0, 0
	e.mu.Unlock()
	e.wait(t, n)
}

func (e *ear) wait(t testing.TB, n int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case <-e.again:
			if heard, _, _ := e.told(); heard >= n {
				return
			}
		case <-deadline:
			t.Fatal("nothing is heard any more")
		}
	}
}

func (e *ear) told() (heard, lost int, longest time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard, e.lost, e.longest
}

// wantMuted waits until a person is told that another is muted by a moderator, or
// not, and fails when anything else is said of anybody.
func wantMuted(t testing.TB, who *person, other proto.Snowflake, muted bool) {
	t.Helper()
	select {
	case s := <-who.states:
		if s.UserID != other || s.ChannelID == nil || s.Mute != muted {
			t.Fatalf("%d was told %+v", who.id, s)
		}
	case <-time.After(patience):
		t.Fatalf("%d was not told that %d has changed", who.id, other)
	}
}

func drained(c chan proto.VoiceState) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

func TestCallsOutliveNodes(t *testing.T) {
	t.Parallel()
	p := start(t)
	ann, bob := p.person("ann"), p.person("bob")
	fromAnn, fromBob := p.join(ann), p.join(bob)
	speak(t, fromAnn)
	speak(t, fromBob)
	atBob, atAnn := listen(t, fromBob, ann.id), listen(t, fromAnn, bob.id)
	for _, e := range []*ear{atBob, atAnn} {
		e.wait(t, 25)
	}
	before := p.inVoice()
	if len(before) != 2 || before[ann.id].Node != before[bob.id].Node || before[ann.id].Transport != "udp" {
		t.Fatalf("in voice: %+v", before)
	}

	t.Run("gateway, API and bus", func(t *testing.T) { p.frontDies(t, ann, bob, atAnn, atBob) })
	t.Run("guild owner", func(t *testing.T) { p.guildMoves(t, ann, bob, atAnn, atBob) })
	t.Run("hung guild owner", func(t *testing.T) { p.guildOwnerHangs(t, ann, bob, atAnn, atBob) })
	t.Run("voice node", func(t *testing.T) { p.voiceNodeDies(t, ann, bob, atAnn, atBob) })
}

// frontDies kills the gateway, the API and the bus in one: the call goes on, and once
// they are back everybody is where it was.
func (p *platform) frontDies(t *testing.T, ann, bob *person, ears ...*ear) {
	for _, e := range ears {
		e.fresh(t, 1)
	}
	p.Node("front").Kill()
	for _, e := range ears {
		e.wait(t, 100) // longer than it takes to miss a node
		if _, lost, _ := e.told(); lost > 2 {
			t.Errorf("%d packets were lost while the front was down", lost)
		}
	}
	was := map[proto.Snowflake]string{ann.id: ann.SessionID(), bob.id: bob.SessionID()}
	for _, who := range []*person{ann, bob} {
		drained(who.states)
	}
	p.must(p.Start(p.Node("front")))
	// Their sessions are gone with the gateway, so they take their calls over.
	deadline := time.After(patience)
	for _, who := range []*person{ann, bob} {
		for taken := false; !taken; {
			select {
			case s := <-who.states:
				taken = s.UserID == who.id && s.SessionID != was[who.id] && s.ChannelID != nil
			case <-deadline:
				t.Fatalf("%d is %+v", who.id, p.inVoice()[who.id])
			}
		}
	}
	for _, who := range []*person{ann, bob} {
		for entry := p.inVoice()[who.id]; entry.Transport != "udp"; entry = p.inVoice()[who.id] {
			select {
			case <-deadline:
				t.Fatalf("%d is %+v", who.id, entry)
			default:
			}
		}
	}
	for _, e := range ears {
		heard, _, _ := e.told()
		e.wait(t, heard+50)
		_, _, longest := e.told()
		t.Logf("the front was killed and came back; the longest gap was %v", longest.Round(time.Millisecond))
	}
}

// guildMoves kills the owner of the guild, brings it back, and stops it: the call goes
// on as if nothing were, and each owner knows all of it.
func (p *platform) guildMoves(t *testing.T, ann, bob *person, ears ...*ear) {
	before := p.inVoice()
	for _, e := range ears {
		e.fresh(t, 1)
	}
	for _, who := range []*person{ann, bob} {
		drained(who.states)
	}
	owner := p.GuildOwner(p.guild)
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"killed", owner.Kill},
		{"back", func() { p.must(p.Start(owner)) }},
		{"stopped", func() { p.must(p.Stop(owner)) }},
	} {
		began := time.Now()
		step.do()
		p.stillWorks(t, before, ann, bob)
		t.Logf("%s is %s; its guild answered after %v", owner.Name, step.name, time.Since(began).Round(time.Millisecond))
	}
	// Who comes now sees both.
	eve := p.person("eve")
	select {
	case g := <-eve.guilds:
		if len(g.VoiceStates) != 2 {
			t.Errorf("the newcomer sees %+v", g.VoiceStates)
		}
	case <-time.After(patience):
		t.Error("no guild for a newcomer")
	}
	// Ann was muted for moments, Bob never.
	heard, lost, longest := ears[0].told()
	t.Logf("Ann heard %d packets of Bob and lost %d; the longest gap was %v", heard, lost, longest.Round(time.Millisecond))
	if lost > 2 {
		t.Errorf("guild nodes that come and go cost %d packets", lost)
	}
}

// stillWorks mutes Ann for a moment: the API waits for the guild's owner, those who
// were there hear from it what it did and nothing else, and all are where they were.
func (p *platform) stillWorks(t *testing.T, before map[proto.Snowflake]guild.VoiceListEntry, ann, bob *person) {
	t.Helper()
	for _, muted := range []bool{true, false} {
		p.call(http.MethodPatch, p.member(ann), map[string]any{"mute": muted}, nil)
		for _, who := range []*person{ann, bob} {
			wantMuted(t, who, ann.id, muted)
		}
	}
	after := p.inVoice()
	for _, who := range []*person{ann, bob} {
		if was, is := before[who.id], after[who.id]; was != is {
			t.Errorf("%d was %+v, is %+v", who.id, was, is)
		}
	}
}

// guildOwnerHangs stops the owner of the guild as if its host slept, and wakes it when
// another owns the guild: what it then believes does no harm.
func (p *platform) guildOwnerHangs(t *testing.T, ann, bob *person, ears ...*ear) {
	for _, n := range p.With(fleet.Guilds) {
		if !n.Running() {
			p.must(p.Start(n))
		}
	}
	owner := p.GuildOwner(p.guild)
	before := p.inVoice()
	p.stillWorks(t, before, ann, bob) // it owns the guild again
	for _, e := range ears {
		e.fresh(t, 1)
	}
	began := time.Now()
	p.must(owner.Suspend())
	// Nobody knows what became of a call that the owner may have had, so it fails.
	for {
		status, _, err := p.Node("front").Admin().Try(t.Context(), http.MethodPatch, p.member(ann), map[string]any{"mute": false})
		p.must(err)
		if status < 300 {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("nobody took the guild")
		}
	}
	p.stillWorks(t, before, ann, bob)
	t.Logf("%s hangs; its guild answered after %v", owner.Name, time.Since(began).Round(time.Millisecond))
	p.must(owner.Continue())
	// Through all of its coming back, when the guild moves to it once more.
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		p.stillWorks(t, before, ann, bob)
	}
	if _, lost, _ := ears[0].told(); lost > 2 {
		t.Errorf("a guild node that hung cost %d packets", lost)
	}
}

// voiceNodeDies kills the voice node of the call: it goes on on the other.
func (p *platform) voiceNodeDies(t *testing.T, ann, bob *person, ears ...*ear) {
	was := p.inVoice()[ann.id].Node
	for _, e := range ears {
		e.fresh(t, 1)
	}
	for _, who := range []*person{ann, bob} {
		drained(who.states)
	}
	p.Node(was).Kill()
	for _, e := range ears {
		e.wait(t, 100)
		_, _, longest := e.told()
		t.Logf("%s was killed; the longest gap was %v", was, longest.Round(time.Millisecond))
		// The bar of the design, from the node's last packet.
		if longest > 4*time.Second {
			t.Errorf("audio came again after %v", longest)
		}
	}
	after := p.inVoice()
	for _, who := range []*person{ann, bob} {
		if e := after[who.id]; e.Node == was || e.Node == "" || e.Channel != p.lounge {
			t.Errorf("%d is %+v", who.id, e)
		}
	}
}
