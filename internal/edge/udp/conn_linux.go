package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// socketBuffer holds about 20 ms of one core's most: 200,000 packets a second of
	// which the kernel bills each with about 1 KiB.
	socketBuffer = 4 << 20
	// sendPatience is how long a full send buffer is waited for before datagrams are
	// dropped: a network card drains it in less.
	sendPatience = 2 * time.Millisecond
	// droppedIndex is SK_MEMINFO_DROPS of linux/sock_diag.h.
	droppedIndex = 8
)

// Conn is a UDP socket. One goroutine reads and writes; any may Wake it. A read that
// waits parks its goroutine in the runtime's poller, and calls that never block are not
// announced to the scheduler. A thread of its own that waits in the kernel costs more: for
// each wake-up the scheduler takes its processor away and gives it back (docs/adr/0013).
type Conn struct {
	fd, timer, epoll int // the socket, a timerfd, and an epoll of both; -1 once closed

	// file is the epoll's. It is what the runtime's poller watches in place of the
	// socket, so that datagrams wake nobody while more of them are waited for, and so
	// that such a wait is exact to microseconds: the poller's timers are to a millisecond.
	file  *os.File
	raw   syscall.RawConn
	woken atomic.Bool
	inet6 bool
	local netip.AddrPort

	gather time.Duration
	doze   time.Duration
	dozing time.Duration // what the timer ticks with: datagrams wake nobody
	rx, tx vectors
	aside  aside

	// Methods as values, made once, and what the first reads into and has read.
	receiveNow, timeUp func(uintptr) bool
	into               []Message
	read               int
	failed             error

	controls   [Batch]segmentControl
	queued     int // vectors of tx to send
	unsegment  int // segmented messages that are still to be split here
	refused    uint64
	noSegments bool // the kernel has no UDP_SEGMENT
}

// vectors are what recvmmsg and sendmmsg work on, made once. The kernel's struct
// mmsghdr is a msghdr and the size that was moved.
type vectors struct {
	headers [Batch]struct {
		unix.Msghdr
		size uint32
	}
	iovecs [Batch]unix.Iovec
	names  [Batch]unix.RawSockaddrInet6 // with room for IPv4
}

func (v *vectors) init() {
	for i := range v.headers {
		h := &v.headers[i]
		h.Name = (*byte)(unsafe.Pointer(&v.names[i]))
		h.Iov = &v.iovecs[i]
		h.SetIovlen(1)
	}
}

// Listen opens a socket. The invalid Addr means every address of the host, of both
// families where the kernel has IPv6; port 0 takes a free one.
func Listen(addr netip.Addr, port uint16) (*Conn, error) {
	c, err := Reserve(addr, port)
	if err != nil {
		return nil, err
	}
	if err := c.watch(); err != nil {
		c.Close()
		return nil, fmt.Errorf("udp: listening on port %d: %w", port, err)
	}
	return c, nil
}

// Reserve is Listen for a socket that another process is to inherit: here nobody reads
// it, and its datagrams wake nobody.
func Reserve(addr netip.Addr, port uint16) (*Conn, error) {
	if addr.IsValid() {
		return reserve(addr.Unmap(), port)
	}
	c, err := reserve(netip.IPv6Unspecified(), port)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return reserve(netip.IPv4Unspecified(), port)
	}
	return c, err
}

func reserve(addr netip.Addr, port uint16) (*Conn, error) {
	c := &Conn{fd: -1, timer: -1, epoll: -1, aside: aside{fd: -1}, inet6: addr.Is6()}
	if err := c.open(addr, port); err != nil {
		c.Close()
		return nil, fmt.Errorf("udp: listening on port %d: %w", port, err)
	}
	c.init()
	return c, nil
}

// Inherit returns the socket that another process handed over as f, which it may have
// read from. The Conn owns f's descriptor from then on, also when it fails.
func Inherit(f *os.File) (*Conn, error) { return inherit(f, (*Conn).watch) }

// Keep is Inherit for a socket that yet another process reads, as Reserve is Listen.
func Keep(f *os.File) (*Conn, error) { return inherit(f, func(*Conn) error { return nil }) }

func inherit(f *os.File, watch func(*Conn) error) (*Conn, error) {
	defer func() { _ = f.Close() }()
	c := &Conn{timer: -1, epoll: -1, aside: aside{fd: -1}}
	var err error
	if c.fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("udp: inheriting a socket: %w", os.NewSyscallError("fcntl", err))
	}
	name, err := unix.Getsockname(c.fd)
	if err == nil {
		switch name := name.(type) {
		case *unix.SockaddrInet4:
			c.local = netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
		case *unix.SockaddrInet6:
			c.local, c.inet6 = netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port)), true
		default:
			err = unix.EAFNOSUPPORT
		}
	}
	if err == nil {
		err = watch(c)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("udp: inheriting a socket: %w", err)
	}
	c.init()
	return c, nil
}

