// Package load owns the load generator: clients by the thousand that join over the
// real gateway and voice protocol, speak and listen, and measure what the server
// makes of it. It never reaches into the server: what it knows of it comes over the
// wire, from its admin API, and from the process table.
package load

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"hubbub.dev/hubbub/proto"
)

// Modes of a native client's encryption.
const (
	ModeAES     = "aes"
	ModeXChaCha = "xchacha"
)

// Phases of the speakers' packets.
const (
	PhaseEven  = "even"  // spread over the packet interval
	PhaseBurst = "burst" // all at once
)

// Config says what to measure and with which load.
type Config struct {
	URL   string // of the server, http://… or https://…
	Token string // of its admin API
	CA    string // file with the certificates to trust for https and wss, "" for the system's
	PID   int    // of the server, 0 when unknown: no CPU time and no memory then

	// Spawn is the command that runs a server of its own for this measurement,
	// without the flags that say where; empty for none.
	Spawn []string
	// Network has the server, and what is measured beside it, in a network namespace, joined
	// by a cable to this process's, which Apart has made.
	Network bool
	// FloorCommand runs RunFloor in a process of its own, which --floor needs.
	FloorCommand []string
	// Pin gives the server the first core and the load the second.
	Pin bool

	Mode      string // ModeAES or ModeXChaCha
	Browser   bool   // clients are browsers: ICE, DTLS and SRTP
	Speakers  int    // in each channel
	Listeners int    // in all channels together
	Channels  int
	Guilds    int // that the channels are spread over; 0 is one for each
	// Channel is a voice channel that is there already, to go to in place of making some;
	// 0 for none. Hear is how many speakers of another load process, that has no others,
	// listeners hear there.
	Channel  proto.Snowflake
	Hear     int
	Talk     float64       // share of the time that a speaker talks
	Rate     float64       // packets a second while talking
	Size     int           // payload bytes
	Phase    string        // PhaseEven or PhaseBurst
	Settle   time.Duration // between the last join and the first measurement, while all talk
	Duration time.Duration
	Runs     int // measurements of each server
	Joins    int // that go on at once
	Events   bool
	Loops    int // that carry the clients' media; 0 is one per core
	// Offload has clients receive so that the server is billed little of it, as if they
	// were on other hosts behind a card that segments: what one call sends to a client
	// arrives as one, and wakes nobody.
	Offload bool

	Floor     bool          // measure the minimal forwarders in the same run
	FloorWait time.Duration // that the coalescing one waits for more packets
	Ramp      bool
	Step      time.Duration // of the ramp

	Mumble         string // host:port of a mumble-server to measure too, "" for none
	MumblePID      int
	MumbleCommand  []string // that starts it, where the server is; empty when it runs
	MumblePassword string

	Version  string
	Progress io.Writer // nil for no progress line
	Log      *slog.Logger
}

const (
	maxClients = 100_000
	// rampFloor is the share of packets that must arrive for a load to count.
	rampFloor = 0.98
	// rampRate is what servers let a member send (a packet every 2.5 ms, the shortest
	// frame of Opus), less a little for jitter.
	rampRate = 390
	// mostHeard bounds the speakers of another process that each listener follows.
	mostHeard = 1000
)

func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Mode == "" {
		c.Mode = ModeAES
	}
	if c.Phase == "" {
		c.Phase = PhaseEven
	}
	c.Channels, c.Runs, c.Joins = max(c.Channels, 1), max(c.Runs, 1), max(c.Joins, 1)
	if c.Guilds == 0 {
		c.Guilds = c.Channels
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if !slices.Contains([]string{ModeAES, ModeXChaCha}, c.Mode) {
		bad("--mode %q: %s or %s", c.Mode, ModeAES, ModeXChaCha)
	}
	if !slices.Contains([]string{PhaseEven, PhaseBurst}, c.Phase) {
		bad("--phase %q: %s or %s", c.Phase, PhaseEven, PhaseBurst)
	}
	if c.Speakers < 0 || c.Listeners < 0 || c.Speakers*c.Channels+c.Listeners < 1 || c.Speakers*c.Channels+c.Listeners > maxClients {
		bad("--speakers %d in each of %d channels and --listeners %d: between 1 and %d clients", c.Speakers, c.Channels, c.Listeners, maxClients)
	}
	if c.Guilds < 1 || c.Guilds > c.Channels {
		bad("--guilds %d: between 1 and --channels %d", c.Guilds, c.Channels)
	}
	if c.Channel != 0 && (c.Channels > 1 || c.Guilds > 1) {
		bad("--channel %d is one: no --channels, no --guilds", c.Channel)
	}
	if c.Hear < 0 || c.Hear > mostHeard || c.Hear > 0 && (c.Channel == 0 || c.Speakers > 0) {
		bad("--hear %d: at most %d speakers of another process, with --channel and --speakers 0", c.Hear, mostHeard)
	}
	if c.Talk <= 0 || c.Talk > 1 {
		bad("--talk %v: a share above 0, at most 1", c.Talk)
	}
	if c.Rate < 1 || c.Rate > rampRate {
		bad("--rate %v: between 1 and %d packets a second", c.Rate, rampRate)
	}
	if c.Size < MinSize || c.Size > MaxSize {
		bad("--size %d: between %d and %d bytes", c.Size, MinSize, MaxSize)
	}
	if c.Duration < 100*time.Millisecond || c.Duration > time.Hour || c.Runs > 100 {
		bad("--duration %v, --runs %d: between 100ms and 1h, at most 100 runs", c.Duration, c.Runs)
	}
	if c.Settle < 0 || c.Settle > time.Hour {
		bad("--settle %v: at most 1h", c.Settle)
	}
	if c.Ramp && (c.Speakers == 0 || c.Step < 100*time.Millisecond) {
		bad("--ramp needs --speakers and a --step of at least 100ms")
	}
	if c.Floor && (c.FloorWait < 0 || c.FloorWait > 20*time.Millisecond) {
		bad("--floor-wait %v: at most 20ms", c.FloorWait)
	}
	if c.Network && (len(c.Spawn) == 0 || c.Mumble != "" && len(c.MumbleCommand) == 0) {
		bad("--network: the servers are started there: --spawn, and --mumble-command with --mumble")
	}
	if c.Mumble != "" && (c.Channels > 1 || c.Speakers == 0) {
		bad("--mumble: one channel with speakers in it")
	}
	if c.Joins > 256 {
		bad("--joins %d: at most 256 at once", c.Joins)
	}
	return errors.Join(errs...)
}

// path says what is between the server and the clients, as far as that is known.
func (c *Config) path() string {
	switch {
	case c.Network:
		return "network"
	case len(c.Spawn) > 0:
		return "loopback"
	}
	return ""
}

// clients returns how many there are.
func (c *Config) clients() int { return c.Speakers*c.Channels + c.Listeners }
