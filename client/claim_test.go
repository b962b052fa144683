package client

import (
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

// loseSession has the server forget the gateway session. Until it is told otherwise it
// gives nothing away for free.
func (f *fakeServer) loseSession() {
	f.mu.Lock()
	f.session += 39
	f.adopts = true
	f.mu.Unlock()
	f.cutGateway()
}

// goesOn holds that a call is untouched: what is said goes out under the numbers that
// follow.
func (f *fakeServer) goesOn(t *testing.T, v *Voice, was *transport, sequence uint16) {
	t.Helper()
	if err := v.Send([]byte{0xF8, 1}); err != nil {
		t.Fatal(err)
	}
	pkt := f.nextRTP()
	if got := uint16(pkt[2])<<8 | uint16(pkt[3]); got != sequence || v.transport.Load() != was {
		t.Fatalf("packet %d, want %d", got, sequence)
	}
}

// speaking brings a client to speak, and returns the number of its next packet.
func (f *fakeServer) speaking(t *testing.T, v *Voice) uint16 {
	t.Helper()
	if err := v.Send([]byte{0xF8, 1}); err != nil {
		t.Fatal(err)
	}
	f.expect("speaking 1")
	pkt := f.nextRTP()
	return (uint16(pkt[2])<<8 | uint16(pkt[3])) + 1
}

func TestACallGoesOnByTheNextSession(t *testing.T) {
	f := newFake(t)
	g, v := f.joined(t, VoiceOptions{})
	was, next := v.transport.Load(), f.speaking(t, v)
	f.loseSession()
	f.expect("resume s1 3", "identify token", "op4 300 as s1")
	eventually(t, "an answer", func() bool { return settledAs(v, "s41") })
	f.goesOn(t, v, was, next)

	// The voice session is the old one, and so is resumed as that.
	f.cutVoice()
	f.expect("voice resume token-1 seq 1", "speaking 1")
	f.goesOn(t, v, was, next+1)
	// And so on, session after session.
	f.loseSession()
	f.expect("resume s41 2", "identify token", "op4 300 as s1")
	eventually(t, "an answer", func() bool { return settledAs(v, "s81") })
	f.goesOn(t, v, was, next+2)

	// What it says of itself it says of the same connection.
	if err := v.SetSelf(true, false); err != nil {
		t.Fatal(err)
	}
	f.expect("op4 300 as s1")

	// A voice server that is named since takes over as ever.
	f.mu.Lock()
	f.place(fakeChannel)
	f.mu.Unlock()
	f.expect("voice identify 300 token-2", "select", "speaking 1")
	waitTransport(t, v, fakeSSRC+2)
	if err := v.SetSelf(false, false); err != nil || g.SessionID() != "s81" {
		t.Fatal(err)
	}
	f.expect("op4 300") // that connection is of the session that there is
}

// settledAs reports whether the answer has come that makes the voice state a session's.
func settledAs(v *Voice, session string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.target.session == session && v.claim == nil && !v.unsettled
}

func TestWhatIsSaidOfTheSessionBefore(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	was, next := v.transport.Load(), f.speaking(t, v)
	f.mu.Lock()
	f.silent = true
	f.mu.Unlock()
	f.loseSession()
	f.expect("resume s1 3", "identify token", "op4 300 as s1")
	f.mu.Lock()
	f.state(fakeChannel, 1) // a moderator's mute, say
	f.state(fakeChannel, 41)
	f.mu.Unlock()
	eventually(t, "an answer", func() bool { return settledAs(v, "s41") })
	f.goesOn(t, v, was, next)
	f.mu.Lock()
	f.state(fakeChannel, 7)
	f.mu.Unlock()
	<-v.Done()
	if v.Err() != ErrReplaced {
		t.Fatal(v.Err())
	}
}

func TestAClaimThatNobodyAnswersIsGivenUp(t *testing.T) {
	f := newFake(t)
	f.tune = func(c *Client) { c.claimAnswer = 10 * time.Millisecond }
	_, v := f.joined(t, VoiceOptions{})
	_ = f.speaking(t, v)
	f.mu.Lock()
	f.ignores = true
	f.mu.Unlock()
	f.loseSession()
	f.expect("resume s1 3", "identify token", "op4 300 as s1", "op4 300 as s1", "op4 300", "voice identify 300 token-2", "select", "speaking 1")
	waitTransport(t, v, fakeSSRC+2)
}

// Both connections are gone at once: the one is claimed while the other is resumed.
func TestAClaimBesideAResume(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	was, next := v.transport.Load(), f.speaking(t, v)
	f.cutVoice()
	f.loseSession()
	done := map[string]bool{}
	for range 5 {
		select {
		case what := <-f.did:
			done[what] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("the client did only %v", done)
		}
	}
	for _, want := range []string{"resume s1 3", "identify token", "op4 300 as s1", "voice resume token-1 seq 1", "speaking 1"} {
		if !done[want] {
			t.Errorf("the client did not %q, but %v", want, done)
		}
	}
	eventually(t, "an answer", func() bool { return settledAs(v, "s41") })
	f.goesOn(t, v, was, next)
}

// Whose voice session is lost too has nothing to claim.
func TestALostConnectionIsNotClaimed(t *testing.T) {
	f := newFake(t)
	_, v := f.joined(t, VoiceOptions{})
	f.loseSession()
	f.expect("resume s1 3", "identify token", "op4 300 as s1")
	eventually(t, "an answer", func() bool { return settledAs(v, "s41") })
	f.closeVoice(proto.VoiceCloseSessionInvalid)
	f.expect("op4 300", "voice identify 300 token-2", "select")
	waitTransport(t, v, fakeSSRC+2)
}
