package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"hubbub.dev/hubbub/internal/serve/load"
	"hubbub.dev/hubbub/internal/serve/node"
	"hubbub.dev/hubbub/proto"
)

// loadCmd measures a server under load. docs/performance.md says how.
type loadCmd struct {
	Data  string   `help:"Data directory of the server to measure." placeholder:"DIR"`
	URL   string   `name:"url" help:"URL of the server (default: what it wrote to its data directory)."`
	Token string   `help:"Token of its admin API (default: the one in its data directory)."`
	CA    string   `name:"ca" help:"Certificate to trust for an https URL." placeholder:"FILE"`
	PID   int      `name:"pid" help:"Process id of the server, when it is on this host: for CPU time and memory."`
	Spawn bool     `help:"Start a server for this measurement, with data that is thrown away."`
	Serve []string `name:"serve" sep:"none" help:"With --spawn: a flag for the server, such as --serve=--wait=5ms; may be given several times." placeholder:"FLAG"`
	Pin   bool     `default:"true" negatable:"" help:"With --spawn: give the server core 0 and the load core 1."`

	Network bool `help:"With --spawn: give server and load network namespaces of their own with a cable between them, so that each is billed its own side's work and not the other's (root)."`

	Mode      string        `enum:"aes,xchacha" default:"aes" help:"Encryption of native clients: aes or xchacha."`
	Browser   bool          `help:"Clients are browsers: ICE, DTLS, SRTP."`
	Speakers  int           `default:"5" help:"Speakers in each channel, deaf themselves."`
	Listeners int           `default:"100" help:"Listeners, dealt out to the channels."`
	Channels  int           `default:"1" help:"Voice channels."`
	Guilds    int           `help:"Guilds that the channels are spread over (0: one for each)."`
	Channel   uint64        `help:"Voice channel that is there already, for several load processes to share; it stays, and so do its new members." placeholder:"ID"`
	Hear      int           `help:"With --channel and --speakers 0: how many speakers another load process has there, and no third any."`
	Talk      float64       `default:"1" help:"Share of the time that a speaker talks, in spurts of about a second."`
	Rate      float64       `default:"50" help:"Packets a second of one who talks."`
	Size      int           `default:"140" help:"Payload bytes of a packet."`
	Phase     string        `enum:"even,burst" default:"even" help:"Speakers' packets: even over the interval, or in one burst."`
	Settle    time.Duration `help:"How long clients talk and listen before the first measurement."`
	Duration  time.Duration `default:"15s" help:"Length of a measurement."`
	Runs      int           `default:"1" help:"Measurements of each server; medians are given."`
	Joins     int           `default:"4" help:"Clients that join at once."`
	Offload   bool          `help:"Clients take the segments of one send as one and are woken by none, so that the server is billed little of what receiving costs."`
	Events    bool          `default:"true" negatable:"" help:"Clients ask for the guild's events."`

	Floor     bool          `help:"Measure minimal forwarders in the same run: what this host's kernel allows."`
	FloorWait time.Duration `name:"floor-wait" default:"5ms" help:"How long the coalescing one waits for more packets."`
	Ramp      bool          `help:"Then raise the rate until less than 98 % is delivered."`
	Step      time.Duration `default:"3s" help:"Length of a step of the ramp."`

	Mumble         string `help:"mumble-server to measure in the same run." placeholder:"HOST:PORT"`
	MumblePID      int    `name:"mumble-pid" help:"Its process id."`
	MumbleCommand  string `name:"mumble-command" help:"What starts it, on the server's core." placeholder:"COMMAND"`
	MumblePassword string `name:"mumble-password" help:"Its password."`

	JSON bool   `name:"json" help:"Print JSON."`
	HTML string `name:"html" help:"Write a page with plots." placeholder:"FILE"`
}

// Run measures and prints what came out.
func (c *loadCmd) Run() error {
	if c.Network && !load.Inside() {
		return c.apart()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cfg := load.Config{
		URL: c.URL, Token: c.Token, CA: c.CA, PID: c.PID, FloorCommand: []string{self, "load-floor"}, Pin: c.Spawn && c.Pin, Network: c.Network,
		Mode: c.Mode, Browser: c.Browser, Speakers: c.Speakers, Listeners: c.Listeners, Channels: c.Channels, Guilds: c.Guilds, Channel: proto.Snowflake(c.Channel), Hear: c.Hear,
		Talk: c.Talk, Rate: c.Rate, Size: c.Size, Phase: c.Phase, Settle: c.Settle, Duration: c.Duration, Runs: c.Runs, Joins: c.Joins, Offload: c.Offload, Events: c.Events,
		Floor: c.Floor, FloorWait: c.FloorWait, Ramp: c.Ramp, Step: c.Step,
		Mumble: c.Mumble, MumblePID: c.MumblePID, MumbleCommand: strings.Fields(c.MumbleCommand), MumblePassword: c.MumblePassword, Version: version,
	}
	if c.Spawn {
		cfg.Spawn = append([]string{self, "serve"}, c.Serve...)
	} else if err := c.find(&cfg); err != nil {
		return err
	}
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		cfg.Progress = os.Stderr
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := load.Run(ctx, cfg)
	if err != nil {
		return err
	}
	write := report.WriteTable
	if c.JSON {
		write = report.WriteJSON
	}
	return errors.Join(write(os.Stdout), c.page(report))
}

// apart does all of it in a network of its own.
func (c *loadCmd) apart() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := load.Apart(ctx, os.Args[1:]...)
	if err == nil && code != 0 {
		os.Exit(code) // it has said why
	}
	return err
}

// find fills in where the server is and its token.
func (c *loadCmd) find(cfg *load.Config) error {
	if c.URL != "" && c.Token != "" {
		return nil
	}
	dir := c.Data
	if dir == "" {
		dir = node.DefaultDataDir()
	}
	url, token, err := load.ServerOf(dir)
	if err != nil {
		return fmt.Errorf("which server? --data names its directory, --url and --token one on another host, --spawn starts one: %w", err)
	}
	if cfg.URL == "" {
		cfg.URL = url
	}
	if cfg.Token == "" {
		cfg.Token = token
	}
	return nil
}

func (c *loadCmd) page(report *load.Report) error {
	if c.HTML == "" {
		return nil
	}
	f, err := os.Create(c.HTML)
	if err != nil {
		return err
	}
	return errors.Join(report.WriteHTML(f), f.Close())
}

// loadFloorCmd is the process of a minimal forwarder that load --floor starts.
type loadFloorCmd struct {
	Addr    netip.Addr    `help:"IPv4 address to receive at."`
	Segment bool          `help:"Coalesce by UDP_SEGMENT."`
	Wait    time.Duration `help:"How long to wait for more packets."`
}

// Run forwards until its input ends.
func (c *loadFloorCmd) Run() error {
	return load.RunFloor(load.FloorConfig{Addr: c.Addr, Segment: c.Segment, Wait: c.Wait}, os.Stdin, io.Writer(os.Stdout))
}
