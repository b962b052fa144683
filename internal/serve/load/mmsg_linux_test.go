package load

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestSegmentsArriveWholeOrOneByOne sends 250 bytes in segments of 100 to sockets of both
// kinds.
func TestSegmentsArriveWholeOrOneByOne(t *testing.T) {
	for whole, want := range map[bool][]int{true: {250}, false: {100, 100, 50}} {
		socket := func() (fd int, name *unix.SockaddrInet4) {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(fd) })
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Fatal(err)
			}
			bound, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			return fd, bound.(*unix.SockaddrInet4)
		}
		to, name := socket()
		if err := prepare(to, whole); err != nil {
			t.Fatal(err)
		}
		from, _ := socket()
		control := make([]byte, unix.CmsgSpace(2))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], 100)
		if err := unix.Sendmsg(from, make([]byte, 250), control, name, 0); err != nil {
			t.Fatal(err)
		}
		rx := newInbound(segmentedSize)
		n, errno := rx.receive(to) // loopback delivers before the send returns
		if n == 0 {
			t.Fatal(errno)
		}
		var got, cut []int
		for i := range n {
			got = append(got, len(rx.datagram(i)))
			for part := range slices.Chunk(rx.datagram(i), rx.segment(i)) {
				cut = append(cut, len(part))
			}
			if rx.arrived(i) == 0 {
				t.Errorf("whole %v: no instant", whole)
			}
		}
		if !slices.Equal(got, want) || !slices.Equal(cut, []int{100, 100, 50}) {
			t.Errorf("whole %v: %v, cut to %v", whole, got, cut)
		}
	}
}