// File returns a copy of the socket's descriptor, for another process to inherit.
// Datagrams go to whoever reads first.
func (c *Conn) File() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "udp"), nil
}

func (c *Conn) init() {
	c.receiveNow, c.timeUp = c.tryReceive, c.tryTimer
	c.rx.init()
	c.tx.init()
	c.initSegments()
}

func (c *Conn) open(addr netip.Addr, port uint16) (err error) {
	family := unix.AF_INET
	if c.inet6 {
		family = unix.AF_INET6
	}
	// Each call says itself that it must not block. Were the socket to say so, the
	// runtime would have every datagram wake whoever holds a File of it.
	const flags = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC
	if c.fd, err = unix.Socket(family, flags, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if c.inet6 {
		if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	for _, option := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		// With privilege as much as asked for, else what net.core allows of it.
		if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, option[0], socketBuffer) == nil {
			continue
		}
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, option[1], socketBuffer); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(c.fd, sockaddr(netip.AddrPortFrom(addr, port), c.inet6)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(c.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		port = uint16(bound.Port)
	case *unix.SockaddrInet6:
		port = uint16(bound.Port)
	}
	c.local = netip.AddrPortFrom(addr, port)
	return nil
}

func sockaddr(addr netip.AddrPort, inet6 bool) unix.Sockaddr {
	if inet6 {
		return &unix.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())}
	}
	return &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
}

// watch brings the socket and the timer before the runtime's poller.
func (c *Conn) watch() (err error) {
	if c.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	for _, fd := range []int{c.fd, c.timer} {
		if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	// The runtime polls for descriptors alone that do not block.
	if err := unix.SetNonblock(c.epoll, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	c.file = os.NewFile(uintptr(c.epoll), "udp")
	c.raw, err = c.file.SyscallConn()
	return err
}

// LocalAddr returns the address and port that the socket is bound to.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// Filter drops datagrams before they are copied or take room in the receive buffer,
// where the program returns 0. It sees the UDP header's 8 bytes and then the payload.
// The kernel counts what it drops among Dropped.
func (c *Conn) Filter(program []bpf.RawInstruction) error {
	return attach(c.fd, unix.SO_ATTACH_FILTER, program)
}

// Wake makes the read that waits now, or the next that would, return at once. After
// Close it does nothing.
func (c *Conn) Wake() {
	if c.woken.CompareAndSwap(false, true) {
		_ = c.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// Gather makes reads that wait for a datagram wait so much longer for more to come
// with it. Only the reading goroutine may call it.
func (c *Conn) Gather(wait time.Duration) { c.gather = wait }

// Doze makes reads that wait look for datagrams only at the end of each such interval, so
// that none of them wakes anybody, or again as they come for 0. Only the reading goroutine
// may call it.
func (c *Conn) Doze(interval time.Duration) { c.doze = interval }

// ReadBatch fills messages with datagrams that have arrived, or waits for some. It
// returns 0 when none came in time or on Wake, and an error only when the socket is
// of no more use.
func (c *Conn) ReadBatch(ms []Message, wait time.Duration) (int, error) {
	if wait <= 0 || c.doze > 0 && c.read == len(ms) {
		var err error
		c.read, err = c.receive(ms)
		return c.read, err
	}
	if err := c.settle(); err != nil {
		return 0, err
	}
	// A Wake before this moved the deadline shows in the flag; one after moves it again.
	if err := c.file.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	if c.dozing > 0 {
		err := c.park(c.timeUp)
		c.woken.Store(false)
		c.read, c.failed = c.receive(ms)
		return c.read, errors.Join(err, c.failed)
	}
	c.into, c.read, c.failed = ms, 0, nil
	err := c.park(c.receiveNow)
	// Half a batch or more is enough to go on with.
	if n := c.read; err == nil && c.failed == nil && c.gather > 0 && n > 0 && n < len(ms)/2 {
		if err = c.pause(); err == nil {
			c.read, c.failed = c.receive(ms[n:])
			c.read += n
		}
	}
	// What is posted from here on wakes again; what was posted before is seen by the
	// caller, who looks after this call.
	c.woken.Store(false)
	return c.read, errors.Join(err, c.failed)
}

// park waits until try is true, for the deadline or for Wake.
func (c *Conn) park(try func(uintptr) bool) error {
	if err := c.raw.Read(try); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// tryReceive reports whether the read is over.
func (c *Conn) tryReceive(uintptr) bool {
	c.read, c.failed = c.receive(c.into)
	return c.read > 0 || c.failed != nil || c.woken.Load()
}

// settle lies down to doze, or rises. The timer, not the deadline, ends each nap: to its
// deadlines the runtime wakes early and with a second thread.
func (c *Conn) settle() error {
	if c.dozing == c.doze {
		return nil
	}
	c.dozing = c.doze
	awake := c.doze == 0
	return errors.Join(c.tick(c.doze, c.doze), c.listenTo(c.fd, awake), c.arm(awake))
}

// pause waits for more datagrams, and for Wake.
func (c *Conn) pause() error {
	if err := errors.Join(c.tick(c.gather, 0), c.listenTo(c.fd, false)); err != nil {
		return err
	}
	err := errors.Join(c.park(c.timeUp), c.listenTo(c.fd, true))
	if c.aside.fd >= 0 && !c.aside.armed {
		err = errors.Join(err, c.tick(c.aside.every, 0))
	}
	return err
}

// tick sets the timer: when it goes off first, and how often after that; 0 is never.
func (c *Conn) tick(first, again time.Duration) error {
	span := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(first)), Interval: unix.NsecToTimespec(int64(again))}
	_, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(c.timer), 0, uintptr(unsafe.Pointer(&span)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("timerfd_settime", errno)
	}
	return nil
}

// listenTo sets whether a socket's datagrams wake the reader.
func (c *Conn) listenTo(fd int, them bool) error {
	var events uint32
	if them {
		events = unix.EPOLLIN
	}
	err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events})
	return os.NewSyscallError("epoll_ctl", err)
}

// tryTimer reports whether the pause is over. What is left of the timer after a Wake is
// set anew by the next pause.
func (c *Conn) tryTimer(uintptr) bool {
	var expired [8]byte
	_, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.timer), uintptr(unsafe.Pointer(&expired)), uintptr(len(expired)))
	return errno == 0 || c.woken.Load()
}

