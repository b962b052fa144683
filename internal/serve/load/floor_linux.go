package load

import (
	"bufio"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/rtp"
)

const (
	// floorSlab holds what one sendmmsg sends.
	floorSlab = 1 << 20
	// segmentsMax is UDP_MAX_SEGMENTS of older kernels.
	segmentsMax = 64
	tagSize     = 16
	nonceSize   = 4
)

// forwarder is what no server can do without: it reads a batch, opens each packet
// once, seals it for each listener of the room, and sends a batch. It knows nothing
// of sessions, sequence numbers, speaking or anything else.
type forwarder struct {
	cfg   FloorConfig
	fd    int
	rx    *inbound
	peers map[uint64]*floorPeer // by address
	rooms map[int][]*floorPeer  // who hear

	opened []floorPacket

	tx     messages
	slab   []byte
	used   int // bytes of the slab
	queued int // messages
}

type floorPeer struct {
	name   unix.RawSockaddrInet4
	aead   cipher.AEAD
	room   int
	nonce  [12]byte
	sent   uint32
	speaks bool
}

type floorPacket struct {
	room  int
	plain []byte
}

// RunFloor is the process of a minimal forwarder: it writes its port to out, reads
// its clients from in, and forwards until in ends.
func RunFloor(cfg FloorConfig, in *os.File, out io.Writer) error {
	if !cfg.Addr.Is4() {
		return fmt.Errorf("load: floor: no IPv4 address: %v", cfg.Addr)
	}
	f := &forwarder{cfg: cfg, rx: newInbound(datagramSize), peers: map[uint64]*floorPeer{}, rooms: map[int][]*floorPeer{}, slab: make([]byte, floorSlab)}
	var err error
	if f.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	defer func() { _ = unix.Close(f.fd) }()
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		if err := unix.SetsockoptInt(f.fd, unix.SOL_SOCKET, option, 4<<20); err != nil {
			return err
		}
	}
	if err := unix.Bind(f.fd, &unix.SockaddrInet4{Addr: cfg.Addr.As4()}); err != nil {
		return err
	}
	bound, err := unix.Getsockname(f.fd)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(floorPort{bound.(*unix.SockaddrInet4).Port}); err != nil {
		return err
	}
	line, err := bufio.NewReader(in).ReadBytes('\n')
	if err != nil {
		return err
	}
	var seats []floorSeat
	if err := json.Unmarshal(line, &seats); err != nil {
		return err
	}
	if err := f.admit(seats); err != nil {
		return err
	}
	if _, err := io.WriteString(out, "ready\n"); err != nil {
		return err
	}
	return f.run(int(in.Fd()))
}

func (f *forwarder) admit(seats []floorSeat) error {
	for _, s := range seats {
		addr, err := netip.ParseAddrPort(s.Addr)
		if err != nil || !addr.Addr().Is4() || len(s.Key) != 32 {
			return fmt.Errorf("load: floor: no client: %q, %d bytes of key", s.Addr, len(s.Key))
		}
		p := &floorPeer{room: s.Room, speaks: s.Speaks}
		if p.aead, err = newAEAD(native.AES256GCM, [32]byte(s.Key)); err != nil {
			return err
		}
		p.name = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: addr.Addr().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.name.Port))[:], addr.Port())
		f.peers[addressKey(&p.name)] = p
		if s.Hears {
			f.rooms[s.Room] = append(f.rooms[s.Room], p)
		}
	}
	for i := range f.tx.headers {
		f.tx.headers[i].Iov = &f.tx.iovecs[i]
		f.tx.headers[i].SetIovlen(1)
		f.tx.headers[i].Namelen = unix.SizeofSockaddrInet4
	}
	return nil
}

func addressKey(n *unix.RawSockaddrInet4) uint64 {
	return uint64(binary.NativeEndian.Uint32(n.Addr[:]))<<16 | uint64(n.Port)
}

// run waits without a word to Go's scheduler, which would take the processor away and
// give it back for each packet: there is nothing else in this process to run.
func (f *forwarder) run(parent int) error {
	runtime.LockOSThread()
	poll := [2]unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}, {Fd: int32(parent), Events: unix.POLLIN}}
	pause := unix.NsecToTimespec(int64(f.cfg.Wait))
	for {
		if n, errno := f.rx.receive(f.fd); n == 0 && errno == unix.EAGAIN {
			_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), uintptr(len(poll)), 0, 0, 0, 0)
			if errno != 0 && errno != unix.EINTR {
				return os.NewSyscallError("ppoll", errno)
			}
			if poll[1].Revents != 0 {
				return nil // the parent is done
			}
			if f.cfg.Wait > 0 {
				_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
			}
			continue
		} else if err := f.forward(n); err != nil {
			return err
		}
	}
}

