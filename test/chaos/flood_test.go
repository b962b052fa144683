//go:build linux

package chaos

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"hubbub.dev/hubbub/test/harness"
)

// junkRate is how many packets a second a flood is made of, or fewer where this machine
// cannot send as many beside all else.
const junkRate = 200_000

// flood sends junk to a worker's port for a while and returns how much a second.
func (w *world) flood(to *harness.FleetNode, span time.Duration) float64 {
	w.t.Helper()
	ports := to.MediaPorts()
	if len(ports) == 0 {
		w.t.Fatalf("%s has no media port", to.Name)
	}
	from := w.attacker()
	p := w.self("attacker", from, fmt.Sprintf("%s=%s %s:%d %v", floodEnv, from.ip, w.hosts[to.Name].ip, ports[0], span))
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
	defer p.Kill()
	if err := p.Await(span + patience); err != nil {
		w.t.Fatal(err)
	}
	var rate float64
	if _, err := fmt.Sscanf(p.Banner.String(), "serves %f", &rate); err != nil {
		w.t.Fatalf("%v in %s", err, p.Banner)
	}
	return rate
}

// attacker is a host in a network of its own.
func (w *world) attacker() *host {
	if h := w.net.hosts["attacker"]; h != nil {
		return h
	}
	return w.net.host("attacker", attackNet)
}

// runFlood is the process that sends: from which address, to where, for how long.
func runFlood(what string) error {
	words := strings.Fields(what)
	if len(words) != 3 {
		return fmt.Errorf("%q: want a source, a target and a time", what)
	}
	target, err := netip.ParseAddrPort(words[1])
	if err != nil {
		return err
	}
	span, err := time.ParseDuration(words[2])
	if err != nil {
		return err
	}
	flood := harness.Flood{From: words[:1], To: target, Rate: junkRate, For: span}
	sent, took, err := flood.Send()
	if err != nil {
		return err
	}
	fmt.Printf("serves %.0f\n", float64(sent)/took.Seconds())
	return nil
}
