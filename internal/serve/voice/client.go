package voice

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/session"
	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/internal/edge/ws"
	"hubbub.dev/hubbub/proto"
)

// lost is what a connection that ended without a close frame counts as.
const lost proto.CloseCode = 1006

// client is one connection. Its reader decodes and limits what comes, before a
// shard has any work with it.
type client struct {
	id        signalling.ConnID
	service   *Service
	ws        atomic.Pointer[ws.Conn] // nil until upgraded
	version   int
	addresses []netip.Addr
	in, out   atomic.Uint64 // bytes of payloads

}

// read is the reader goroutine.
func (c *client) read(context.Context) {
	home, code := c.serve()
	if home != nil {
		home.post(input{client: c, closed: code})
	} else {
		c.service.lobby.leave(c)
	}
}

// serve reads until the connection ends. It returns the shard that the connection
// was admitted to, if any, and what it ended with.
func (c *client) serve() (home *shard, ended proto.CloseCode) {
	s, socket := c.service, c.ws.Load()
	limiter := session.NewLimiter(messageLimit, messageWindow)
	for {
		data, binary, err := socket.Read()
		if err != nil {
			return home, c.ended(socket, err)
		}
		c.in.Add(uint64(len(data)))
		if !limiter.Allow(monotonic.Now()) {
			return home, s.close(c, proto.VoiceCloseRateLimited)
		}
		frame, code := signalling.Decode(data, binary)
		if code != 0 {
			return home, s.close(c, code)
		}
		if home != nil {
			if !home.post(input{client: c, frame: frame}) {
				return home, s.close(c, proto.VoiceCloseServerCrashed)
			}
			continue
		}
		step := signalling.Greet(s.cfg.Key, time.Now(), c.version, frame)
		switch {
		case step.Close != 0:
			return nil, s.close(c, step.Close)
		case step.Reply != nil:
			c.send(step.Reply)
		default:
			if home, code = s.admit(c, step.Admit); code != 0 {
				return nil, s.close(c, code)
			}
		}
	}
}

// ended finishes a connection that cannot be read from any more.
func (c *client) ended(socket *ws.Conn, err error) proto.CloseCode {
	if errors.Is(err, ws.ErrTooLarge) {
		return c.service.close(c, proto.VoiceCloseDecodeError)
	}
	// Nobody reads this one; Drop would leave the WebSocket library holding on.
	socket.Close(proto.VoiceCloseServerCrashed, "")
	var frame *ws.CloseError
	if errors.As(err, &frame) {
		return frame.Code
	}
	return lost
}

// send queues a payload. A client that takes too little is cut off, and resumes.
func (c *client) send(frame []byte) {
	c.out.Add(uint64(len(frame)))
	if !c.ws.Load().Send(frame, false) {
		c.service.metrics.slow.Inc()
		c.service.close(c, proto.VoiceCloseServerCrashed)
	}
}

// close closes a connection, unless it is closed, and returns the code.
func (s *Service) close(c *client, code proto.CloseCode) proto.CloseCode {
	if socket := c.ws.Load(); socket != nil && !socket.Closed() {
		socket.Close(code, reasons[code])
		s.metrics.closed(code)
	}
	return code
}

// reasons are the names of the codes in Discord's list.
var reasons = map[proto.CloseCode]string{
	proto.VoiceCloseUnknownOpcode:         "Unknown opcode",
	proto.VoiceCloseDecodeError:           "Failed to decode payload",
	proto.VoiceCloseNotAuthenticated:      "Not authenticated",
	proto.VoiceCloseAuthenticationFailed:  "Authentication failed",
	proto.VoiceCloseAlreadyAuthenticated:  "Already authenticated",
	proto.VoiceCloseSessionInvalid:        "Session no longer valid",
	proto.VoiceCloseSessionTimeout:        "Session timeout",
	proto.VoiceCloseServerNotFound:        "Server not found",
	proto.VoiceCloseUnknownProtocol:       "Unknown protocol",
	proto.VoiceCloseDisconnected:          "Disconnected",
	proto.VoiceCloseServerCrashed:         "Voice server crashed",
	proto.VoiceCloseUnknownEncryptionMode: "Unknown encryption mode",
	proto.VoiceCloseBadRequest:            "Bad request",
	proto.VoiceCloseRateLimited:           "Rate limited",
	proto.VoiceCloseCallTerminated:        "Call terminated",
}

// admit finds the shard for a connection that has proved who it is.
func (s *Service) admit(c *client, a *signalling.Admission) (*shard, proto.CloseCode) {
	channel := a.Claims.Channel
	worker, placed := 0, true
	if a.Resume {
		worker, placed = s.placement.find(channel)
	} else {
		worker = s.placement.acquire(channel)
	}
	if !placed {
		return nil, proto.VoiceCloseSessionInvalid
	}
	a.Addresses = c.addresses
	home := s.shards[worker]
	if !home.post(input{client: c, admit: a}) {
		if !a.Resume {
			s.placement.release(channel)
		}
		return nil, proto.VoiceCloseServerCrashed
	}
	s.lobby.leave(c)
	return home, 0
}
