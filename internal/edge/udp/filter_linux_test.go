package udp

import (
	"testing"
	"time"

	"golang.org/x/net/bpf"
)

func TestFilteredIsNotRead(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	// Only payloads that begin with 'a' pass.
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 8, Size: 1},
		bpf.JumpIf{Val: 'a', SkipFalse: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Filter(program); err != nil {
		t.Fatal(err)
	}
	if sent := a.WriteBatch(outgoing(b.LocalAddr(), "b", "", "a whole one", "c", "another")); sent != 5 {
		t.Fatalf("%d of 5 sent", sent)
	}
	got := collect(t, b, 2)
	if string(got[0].Buffer) != "a whole one" || string(got[1].Buffer) != "another" {
		t.Errorf("got %q and %q", got[0].Buffer, got[1].Buffer)
	}
	if n := b.Dropped(); n != 3 {
		t.Errorf("%d dropped, want 3", n)
	}
	if err := b.Filter(nil); err == nil {
		t.Error("an empty program was taken")
	}
}

// BenchmarkJunk sends what nobody wants and reads what is left of it.
func BenchmarkJunk(b *testing.B) {
	for _, name := range []string{"read", "filtered"} {
		b.Run(name, func(b *testing.B) {
			from, to := listenOn(b, loopback4), listenOn(b, loopback4)
			if name == "filtered" {
				if err := to.Filter([]bpf.RawInstruction{{Op: 0x06}}); err != nil {
					b.Fatal(err)
				}
			}
			out, in := make([]Message, Batch), NewBatch()
			for i := range out {
				out[i] = Message{Buffer: make([]byte, 200), Size: 200, Addr: to.LocalAddr()}
			}
			var reading time.Duration
			b.ReportAllocs()
			for b.Loop() {
				from.WriteBatch(out)
				began := time.Now()
				for n := 1; n > 0; {
					n, _ = to.ReadBatch(in, 0)
				}
				reading += time.Since(began)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/Batch, "ns/datagram")
			b.ReportMetric(float64(reading.Nanoseconds())/float64(b.N)/Batch, "ns-reading/datagram")
		})
	}
}
