package signalling

import (
	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/core/token"
	"hubbub.dev/hubbub/proto"
)

// Command takes what a guild says of one join. A node gives it to all its shards,
// since any of them may come to know the join.
func (s *Shard) Command(now clock.Time, c guild.VoiceCommand) {
	m := member{c.Guild, c.User}
	x := s.members[m]
	switch {
	case c.End:
		s.note(now, m, notice{join: c.Join, ended: true})
		if x != nil && x.join <= c.Join {
			if !c.Linger {
				// The owner that says so may have been replaced, unheard.
				s.report(x, false)
			}
			s.endByGuild(now, x, c)
		}
	case x != nil && x.join == c.Join:
		if c.Session != "" {
			x.gateway = c.Session
		}
		if c.Update != nil {
			x.VoiceFlags = *c.Update
			s.refresh(now, x)
		}
	case c.Update != nil && (x == nil || x.join < c.Join):
		s.note(now, m, notice{join: c.Join, flags: c.Update})
	}
}

func (s *Shard) endByGuild(now clock.Time, x *session, c guild.VoiceCommand) {
	code := c.Code
	if code == 0 {
		code = proto.VoiceCloseDisconnected
	}
	switch {
	case c.Linger && x.lingerBy == 0:
		x.lingerBy, x.closeCode = now.Add(lingerFor), code
		return
	case c.Linger:
		return
	case c.Moved && x.lingerBy != 0:
		x.lingerBy = clock.Earliest(x.lingerBy, now.Add(lingerLast))
		return
	}
	s.remove(now, x)
	if c.Moved {
		x.closeBy, x.closeCode = now.Add(moveGrace), code
	} else {
		s.closeConn(now, x, code)
	}
}

// note remembers a notice for as long as a token that was signed before it can
// begin a session.
func (s *Shard) note(now clock.Time, m member, n notice) {
	said, known := s.notices[m]
	if said.join > n.join || (said.join == n.join && said.ended) {
		return
	}
	if !known && len(s.notices) >= maxNotices {
		s.purge(now)
		for any := range s.notices {
			if len(s.notices) < maxNotices {
				break
			}
			delete(s.notices, any)
		}
	}
	n.expires = now.Add(token.VoiceLifetime)
	s.notices[m] = n
}

func (s *Shard) purge(now clock.Time) {
	for m, n := range s.notices {
		if n.expires <= now {
			delete(s.notices, m)
		}
	}
}

// Event takes what the worker says of a peer.
func (s *Shard) Event(now clock.Time, e sfu.Event) {
	switch {
	case e.Speaking != nil:
		if x := s.peers[e.Speaking.Peer]; x != nil {
			x.onAir = e.Speaking.On
			if x.onAir {
				x.hushed = false
			}
			s.refresh(now, x)
		}
	case e.Lost != nil:
		if x := s.peers[e.Lost.Peer]; x != nil {
			s.lost(now, x, e.Lost.Reason)
		}
	case e.Quiet != nil:
		if x := s.peers[e.Quiet.Peer]; x != nil && x.conn != 0 && x.answerBy == 0 {
			x.answerBy = now.Add(answerWithin)
			s.emit(Output{Conn: x.conn, Ping: true})
		}
	}
}

// Answered says that a connection has answered a ping.
func (s *Shard) Answered(conn ConnID) {
	if x := s.conns[conn]; x != nil {
		x.answerBy = 0
	}
}

// lost deals with a transport that is gone. A page that closed its own may be
// about to select another; without consent or with a failed handshake there is
// nothing to wait for, and the client has to join anew.
func (s *Shard) lost(now clock.Time, x *session, reason sfu.LostReason) {
	if reason == sfu.LostClosed {
		x.onAir, x.transport = false, ""
		x.selectBy = now.Add(reselectTimeout)
		s.refresh(now, x)
		return
	}
	s.end(now, x)
	s.closeConn(now, x, proto.VoiceCloseSessionInvalid)
}

// Refused says that a worker could not be told something. What it holds of a peer is
// unknown then, so the session ends; what is about no session is tried again.
func (s *Shard) Refused(now clock.Time, worker int, c sfu.Command) {
	var peer sfu.PeerID
	switch {
	case c.Remove != nil, c.Relay != nil, c.End != nil && len(s.unposted) < maxUnposted:
		s.unposted = append(s.unposted, posting{worker, c})
		return
	case c.Add != nil:
		peer = c.Add.Peer
	case c.Native != nil:
		peer = c.Native.Peer
	case c.Browser != nil:
		peer = c.Browser.Peer
	case c.Update != nil:
		peer = c.Update.Peer
	}
	if x := s.peers[peer]; x != nil {
		s.end(now, x)
		s.closeConn(now, x, proto.VoiceCloseServerCrashed)
	}
}

// Tick does what is due. It is to be called about once a second.
func (s *Shard) Tick(now clock.Time) {
	s.Tell(now)
	due := func(at clock.Time) bool { return at != 0 && at <= now }
	for _, x := range s.conns {
		switch {
		case due(x.closeBy):
			s.closeConn(now, x, x.closeCode)
		case due(x.heartbeatBy), due(x.answerBy):
			s.closeConn(now, x, proto.VoiceCloseSessionTimeout)
		}
	}
	for _, x := range s.members {
		if due(x.lingerBy) {
			s.remove(now, x)
			s.closeConn(now, x, x.closeCode)
			continue
		}
		if due(x.resumeBy) || due(x.selectBy) {
			s.end(now, x)
			s.closeConn(now, x, proto.VoiceCloseSessionTimeout)
			continue
		}
		s.remind(now, x)
	}
	retry := s.unposted
	s.unposted = nil
	for _, p := range retry {
		s.post(p.worker, p.command)
	}
	if due(s.purgeAt) || s.purgeAt == 0 {
		s.purge(now)
		s.purgeAt = now.Add(token.VoiceLifetime / 10)
	}
}

// CloseAll closes every connection with one code. The sessions stay resumable.
func (s *Shard) CloseAll(now clock.Time, code proto.CloseCode) {
	for _, x := range s.conns {
		s.closeConn(now, x, code)
	}
}