func (c *Conn) receiveFrom(fd int, ms []Message) (int, error) {
	for i := range ms {
		c.rx.iovecs[i].Base = &ms[i].Buffer[0]
		c.rx.iovecs[i].SetLen(len(ms[i].Buffer))
		c.rx.headers[i].Namelen = unix.SizeofSockaddrInet6
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&c.rx.headers)), uintptr(len(ms)), unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
	case unix.EBADF, unix.ENOTSOCK:
		return 0, os.NewSyscallError("recvmmsg", errno)
	default:
		// Nothing there, interrupted, or an ICMP error of a datagram sent before.
		return 0, nil
	}
	for i := range ms[:r] {
		ms[i].Size = int(c.rx.headers[i].size)
		if c.rx.headers[i].Flags&unix.MSG_TRUNC != 0 {
			ms[i].Size = 0
		}
		ms[i].Addr = address(&c.rx.names[i])
	}
	return int(r), nil
}

// address drops the scope of a link-local address: answers to one would need it, and
// nobody reaches a voice server there.
func address(name *unix.RawSockaddrInet6) netip.AddrPort {
	port := networkOrder(name.Port)
	if name.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), port)
}

func (c *Conn) waitWritable() {
	writable := [1]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	timeout := unix.NsecToTimespec(int64(sendPatience))
	_, _ = unix.Ppoll(writable[:], &timeout, nil)
}

func (c *Conn) putName(name *unix.RawSockaddrInet6, addr netip.AddrPort) uint32 {
	if c.inet6 {
		name.Family = unix.AF_INET6
		name.Port = networkOrder(addr.Port())
		name.Addr = addr.Addr().As16()
		return unix.SizeofSockaddrInet6
	}
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
	v4.Family = unix.AF_INET
	v4.Port = networkOrder(addr.Port())
	if a := addr.Addr().Unmap(); a.Is4() {
		v4.Addr = a.As4()
	} else {
		v4.Family = unix.AF_INET6 // refused by the kernel
	}
	return unix.SizeofSockaddrInet4
}

// networkOrder turns a port to or from the byte order of the network.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// Dropped returns how many datagrams the kernel dropped since the socket was opened,
// because its receive buffer was full or by the Filter. Those aside are not among them:
// they say nothing of whether the reader keeps up.
func (c *Conn) Dropped() uint64 {
	var info [droppedIndex + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(c.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return uint64(info[droppedIndex])
}

// Close releases the socket. Of the other calls only Wake may be under way.
func (c *Conn) Close() error {
	if c.fd < 0 {
		return nil
	}
	var err error
	if c.file != nil {
		err = c.file.Close()
	} else if c.epoll >= 0 {
		err = unix.Close(c.epoll)
	}
	for _, fd := range []int{c.fd, c.timer, c.aside.fd} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	c.fd, c.timer, c.epoll, c.aside.fd = -1, -1, -1, -1
	return err
}
