package load

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	retry = 250 * time.Millisecond // of what may be lost on the way

	// IP discovery (Discord, "Voice Connections", "IP Discovery").
	discoverySize    = 74
	discoveryRequest = 1<<16 | 70
	discoveryAnswer  = 2<<16 | 70
)

// exchange sends a request again and again until an answer is accepted.
func exchange(ctx context.Context, conn *net.UDPConn, request []byte, accept func(answer []byte) bool) error {
	buffer := make([]byte, datagramSize)
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(retry)); err != nil {
			return err
		}
		for {
			n, err := conn.Read(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			if accept(buffer[:n]) {
				return conn.SetReadDeadline(time.Time{})
			}
		}
	}
	return ctx.Err()
}

// discover asks the server for the address that it sees this client under.
func discover(ctx context.Context, conn *net.UDPConn, ssrc uint32) (own netip.AddrPort, err error) {
	request := make([]byte, discoverySize)
	binary.BigEndian.PutUint32(request, discoveryRequest)
	binary.BigEndian.PutUint32(request[4:], ssrc)
	err = exchange(ctx, conn, request, func(answer []byte) bool {
		if len(answer) != discoverySize || binary.BigEndian.Uint32(answer) != discoveryAnswer || binary.BigEndian.Uint32(answer[4:]) != ssrc {
			return false
		}
		text, _, _ := strings.Cut(string(answer[8:72]), "\x00")
		addr, err := netip.ParseAddr(text)
		own = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(answer[72:]))
		return err == nil
	})
	return own, err
}

// takeDescriptor returns a descriptor of the socket that outlives conn and that the
// runtime does not poll.
func takeDescriptor(conn *net.UDPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	controlled := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(controlled, err)
}
