package client

import (
	"time"

	"hubbub.dev/hubbub/proto"
)

// A gateway session may end and the voice connection with it does not: the next one
// claims it, by saying in op 4 as which session it is connected. The server answers with
// the voice state alone, and nothing becomes of media. If it does not, or names a voice
// server, the channel is joined anew.

// claimsLocked returns what op 4 for a channel says of our connection there: the session
// that it is known by, if that is not the gateway's of the moment. v.mu is held.
func (v *Voice) claimsLocked(channel proto.Snowflake) string {
	if channel == 0 || v.held.channel != channel || v.held.session == v.gw.SessionID() {
		return ""
	}
	return v.held.session
}

// hold notes which connection there is, none for the zero target.
func (v *Voice) hold(t voiceTarget) {
	v.mu.Lock()
	v.held = t
	v.mu.Unlock()
}

// awaitClaim waits for the answer to a claim, once it was sent.
func (v *Voice) awaitClaim() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answeredLocked()
	v.claims++
	v.gw.c.log.Info("voice claimed", "guild", v.guild, "session", v.held.session, "try", v.claims)
	v.claim = time.AfterFunc(v.gw.c.claimAnswer, v.unanswered)
}

func (v *Voice) answeredLocked() {
	if v.claim != nil {
		v.claim.Stop()
		v.claim = nil
	}
}

// unanswered makes a claim again, since the bus may have lost it, and in the end joins
// anew. Media flows on until that is answered.
func (v *Voice) unanswered() {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.claim == nil:
		return
	case !v.gw.lively.Load():
		v.claim.Reset(v.gw.c.claimAnswer) // the answer is kept for us, or there is a new session soon
		return
	case v.claims >= claimTries:
		v.held = voiceTarget{}
	}
	v.claim, v.needJoin = nil, true
	v.notify()
}
