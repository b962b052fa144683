package load

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

func TestSkimFindsTheNumber(t *testing.T) {
	long := strings.Repeat("x", 3*skimBuffer)
	for payload, want := range map[string]int64{
		`{"op":0,"s":17,"t":"A","d":{}}`:                       17,
		`{"op":0,"s":17,"t":"A","d":{"pad":"` + long + `"}}`:   17,
		`{"op":11,"d":{"user_ids":["` + long + `"]},"seq":9}`:  9,
		`{"op":5,"d":{"speaking":1},"seq":123456789012345678}`: 123456789012345678,
		`{"op":11,"d":null,"s":null,"t":null}`:                 -1,
		`{"op":6,"d":{"t":1}}`:                                 -1,
		``:                                                     -1,
	} {
		var seq atomic.Int64
		seq.Store(-1)
		if err := skim(iotest.OneByteReader(strings.NewReader(payload)), make([]byte, skimBuffer), &seq); err != nil {
			t.Fatal(err)
		}
		if seq.Load() != want {
			t.Errorf("%.60s: %d, want %d", payload, seq.Load(), want)
		}
	}
}

func FuzzSkim(f *testing.F) {
	f.Add([]byte(`{"op":0,"s":17,"t":"A","d":{}}`), uint8(1))
	f.Add([]byte(`{"op":11,"d":{},"seq":99999999999999999999}`), uint8(64))
	f.Fuzz(func(t *testing.T, payload []byte, more uint8) {
		var seq atomic.Int64
		if err := skim(bytes.NewReader(payload), make([]byte, numberWithin+1+int(more)), &seq); err != nil || seq.Load() < 0 {
			t.Fatal(err, seq.Load())
		}
	})
}
