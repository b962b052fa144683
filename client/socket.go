package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/proto"
)

const (
	// handshakeTimeout bounds each step from dialling to being ready.
	handshakeTimeout = 10 * time.Second
	writeTimeout     = 5 * time.Second
	closeTimeout     = time.Second
	// frameLimit is above any GUILD_CREATE of a guild with some ten thousand
	// members.
	frameLimit = 16 << 20
)

var errZombie = errors.New("client: no heartbeat acknowledged for a whole interval")

// socket is one WebSocket connection of either gateway. Its reader goroutine
// hands frames over one at a time; everything else runs on the goroutine of the
// session that dialled it.
type socket struct {
	conn   *websocket.Conn
	frames chan []byte
	err    error // why frames was closed
	cancel context.CancelFunc

	traffic *traffic
	acked   bool // since the last heartbeat
}

// Traffic counts WebSocket payload bytes.
type Traffic struct{ Sent, Received int64 }

type traffic struct{ sent, received atomic.Int64 }

func (t *traffic) total() Traffic { return Traffic{t.sent.Load(), t.received.Load()} }

func dialSocket(ctx context.Context, c *Client, url string, t *traffic) (*socket, error) {
	dialCtx, done := context.WithTimeout(ctx, handshakeTimeout)
	defer done()
	conn, _, err := websocket.Dial(dialCtx, url, c.dialOptions())
	if err != nil {
		return nil, fmt.Errorf("client: dial: %w", err)
	}
	conn.SetReadLimit(frameLimit)
	// The reader outlives ctx, for a close frame to be sent when ctx ends.
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &socket{conn: conn, frames: make(chan []byte), cancel: cancel, traffic: t, acked: true}
	go s.readLoop(reading)
	return s, nil
}

func (s *socket) readLoop(ctx context.Context) {
	defer close(s.frames)
	for {
		_, data, err := s.conn.Read(ctx)
		if err != nil {
			s.err = err
			return
		}
		select {
		case s.frames <- data:
		case <-ctx.Done():
			s.err = ctx.Err()
			return
		}
	}
}

// next returns the next frame of a handshake.
func (s *socket) next(ctx context.Context) ([]byte, error) {
	ctx, done := context.WithTimeout(ctx, handshakeTimeout)
	defer done()
	select {
	case data, ok := <-s.frames:
		if !ok {
			return nil, s.err
		}
		s.traffic.received.Add(int64(len(data)))
		return data, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("client: handshake: %w", ctx.Err())
	}
}

func (s *socket) write(ctx context.Context, payload any) error {
	data, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("client: encode: %w", err)
	}
	// A context that ends in the middle of a write would break the connection, and
	// no close frame could follow.
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer done()
	s.traffic.sent.Add(int64(len(data)))
	return s.conn.Write(ctx, websocket.MessageText, data)
}

// close ends the connection with a close code, or as a cut for code zero, and
// waits for the reader. A peer that does not answer the close frame is not waited
// for long: another server may be waiting for us.
func (s *socket) close(code proto.CloseCode, reason string) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if code == 0 {
			_ = s.conn.CloseNow()
		} else {
			_ = s.conn.Close(websocket.StatusCode(code), reason)
		}
	}()
	limit := time.NewTimer(closeTimeout)
	defer limit.Stop()
	for frames := s.frames; closed != nil; {
		select {
		case _, ok := <-frames: // or the reader would never see the answer
			if !ok {
				frames = nil
			}
		case <-limit.C:
			s.cancel()
		case <-closed:
			closed = nil
		}
	}
	s.cancel()
	for range s.frames {
	}
}

// link is what a session does with an established socket.
type link interface {
	// frame handles one frame from the server; an error ends the connection.
	frame(ctx context.Context, data []byte) error
	// heartbeat returns the next heartbeat's payload.
	heartbeat() any
	// woken is called when the session's wake channel fires; an error ends the
	// connection.
	woken(ctx context.Context) error
}

// serve runs an established connection until it ends: frames in, heartbeats and
// what comes through out to the server. A server that leaves a heartbeat
// unacknowledged for a whole interval counts as gone.
func (s *socket) serve(ctx context.Context, interval time.Duration, out <-chan any, wake <-chan struct{}, l link) error {
	beat := time.NewTicker(interval)
	defer beat.Stop()
	for {
		select {
		case data, ok := <-s.frames:
			if !ok {
				return s.err
			}
			s.traffic.received.Add(int64(len(data)))
			if err := l.frame(ctx, data); err != nil {
				return err
			}
		case payload := <-out:
			if err := s.write(ctx, payload); err != nil {
				return err
			}
		case <-beat.C:
			if !s.acked {
				return errZombie
			}
			s.acked = false
			if err := s.write(ctx, l.heartbeat()); err != nil {
				return err
			}
		case <-wake:
			if err := l.woken(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closeCode returns the code the server closed with, or zero for a cut.
func closeCode(err error) proto.CloseCode {
	if code := websocket.CloseStatus(err); code > 0 {
		return proto.CloseCode(code)
	}
	return 0
}
