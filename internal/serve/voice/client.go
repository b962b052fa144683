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

// client is one connection. Its reader limits what comes, before a shard has any work
// with it.
type client struct {
	id        signalling.ConnID
	service   *Service
	ws        atomic.Pointer[ws.Conn] // nil until upgraded
	version   int
	addresses []netip.Addr
	from      netip.Addr    // where it is, if that is known
	in, out   atomic.Uint64 // bytes of payloads
	asked     atomic.Bool   // a ping of the shard's is on its way; cleared by its answer
	home      *shard        // once admitted; the reader's
	beat      atomic.Int64  // when the reader last answered a heartbeat, a clock.Time; 0: never
}

// greet is the body of the connection's first goroutine. Another reads on once it is
// admitted: verifying who it is takes a deeper stack than reading, which it would keep.
func (c *client) greet(ctx context.Context) {
	stop := context.AfterFunc(ctx, c.ws.Load().Abort)
	defer stop()
	limiter := session.NewLimiter(messageLimit, messageWindow)
	home := c.introduce(ctx, &limiter)
	if home == nil {
		c.service.lobby.leave(c)
		return
	}
	c.service.group.Load().Go("voice reader", func(ctx context.Context) { c.read(ctx, home, limiter) })
}

// introduce reads until the connection is admitted to a shard. It returns nil when the
// connection ends before.
func (c *client) introduce(ctx context.Context, limiter *session.Limiter) *shard {
	s := c.service
	for {
		data, binary, code := c.next(limiter)
		if code != 0 {
			return nil
		}
		frame, code := signalling.Decode(data, binary)
		if code != 0 {
			s.close(c, code)
			return nil
		}
		// Before anything is verified, which costs more than anything so far.
		if op := frame.Op; op == proto.VoiceOpIdentify || op == proto.VoiceOpResume {
			if !s.turns.Pass(ctx, monotonic.Now(), op == proto.VoiceOpResume) {
				s.close(c, proto.VoiceCloseServerCrashed) // from which clients come back
				return nil
			}
		}
		step := signalling.Greet(s.cfg.Key, time.Now(), c.version, frame)
		switch {
		case step.Close != 0:
			s.close(c, step.Close)
			return nil
		case step.Reply != nil:
			c.send(step.Reply)
		default:
			home, code := s.admit(c, step.Admit)
			if code != 0 {
				s.close(c, code)
			}
			return home
		}
	}
}

// read is the body of the reader's goroutine. Plain heartbeats it answers itself: on a
// server with thousands of silent clients they are nearly all there is to do, and each hand
// they pass through has to be woken. All else it leaves to the shard, whose one stack is
// deep enough for decoding.
func (c *client) read(ctx context.Context, home *shard, limiter session.Limiter) {
	c.home = home
	stop := context.AfterFunc(ctx, c.ws.Load().Abort)
	defer stop()
	for {
		data, binary, code := c.next(&limiter)
		if code == 0 && !binary && c.answer(data) {
			continue
		}
		if code == 0 && !home.post(input{client: c, data: data, binary: binary}) {
			code = c.service.close(c, proto.VoiceCloseServerCrashed)
		}
		if code != 0 {
			home.post(input{client: c, closed: code})
			return
		}
	}
}

// answer answers a plain heartbeat, and is false for everything else.
func (c *client) answer(frame []byte) bool {
	var space [signalling.MaxAnswer]byte
	text, ok := signalling.Beat(space[:0], c.version, frame)
	if !ok {
		return false
	}
	c.beat.Store(int64(monotonic.Now()))
	c.out.Add(uint64(len(text)))
	if !c.ws.Load().Answer(text) {
		c.tooSlow()
	}
	return true
}

// ping asks for a sign of life.
func (c *client) ping() {
	c.asked.Store(true)
	c.ws.Load().Ping()
}

// answered takes a pong. One that nobody asked for is nothing to trouble the shard with.
func (c *client) answered() {
	if c.home != nil && c.asked.Swap(false) {
		c.home.post(input{client: c, pong: true})
	}
}

// next returns the next message that is within the limits, or what the connection ended
// with.
func (c *client) next(limiter *session.Limiter) (data []byte, binary bool, ended proto.CloseCode) {
	s, socket := c.service, c.ws.Load()
	data, binary, err := socket.Read()
	if err != nil {
		return nil, false, c.ended(socket, err)
	}
	c.in.Add(uint64(len(data)))
	if !limiter.Allow(monotonic.Now()) {
		return nil, false, s.close(c, proto.VoiceCloseRateLimited)
	}
	return data, binary, 0
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
		c.tooSlow()
	}
}

// sendAll queues payloads that were made ready for writing.
func (c *client) sendAll(wire []byte) {
	c.out.Add(uint64(len(wire)))
	if !c.ws.Load().SendWire(wire) {
		c.tooSlow()
	}
}

func (c *client) tooSlow() {
	c.service.metrics.slow.Inc()
	c.service.close(c, proto.VoiceCloseServerCrashed)
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
	at, placed := 0, true
	if a.Resume {
		at, placed = s.placement.find(channel)
	} else {
		at, a.Worker = s.placement.acquire(channel)
	}
	if !placed {
		return nil, proto.VoiceCloseSessionInvalid
	}
	a.Addresses, a.From = c.addresses, c.from
	home := s.shards[at]
	if !home.post(input{client: c, admit: a}) {
		if !a.Resume {
			s.placement.release(channel, a.Worker)
		}
		return nil, proto.VoiceCloseServerCrashed
	}
	s.lobby.leave(c)
	return home, 0
}
