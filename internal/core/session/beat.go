package session

import "bytes"

// Beat reads a heartbeat that is written as nearly all libraries write it, compact. A
// connection's reader can answer it by Beat's answer, which must not be changed, and tell
// the session later. seq is what the client says it has, 0 for nothing. ok is false for
// every other frame, other heartbeats too.
func Beat(frame []byte) (answer []byte, seq uint64, ok bool) {
	d, ok := bytes.CutPrefix(frame, []byte(`{"op":1,"d":`))
	if !ok {
		return nil, 0, false
	}
	if string(d) == "null}" {
		return heartbeatACK, 0, true
	}
	const most = 18 // digits, which no uint64 is too small for
	n := 0
	for n < len(d) && d[n] >= '0' && d[n] <= '9' {
		seq = 10*seq + uint64(d[n]-'0')
		n++
	}
	if n == 0 || n > most || n > 1 && d[0] == '0' || string(d[n:]) != "}" {
		return nil, 0, false
	}
	return heartbeatACK, seq, true
}
