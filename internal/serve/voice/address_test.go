package voice

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

func TestReachable(t *testing.T) {
	addr := netip.MustParseAddr
	var none netip.Addr
	host, public := addr("192.168.1.5"), addr("203.0.113.9")
	for name, c := range map[string]struct {
		local, remote, public, host netip.Addr
		proxied                     bool
		want                        []netip.Addr
	}{
		"loopback":             {addr("127.0.0.1"), addr("127.0.0.1"), none, host, false, []netip.Addr{loopback, host}},
		"loopback only":        {addr("127.0.0.1"), addr("127.0.0.1"), public, none, false, []netip.Addr{loopback}},
		"IPv6 loopback":        {addr("::1"), addr("::1"), none, host, false, []netip.Addr{loopback, host}},
		"LAN":                  {host, addr("192.168.1.77"), public, host, false, []netip.Addr{host}},
		"IPv6 LAN":             {addr("fd00::5"), addr("fd00::77"), public, host, false, []netip.Addr{host}},
		"outside, behind NAT":  {host, addr("198.51.100.7"), public, host, false, []netip.Addr{public}},
		"outside, own address": {public, addr("198.51.100.7"), none, public, false, []netip.Addr{public}},
		"through a proxy here": {addr("127.0.0.1"), addr("127.0.0.1"), public, host, true, []netip.Addr{public}},
		"nothing known":        {none, none, none, none, false, []netip.Addr{loopback}},
	} {
		if got := reachable(c.local, c.remote, c.public, c.host, c.proxied); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestLobby(t *testing.T) {
	l := newLobby()
	var all []*client
	enter := func(remote string, until clock.Time) bool {
		c := &client{}
		all = append(all, c)
		return l.enter(c, remote, until)
	}
	at := clock.Time(1)
	for i := range lobbyPerAddress {
		if !enter(fmt.Sprintf("192.0.2.1:%d", i+1), at.Add(10*time.Second)) {
			t.Fatalf("full after %d", i)
		}
	}
	if enter("192.0.2.1:9", at) || enter("[::ffff:192.0.2.1]:9", at) {
		t.Error("one address fills more than its part")
	}
	if !enter("[2001:db8::1]:9", at.Add(20*time.Second)) {
		t.Error("another address was refused")
	}
	if n := len(l.expired(at.Add(9 * time.Second))); n != 0 {
		t.Errorf("%d expired early", n)
	}
	if n := len(l.expired(at.Add(10 * time.Second))); n != lobbyPerAddress {
		t.Errorf("%d expired", n)
	}
	for i := 0; len(l.deadlines) < lobbySize; i++ {
		enter(fmt.Sprintf("198.51.%d.%d:9", i>>8&255, i&255), at)
	}
	if enter("203.0.113.1:9", at) {
		t.Error("the lobby has no end")
	}
	for _, c := range all {
		l.leave(c)
		l.leave(c)
	}
	if len(l.deadlines)+len(l.addresses) != 0 {
		t.Errorf("left over: %d, %d", len(l.deadlines), len(l.addresses))
	}
}
