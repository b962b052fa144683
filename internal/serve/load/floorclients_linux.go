package load

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/internal/core/native"
	"hubbub.dev/hubbub/internal/serve/run"
)

// target is a server with the clients of a measurement in it.
type target struct {
	name  string
	index int
	pid   int
	close func()
}

// newSeat is the seat of client i of a target: speakers of all channels first, then
// listeners, dealt out to the channels.
func (c *Config) newSeat(target, i int) *seat {
	s := &seat{target: target, fd: -1, firstHeard: make(chan struct{})}
	if i < c.Speakers*c.Channels {
		s.speaks, s.sender, s.room = true, uint32(i), i/c.Speakers
		return s
	}
	s.hears = true
	s.room = (i - c.Speakers*c.Channels) % c.Channels
	s.base = uint32(s.room * c.Speakers)
	s.heard = make([]stream, c.Speakers+c.Hear)
	s.afar = c.Hear > 0
	return s
}

// each runs f for 0 to n-1, some at once, and returns the first error. After one it
// begins no more.
func each(ctx context.Context, g *run.Group, n, atOnce int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	workers := min(n, atOnce)
	done := make(chan struct{}, workers)
	for range workers {
		g.Go("load clients", func(context.Context) {
			defer func() { done <- struct{}{} }()
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for range workers {
		<-done
	}
	return context.Cause(ctx)
}

// floorChild is a minimal forwarder that runs.
type floorChild struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// stop ends the forwarder: its input does.
func (f *floorChild) stop() {
	_ = f.stdin.Close()
	kill := time.AfterFunc(stopTimeout, func() { _ = f.cmd.Process.Kill() })
	_ = f.cmd.Wait()
	kill.Stop()
}

// startFloor starts a minimal forwarder and joins its clients.
func (r *runner) startFloor(ctx context.Context, name string, args ...string) error {
	command := slices.Concat(r.cfg.FloorCommand, []string{"--addr", r.network.host()}, args)
	f := &floorChild{cmd: exec.Command(command[0], command[1:]...)}
	f.cmd.Stderr = os.Stderr
	var err error
	if f.stdin, err = f.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := f.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := startOn(f.cmd, r.serverCore(), r.network); err != nil {
		return fmt.Errorf("starting a minimal forwarder: %w", err)
	}
	t := r.target(name, f.cmd.Process.Pid, f.stop)
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the minimal forwarder says nothing: %w", err)
	}
	var port floorPort
	if err := json.Unmarshal(line, &port); err != nil {
		return err
	}
	seats := make([]floorSeat, r.cfg.clients())
	for i := range seats {
		if seats[i], err = r.seatAtFloor(ctx, t, i, port.Port); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(f.stdin).Encode(seats); err != nil {
		return err
	}
	if _, err := lines.ReadBytes('\n'); err != nil {
		return fmt.Errorf("the minimal forwarder is not ready: %w", err)
	}
	return r.crowd.recount(ctx, t.index)
}

func (r *runner) seatAtFloor(ctx context.Context, t *target, i, port int) (floorSeat, error) {
	s := r.cfg.newSeat(t.index, i)
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(r.network.host()), Port: port})
	if err != nil {
		return floorSeat{}, err
	}
	defer func() { _ = conn.Close() }()
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	if s.link, err = newNativeLink(native.AES256GCM, key); err != nil {
		return floorSeat{}, err
	}
	s.ssrc = s.sender + 1
	if s.fd, err = takeDescriptor(conn); err != nil {
		return floorSeat{}, err
	}
	seat := floorSeat{Addr: conn.LocalAddr().String(), Key: key[:], Room: s.room, Speaks: s.speaks, Hears: s.hears}
	return seat, r.seatOrClose(ctx, s)
}
