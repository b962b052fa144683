package signalling

import (
	"bytes"
	"encoding/json"
	"strconv"

	"hubbub.dev/hubbub/proto"
)

// Versions of the voice gateway. Legacy stands for a connection that names none:
// such clients (discordgo) know the boolean speaking state of version 3.
const (
	Legacy = 3
	oldest = 1
	newest = 9

	versionFlatHello    = 2 // and below: Hello has no envelope
	versionHeartbeatACK = 2 // and above: op 6 answers a heartbeat, not op 3
	versionSpeakingBits = 4 // and above: speaking is a bitmask, not a boolean
	versionSequence     = 8 // and above: numbered events and buffered resume
	versionChannel      = 9 // and above: Identify and Resume name the channel
)

// MaxFrame is the longest client payload in bytes. An SDP fragment has at most
// 8 KiB, which JSON's escapes lengthen little.
const MaxFrame = 16 << 10

// ParseVersion reads the v query parameter of a connection; absent is Legacy.
func ParseVersion(v string) (version int, ok bool) {
	if v == "" {
		return Legacy, true
	}
	n, err := strconv.Atoi(v)
	return n, err == nil && n >= oldest && n <= newest
}

// Frame is one payload of a client: its opcode and the JSON of its d field, nil
// when absent.
type Frame struct {
	Op proto.VoiceOpcode
	D  json.RawMessage
}

// Decode reads a client's message. It returns a close code when the message is
// no payload: all of them are JSON objects with an op, in text frames. The binary
// payloads of DAVE start with their opcode; nobody was told to send any yet.
func Decode(data []byte, binary bool) (Frame, proto.CloseCode) {
	if binary {
		if len(data) == 0 {
			return Frame{}, proto.VoiceCloseDecodeError
		}
		switch op := proto.VoiceOpcode(data[0]); op {
		case proto.VoiceOpMLSKeyPackage, proto.VoiceOpMLSCommitWelcome:
			return Frame{Op: op}, 0
		}
		return Frame{}, proto.VoiceCloseDecodeError
	}
	var envelope struct {
		Op *proto.VoiceOpcode `json:"op"`
		D  json.RawMessage    `json:"d"`
	}
	if err := json.Unmarshal(data, &envelope); err != nil || envelope.Op == nil {
		return Frame{}, proto.VoiceCloseDecodeError
	}
	return Frame{Op: *envelope.Op, D: envelope.D}, 0
}

// decode reads the object that a payload or a part of it has to be.
func decode(data json.RawMessage, into any) bool {
	return bytes.HasPrefix(data, []byte("{")) && json.Unmarshal(data, into) == nil
}
