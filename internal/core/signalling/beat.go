package signalling

import (
	"bytes"
	"encoding/json"

	"hubbub.dev/hubbub/internal/core/clock"
	"hubbub.dev/hubbub/proto"
)

// maxNonce bounds what a heartbeat makes the server send back.
const maxNonce = 64

// MaxAnswer is the longest answer to a heartbeat, in bytes.
const MaxAnswer = len(`{"op":6,"d":{"t":}}`) + maxNonce

// answerHeartbeat echoes the nonce in the shape it came in: bare before version 8,
// {"t": nonce} from there on. The seq_ack beside it has no use here, since what a
// channel keeps is kept for all its members.
func answerHeartbeat(version int, d json.RawMessage) (answer []byte, ok bool) {
	nonce, shaped := d, false
	if len(nonce) > 0 && nonce[0] == '{' {
		var beat proto.VoiceHeartbeat
		if json.Unmarshal(nonce, &beat) != nil {
			return nil, false
		}
		nonce, shaped = beat.T, true
	}
	if len(nonce) == 0 {
		nonce = []byte("null")
	}
	if len(nonce) > maxNonce || nonce[0] == '{' || nonce[0] == '[' {
		return nil, false
	}
	return appendAnswer(make([]byte, 0, MaxAnswer), version, nonce, shaped), true
}

func appendAnswer(dst []byte, version int, nonce []byte, shaped bool) []byte {
	op := byte('0' + proto.VoiceOpHeartbeatACK)
	if version < versionHeartbeatACK {
		op = '0' + byte(proto.VoiceOpHeartbeat)
	}
	dst = append(append(append(dst, `{"op":`...), op), `,"d":`...)
	if !shaped {
		return append(append(dst, nonce...), '}')
	}
	return append(append(append(dst, `{"t":`...), nonce...), "}}"...)
}

// Beat appends the answer to a heartbeat that is written as nearly all libraries write
// it, compact and with a number for a nonce. It is for a connection that has a session,
// whose reader then need not trouble the shard. ok is false for every other frame, other
// heartbeats too, and dst is returned as it was.
func Beat(dst []byte, version int, frame []byte) (answer []byte, ok bool) {
	rest, ok := bytes.CutPrefix(frame, []byte(`{"op":3,"d":`))
	if !ok {
		return dst, false
	}
	rest, shaped := bytes.CutPrefix(rest, []byte(`{"t":`))
	nonce, rest, ok := cutNumber(rest, maxNonce)
	if !ok {
		return dst, false
	}
	if shaped {
		if ack, acks := bytes.CutPrefix(rest, []byte(`,"seq_ack":`)); acks {
			if null, is := bytes.CutPrefix(ack, []byte("null")); is {
				rest = null
			} else if _, rest, ok = cutNumber(bytes.TrimPrefix(ack, []byte("-")), maxDigits); !ok {
				return dst, false
			}
		}
		if rest, ok = bytes.CutPrefix(rest, []byte("}")); !ok {
			return dst, false
		}
	}
	if string(rest) != "}" {
		return dst, false
	}
	return appendAnswer(dst, version, nonce, shaped), true
}

// maxDigits are never too many for an integer of 64 bits.
const maxDigits = 18

// cutNumber cuts a JSON number of at most so many digits and nothing else off the front of b.
func cutNumber(b []byte, most int) (number, rest []byte, ok bool) {
	n := 0
	for n < len(b) && n <= most && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	if n == 0 || n > most || n > 1 && b[0] == '0' {
		return nil, b, false
	}
	return b[:n], b[n:], true
}

// Beaten takes in the heartbeats that connections' readers have answered, where it matters
// by now. beat returns when a connection's last was, 0 for never. It comes before Tick.
func (s *Shard) Beaten(now clock.Time, beat func(ConnID) clock.Time) {
	for conn, x := range s.conns {
		if x.heartbeatBy > now && x.answerBy == 0 {
			continue
		}
		at := beat(conn)
		if at == 0 {
			continue
		}
		x.heartbeatBy = max(x.heartbeatBy, s.nextHeartbeat(at))
		if x.answerBy != 0 && at.Add(answerWithin) > x.answerBy {
			x.answerBy = 0
		}
	}
}
