// Package fleet owns what a node knows of the other nodes: who is there, in which
// roles, how loaded, and so where each guild belongs. It learns from announcements
// alone and never asks; it does not know how they travel.
//
// Each node announces itself every Interval, and is gone when it says so or has been
// silent for Silence. A node that hears nobody, itself included, has lost the bus and
// not the others: it keeps what it knew until it hears again.
package fleet

import (
	"strings"
	"time"
)

const (
	// Interval is how often a node announces itself.
	Interval = time.Second
	// Silence is how long a node may say nothing before it counts as gone: two
	// announcements and half a second for their way. With the quarter of a second
	// between two Ticks, a death is known within 3 s.
	Silence = 2500 * time.Millisecond
	// Deaf is how long a node that hears nobody goes on counting their silence. It
	// hears itself every Interval as long as there is a bus.
	Deaf = 1500 * time.Millisecond
	// MaxMembers bounds the table: what comes beyond is not taken in.
	MaxMembers = 1024
	// MaxName is the longest name of a node, in bytes.
	MaxName = 64
)

// Member is what a node says of itself.
type Member struct {
	Name  string `cbor:"1,keyasint"`
	Epoch int64  `cbor:"2,keyasint"` // when it started, in ms since 1970: a later one replaces it
	Roles Roles  `cbor:"3,keyasint"`
	// Region and Endpoint (host:port) are for clients of its voice role. The endpoint
	// is empty when clients reach it where they reached the gateway.
	Region   string `cbor:"4,keyasint,omitempty"`
	Endpoint string `cbor:"5,keyasint,omitempty"`
	// Ailing says what it cannot do its work for; it is empty while the node is well.
	Ailing   string `cbor:"6,keyasint,omitempty"`
	Joining  bool   `cbor:"7,keyasint,omitempty"`  // takes nothing yet, since it does not know all others
	Draining bool   `cbor:"8,keyasint,omitempty"`  // takes nothing new
	Gone     bool   `cbor:"9,keyasint,omitempty"`  // its last word
	Ask      bool   `cbor:"10,keyasint,omitempty"` // wants all others to announce themselves at once

	Capacity int     `cbor:"11,keyasint,omitempty"` // peers
	Peers    int     `cbor:"12,keyasint,omitempty"`
	Load     float64 `cbor:"13,keyasint,omitempty"` // of its busiest part, 0 idle to 1 full
	CPU      float64 `cbor:"14,keyasint,omitempty"` // cores in use
	Packets  uint64  `cbor:"15,keyasint,omitempty"` // media packets a second, in and out
	Drops    uint64  `cbor:"16,keyasint,omitempty"` // packets a second that its sockets had no room for
	// Attacked says that its media ports are flooded: its channels are better elsewhere.
	Attacked bool `cbor:"17,keyasint,omitempty"`
}

// ValidName reports whether a node may be called name, which becomes part of bus
// subjects: letters, digits, '-' and '_', the first a letter or digit, at most
// MaxName.
func ValidName(name string) bool {
	if name == "" || len(name) > MaxName || strings.ContainsRune("-_", rune(name[0])) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !isNameByte(c) {
			return false
		}
	}
	return true
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// CleanName returns the valid name nearest to s, or "" when nothing of s is left.
func CleanName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if !isNameByte(c) {
			b[i] = '-'
		}
	}
	s = strings.TrimLeft(string(b), "-_")
	return s[:min(len(s), MaxName)]
}
