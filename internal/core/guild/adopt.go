package guild

import "hubbub.dev/hubbub/proto"

// What passes when a client has lost its gateway session and not its call. By its new
// session it says as which session it is connected to voice; if that is so the voice state
// is the new session's from then on, and nothing else changes: no join, no token, nothing
// that the client's media could notice.

// carries reports whether v is a connection that its client knows by a session. Whose
// gateway session v is meanwhile does not matter: both are the user's own.
func (v *voiceState) carries(session string) bool {
	return session != "" && v.transport != "" && v.identified == session
}

// adopter returns the session that a voice server does not have from v's token, "" if none.
func (v *voiceState) adopter() string {
	if v.session.Session == v.identified {
		return ""
	}
	return v.session.Session
}

// adopt makes a connected voice state that of another session of its user, with what that
// one has muted. One that has it already is told so again, since it asks.
func (g *Guild) adopt(old *voiceState, s *session, self selfFlags) {
	next := *old
	next.session, next.self = s.ref, self
	if next.session.Session == old.session.Session && next.self == old.self {
		g.setVoice(&next)
		g.dispatchTo(s, "VOICE_STATE_UPDATE", proto.IntentGuildVoice, encode(g.voiceObject(&next)))
		return
	}
	g.command(next.node, VoiceCommand{User: next.user, Join: next.join, Session: next.session.Session})
	g.changeVoice(old, &next)
}
