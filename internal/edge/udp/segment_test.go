package udp

import (
	"bytes"
	"fmt"
	"testing"
)

// segmented is one message of count datagrams of size bytes, the last of them
// shorter, each filled with its number.
func segmented(to endpoint, count, size, last int) Message {
	m := Message{Segment: size, Addr: to.LocalAddr()}
	for i := range count {
		if i == count-1 {
			size = last
		}
		m.Buffer = append(m.Buffer, bytes.Repeat([]byte{byte(i)}, size)...)
	}
	m.Size = len(m.Buffer)
	return m
}

func arrives(t *testing.T, from, to endpoint, count, size, last int) {
	t.Helper()
	m := segmented(to, count, size, last)
	if got := m.Datagrams(); got != count {
		t.Errorf("a message of %d datagrams, want %d", got, count)
	}
	if sent := from.WriteBatch([]Message{m}); sent != count {
		t.Fatalf("%d of %d sent", sent, count)
	}
	for i, got := range collect(t, to, count) {
		if i == count-1 {
			size = last
		}
		if !bytes.Equal(got.Buffer, bytes.Repeat([]byte{byte(i)}, size)) || got.Addr != from.LocalAddr() {
			t.Fatalf("datagram %d of %d: %d bytes from %v", i, count, got.Size, got.Addr)
		}
	}
}

func TestSegmentsArriveAsDatagrams(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			for _, count := range []int{1, 2, 7, MaxSegments} {
				arrives(t, pair[0], pair[1], count, 200, 200)
				arrives(t, pair[0], pair[1], count, 200, 1)
			}
		})
	}
}

func TestSegmentedAndPlainInOneBatch(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			a, b := pair[0], pair[1]
			var ms []Message
			var want []string
			for i := range Batch + 5 {
				m := segmented(b, 1+i%3, 50+i, 20)
				ms = append(ms, m)
				for rest := m.Buffer; len(rest) > 0; {
					n := min(50+i, len(rest))
					want = append(want, string(rest[:n]))
					rest = rest[n:]
				}
			}
			if sent := a.WriteBatch(ms); sent != len(want) {
				t.Fatalf("%d of %d sent", sent, len(want))
			}
			for i, m := range collect(t, b, len(want)) {
				if string(m.Buffer) != want[i] {
					t.Fatalf("datagram %d: %x, want %x", i, m.Buffer, want[i])
				}
			}
		})
	}
}

func BenchmarkSegments(b *testing.B) {
	for _, count := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			a, c := listenOn(b, loopback4), listenOn(b, loopback4)
			out := make([]Message, Batch/count)
			for i := range out {
				out[i] = segmented(c, count, 200, 200)
			}
			in := NewBatch()
			b.ReportAllocs()
			for b.Loop() {
				a.WriteBatch(out)
				collectQuietly(c, in, Batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/Batch, "ns/datagram")
		})
	}
}
