package tlsmux

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quickConn is a TCP connection whose reads and writes, which never block, are not
// announced to the scheduler. For it each system call may be a long one: on a host at
// rest the first wakes the runtime's monitor, which then looks in vain for one that is, at
// a fifth of what a heartbeat costs.
type quickConn struct {
	net.Conn
	raw      syscall.RawConn
	in, out  transfer
	from, to func(uintptr) bool // methods as values, made once
	due      due
}

// due is the deadline of writes. The runtime's poller is told of it only once a write has
// to wait: most never do, and to set a timer and take it back costs a tenth of a heartbeat.
type due struct {
	mu    sync.Mutex
	at    time.Time
	told  bool // the poller has a deadline
	waits bool // a write does
}

// transfer is a read or a write under way. Each kind is done by one goroutine at a time.
type transfer struct {
	mu    sync.Mutex
	data  []byte
	done  int
	errno syscall.Errno
}

// quick wraps a TCP connection; others stay what they are.
func quick(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	q := &quickConn{Conn: c, raw: raw}
	q.from, q.to = q.tryRead, q.tryWrite
	return q
}

// Read is net.Conn's.
func (q *quickConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	q.in.mu.Lock()
	defer q.in.mu.Unlock()
	n, err := q.in.run(q.raw.Read, q.from, b, "read")
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write is net.Conn's.
func (q *quickConn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	q.out.mu.Lock()
	defer q.out.mu.Unlock()
	if q.late() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := q.out.run(q.raw.Write, q.to, b, "write")
	q.wait(false)
	return n, err
}

// late reports whether the deadline has passed that the poller was not told of.
func (q *quickConn) late() bool {
	q.due.mu.Lock()
	defer q.due.mu.Unlock()
	return !q.due.told && !q.due.at.IsZero() && !time.Now().Before(q.due.at)
}

// SetWriteDeadline is net.Conn's.
func (q *quickConn) SetWriteDeadline(t time.Time) error {
	q.due.mu.Lock()
	defer q.due.mu.Unlock()
	if q.due.at = t; !q.due.told && !q.due.waits {
		return nil
	}
	return q.tell()
}

// SetDeadline is net.Conn's.
func (q *quickConn) SetDeadline(t time.Time) error {
	return errors.Join(q.SetReadDeadline(t), q.SetWriteDeadline(t))
}

// tell gives the poller the deadline; due.mu is held.
func (q *quickConn) tell() error {
	q.due.told = !q.due.at.IsZero()
	return q.Conn.SetWriteDeadline(q.due.at)
}

// run does a transfer; mu is held.
func (t *transfer) run(wait func(func(uintptr) bool) error, try func(uintptr) bool, b []byte, op string) (int, error) {
	t.data, t.done, t.errno = b, 0, 0
	err := wait(try)
	t.data = nil
	if err == nil && t.errno != 0 {
		// As package net says it, but for the addresses.
		err = &net.OpError{Op: op, Net: "tcp", Err: t.errno}
	}
	return t.done, err
}

// tryRead reports whether the read is over.
func (q *quickConn) tryRead(fd uintptr) bool {
	n, errno := call(unix.SYS_READ, fd, q.in.data)
	if errno == unix.EAGAIN {
		return false
	}
	q.in.done, q.in.errno = n, errno
	return true
}

// tryWrite reports whether all is written, or can not be.
func (q *quickConn) tryWrite(fd uintptr) bool {
	t := &q.out
	for t.done < len(t.data) {
		n, errno := call(unix.SYS_WRITE, fd, t.data[t.done:])
		if errno == unix.EAGAIN {
			q.wait(true)
			return false
		}
		if errno != 0 {
			t.errno = errno
			return true
		}
		t.done += n
	}
	return true
}

// wait says whether a write waits, and so whether the deadline counts.
func (q *quickConn) wait(waits bool) {
	q.due.mu.Lock()
	defer q.due.mu.Unlock()
	if q.due.waits = waits; waits && !q.due.told && !q.due.at.IsZero() {
		_ = q.tell() // fails on a closed connection alone, as the wait does then
	}
}

func call(number, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}
