package node

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/internal/serve/gateway"
)

// config is a shard's that legacies are tried on.
var config = signalling.Config{Workers: make([]signalling.Worker, 2), Random: func([]byte) {}}

func FuzzLegacy(f *testing.F) {
	good := legacy{Form: SuccessionForm, Gateway: []gateway.Suspended{{ID: "x"}}, Voice: []signalling.State{{
		Peer: 1, Step: 1, Channels: []signalling.ChannelState{{ID: 7, Sessions: []signalling.SessionState{{Guild: 1, User: 2, Token: "t", Version: 8, Peer: 1, SSRC: 4}}}},
	}}}
	b, err := cbor.Marshal(&good)
	if err != nil {
		f.Fatal(err)
	}
	if l, err := decodeLegacy(b); err != nil || len(l.Voice) != 1 || len(l.Gateway) != 1 {
		f.Fatalf("%+v %v", l, err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Fuzz(func(_ *testing.T, b []byte) {
		l, err := decodeLegacy(b)
		if err != nil {
			return
		}
		p := signalling.NewPlacement(2, 0)
		for i := range l.Voice {
			if s, err := signalling.Restore(1, config, &l.Voice[i]); err == nil {
				p.Restore(0, &l.Voice[i])
				s.Tick(1 << 50)
				s.Drain()
			}
		}
	})
}

func TestNothingIsTakenOverOfNonsense(t *testing.T) {
	var log strings.Builder
	l := slog.New(slog.NewTextHandler(&log, nil))
	if Succeed(l) != nil || log.Len() > 0 {
		t.Error("something is taken over of nothing", log.String())
	}
	for _, said := range []string{"", "1", "0:0:0:0:0:0", "-1:900:901:902:903:904", "1:x:y:z:a:b", "1:99999999999999999999:4:5:6:7"} {
		log.Reset()
		t.Setenv(successionVariable, said)
		if Succeed(l) != nil || !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("%q: %s", said, log.String())
		}
	}
}
