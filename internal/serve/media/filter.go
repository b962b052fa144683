package media

import (
	"errors"
	"time"

	"golang.org/x/net/bpf"

	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/edge/udp"
)

const (
	udpHeader = 8 // what a filter sees before the payload
	// leastHandshake is the header of a DTLS record, and leastMedia that of an RTP
	// packet with the shortest tag of SRTP, or of an SRTCP packet with its index.
	leastHandshake = 13
	leastMedia     = 22

	// keepaliveWait is how long keepalives lie at most where they come more often.
	keepaliveWait = 10 * time.Millisecond

	stunCookie      = 0x2112A442
	discoveryPrefix = 0x00010046 // a request, and the length of what follows
)

// filter is the program by which the kernel drops what receive would: what is too
// short or too long, or begins as nothing does that comes here. It takes no room in the
// receive buffer then, and spares the worker at least 0.6 µs for each.
func filter() ([]bpf.RawInstruction, error) {
	const (
		accept = 19
		drop   = 20
		prefix = 15
		media  = 17
	)
	program := []bpf.Instruction{
		0:      bpf.LoadExtension{Num: bpf.ExtLen},
		1:      bpf.JumpIf{Val: udpHeader + native.PingSize, SkipTrue: accept - 2},
		2:      bpf.JumpIf{Cond: bpf.JumpLessThan, Val: udpHeader + leastHandshake, SkipTrue: drop - 3},
		3:      bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: udpHeader + udp.MaxDatagram, SkipTrue: drop - 4},
		4:      bpf.LoadAbsolute{Off: udpHeader, Size: 1},
		5:      bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 192, SkipTrue: drop - 6},
		6:      bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 128, SkipTrue: media - 7},
		7:      bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 64, SkipTrue: drop - 8},
		8:      bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 20, SkipTrue: accept - 9},
		9:      bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 4, SkipTrue: drop - 10},
		10:     bpf.LoadAbsolute{Off: udpHeader + 4, Size: 4},
		11:     bpf.JumpIf{Val: stunCookie, SkipTrue: accept - 12},
		12:     bpf.LoadExtension{Num: bpf.ExtLen},
		13:     bpf.JumpIf{Val: udpHeader + native.DiscoverySize, SkipTrue: prefix - 14},
		14:     bpf.Jump{Skip: drop - 15},
		prefix: bpf.LoadAbsolute{Off: udpHeader, Size: 4},
		16:     bpf.JumpIf{Val: discoveryPrefix, SkipTrue: accept - 17, SkipFalse: drop - 17},
		media:  bpf.LoadExtension{Num: bpf.ExtLen},
		18:     bpf.JumpIf{Cond: bpf.JumpLessThan, Val: udpHeader + leastMedia, SkipTrue: drop - 19},
		accept: bpf.RetConstant{Val: udpHeader + udp.MaxDatagram},
		drop:   bpf.RetConstant{},
	}
	return bpf.Assemble(program)
}

// keepalives is the program by which the kernel puts aside what has a keepalive's size. A
// flood of such fills a buffer of its own, and media goes by it.
func keepalives() ([]bpf.RawInstruction, error) {
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Val: native.PingSize, SkipFalse: 1},
		bpf.RetConstant{Val: 1},
		bpf.RetConstant{},
	})
}

// putAside spares the worker the wake-ups for native clients' keepalives.
func (w *worker) putAside() {
	program, err := keepalives()
	if err == nil {
		err = w.socket.Aside(program, keepaliveWait)
	}
	if w.apart = err == nil; !w.apart && !errors.Is(err, errors.ErrUnsupported) {
		// It saves work and is not needed.
		w.log.Warn("each keepalive wakes a media worker", "worker", w.index, "error", err)
	}
}
