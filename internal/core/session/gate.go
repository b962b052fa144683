package session

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/proto"
)

const (
	// Rate is how many frames a connection may send in RateWindow
	// (Gateway, "Rate Limiting").
	Rate       = 120
	RateWindow = time.Minute
	// MaxFrame is the longest frame a client may send, in bytes
	// (Gateway, "Sending Events").
	MaxFrame = 4096

	identifyTimeout = 30 * time.Second
)

// Gate stands between a connection and its session. It counts every frame of the
// connection, and until there is a session it says hello, answers heartbeats, and
// passes Identify or Resume on once they are well-formed.
type Gate struct {
	limiter  Limiter
	deadline clock.Time
}

// NewGate begins a connection; the Step is its hello.
func NewGate(now clock.Time, heartbeat time.Duration) (Gate, Step) {
	g := Gate{limiter: NewLimiter(Rate, RateWindow), deadline: now.Add(identifyTimeout)}
	hello := fmt.Appendf(nil, `{"op":10,"d":{"heartbeat_interval":%d,"_trace":[]},"s":null,"t":null}`, heartbeat.Milliseconds())
	return g, Step{Send: hello}
}

// Deadline returns when the connection must have a session.
func (g *Gate) Deadline() clock.Time { return g.deadline }

// Admit counts one frame and reports whether the connection may send it. It comes
// before the frame costs anything, whether there is a session or not; a refused
// connection is closed with CloseRateLimited.
func (g *Gate) Admit(now clock.Time) bool { return g.limiter.Allow(now) }

// Handle takes one frame of a client without a session.
func (g *Gate) Handle(frame []byte) Step {
	op, d, ok := parse(frame)
	if !ok {
		return Step{Close: proto.CloseDecodeError}
	}
	if h, ok := gateHandlers[op]; ok {
		return h(d)
	}
	if _, ok := sessionHandlers[op]; ok {
		return Step{Close: proto.CloseNotAuthenticated}
	}
	return Step{Close: proto.CloseUnknownOpcode}
}

// gateHandlers needs no state: what a frame before Identify asks is in the frame.
var gateHandlers = map[proto.GatewayOpcode]func(d json.RawMessage) Step{
	proto.OpHeartbeat: func(json.RawMessage) Step { return Step{Send: heartbeatACK} },
	proto.OpIdentify:  handleIdentify,
	proto.OpResume:    handleResume,
}

func handleIdentify(d json.RawMessage) Step {
	data, ok := decode[proto.IdentifyData](d)
	if !ok || (data.Presence != nil && !validPresence(data.Presence)) {
		return Step{Close: proto.CloseDecodeError}
	}
	if s := data.Shard; s != nil && (s[0] < 0 || s[0] >= s[1]) {
		return Step{Close: proto.CloseInvalidShard}
	}
	data.Token = bearer(data.Token)
	return Step{Identify: data}
}

func handleResume(d json.RawMessage) Step {
	data, ok := decode[proto.ResumeData](d)
	if !ok {
		return Step{Close: proto.CloseDecodeError}
	}
	data.Token = bearer(data.Token)
	return Step{Resume: data}
}

// bearer strips the scheme, which REST needs and the gateway only tolerates.
func bearer(token string) string { return strings.TrimPrefix(token, "Bot ") }

// LargeThreshold returns from how many members on a guild is large to a bot: what
// it asks for, between 50 and 250 (Gateway Events, "Identify").
func LargeThreshold(asked int) int { return min(max(asked, 50), 250) }

// AcceptIntents returns the intents a session runs with: what a bot asked for, and
// everything for a user. The close code is 0 unless they are refused.
func AcceptIntents(asked *proto.Intents, bot bool) (proto.Intents, proto.CloseCode) {
	switch {
	case !bot:
		return ^proto.Intents(0), 0
	case asked == nil || *asked&^proto.IntentsKnown != 0:
		return 0, proto.CloseInvalidIntents
	}
	return *asked, 0
}
