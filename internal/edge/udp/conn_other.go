//go:build !linux

package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
)

const socketBuffer = 4 << 20

// Conn is a UDP socket. One goroutine reads and writes; any may Wake it. Where
// there is no recvmmsg, a batch is one datagram.
type Conn struct {
	conn  *net.UDPConn
	woken atomic.Bool
}

// Listen opens a socket. The invalid Addr means every address of the host; port 0
// takes a free one.
func Listen(addr netip.Addr, port uint16) (*Conn, error) {
	local := &net.UDPAddr{Port: int(port)}
	if addr.IsValid() {
		local.IP = addr.Unmap().AsSlice()
	}
	conn, err := net.ListenUDP("udp", local)
	if err != nil {
		return nil, fmt.Errorf("udp: listening on port %d: %w", port, err)
	}
	// A smaller buffer than asked for is no failure.
	_ = conn.SetReadBuffer(socketBuffer)
	_ = conn.SetWriteBuffer(socketBuffer)
	return &Conn{conn: conn}, nil
}

// Reserve is Listen here.
func Reserve(addr netip.Addr, port uint16) (*Conn, error) { return Listen(addr, port) }

// Inherit fails here: no process hands sockets over.
func Inherit(*os.File) (*Conn, error) { return nil, errors.ErrUnsupported }

// Keep fails here too.
func Keep(*os.File) (*Conn, error) { return nil, errors.ErrUnsupported }

// File returns a copy of the socket's descriptor.
func (c *Conn) File() (*os.File, error) { return c.conn.File() }

// LocalAddr returns the address and port that the socket is bound to.
func (c *Conn) LocalAddr() netip.AddrPort {
	return c.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Filter does nothing: whoever reads drops what is not its own.
func (c *Conn) Filter([]bpf.RawInstruction) error { return nil }

// Wake makes the read that waits now, or the next one, return at once.
func (c *Conn) Wake() {
	c.woken.Store(true)
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
}

// Gather does nothing: a batch is one datagram.
func (c *Conn) Gather(time.Duration) {}

// Doze does nothing: each datagram wakes the reader.
func (c *Conn) Doze(time.Duration) {}

// Aside is Linux's.
func (c *Conn) Aside([]bpf.RawInstruction, time.Duration) error { return errors.ErrUnsupported }

// ReadBatch fills messages with datagrams that have arrived, or waits for some. It
// returns 0 when none came in time or on Wake, and an error only when the socket is
// of no more use.
func (c *Conn) ReadBatch(ms []Message, wait time.Duration) (int, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	// A Wake before this moved the deadline is in the flag; one after moves it again.
	if c.woken.Swap(false) {
		return 0, nil
	}
	n, addr, err := c.conn.ReadFromUDPAddrPort(ms[0].Buffer)
	c.woken.Store(false)
	switch {
	case errors.Is(err, net.ErrClosed):
		return 0, err
	case err != nil: // in time nothing came, or an earlier datagram failed
		return 0, nil
	}
	ms[0].Size = n
	if n == len(ms[0].Buffer) {
		ms[0].Size = 0 // cut short, or as good as that
	}
	ms[0].Addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return 1, nil
}

// WriteBatch sends messages and returns how many datagrams the kernel took.
func (c *Conn) WriteBatch(ms []Message) (sent int) {
	for i := range ms {
		for offset, last := 0, false; !last; last = offset == ms[i].Size {
			var part []byte
			part, offset = ms[i].datagram(offset)
			if _, err := c.conn.WriteToUDPAddrPort(part, ms[i].Addr); err == nil {
				sent++
			}
		}
	}
	return sent
}

// Refused returns 0: this side of the kernel splits all messages itself.
func (c *Conn) Refused() uint64 { return 0 }

// Dropped returns 0: the count is Linux's.
func (c *Conn) Dropped() uint64 { return 0 }

// Close releases the socket.
func (c *Conn) Close() error { return c.conn.Close() }
