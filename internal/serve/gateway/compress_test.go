package gateway_test

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

var errType = errors.New("wrong message type")

// endless never ends, as a decoder of a stream needs it.
type endless struct{ bytes.Buffer }

func (e *endless) Read(p []byte) (int, error) {
	n, _ := e.Buffer.Read(p)
	return n, nil
}

// inflate reads one JSON message off a stream that may go on.
func inflate(r io.Reader) ([]byte, error) {
	var out []byte
	for depth := 0; ; {
		var b [1]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		out = append(out, b[0])
		switch b[0] { // no braces inside strings in these tests
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return out, nil
			}
		}
	}
}

func zlibStream() func(websocket.MessageType, []byte) ([]byte, error) {
	var wire endless
	var r io.Reader
	return func(typ websocket.MessageType, data []byte) (_ []byte, err error) {
		if typ != websocket.MessageBinary || !bytes.HasSuffix(data, []byte{0, 0, 0xff, 0xff}) {
			return nil, errType
		}
		wire.Write(data)
		if r == nil {
			if r, err = zlib.NewReader(&wire); err != nil {
				return nil, err
			}
		}
		return inflate(r)
	}
}

func zstdStream(t *testing.T) func(websocket.MessageType, []byte) ([]byte, error) {
	var wire endless
	r, err := zstd.NewReader(struct{ io.Reader }{&wire}, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return func(typ websocket.MessageType, data []byte) ([]byte, error) {
		if typ != websocket.MessageBinary {
			return nil, errType
		}
		wire.Write(data)
		return inflate(r)
	}
}

func zlibPayload(packed *int) func(websocket.MessageType, []byte) ([]byte, error) {
	return func(typ websocket.MessageType, data []byte) ([]byte, error) {
		if typ == websocket.MessageText {
			return data, nil
		}
		*packed++
		r, err := zlib.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
}

// bigEvent is long enough to be worth compressing.
func bigEvent(i int) guild.Dispatch {
	return guild.Dispatch{Guild: guildA, Event: "BIG", Data: fmt.Appendf(nil, `{"i":%d,"text":%q}`, i, strings.Repeat("all work and no play ", 300*(i+1)))}
}

func TestCompressedConnectionsCarryTheSame(t *testing.T) {
	w := newWorld(t, defaults())
	packed := 0
	for _, c := range []struct {
		query, identify string
		decode          func(websocket.MessageType, []byte) ([]byte, error)
	}{
		{"compress=zlib-stream", "", zlibStream()},
		{"compress=zlib-stream", `,"compress":true`, zlibStream()}, // the transport's goes first
		{"compress=zstd-stream", "", zstdStream(t)},
		{"", `,"compress":true`, zlibPayload(&packed)},
	} {
		t.Run(c.query+c.identify, func(t *testing.T) {
			p := w.dial(c.query)
			p.t, p.decode = t, c.decode
			p.identify(aliceKey, c.identify, 1)
			for i := range 8 {
				e := bigEvent(i)
				w.dispatch(e)
				if f := p.want("BIG"); !bytes.Equal(f.D, e.Data) {
					t.Fatalf("event %d differs", i)
				}
				p.send(`{"op":1,"d":null}`)
				p.want(proto.OpHeartbeatACK)
			}
		})
	}
	if packed < 8 {
		t.Errorf("%d payloads were compressed", packed)
	}
}

func TestPayloadCompressionSurvivesAResume(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("")
	ready := p.identify(aliceKey, `,"compress":true`, 1)
	p.cutTCP()
	q, packed := w.dial(""), 0
	q.decode = zlibPayload(&packed)
	q.want(proto.OpHello)
	q.send(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, aliceKey, ready.SessionID, p.last)
	q.want("RESUMED")
	w.dispatch(bigEvent(1))
	q.want("BIG")
	if packed != 1 {
		t.Errorf("%d payloads were compressed", packed)
	}
}
