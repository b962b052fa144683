package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// splitAfterRefusal is how many segmented messages are split here after the kernel
// refused one, before it is asked again. It refuses by path: segments larger than
// the path's MTU, IPsec, a device that computes no checksums. At one refused call in
// 65,536 asking again costs nothing, and what a route change broke comes back.
const splitAfterRefusal = 1 << 16

// segmentControl is the control message that carries UDP_SEGMENT: a 16-bit size, and
// padding to the alignment of a header.
type segmentControl struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

func (c *Conn) initSegments() {
	_, err := unix.GetsockoptInt(c.fd, unix.SOL_UDP, unix.UDP_SEGMENT)
	// Kernels before 4.18 would ignore the control message and send one datagram.
	c.noSegments = err != nil
	for i := range c.controls {
		c.controls[i].Level, c.controls[i].Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.controls[i].SetLen(unix.CmsgLen(2))
	}
}

// WriteBatch sends messages and returns how many datagrams the kernel took. It waits
// for a full send buffer for sendPatience; what fits not even then, and what has no
// route, is dropped: media that comes late is worth nothing. A message whose segments
// the kernel refuses is split here.
func (c *Conn) WriteBatch(ms []Message) (sent int) {
	for i := range ms {
		m := &ms[i]
		if !m.segmented() || c.segments() {
			sent += c.put(m, m.Buffer[:m.Size], m.segmented())
			continue
		}
		for offset := 0; offset < m.Size; {
			var part []byte
			part, offset = m.datagram(offset)
			sent += c.put(m, part, false)
		}
	}
	return sent + c.send()
}

// segments reports whether the kernel is asked to segment the next message.
func (c *Conn) segments() bool {
	if c.unsegment > 0 {
		c.unsegment--
		return false
	}
	return !c.noSegments
}

// put makes a part of a message, or the whole, the next vector. When there is no
// room it sends first, and returns how many datagrams the kernel took.
func (c *Conn) put(m *Message, part []byte, segmented bool) (sent int) {
	if c.queued == Batch {
		sent = c.send()
	}
	i := c.queued
	c.queued++
	c.tx.iovecs[i].Base = unsafe.SliceData(part)
	c.tx.iovecs[i].SetLen(len(part))
	h := &c.tx.headers[i]
	h.Namelen = c.putName(&c.tx.names[i], m.Addr)
	h.Control = nil
	h.SetControllen(0)
	if segmented {
		c.controls[i].size = uint16(m.Segment)
		h.Control = (*byte)(unsafe.Pointer(&c.controls[i]))
		h.SetControllen(int(unsafe.Sizeof(c.controls[i])))
	}
	return sent
}

// send sends the vectors and returns how many datagrams the kernel took.
func (c *Conn) send() (sent int) {
	count, waited := c.queued, false
	c.queued = 0
	for done := 0; done < count; {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(c.fd),
			uintptr(unsafe.Pointer(&c.tx.headers[done])), uintptr(count-done), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			for end := done + int(r); done < end; done++ {
				sent += c.datagrams(done)
			}
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS:
			if waited {
				return sent
			}
			waited = true
			c.waitWritable()
		case unix.EBADF, unix.ENOTSOCK:
			return sent
		default:
			if c.tx.headers[done].Control != nil {
				sent += c.split(done)
			}
			done++
		}
	}
	return sent
}

// datagrams returns how many datagrams the vector at index i is.
func (c *Conn) datagrams(i int) int {
	if c.tx.headers[i].Control == nil {
		return 1
	}
	segment := int(c.controls[i].size)
	return (int(c.tx.iovecs[i].Len) + segment - 1) / segment
}

// split sends the segments of a vector that the kernel refused one by one. If it
// takes them so, it was the segmentation that it refused.
func (c *Conn) split(i int) (sent int) {
	rest := unsafe.Slice(c.tx.iovecs[i].Base, c.tx.iovecs[i].Len)
	for len(rest) > 0 {
		size := min(int(c.controls[i].size), len(rest))
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&rest[0])), uintptr(size),
			unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&c.tx.names[i])), uintptr(c.tx.headers[i].Namelen))
		if errno == 0 {
			sent++
		}
		rest = rest[size:]
	}
	if sent > 0 {
		c.refused++
		c.unsegment = splitAfterRefusal
	}
	return sent
}

// Refused returns how often the kernel refused segments that it took one by one.
func (c *Conn) Refused() uint64 { return c.refused }
