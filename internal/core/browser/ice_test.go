package browser

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"
)

const (
	testPassword = "vcfFowC3gQI1KHu0Fm5ZTXum"
	testUsername = "9WZo:remote"
)

func build(t testing.TB, setters ...stun.Setter) []byte {
	t.Helper()
	m, err := stun.Build(setters...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// check builds a connectivity check as a browser's full agent sends it.
func check(t testing.TB, password string, more ...stun.Setter) []byte {
	t.Helper()
	setters := append([]stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername(testUsername)}, more...)
	return build(t, append(setters,
		stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)},
		stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{1, 2, 3, 4}},
		stun.NewShortTermIntegrity(password), stun.Fingerprint)...)
}

func TestParseBinding(t *testing.T) {
	agent := NewICE(testPassword)
	useCandidate := stun.RawAttribute{Type: stun.AttrUseCandidate}
	for nominated, pkt := range map[bool][]byte{false: check(t, testPassword), true: check(t, testPassword, useCandidate)} {
		ufrag, ok := BindingUsername(pkt)
		if !ok || string(ufrag) != "9WZo" {
			t.Errorf("ufrag %q, %v", ufrag, ok)
		}
		b, ok := agent.ParseBinding(pkt)
		if !ok || b.Nominated != nominated || b.Priority != 0x01020304 || !bytes.Equal(b.Transaction[:], pkt[8:20]) {
			t.Errorf("binding %+v, %v", b, ok)
		}
	}
}

func TestParseBindingRefuses(t *testing.T) {
	agent := NewICE(testPassword)
	good := check(t, testPassword)
	for n := range good {
		if _, ok := agent.ParseBinding(good[:n]); ok {
			t.Errorf("a check cut to %d bytes was taken", n)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, ok := agent.ParseBinding(bad); ok {
			t.Errorf("byte %d may be changed", i)
		}
	}
	integrity := stun.NewShortTermIntegrity(testPassword)
	username := stun.NewUsername(testUsername)
	late := stun.RawAttribute{Type: stun.AttrUseCandidate}
	for name, pkt := range map[string][]byte{
		"wrong password":      check(t, "another password of 24 b"),
		"no integrity":        build(t, stun.BindingRequest, username, stun.Fingerprint),
		"no fingerprint":      build(t, stun.BindingRequest, username, integrity),
		"nothing":             build(t, stun.BindingRequest),
		"indication":          build(t, stun.NewType(stun.MethodBinding, stun.ClassIndication), integrity, stun.Fingerprint),
		"after a fingerprint": build(t, stun.BindingRequest, integrity, stun.Fingerprint, late),
	} {
		if _, ok := agent.ParseBinding(pkt); ok {
			t.Errorf("%s: taken", name)
		}
	}
	unauthenticated := build(t, stun.BindingRequest, username, integrity, late, stun.Fingerprint)
	if b, ok := agent.ParseBinding(unauthenticated); !ok || b.Nominated {
		t.Errorf("what follows the integrity counts: %+v, %v", b, ok)
	}
}

func TestBindingUsernameRefuses(t *testing.T) {
	for name, pkt := range map[string][]byte{
		"no username":     build(t, stun.BindingRequest, stun.Fingerprint),
		"no colon":        build(t, stun.BindingRequest, stun.NewUsername("9WZo")),
		"after integrity": build(t, stun.BindingRequest, stun.NewShortTermIntegrity(testPassword), stun.NewUsername(testUsername)),
		"a response":      build(t, stun.BindingSuccess, stun.NewUsername(testUsername)),
		"no STUN":         make([]byte, 40),
	} {
		if ufrag, ok := BindingUsername(pkt); ok {
			t.Errorf("%s: %q", name, ufrag)
		}
	}
	cut := check(t, testPassword)
	binary.BigEndian.PutUint16(cut[22:], 0xFFFF)
	if _, ok := BindingUsername(cut); ok {
		t.Error("an attribute longer than its packet was taken")
	}
}

func TestBindingSuccessIsReadByPion(t *testing.T) {
	agent := NewICE(testPassword)
	for addr, ip := range map[string]string{
		"203.0.113.9:50001":          "203.0.113.9",
		"[::ffff:203.0.113.9]:50001": "203.0.113.9",
		"[2001:db8::7]:50001":        "2001:db8::7",
	} {
		b, _ := agent.ParseBinding(check(t, testPassword))
		dst := bytes.Repeat([]byte{0xEE}, 200)
		n := agent.PutBindingSuccess(dst, b.Transaction, netip.MustParseAddrPort(addr))
		if n == 0 || n > BindingSuccessSize || dst[n] != 0xEE {
			t.Fatalf("%s: %d bytes", addr, n)
		}
		m := &stun.Message{Raw: dst[:n]}
		if err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		var mapped stun.XORMappedAddress
		if err := m.Parse(&mapped); err != nil || mapped.IP.String() != ip || mapped.Port != 50001 {
			t.Errorf("%s: mapped to %v, %v", addr, mapped, err)
		}
		if err := m.Check(stun.NewShortTermIntegrity(testPassword), stun.Fingerprint); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		if m.Type != stun.BindingSuccess || m.TransactionID != b.Transaction {
			t.Errorf("%s: %v", addr, m)
		}
	}
	if agent.PutBindingSuccess(make([]byte, BindingSuccessSize-1), [12]byte{}, netip.AddrPort{}) != 0 {
		t.Error("wrote into too few bytes")
	}
}

func TestChecksAllocateNothing(t *testing.T) {
	agent := NewICE(testPassword)
	pkt, dst := check(t, testPassword), make([]byte, 200)
	from := netip.MustParseAddrPort("203.0.113.9:50001")
	if n := testing.AllocsPerRun(100, func() {
		BindingUsername(pkt)
		b, ok := agent.ParseBinding(pkt)
		if !ok || agent.PutBindingSuccess(dst, b.Transaction, from) == 0 {
			t.Fatal("not answered")
		}
	}); n != 0 {
		t.Errorf("%v allocations per check", n)
	}
}

func FuzzBinding(f *testing.F) {
	f.Add(check(f, testPassword))
	f.Add(build(f, stun.BindingRequest, stun.Fingerprint))
	agent := NewICE(testPassword)
	f.Fuzz(func(t *testing.T, pkt []byte) {
		ufrag, named := BindingUsername(pkt)
		if named && !bytes.Contains(pkt, ufrag) {
			t.Fatalf("ufrag %q from elsewhere", ufrag)
		}
		if _, ok := agent.ParseBinding(pkt); ok && agent.PutBindingSuccess(make([]byte, 200), [12]byte{}, netip.AddrPort{}) == 0 {
			t.Fatal("a valid check has no answer")
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	agent := NewICE(testPassword)
	pkt, dst := check(b, testPassword), make([]byte, 200)
	from := netip.MustParseAddrPort("203.0.113.9:50001")
	b.ReportAllocs()
	for b.Loop() {
		BindingUsername(pkt)
		binding, _ := agent.ParseBinding(pkt)
		agent.PutBindingSuccess(dst, binding.Transaction, from)
	}
}
