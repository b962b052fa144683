package load

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"hubbub.dev/hubbub/internal/serve/run"
)

// mumblePulse is well within the 30 s after which the server gives a client up.
const mumblePulse = 10 * time.Second

// maxControl bounds a control message.
const maxControl = 8 << 20

// mumbleClient is the control connection of one client of a mumble-server.
type mumbleClient struct {
	conn *tls.Conn
	mu   sync.Mutex // of writes
	read chan struct{}
}

func (c *mumbleClient) write(kind uint16, body []byte) error {
	message := binary.BigEndian.AppendUint16(nil, kind)
	message = append(binary.BigEndian.AppendUint32(message, uint32(len(body))), body...)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := c.conn.Write(message)
	return err
}

// next reads one message.
func (c *mumbleClient) next() (kind uint16, body []byte, err error) {
	var head [6]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size > maxControl {
		return 0, nil, fmt.Errorf("mumble: a message of %d bytes", size)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(c.conn, body)
	return binary.BigEndian.Uint16(head[:]), body, err
}

// login goes to ServerSync and returns the client's voice.
func (c *mumbleClient) login(name, password string) (*mumbleLink, error) {
	version := appendBytes(appendField(nil, 1, 1<<16|3<<8|4), 2, "hubbub load")
	authenticate := appendBytes(nil, 1, name)
	if password != "" {
		authenticate = appendBytes(authenticate, 2, password)
	}
	authenticate = appendField(authenticate, 5, 1) // speaks Opus
	if err := errors.Join(c.write(mumbleVersion, version), c.write(mumbleAuthenticate, authenticate)); err != nil {
		return nil, err
	}
	var voice *mumbleLink
	for {
		kind, body, err := c.next()
		if err != nil {
			return nil, err
		}
		switch kind {
		case mumbleReject:
			return nil, fmt.Errorf("mumble: rejected: %q", body)
		case mumbleCryptSetup:
			fields, err := bytesFields(body)
			if err != nil {
				return nil, err
			}
			if voice, err = newMumbleLink(fields[1], fields[2], fields[3]); err != nil {
				return nil, err
			}
		case mumbleServerSync:
			if voice == nil {
				return nil, errors.New("mumble: no CryptSetup before ServerSync")
			}
			return voice, nil
		}
	}
}

// openMumble joins all clients to a mumble-server, into its root channel.
func (r *runner) openMumble(ctx context.Context) error {
	if r.cfg.Mumble == "" {
		return nil
	}
	stop, err := r.startMumble(ctx)
	if err != nil {
		return err
	}
	clients := make([]*mumbleClient, r.cfg.clients())
	t := r.target("mumble", r.cfg.MumblePID, func() {
		defer stop()
		for _, c := range clients {
			if c != nil {
				_ = c.conn.Close()
			}
		}
		for _, c := range clients {
			if c != nil && c.read != nil {
				<-c.read
			}
		}
	})
	err = each(ctx, r.group, len(clients), r.cfg.Joins, func(ctx context.Context, i int) error {
		if err := r.joinMumble(ctx, t, i, &clients[i]); err != nil {
			return fmt.Errorf("mumble: client %d: %w", i+1, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.group.Go("load mumble pings", func(ctx context.Context) {
		run.Every(ctx, mumblePulse, func() {
			for _, c := range clients {
				_ = c.write(mumblePing, appendField(nil, 1, 1)) // what fails shows as lost packets
			}
		})
	})
	return r.crowd.recount(ctx, t.index)
}

// startMumble starts the server, if it does not run yet, and waits until it listens.
func (r *runner) startMumble(ctx context.Context) (stop func(), err error) {
	if len(r.cfg.MumbleCommand) == 0 {
		return func() {}, nil
	}
	cmd := exec.Command(r.cfg.MumbleCommand[0], r.cfg.MumbleCommand[1:]...)
	cmd.Stderr = os.Stderr
	if err := startOn(cmd, r.serverCore(), r.network); err != nil {
		return nil, fmt.Errorf("starting mumble-server: %w", err)
	}
	r.cfg.MumblePID = cmd.Process.Pid
	stop = func() { end(cmd) }
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.cfg.Mumble)
		if err == nil {
			return stop, conn.Close()
		}
		select {
		case <-ctx.Done():
			stop()
			return nil, fmt.Errorf("the mumble-server that was started is not ready: %w", err)
		case <-time.After(pollInterval):
		}
	}
}

func (r *runner) joinMumble(ctx context.Context, t *target, i int, out **mumbleClient) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	// Its certificate is its own, and nothing said here is secret.
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", r.cfg.Mumble)
	if err != nil {
		return err
	}
	c := &mumbleClient{conn: conn.(*tls.Conn)}
	*out = c
	_ = c.conn.SetReadDeadline(time.Now().Add(joinTimeout))
	voice, err := c.login(fmt.Sprintf("load%d", i+1), r.cfg.MumblePassword)
	if err != nil {
		return err
	}
	_ = c.conn.SetReadDeadline(time.Time{})
	c.read = make(chan struct{})
	r.group.Go("load mumble", func(context.Context) {
		defer close(c.read)
		_, _ = io.Copy(io.Discard, c.conn)
	})
	return r.seatAtMumble(ctx, t, i, voice)
}

// seatAtMumble opens the voice socket. A ping tells the server where the client is.
func (r *runner) seatAtMumble(ctx context.Context, t *target, i int, voice *mumbleLink) error {
	s := r.cfg.newSeat(t.index, i)
	if s.speaks { // to be deaf is to be mute there
		s.hears, s.base, s.heard = true, 0, make([]stream, r.cfg.Speakers)
	}
	s.link = voice
	udp, err := net.Dial("udp", r.cfg.Mumble)
	if err != nil {
		return err
	}
	defer func() { _ = udp.Close() }()
	var ping [16]byte
	n := voice.alive(ping[:])
	err = exchange(ctx, udp.(*net.UDPConn), ping[:n], func(answer []byte) bool {
		_, ok := voice.open(answer)
		return ok
	})
	if err != nil {
		return fmt.Errorf("voice: %w", err)
	}
	if s.fd, err = takeDescriptor(udp.(*net.UDPConn)); err != nil {
		return err
	}
	return r.seatOrClose(ctx, s)
}
