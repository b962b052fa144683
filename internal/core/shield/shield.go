// Package shield owns what is known of a flood: how many packets of nobody came from
// each network and in all, which networks are to be dropped unread for a while, whether
// the node is attacked, and how many may come through the door in a second. It never
// learns what a packet says, and never drops one of an established peer: it is asked
// about strangers alone.
package shield

import (
	"encoding/binary"
	"net/netip"
	"time"

	"hubbub.dev/hubbub/internal/core/clock"
)

const (
	// prefixes is how many networks are watched at once, in sets of ways. The whole
	// table takes 128 KiB.
	prefixes = 4096
	ways     = 4

	// window is the time over which packets are counted.
	window = time.Second
)

// Config says from when on a network, and the node, counts as hostile. A zero field
// takes the default named.
type Config struct {
	// PrefixRate is how many packets a second of one network are too many: 5,000, as a
	// hundred people behind one address send who talk on after their server restarted.
	// Fewer cost less to look at than the attempts at decryption that all strangers
	// share.
	PrefixRate int
	// Block is how long its strangers are dropped unread after the last such second:
	// 5 s, for as long newcomers from there wait too.
	Block time.Duration
	// AttackRate is how many packets a second in all, for Onset (2 s), make an attack:
	// 100,000. They are about what costs a worker a third of its core. It is over when
	// fewer than CalmRate (a quarter) have come in each second for Calm (30 s).
	AttackRate, CalmRate int
	Onset, Calm          time.Duration
}

func (c *Config) complete() {
	if c.PrefixRate == 0 {
		c.PrefixRate = 5000
	}
	if c.Block == 0 {
		c.Block = 5 * time.Second
	}
	if c.AttackRate == 0 {
		c.AttackRate = 100_000
	}
	if c.CalmRate == 0 {
		c.CalmRate = c.AttackRate / 4
	}
	if c.Onset == 0 {
		c.Onset = 2 * time.Second
	}
	if c.Calm == 0 {
		c.Calm = 30 * time.Second
	}
}

// network is what is counted of one prefix. A key of zero is no network.
type network struct {
	key     uint64
	until   clock.Time // dropped unread before
	counted clock.Time // begin of the window that count is of
	count   uint32
}

// Shield watches one socket's strangers. It takes the same memory whatever comes.
type Shield struct {
	cfg   Config
	seed  uint64
	table [prefixes / ways][ways]network

	blockedUntil clock.Time // the last of all blocks
	total        uint64
	observed     uint64 // total at the last Observe
	observedAt   clock.Time

	attacked bool
	since    clock.Time // how long the rate has been on the other side; zero: it is not
}

// New returns a shield that has seen nothing. The seed is secret: who knows it can
// choose networks that push each other out of the table.
func New(seed uint64, cfg Config) *Shield {
	cfg.complete()
	return &Shield{cfg: cfg, seed: seed}
}

// key returns a number for an address's network: /24 of IPv4, /48 of IPv6. It is never
// zero.
func key(addr netip.Addr) uint64 {
	b := addr.As16()
	if addr.Is4() || addr.Is4In6() {
		return 1<<63 | uint64(b[12])<<16 | uint64(b[13])<<8 | uint64(b[14])
	}
	return 1<<62 | binary.BigEndian.Uint64(b[:])>>16
}

// SameNetwork reports whether two addresses are in one network, or may be of one host in
// a way that does not show: one is IPv4 and the other IPv6, or b is on this host's side
// of a NAT.
func SameNetwork(a, b netip.Addr) bool {
	a, b = a.Unmap(), b.Unmap()
	return a.BitLen() != b.BitLen() || key(a) == key(b) || b.IsPrivate() || b.IsLoopback() || b.IsLinkLocalUnicast()
}

// set returns where a network is kept, if it is.
func (s *Shield) set(key uint64) *[ways]network {
	h := (key ^ s.seed) * 0x9E3779B97F4A7C15
	h = (h ^ h>>32) * 0xD6E8FEB86659FD93
	return &s.table[h>>32%uint64(len(s.table))]
}

// Blocked reports whether a stranger's packet from this address is to be dropped unread,
// and counts it if so.
func (s *Shield) Blocked(now clock.Time, addr netip.Addr) bool {
	if !now.Before(s.blockedUntil) {
		return false
	}
	k := key(addr)
	set := s.set(k)
	for i := range set {
		if n := &set[i]; n.key == k {
			if !now.Before(n.until) {
				return false
			}
			s.total++
			s.add(now, n)
			return true
		}
	}
	return false
}

// Count counts a stranger's packet that was of nobody, or that only claimed to be of
// somebody.
func (s *Shield) Count(now clock.Time, addr netip.Addr) {
	s.total++
	k := key(addr)
	set := s.set(k)
	least := &set[0]
	for i := range set {
		n := &set[i]
		if n.key == k {
			s.add(now, n)
			return
		}
		if s.worth(now, n) < s.worth(now, least) {
			least = n
		}
	}
	*least = network{key: k, counted: now, count: 1}
}

// CountPeer counts an invalid packet from the address of an established peer, which is
// held against nobody: any stranger on the way can forge it.
func (s *Shield) CountPeer() { s.total++ }

// worth is what a network's place in the table is worth: the packets that it sent
// lately, and more than any number of them while it is blocked.
func (s *Shield) worth(now clock.Time, n *network) uint64 {
	switch {
	case n.key == 0:
		return 0
	case now.Before(n.until):
		return 1<<33 + uint64(n.count)
	case now.Sub(n.counted) >= 2*window:
		return 1
	}
	return 1 + uint64(n.count)
}

func (s *Shield) add(now clock.Time, n *network) {
	if now.Sub(n.counted) >= window {
		n.counted, n.count = now, 0
	}
	if n.count++; n.count > uint32(s.cfg.PrefixRate) {
		n.until = now.Add(s.cfg.Block)
		s.blockedUntil = max(s.blockedUntil, n.until)
	}
}

// Observe is to be called about once a second. unseen is how many more packets were of
// nobody since the last call, as those that the kernel dropped.
func (s *Shield) Observe(now clock.Time, unseen uint64) {
	elapsed := now.Sub(s.observedAt)
	if elapsed <= 0 {
		return
	}
	rate := float64(s.total-s.observed+unseen) / elapsed.Seconds()
	first := s.observedAt == 0
	s.observed, s.observedAt = s.total, now
	if first {
		return // since when it was counted is not known
	}
	changing, hold := rate >= float64(s.cfg.AttackRate), s.cfg.Onset
	if s.attacked {
		changing, hold = rate < float64(s.cfg.CalmRate), s.cfg.Calm
	}
	switch {
	case !changing:
		s.since = 0
	case s.since == 0:
		s.since = now.Add(-elapsed)
		fallthrough
	default:
		if now.Sub(s.since) >= hold {
			s.attacked, s.since = !s.attacked, 0
		}
	}
}

// Attacked reports whether the node had better be elsewhere.
func (s *Shield) Attacked() bool { return s.attacked }

// Networks returns how many networks are blocked now.
func (s *Shield) Networks(now clock.Time) int {
	blocked := 0
	if !now.Before(s.blockedUntil) {
		return 0
	}
	for i := range s.table {
		for j := range s.table[i] {
			if n := &s.table[i][j]; n.key != 0 && now.Before(n.until) {
				blocked++
			}
		}
	}
	return blocked
}
