package media

import (
	"encoding/binary"
	"testing"

	"github.com/pion/stun/v3"
	"golang.org/x/net/bpf"

	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/core/rtp"
	"hubbub.dev/hubbub/internal/edge/udp"
	"hubbub.dev/hubbub/proto"
)

// machine runs a program as the kernel does.
func machine(t testing.TB, assemble func() ([]bpf.RawInstruction, error)) *bpf.VM {
	t.Helper()
	raw, err := assemble()
	if err != nil {
		t.Fatal(err)
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatalf("not understood: %v", raw)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// filterVM runs the filter.
func filterVM(t testing.TB) func(payload []byte) (passes bool) {
	t.Helper()
	vm := machine(t, filter)
	return func(payload []byte) bool {
		n, err := vm.Run(append(make([]byte, udpHeader), payload...))
		if err != nil {
			t.Fatal(err)
		}
		if n != 0 && n < len(payload)+udpHeader {
			t.Fatalf("%d bytes were cut to %d", len(payload), n)
		}
		return n != 0
	}
}

// ours says what may not be dropped, without regard to whose it is.
func ours(payload []byte) bool {
	if len(payload) > udp.MaxDatagram {
		return false
	}
	_, discovery := native.ParseDiscovery(payload)
	switch rtp.Kind(payload) {
	case rtp.RTP, rtp.RTCP:
		return len(payload) >= leastMedia
	case rtp.DTLS:
		return len(payload) >= leastHandshake
	case rtp.STUN:
		return true
	}
	return discovery || len(payload) == native.PingSize
}

func TestFilter(t *testing.T) {
	passes := filterVM(t)
	check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("a:b"), stun.Fingerprint).Raw
	for name, c := range map[string]struct {
		payload []byte
		want    bool
	}{
		"discovery":        {discovery(16), true},
		"ping":             {[]byte{0x13, 0x37, 0xCA, 0xFE, 0, 0, 0, 1}, true},
		"keepalive":        {[]byte{0xFF, 0, 0, 0, 0, 0, 0, 1}, true},
		"check":            {check, true},
		"handshake":        {append([]byte{22, 254, 253}, make([]byte, 10)...), true},
		"voice":            {append([]byte{0x90, 0x78}, make([]byte, 20)...), true},
		"relayed":          {newBench(t).relayed().packet(farSSRC, 1, ""), true},
		"longest":          {append([]byte{0x90, 0x78}, make([]byte, udp.MaxDatagram-2)...), true},
		"too long":         {append([]byte{0x90, 0x78}, make([]byte, udp.MaxDatagram-1)...), false},
		"nothing":          {nil, false},
		"seven bytes":      {make([]byte, 7), false},
		"nine bytes":       {make([]byte, 9), false},
		"zeros":            {make([]byte, 100), false},
		"zeros, 74 bytes":  {make([]byte, 74), false},
		"short voice":      {append([]byte{0x80, 0x78}, make([]byte, 19)...), false},
		"DNS":              {append([]byte{0xC0, 0xCD, 1, 0, 0, 1}, make([]byte, 30)...), false},
		"short discovery":  {discovery(16)[:73], false},
		"an old STUN":      {append([]byte{0, 1, 0, 8}, make([]byte, 24)...), false},
		"no first byte":    {append([]byte{70}, make([]byte, 24)...), false},
		"TURN's channels":  {append([]byte{0x40, 0}, make([]byte, 24)...), false},
		"between the ends": {append([]byte{5}, make([]byte, 24)...), false},
	} {
		if got := passes(c.payload); got != c.want {
			t.Errorf("%s passes: %v, want %v", name, got, c.want)
		}
	}
}

// FuzzFilter takes any datagram: none that receive knows is dropped.
func FuzzFilter(f *testing.F) {
	f.Add(discovery(16))
	f.Add([]byte{0x13, 0x37, 0xCA, 0xFE, 0, 0, 0, 1})
	f.Add(append([]byte{0x80, 200, 0, 6, 0, 0, 0, 16}, make([]byte, 40)...))
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	passes := filterVM(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if ours(payload) && !passes(payload) {
			t.Fatalf("%x is dropped", payload)
		}
	})
}

// TestKernelFilters sends junk to a worker's socket, which counts none of it as read.
func TestKernelFilters(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.native(1, 7, proto.ModeAES256GCM), r.native(2, 7, proto.ModeAES256GCM)
	for i := range 100 {
		junk := make([]byte, 9+i)
		binary.BigEndian.PutUint32(junk, 0xC0FFEE00)
		a.write(junk)
	}
	a.send(1, "heard")
	b.hears(a, "heard")
	r.settle()
	if n := r.workers.(*Media).workers[0].socket.Dropped(); n != 100 {
		t.Errorf("%d datagrams were dropped, want 100", n)
	}
}

// TestKeepalivesProgram puts aside what has a keepalive's size, and nothing else.
func TestKeepalivesProgram(t *testing.T) {
	vm := machine(t, keepalives)
	for size := range 200 {
		want := 0
		if size == native.PingSize {
			want = 1
		}
		if got, err := vm.Run(make([]byte, size)); got != want || err != nil {
			t.Errorf("%d bytes: %d, %v", size, got, err)
		}
	}
}
