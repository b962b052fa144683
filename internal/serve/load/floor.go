package load

import (
	"net/netip"
	"time"
)

// FloorConfig says how a minimal forwarder sends.
type FloorConfig struct {
	// Addr is the IPv4 address to receive at.
	Addr netip.Addr
	// Segment lets packets to one listener leave as one UDP_SEGMENT send.
	Segment bool
	// Wait is how long the forwarder waits for more packets after one has come.
	Wait time.Duration
}

// floorSeat is one client of a minimal forwarder, as its parent describes it.
type floorSeat struct {
	Addr   string `json:"addr"`
	Key    []byte `json:"key"`
	Room   int    `json:"room"`
	Speaks bool   `json:"speaks"`
	Hears  bool   `json:"hears"`
}

// floorPort is the first line that a forwarder writes.
type floorPort struct {
	Port int `json:"port"`
}
