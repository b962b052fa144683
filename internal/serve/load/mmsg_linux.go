package load

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams one system call moves at most.
	batchSize = 64
	// datagramSize holds every datagram of an Ethernet path.
	datagramSize = 2048
	// segmentedSize holds what a server sends to one client in one call: more than 64
	// voice packets, as many as it may.
	segmentedSize = 16 << 10
	// controlSize holds one control message with a timestamp and one with a segment size.
	controlSize = 64
)

// messages are what recvmmsg and sendmmsg work on. The kernel's struct mmsghdr is a
// msghdr and the size that was moved.
type messages struct {
	headers [batchSize]struct {
		unix.Msghdr
		size uint32
	}
	iovecs   [batchSize]unix.Iovec
	controls [batchSize][controlSize]byte
}

// inbound is a slab to receive into, with the instants at which the kernel received.
type inbound struct {
	messages
	names [batchSize]unix.RawSockaddrInet4
	slab  []byte
	room  int // for each message
}

// newInbound returns one for messages of so many bytes.
func newInbound(room int) *inbound {
	b := &inbound{slab: make([]byte, batchSize*room), room: room}
	for i := range b.headers {
		h := &b.headers[i]
		b.iovecs[i].Base = &b.slab[i*room]
		b.iovecs[i].SetLen(room)
		h.Iov = &b.iovecs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Control = &b.controls[i][0]
	}
	return b
}

// receive reads what has arrived on fd, up to a batch.
func (b *inbound) receive(fd int) (n int, errno unix.Errno) {
	for i := range b.headers {
		b.headers[i].Namelen = unix.SizeofSockaddrInet4
		b.headers[i].SetControllen(controlSize)
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// datagram returns the i-th that was read.
func (b *inbound) datagram(i int) []byte {
	return b.slab[i*b.room : i*b.room+int(b.headers[i].size)]
}

// segment returns how long the datagrams are that the kernel delivered as the i-th, all
// but the last.
func (b *inbound) segment(i int) int {
	if size := b.control(i, unix.SOL_UDP, unix.UDP_GRO, 4); size != nil {
		return max(1, int(binary.NativeEndian.Uint32(size)))
	}
	return max(1, int(b.headers[i].size))
}

// control returns the first size bytes of a control message of the i-th, or nil.
func (b *inbound) control(i int, level, kind int32, size int) []byte {
	for rest := b.controls[i][:min(b.headers[i].Controllen, controlSize)]; len(rest) >= unix.CmsgLen(size); {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&rest[0]))
		if h.Level == level && h.Type == kind {
			return rest[unix.CmsgLen(0):unix.CmsgLen(size)]
		}
		next := unix.CmsgSpace(int(h.Len) - unix.CmsgLen(0))
		if h.Len < uint64(unix.CmsgLen(0)) || next > len(rest) {
			return nil
		}
		rest = rest[next:]
	}
	return nil
}

// arrived returns when the kernel received the i-th in Unix time, zero when it
// does not say.
func (b *inbound) arrived(i int) int64 {
	at := b.control(i, unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, int(unsafe.Sizeof(unix.Timespec{})))
	if at == nil {
		return 0
	}
	return (*unix.Timespec)(unsafe.Pointer(&at[0])).Nano()
}

// wait waits until fd is readable, or for a time.
func wait(fd int, d time.Duration) {
	poll := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	timeout := unix.NsecToTimespec(int64(max(d, 0)))
	_, _ = unix.Ppoll(poll[:], &timeout, nil)
}

// clientBuffer is a client's receive buffer: a second of 25 speakers, so that a
// pause of the load's own loses nothing.
const clientBuffer = 1 << 20

// prepare makes a client's socket deliver timestamps and bear bursts, and segments whole
// if it is to.
func prepare(fd int, whole bool) error {
	// Beyond net.core.rmem_max for root alone; others get as much as it allows.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, clientBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, clientBuffer)
	}
	if whole {
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
			return err
		}
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
}

// dropped returns how many datagrams the kernel dropped because fd's buffer was full.
func dropped(fd int) uint64 {
	const droppedIndex = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	var info [droppedIndex + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return uint64(info[droppedIndex])
}
