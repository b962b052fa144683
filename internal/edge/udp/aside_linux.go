package udp

import (
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// asideBuffer holds 500 small datagrams at least, each of which the kernel bills with 768
	// bytes of twice as much: what comes in 80 ms where 30,000 send one every 5 s.
	asideBuffer = 256 << 10
	// asideSkipped is how many full batches in a row may leave no room for those aside.
	asideSkipped = 16
)

// aside is a second socket on the port of a Conn, for datagrams that can wait: however
// many come, they wake the reader only so often, and mostly it looks at them when it is
// awake for others.
//
//	armed ──── two looks near each other brought some ───► unarmed: the timer wakes for them
//	  ▲  they wake the reader                                 │
//	  └────── a look brought none, or was too late ───────────┘
type aside struct {
	fd      int // -1: there is none
	every   time.Duration
	armed   bool
	next    time.Time // not to be looked at before, unless they have woken the reader
	brought time.Time // when a look last brought some
	skipped int       // full batches since then
}

// Aside has the kernel put aside the datagrams for which the program returns 1; for all
// others it returns 0. It sees the payload. Where they come often they are read every
// so long at the latest; a few are read at once. The port stays this process's: to bind
// it as a second one does, another socket must have the same user and ask to share it.
// Only the reading goroutine may call it, once.
func (c *Conn) Aside(program []bpf.RawInstruction, every time.Duration) error {
	a := &c.aside
	if err := c.openAside(program); err != nil {
		if a.fd >= 0 {
			_ = unix.Close(a.fd)
		}
		a.fd = -1
		return err
	}
	a.every = every
	return nil
}

func (c *Conn) openAside(program []bpf.RawInstruction) (err error) {
	family := unix.AF_INET
	if c.inet6 {
		family = unix.AF_INET6
	}
	a := &c.aside
	if a.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if c.inet6 {
		err = unix.SetsockoptInt(a.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	err = errors.Join(err,
		unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, asideBuffer),
		// The first was bound to the port alone, so there is no third.
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	if err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(a.fd, sockaddr(c.local, c.inet6)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := attach(a.fd, unix.SO_ATTACH_REUSEPORT_CBPF, program); err != nil {
		return err
	}
	a.armed = true
	err = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, a.fd, &unix.EpollEvent{Events: unix.EPOLLIN})
	return os.NewSyscallError("epoll_ctl", err)
}

// attach gives a socket a classic program.
func attach(fd, option int, program []bpf.RawInstruction) error {
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)})
	return os.NewSyscallError("setsockopt", err)
}

// receive reads what has arrived: first what can not wait, and in the room that is left
// what is aside, if it is time to.
func (c *Conn) receive(ms []Message) (n int, err error) {
	ms = ms[:min(len(ms), Batch)]
	a := &c.aside
	if a.fd < 0 {
		return c.receiveFrom(c.fd, ms)
	}
	if a.skipped >= asideSkipped {
		if n, err = c.look(ms[:(len(ms)+3)/4], true); err != nil {
			return n, err
		}
	}
	more, err := c.receiveFrom(c.fd, ms[n:])
	n += more
	switch {
	case err != nil:
	case n == len(ms):
		a.skipped++
	default:
		more, err = c.look(ms[n:], n == 0 && a.armed)
		n += more
	}
	return n, err
}

// look reads what is aside, if it is time to or if it must.
func (c *Conn) look(ms []Message, must bool) (int, error) {
	a, now := &c.aside, time.Now()
	if now.Before(a.next) && !must {
		return 0, nil
	}
	n, err := c.receiveFrom(a.fd, ms)
	if err != nil {
		return 0, err
	}
	a.next, a.skipped = now.Add(a.every/2), 0
	often := n > 0 && now.Sub(a.brought) < 2*a.every
	if n > 0 {
		a.brought = now
	}
	if c.dozing > 0 {
		return n, nil // its timer wakes for all
	}
	if often {
		return n, errors.Join(c.arm(false), c.tick(a.every, 0))
	}
	return n, c.arm(true)
}

// arm sets whether datagrams aside wake the reader.
func (c *Conn) arm(them bool) error {
	if c.aside.fd < 0 || c.aside.armed == them {
		return nil
	}
	c.aside.armed = them
	return c.listenTo(c.aside.fd, them)
}
