package udp

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRefusedSegmentsAreSplit turns checksums off, without which the kernel does not
// segment.
func TestRefusedSegmentsAreSplit(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	if a.noSegments {
		t.Fatal("a kernel without UDP_SEGMENT")
	}
	checksums := func(off int) {
		t.Helper()
		if err := unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, off); err != nil {
			t.Fatal(err)
		}
	}
	checksums(1)
	arrives(t, a, b, 5, 100, 30)
	if a.Refused() != 1 || a.unsegment != splitAfterRefusal {
		t.Fatalf("refused %d times, %d to split", a.Refused(), a.unsegment)
	}
	arrives(t, a, b, 5, 100, 30)
	if a.Refused() != 1 {
		t.Error("the kernel was asked again at once")
	}
	checksums(0)
	a.unsegment = 1
	arrives(t, a, b, 5, 100, 30)
	arrives(t, a, b, 5, 100, 30)
	if a.Refused() != 1 || a.unsegment != 0 {
		t.Errorf("refused %d times, %d to split", a.Refused(), a.unsegment)
	}
}

func TestKernelWithoutSegments(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	a.noSegments = true
	arrives(t, a, b, MaxSegments, 100, 30)
}

// TestBadAddressRefusesNoSegments sends where nothing can be sent to.
func TestBadAddressRefusesNoSegments(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	m := segmented(b, 3, 100, 100)
	m.Addr = netip.AddrPortFrom(loopback4, 0)
	if sent := a.WriteBatch([]Message{m}); sent != 0 || a.Refused() != 0 || a.unsegment != 0 {
		t.Errorf("%d sent, refused %d times, %d to split", sent, a.Refused(), a.unsegment)
	}
}

func TestSegmentsAllocateNothing(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	out, in := []Message{segmented(b, 3, 100, 40), segmented(b, 2, 100, 100)}, NewBatch()
	if n := testing.AllocsPerRun(100, func() {
		a.WriteBatch(out)
		collectQuietly(b, in, 5)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestGatherWaitsForMore waits with one datagram, and not with half a batch.
func TestGatherWaitsForMore(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	const gather = 20 * time.Millisecond
	b.Gather(gather)
	for _, count := range []int{1, Batch/2 - 1} {
		a.WriteBatch(outgoing(b.LocalAddr(), make([]string, count)...))
		began := time.Now()
		if n, err := b.ReadBatch(NewBatch(), patience); n != count || err != nil {
			t.Fatalf("%d datagrams, %v", n, err)
		}
		if took := time.Since(began); took < gather {
			t.Errorf("%d were waited with for %v", count, took)
		}
	}
	b.Gather(time.Hour)
	a.WriteBatch(outgoing(b.LocalAddr(), make([]string, Batch/2)...))
	if n, err := b.ReadBatch(NewBatch(), patience); n != Batch/2 || err != nil {
		t.Fatalf("%d datagrams, %v", n, err)
	}
}

// TestDozeLooksOnlySoOften has a datagram that lies there wait for the next look, Wake wait
// for nothing, and a full batch be followed by what else there is.
func TestDozeLooksOnlySoOften(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	const interval = 20 * time.Millisecond
	b.Doze(interval)
	in := NewBatch()
	a.WriteBatch(outgoing(b.LocalAddr(), "early"))
	began := time.Now()
	if n, err := b.ReadBatch(in, patience); n != 1 || err != nil {
		t.Fatalf("%d datagrams, %v", n, err)
	}
	if took := time.Since(began); took < interval {
		t.Errorf("woken after %v", took)
	}
	if n, err := b.ReadBatch(in, patience); n != 0 || err != nil {
		t.Errorf("nothing to look at: %d datagrams, %v", n, err)
	}

	b.Doze(time.Hour)
	b.Wake()
	a.WriteBatch(outgoing(b.LocalAddr(), make([]string, Batch)...))
	a.WriteBatch(outgoing(b.LocalAddr(), "more"))
	if n, err := b.ReadBatch(in, patience); n != Batch || err != nil {
		t.Fatalf("woken: %d datagrams, %v", n, err)
	}
	if n, err := b.ReadBatch(in, patience); n != 1 || err != nil {
		t.Fatalf("after a full batch: %d datagrams, %v", n, err)
	}

	b.Doze(0)
	a.WriteBatch(outgoing(b.LocalAddr(), "at once"))
	if n, err := b.ReadBatch(in, patience); n != 1 || err != nil {
		t.Errorf("awake again: %d datagrams, %v", n, err)
	}
}
