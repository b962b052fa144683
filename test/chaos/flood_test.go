//go:build linux

package chaos

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/ipv4"

	"hubbub.dev/hubbub/test/harness"
)

const (
	// junkRate is how many packets a second a flood is made of, or fewer where this
	// machine cannot send as many beside all else.
	junkRate = 200_000
	// junkEvery is how often a part of it leaves.
	junkEvery = 2 * time.Millisecond
	junkKinds = 4
)

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
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(words[0])})
	if err != nil {
		return err
	}
	batch := ipv4.NewPacketConn(c)
	store := make([]ipv4.Message, 64*64)
	for i := range store {
		store[i] = ipv4.Message{Buffers: [][]byte{junk(i)}, Addr: net.UDPAddrFromAddrPort(target)}
	}
	sent, turn := 0, 0
	tick := time.NewTicker(junkEvery)
	defer tick.Stop()
	begin := time.Now()
	for next := begin; next.Sub(begin) < span; next = <-tick.C {
		for part := 0; part < int(junkRate*junkEvery/time.Second); part += 64 {
			at := turn * 64 % len(store)
			turn++
			n, err := batch.WriteBatch(store[at:at+64], 0)
			if err != nil {
				continue // refused: the target is away
			}
			sent += n
		}
	}
	fmt.Printf("serves %.0f\n", float64(sent)/time.Since(begin).Seconds())
	return nil
}

// junk is one packet: random, or what looks like media, a connectivity check, or
// discovery.
func junk(i int) []byte {
	pkt := make([]byte, 80+rand.IntN(120))
	for at := 0; at+8 <= len(pkt); at += 8 {
		binary.LittleEndian.PutUint64(pkt[at:], rand.Uint64())
	}
	switch i % junkKinds {
	case 1:
		pkt[0], pkt[1] = 0x90, 0x78
	case 2:
		pkt = append(pkt[:20], "\x00\x06\x00\x0fnobody:stranger\x00"...)
		binary.BigEndian.PutUint16(pkt, 1)
		binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)-20))
		binary.BigEndian.PutUint32(pkt[4:], 0x2112A442)
	case 3:
		pkt = pkt[:74]
		binary.BigEndian.PutUint32(pkt, 1<<16|70)
	}
	return pkt
}
