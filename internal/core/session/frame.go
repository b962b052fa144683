package session

import (
	"encoding/json"
	"slices"
	"strconv"

	"hubbub.dev/hubbub/proto"
)

// Control frames, which have no sequence number and are never replayed.
var (
	heartbeatRequest = []byte(`{"op":1,"d":null,"s":null,"t":null}`)
	heartbeatACK     = []byte(`{"op":11,"d":null,"s":null,"t":null}`)
	invalidSession   = []byte(`{"op":9,"d":false,"s":null,"t":null}`)
	reconnect        = []byte(`{"op":7,"d":null,"s":null,"t":null}`)
)

// Reconnect returns the op 7 frame, which the caller must not change.
func Reconnect() []byte { return reconnect }

// InvalidSession returns the op 9 frame that says the session cannot be resumed.
// The caller must not change it.
func InvalidSession() []byte { return invalidSession }

// Payload is the part of a dispatch that is the same for every receiver, from the
// event's name to the closing brace. It goes behind a head. It is handed on by
// address, which is a third of a slice: thousands of sessions keep the last
// thousand events of a crowd.
type Payload struct{ bytes []byte }

// Bytes returns the payload, which must not be changed.
func (p *Payload) Bytes() []byte { return p.bytes }

// Body returns the payload of an event.
func Body(event string, data []byte) *Payload {
	b := make([]byte, 0, len(`"t":"","d":}`)+len(event)+len(data))
	b = append(b, `"t":"`...)
	b = append(b, event...)
	b = append(b, `","d":`...)
	b = append(b, data...)
	return &Payload{append(b, '}')}
}

// AppendHead appends the part of a dispatch that is the receiver's own: the
// opcode and the sequence number, at most 33 bytes.
func AppendHead(dst []byte, seq uint64) []byte {
	dst = append(dst, `{"op":0,"s":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	return append(dst, ',')
}

// Step is what one input asks of the session's owner, who goes through the fields
// in their order. At most one of the requests is set.
type Step struct {
	Send []byte // a control frame; not to be changed

	Identify *proto.IdentifyData
	Resume   *proto.ResumeData
	Presence *proto.PresenceData
	Voice    *proto.VoiceStateUpdateData
	Members  *proto.RequestGuildMembersData

	Close proto.CloseCode // 0 leaves the connection open
}

// Reason returns the text that goes with a gateway close code
// ("Gateway Close Event Codes").
func Reason(code proto.CloseCode) string { return reasons[code] }

var reasons = map[proto.CloseCode]string{
	proto.CloseUnknownError:         "Unknown error.",
	proto.CloseUnknownOpcode:        "Unknown opcode.",
	proto.CloseDecodeError:          "Error while decoding payload.",
	proto.CloseNotAuthenticated:     "Not authenticated.",
	proto.CloseAuthenticationFailed: "Authentication failed.",
	proto.CloseAlreadyAuthenticated: "Already authenticated.",
	proto.CloseInvalidSeq:           "Invalid seq.",
	proto.CloseRateLimited:          "Rate limited.",
	proto.CloseSessionTimedOut:      "Session timed out.",
	proto.CloseInvalidShard:         "Invalid shard.",
	proto.CloseInvalidAPIVersion:    "Invalid API version.",
	proto.CloseInvalidIntents:       "Invalid intent(s).",
	proto.CloseDisallowedIntents:    "Disallowed intent(s).",
}

// parse reads the envelope of a client's frame.
func parse(frame []byte) (op proto.GatewayOpcode, d json.RawMessage, ok bool) {
	var envelope struct {
		Op *proto.GatewayOpcode `json:"op"`
		D  json.RawMessage      `json:"d"`
	}
	if json.Unmarshal(frame, &envelope) != nil || envelope.Op == nil {
		return 0, nil, false
	}
	return *envelope.Op, envelope.D, true
}

// decode reads the data of a frame, which must be an object.
func decode[T any](d json.RawMessage) (*T, bool) {
	v := new(T)
	if len(d) == 0 || d[0] != '{' || json.Unmarshal(d, v) != nil {
		return nil, false
	}
	return v, true
}

// statuses are what a client may say of itself; the empty one, which some
// libraries send for "unset", is online.
var statuses = []string{"", "online", "dnd", "idle", "invisible", "offline"}

func validPresence(p *proto.PresenceData) bool {
	if !slices.Contains(statuses, p.Status) {
		return false
	}
	if p.Status == "" {
		p.Status = "online"
	}
	return true
}
