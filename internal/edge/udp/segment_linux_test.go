package udp

import (
	"net/netip"
	"testing"

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

// TestGatherWaitsForMore sends a second datagram when the first has been waited for.
func TestGatherWaitsForMore(t *testing.T) {
	a, b := listenOn(t, loopback4), listenOn(t, loopback4)
	b.Gather(patience)
	// A full half of a batch is not waited with.
	half := make([]string, Batch/2)
	a.WriteBatch(outgoing(b.LocalAddr(), half...))
	if n, err := b.ReadBatch(NewBatch(), patience); n != Batch/2 || err != nil {
		t.Fatalf("%d datagrams, %v", n, err)
	}
	// One is; but a Wake ends the wait.
	a.WriteBatch(outgoing(b.LocalAddr(), "first"))
	done := make(chan int)
	go func() {
		n, err := b.ReadBatch(NewBatch(), patience)
		if err != nil {
			t.Error(err)
		}
		done <- n
	}()
	a.WriteBatch(outgoing(b.LocalAddr(), "second"))
	b.Wake()
	if got := <-done; got != 2 {
		t.Errorf("%d datagrams", got)
	}
}
