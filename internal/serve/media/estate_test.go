package media

import (
	"testing"

	"github.com/fxamacker/cbor/v2"

	"hubbub.dev/hubbub/internal/core/sfu"
)

func FuzzEstate(f *testing.F) {
	was := newTable()
	for _, d := range []directive{
		{Command: sfu.Command{Add: &sfu.AddPeer{Peer: 1, SSRC: 4}}},
		{Worker: 1, Command: sfu.Command{Add: &sfu.AddPeer{Peer: 2, SSRC: 8}}},
		{Command: sfu.Command{Native: &sfu.SetNative{Peer: 1}}},
		{Command: sfu.Command{Relay: &sfu.AddRelay{Peer: 3}}},
		{Command: sfu.Command{End: &sfu.EndSource{SSRC: 4}}},
	} {
		was.apply(&d)
	}
	b, err := cbor.Marshal(Estate{Last: was.last, Entries: was.will(), Ends: was.ends})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	var e Estate
	if err := cbor.Unmarshal(b, &e); err != nil {
		f.Fatal(err)
	}
	is, err := e.table(2)
	if err != nil || len(is.replay()) != len(was.replay()) || is.last != was.last {
		f.Fatalf("%v: the table is another: %+v", err, is)
	}
	if _, err := e.table(1); err == nil {
		f.Error("a worker that is not there has a peer")
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		var e Estate
		if cbor.Unmarshal(b, &e) != nil {
			return
		}
		if is, err := e.table(2); err == nil {
			is.replay()
		}
	})
}
