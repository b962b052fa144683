package load

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
)

const (
	skimBuffer = 2 << 10
	// numberWithin is how near to an end of a payload its number stands.
	numberWithin = 40
)

// skim reads a payload and notes its sequence number, if it has one. Decoding all
// that is told in a crowd would make the load slower than the server: the gateway
// writes its "s" near the beginning, the voice gateway its "seq" at the end.
func skim(r io.Reader, buffer []byte, seq *atomic.Int64) error {
	for used, begins := 0, true; ; {
		n, err := r.Read(buffer[used:])
		if used += n; err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if used < len(buffer) && err == nil {
			continue
		}
		if begins {
			number(buffer[:min(used, numberWithin)], `"s":`, seq)
		}
		if err != nil {
			number(buffer[max(0, used-numberWithin):used], `"seq":`, seq)
			return nil
		}
		used, begins = copy(buffer, buffer[used-numberWithin:used]), false
	}
}

// number notes the number after a key.
func number(b []byte, key string, seq *atomic.Int64) {
	i := bytes.Index(b, []byte(key))
	if i < 0 {
		return
	}
	n, digits := int64(0), 0
	for _, c := range b[i+len(key):] {
		if c < '0' || c > '9' || digits == 18 {
			break
		}
		n, digits = 10*n+int64(c-'0'), digits+1
	}
	if digits > 0 {
		seq.Store(n)
	}
}