// forward opens what was read, and sends it on.
func (f *forwarder) forward(n int) error {
	f.opened = f.opened[:0]
	for i := range n {
		datagram := f.rx.datagram(i)
		p := f.peers[addressKey(&f.rx.names[i])]
		if p == nil || !p.speaks || len(datagram) < rtp.HeaderSize+tagSize+nonceSize {
			continue
		}
		end := len(datagram) - nonceSize
		var nonce [12]byte
		copy(nonce[:], datagram[end:])
		if _, err := p.aead.Open(datagram[rtp.HeaderSize:rtp.HeaderSize], nonce[:], datagram[rtp.HeaderSize:end], datagram[:rtp.HeaderSize]); err != nil {
			continue
		}
		f.opened = append(f.opened, floorPacket{p.room, datagram[:end-tagSize]})
	}
	if f.cfg.Segment {
		for room, peers := range f.rooms {
			for _, to := range peers {
				if err := f.sealAll(room, to); err != nil {
					return err
				}
			}
		}
	} else {
		for _, pkt := range f.opened {
			for _, to := range f.rooms[pkt.room] {
				if err := f.queue(to, f.seal(to, pkt.plain), 0); err != nil {
					return err
				}
			}
		}
	}
	return f.flush()
}

// sealAll queues all packets of a room to one listener, as few messages as their
// sizes allow: all of one size, but for the last.
func (f *forwarder) sealAll(room int, to *floorPeer) error {
	start, segment, count := f.used, 0, 0
	for _, pkt := range f.opened {
		if pkt.room != room {
			continue
		}
		size := len(pkt.plain) + tagSize + nonceSize
		if count > 0 && (size > segment || count == segmentsMax) {
			if err := f.queue(to, f.slab[start:f.used], segment); err != nil {
				return err
			}
			start, count = f.used, 0
		}
		if f.used+size > len(f.slab)-datagramSize {
			if count > 0 {
				if err := f.queue(to, f.slab[start:f.used], segment); err != nil {
					return err
				}
			}
			if err := f.flush(); err != nil {
				return err
			}
			start, count = 0, 0
		}
		if count == 0 {
			segment = size
		}
		f.seal(to, pkt.plain)
		count++
		if size < segment {
			if err := f.queue(to, f.slab[start:f.used], segment); err != nil {
				return err
			}
			start, count = f.used, 0
		}
	}
	if count == 0 {
		return nil
	}
	return f.queue(to, f.slab[start:f.used], segment)
}

// seal writes a packet for a listener to the end of the slab.
func (f *forwarder) seal(to *floorPeer, plain []byte) []byte {
	out := f.slab[f.used:]
	copy(out, plain[:rtp.HeaderSize])
	binary.BigEndian.PutUint32(to.nonce[:], to.sent)
	to.sent++
	n := rtp.HeaderSize + len(to.aead.Seal(out[rtp.HeaderSize:rtp.HeaderSize], to.nonce[:], plain[rtp.HeaderSize:], out[:rtp.HeaderSize]))
	n += copy(out[n:], to.nonce[:nonceSize])
	f.used += n
	return out[:n]
}

// queue adds a message of datagrams of segment bytes, or of one for zero.
func (f *forwarder) queue(to *floorPeer, data []byte, segment int) error {
	h := &f.tx.headers[f.queued]
	h.Name = (*byte)(unsafe.Pointer(&to.name))
	f.tx.iovecs[f.queued].Base = &data[0]
	f.tx.iovecs[f.queued].SetLen(len(data))
	h.Control = nil
	h.SetControllen(0)
	if segment > 0 && len(data) > segment {
		control := &f.tx.controls[f.queued]
		c := (*unix.Cmsghdr)(unsafe.Pointer(control))
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(segment))
		h.Control = &control[0]
		h.SetControllen(unix.CmsgSpace(2))
	}
	if f.queued++; f.queued == batchSize || f.used > len(f.slab)-2*datagramSize {
		return f.flush()
	}
	return nil
}

func (f *forwarder) flush() error {
	for done := 0; done < f.queued; {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&f.tx.headers[done])), uintptr(f.queued-done), 0, 0, 0)
		switch errno {
		case 0:
			done += int(r)
		case unix.EINTR:
		case unix.EAGAIN, unix.ECONNREFUSED:
			done++
		default:
			return fmt.Errorf("load: floor: sendmmsg: %w", errno)
		}
	}
	f.queued, f.used = 0, 0
	return nil
}
