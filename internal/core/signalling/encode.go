package signalling

import (
	"encoding/json"
	"strconv"

	"hubbub.dev/hubbub/proto"
)

// The functions here write payloads without their closing brace, since seal adds
// the sequence number that only some receivers get.

func begin(op proto.VoiceOpcode) []byte {
	b := append(make([]byte, 0, 96), `{"op":`...)
	b = strconv.AppendInt(b, int64(op), 10)
	return append(b, `,"d":`...)
}

// seal ends a payload; sequence 0 is none.
func seal(b []byte, sequence uint64) []byte {
	if sequence != 0 {
		b = append(b, `,"seq":`...)
		b = strconv.AppendUint(b, sequence, 10)
	}
	return append(b, '}')
}

// encodeObject writes the rare payloads. Their structs hold nothing that JSON
// cannot express.
func encodeObject(op proto.VoiceOpcode, d any) []byte {
	data, err := json.Marshal(d)
	if err != nil {
		panic("signalling: " + err.Error())
	}
	return append(begin(op), data...)
}

// Hello returns the first payload of a connection.
func Hello(version int, heartbeatMillis int64) []byte {
	b := []byte("{")
	if version > versionFlatHello {
		b = append(begin(proto.VoiceOpHello), `{"v":`...)
		b = strconv.AppendInt(b, int64(version), 10)
		b = append(b, ',')
	}
	b = append(b, `"heartbeat_interval":`...)
	b = append(strconv.AppendInt(b, heartbeatMillis, 10), '}')
	if version > versionFlatHello {
		b = append(b, '}')
	}
	return b
}

func appendID(b []byte, id proto.Snowflake) []byte {
	b = append(b, '"')
	b = strconv.AppendUint(b, uint64(id), 10)
	return append(b, '"')
}

func encodeSpeaking(version int, flags proto.SpeakingFlags, ssrc uint32, user proto.Snowflake) []byte {
	b := append(begin(proto.VoiceOpSpeaking), `{"speaking":`...)
	if version >= versionSpeakingBits {
		b = strconv.AppendInt(b, int64(flags), 10)
	} else {
		b = strconv.AppendBool(b, flags != 0)
	}
	b = append(b, `,"ssrc":`...)
	b = strconv.AppendUint(b, uint64(ssrc), 10)
	b = append(b, `,"user_id":`...)
	return append(appendID(b, user), '}')
}

func encodeConnect(users ...proto.Snowflake) []byte {
	b := append(begin(proto.VoiceOpClientsConnect), `{"user_ids":[`...)
	for i, user := range users {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendID(b, user)
	}
	return append(b, `]}`...)
}

func encodeDisconnect(user proto.Snowflake) []byte {
	b := append(begin(proto.VoiceOpClientDisconnect), `{"user_id":`...)
	return append(appendID(b, user), '}')
}
