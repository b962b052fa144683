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
	host, public, far := addr("192.168.1.5"), addr("203.0.113.9"), addr("198.51.100.7")
	v6, here := addr("fd00::5"), addr("127.0.0.1")
	list := func(a ...netip.Addr) []netip.Addr { return a }
	for name, c := range map[string]struct {
		vantage
		want     []netip.Addr
		doubtful bool
	}{
		"loopback":               {vantage{local: here, remote: here, host: host}, list(loopback, host), false},
		"loopback only":          {vantage{local: here, remote: here, public: public}, list(loopback), false},
		"IPv6 loopback":          {vantage{local: addr("::1"), remote: addr("::1"), host: host}, list(loopback, host), false},
		"LAN":                    {vantage{local: host, remote: addr("192.168.1.77"), public: public, host: host}, list(host), false},
		"IPv6 LAN":               {vantage{local: v6, remote: addr("fd00::77"), public: public, host: host}, list(host, v6), false},
		"IPv6 LAN without IPv4":  {vantage{local: v6, remote: addr("fd00::77")}, list(v6), false},
		"outside, behind NAT":    {vantage{local: host, remote: far, public: public, host: host}, list(public), false},
		"outside, by an address": {vantage{local: host, remote: far, named: public, host: host}, list(public), false},
		"outside, by a name":     {vantage{local: host, remote: far, host: host}, list(host), true},
		"outside, own address":   {vantage{local: public, remote: far, host: public}, list(public), false},
		"through a proxy here":   {vantage{local: here, remote: here, public: public, host: host, proxied: true}, list(public), false},
		"proxy, nothing public":  {vantage{local: here, remote: here, host: host, proxied: true}, list(loopback, host), true},
		"nothing known":          {vantage{}, list(loopback), false},
		"bound to one":           {vantage{local: addr("192.168.1.6"), remote: addr("192.168.1.77"), host: addr("192.168.1.6"), bound: host}, list(host), false},
		"bound to a loopback":    {vantage{local: addr("127.0.0.2"), remote: here, host: host, bound: addr("127.0.0.2")}, list(addr("127.0.0.2")), false},
		"bound, from outside":    {vantage{local: host, remote: far, host: host, bound: host}, list(host), true},
		"bound, and public":      {vantage{local: host, remote: far, public: public, bound: host}, list(public), false},
		"bound to all":           {vantage{local: host, remote: addr("192.168.1.77"), host: host, bound: addr("0.0.0.0")}, list(host), false},
	} {
		got, doubtful := c.reachable()
		if fmt.Sprint(got) != fmt.Sprint(c.want) || doubtful != c.doubtful {
			t.Errorf("%s: %v, %v; want %v, %v", name, got, doubtful, c.want, c.doubtful)
		}
	}
}

func TestNamed(t *testing.T) {
	for host, want := range map[string]string{
		"203.0.113.9:8080": "203.0.113.9", "203.0.113.9": "203.0.113.9", "[2001:db8::1]:443": "2001:db8::1",
		"voice.example.org": "invalid IP", "": "invalid IP", "localhost:1": "invalid IP",
	} {
		if got := named(host).String(); got != want {
			t.Errorf("%q names %s, want %s", host, got, want)
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

func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		remote  string
		proxied bool
		want    string
	}{
		{"203.0.113.7", false, "203.0.113.7"},
		{"::ffff:203.0.113.7", false, "203.0.113.7"},
		{"2001:db8::1", false, "2001:db8::1"},
		{"203.0.113.7", true, ""},
		{"127.0.0.1", false, ""},
		{"192.168.1.5", false, ""},
		{"fe80::1%eth0", false, ""},
		{"fd00::1", false, ""},
	} {
		want, _ := netip.ParseAddr(c.want)
		if got := origin(netip.MustParseAddr(c.remote), c.proxied); got != want {
			t.Errorf("%s proxied %v: %v, want %v", c.remote, c.proxied, got, want)
		}
	}
}
