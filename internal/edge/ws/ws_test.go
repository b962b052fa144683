package ws_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"hubbub.dev/hubbub/internal/edge/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of one connection, with the server's writer running.
func pair(t *testing.T, o ws.Options) (*ws.Conn, *websocket.Conn) {
	t.Helper()
	accepted := make(chan *ws.Conn, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.Write = func(c *ws.Conn) { writers.Go(func() { c.Flush() }) }
		c, err := ws.Accept(w, r, o)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(c.Drop)
		accepted <- c
	}))
	t.Cleanup(func() { cancel(); writers.Wait(); server.Close() })
	dial, stop := context.WithTimeout(ctx, 5*time.Second)
	t.Cleanup(stop)
	client, _, err := websocket.Dial(dial, server.URL, &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	client.SetReadLimit(64 << 20)
	t.Cleanup(func() { _ = client.CloseNow() })
	return <-accepted, client
}

func options() ws.Options { return ws.Options{ReadLimit: 4096, QueueBytes: 1 << 20} }

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestMessagesGoBothWaysInOrder(t *testing.T) {
	var traffic ws.Traffic
	t.Cleanup(func() { // after that of pair, when the writer has counted its last write
		if traffic.In.Load() == 0 || traffic.Out.Load() < 200*9 {
			t.Errorf("counted %d in, %d out", traffic.In.Load(), traffic.Out.Load())
		}
	})
	o := options()
	o.Traffic = &traffic
	server, client := pair(t, o)
	if err := client.Write(within(t), websocket.MessageText, []byte("hi")); err != nil {
		t.Fatal(err)
	}
	data, binary, err := server.Read()
	if err != nil || binary || string(data) != "hi" {
		t.Fatalf("Read = %q, %v, %v", data, binary, err)
	}
	for i := range 200 {
		if i%2 == 0 {
			server.Send(fmt.Appendf(nil, "message %d", i), true)
		} else {
			server.SendSpliced([]byte("message "), fmt.Append(nil, i))
		}
	}
	for i := range 200 {
		typ, data, err := client.Read(within(t))
		if err != nil || string(data) != fmt.Sprintf("message %d", i) || (typ == websocket.MessageBinary) != (i%2 == 0) {
			t.Fatalf("message %d: %v %q %v", i, typ, data, err)
		}
	}
}

func TestAnswersKeepTheirPlaceAmongMessages(t *testing.T) {
	server, client := pair(t, options())
	for i := range 400 {
		if i%3 == 0 {
			server.Send(fmt.Append(nil, i), false)
		} else if !server.Answer(fmt.Append(nil, i)) {
			t.Fatal("an answer is refused")
		}
	}
	for i := range 400 {
		if typ, data, err := client.Read(within(t)); err != nil || string(data) != fmt.Sprint(i) || typ != websocket.MessageText {
			t.Fatalf("message %d: %v %q %v", i, typ, data, err)
		}
	}
}

func TestWireIsReadAsTheTextsItWasMadeOf(t *testing.T) {
	server, client := pair(t, options())
	var texts [][]byte
	for _, n := range []int{0, 1, 125, 126, 1000, 65535, 65536, 100_000} {
		texts = append(texts, bytes.Repeat([]byte("x"), n))
	}
	server.Send([]byte("first"), false)
	server.SendWire(ws.Wire(texts))
	server.Send([]byte("last"), false)
	for _, want := range append(append([][]byte{[]byte("first")}, texts...), []byte("last")) {
		if typ, data, err := client.Read(within(t)); err != nil || !bytes.Equal(data, want) || typ != websocket.MessageText {
			t.Fatalf("%d bytes for %d, %v", len(data), len(want), err)
		}
	}
}

func TestAnswersAreEncodedLikeMessages(t *testing.T) {
	o := options()
	o.Encoder = new(ws.ZlibStream)
	server, client := pair(t, o)
	server.Answer([]byte("hi"))
	_, data, err := client.Read(within(t))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, 2) // of a stream that does not end
	if _, err := io.ReadFull(z, plain); err != nil || string(plain) != "hi" {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestPingIsAnsweredByThePeersLibrary(t *testing.T) {
	pong := make(chan struct{}, 1)
	o := options()
	o.Pong = func() { pong <- struct{}{} }
	server, client := pair(t, o)
	var ends sync.WaitGroup
	ends.Go(func() {
		for err := error(nil); err == nil; {
			_, _, err = client.Read(within(t))
		}
	})
	ends.Go(func() { _, _, _ = server.Read() })
	server.Send([]byte("before"), false)
	server.Ping()
	select {
	case <-pong:
	case <-within(t).Done():
		t.Error("no pong")
	}
	server.Drop()
	ends.Wait()
}

func TestAddressesAndHostAreTheClients(t *testing.T) {
	server, _ := pair(t, options())
	if !server.RemoteAddr().IsValid() || !server.LocalAddr().IsValid() || server.Host() != server.LocalAddr().String() || server.Secure() {
		t.Errorf("remote %v local %v host %q secure %v", server.RemoteAddr(), server.LocalAddr(), server.Host(), server.Secure())
	}
}

func TestCloseSendsTheQueueThenTheCode(t *testing.T) {
	server, client := pair(t, options())
	for i := range 10 {
		server.Send(fmt.Append(nil, i), false)
	}
	server.Close(4004, "Authentication failed.")
	server.Close(4000, "too late")
	if !server.Send([]byte("dropped"), false) || !server.Closed() {
		t.Error("a closed connection is not closed")
	}
	for i := range 10 {
		if _, data, err := client.Read(within(t)); err != nil || string(data) != fmt.Sprint(i) {
			t.Fatalf("%q, %v", data, err)
		}
	}
	_, _, err := client.Read(within(t))
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != 4004 || closed.Reason != "Authentication failed." {
		t.Errorf("client saw %v", err)
	}
	if _, _, err := server.Read(); !errors.Is(err, ws.ErrLost) && !errors.As(err, new(*ws.CloseError)) {
		t.Errorf("server read %v", err)
	}
}

func TestPeersCloseFrameIsReported(t *testing.T) {
	server, client := pair(t, options())
	go func() { _ = client.Close(1000, "bye") }()
	_, _, err := server.Read()
	var closed *ws.CloseError
	if !errors.As(err, &closed) || closed.Code != 1000 || closed.Reason != "bye" {
		t.Errorf("Read = %v", err)
	}
	server.Drop()
}

func TestOversizeMessageLeavesTheCloseCodeToTheCaller(t *testing.T) {
	server, client := pair(t, options())
	go func() { _ = client.Write(context.Background(), websocket.MessageText, make([]byte, 1<<20)) }()
	if _, _, err := server.Read(); !errors.Is(err, ws.ErrTooLarge) {
		t.Fatalf("Read = %v", err)
	}
	server.Close(4002, "Too large.")
	_, _, err := client.Read(within(t))
	if websocket.CloseStatus(err) != 4002 {
		t.Errorf("client saw %v", err)
	}
}

func TestAMessageOfExactlyTheLimitIsRead(t *testing.T) {
	server, client := pair(t, options())
	if err := client.Write(within(t), websocket.MessageBinary, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	if data, binary, err := server.Read(); err != nil || !binary || len(data) != 4096 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// The client reads nothing: the queue must refuse at its bound, and Close must end
// the writer, which is blocked in a write, within its own time.
func TestSlowPeerIsRefusedAndClosed(t *testing.T) {
	server, _ := pair(t, options())
	chunk := make([]byte, 256<<10)
	refused := false
	for deadline := time.Now().Add(10 * time.Second); !refused && time.Now().Before(deadline); {
		refused = !server.Send(chunk, true)
	}
	if !refused {
		t.Fatal("an endless queue")
	}
	server.Close(4000, "Too slow.")
	if _, _, err := server.Read(); !errors.Is(err, ws.ErrLost) {
		t.Errorf("Read = %v", err)
	}
}

func TestErrorsNameNoAddress(t *testing.T) {
	server, client := pair(t, options())
	_ = client.CloseNow()
	_, _, err := server.Read()
	if err == nil || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("Read = %v", err)
	}
	server.Drop()
}

func TestReadDeadline(t *testing.T) {
	server, client := pair(t, options())
	server.SetReadDeadline(time.Now().Add(-time.Second))
	if _, _, err := server.Read(); !errors.Is(err, ws.ErrLost) {
		t.Errorf("Read = %v", err)
	}
	server.Close(4009, "Session timed out.") // the peer is still there to be told
	if _, _, err := client.Read(within(t)); websocket.CloseStatus(err) != 4009 {
		t.Errorf("client saw %v", err)
	}
}

// What a client sends along with its request, before the answer, is not lost.
func TestEarlyFramesAreRead(t *testing.T) {
	got := make(chan string, 1)
	var loops sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := options()
		o.Write = func(c *ws.Conn) { loops.Go(func() { c.Flush() }) }
		c, err := ws.Accept(w, r, o)
		if err != nil {
			t.Error(err)
			return
		}
		data, _, err := c.Read()
		c.Drop()
		got <- fmt.Sprint(string(data), err)
	}))
	defer func() { server.Close(); loops.Wait() }()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	frame := append([]byte{0x81, 0x80 | 5, 0, 0, 0, 0}, "early"...)
	if _, err := conn.Write(append([]byte(request), frame...)); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "early<nil>" {
		t.Errorf("read %q", s)
	}
}

func TestPlainRequestIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := ws.Accept(w, r, options()); err == nil {
			t.Error("accepted")
		}
	}))
	defer server.Close()
	res, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("status %d", res.StatusCode)
	}
	server.Client().CloseIdleConnections()
}

// samples are messages of every size class: tiny, like each other, over the
// compressor's history, over its block, and incompressible.
func samples() [][]byte {
	s := [][]byte{[]byte(`{"op":11}`), []byte(`{"op":11}`), {}}
	for i := range 50 {
		s = append(s, fmt.Appendf(nil, `{"op":0,"s":%d,"t":"VOICE_STATE_UPDATE","d":{"guild_id":"123456","user_id":"%d"}}`, i, i*7919))
	}
	s = append(s, bytes.Repeat([]byte("guild create "), 1000), bytes.Repeat([]byte("0123456789abcdef!"), 10000))
	noise := make([]byte, 100_000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	return append(s, noise, []byte("end"))
}

func TestZlibStreamInflatesAsOneStream(t *testing.T) {
	var z ws.ZlibStream
	var wire bytes.Buffer
	var reader io.Reader
	for i, want := range samples() {
		part, binary, err := z.Encode(nil, want)
		if err != nil || !binary || !bytes.HasSuffix(part, []byte{0, 0, 0xff, 0xff}) {
			t.Fatalf("message %d: %v, ends %x", i, err, part[max(0, len(part)-4):])
		}
		wire.Write(part)
		if reader == nil {
			if reader, err = zlib.NewReader(&wire); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(reader, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("message %d differs: %v", i, err)
		}
	}
}

func TestZlibStreamCompressesAgainstTheStream(t *testing.T) {
	var z ws.ZlibStream
	message := []byte(`{"op":0,"t":"VOICE_STATE_UPDATE","d":{"guild_id":"123456","channel_id":"99","session_id":"abc"}}`)
	_, _, _ = z.Encode(nil, message)
	second, _, _ := z.Encode(nil, message)
	if len(second) > len(message)/3 {
		t.Errorf("%d bytes for a repeated message of %d", len(second), len(message))
	}
}

// endless is a stream that may go on: libraries read it so, since a decoder that
// sees an end of input stops for good.
type endless struct{ buffer bytes.Buffer }

func (e *endless) Write(p []byte) { e.buffer.Write(p) }

func (e *endless) Read(p []byte) (int, error) {
	n, _ := e.buffer.Read(p)
	return n, nil
}

func TestZstdStreamDecodesAsOneStream(t *testing.T) {
	var z ws.ZstdStream
	var wire endless
	decoder, err := zstd.NewReader(&wire, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	for i, want := range samples() {
		part, binary, err := z.Encode(nil, want)
		if err != nil || !binary {
			t.Fatal(err)
		}
		wire.Write(part)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(decoder, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("message %d differs: %v", i, err)
		}
	}
}

func TestZlibPayloadCompressesLongMessagesOnly(t *testing.T) {
	for i, want := range samples() {
		out, binary, err := ws.ZlibPayload{}.Encode([]byte("before"), want)
		if err != nil {
			t.Fatal(err)
		}
		out = bytes.TrimPrefix(out, []byte("before"))
		if binary {
			r, err := zlib.NewReader(bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			if out, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if binary != (len(want) >= 512) || !bytes.Equal(out, want) {
			t.Errorf("message %d of %d bytes: binary %v", i, len(want), binary)
		}
	}
}

func TestEncoderChangesUnderAnOpenConnection(t *testing.T) {
	server, client := pair(t, options())
	server.Send([]byte("hello"), false)
	if typ, _, err := client.Read(within(t)); err != nil || typ != websocket.MessageText {
		t.Fatal(typ, err)
	}
	server.SetEncoder(ws.ZlibPayload{})
	server.SendSpliced([]byte("head"), make([]byte, 5000))
	typ, data, err := client.Read(within(t))
	if err != nil || typ != websocket.MessageBinary || len(data) > 1000 {
		t.Errorf("%v of %d bytes, %v", typ, len(data), err)
	}
}

func BenchmarkZlibStream(b *testing.B) { benchmarkEncoder(b, new(ws.ZlibStream)) }
func BenchmarkZstdStream(b *testing.B) { benchmarkEncoder(b, new(ws.ZstdStream)) }
func benchmarkEncoder(b *testing.B, e ws.Encoder) {
	message := samples()[20]
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _, _ = e.Encode(dst[:0], message)
	}
	b.ReportMetric(float64(len(dst)), "wire-bytes")
}

// Messages of every form of length, spliced and whole, alone and in bursts, while the
// client pings all the time: nothing of a pong may come into the middle of a frame.
func TestFramesOfAllSizesArriveAmongPongs(t *testing.T) {
	server, client := pair(t, options())
	client.SetReadLimit(1 << 20)
	ctx := within(t)
	go func() { // answers pings until the client is done
		for {
			if _, _, err := server.Read(); err != nil {
				return
			}
		}
	}()
	const pingers = 8
	pings := make(chan error, pingers)
	stop, done := context.WithCancel(ctx)
	for range pingers {
		go func() {
			for stop.Err() == nil {
				if err := client.Ping(stop); err != nil && stop.Err() == nil {
					pings <- err
					return
				}
			}
			pings <- nil
		}()
	}
	for _, size := range []int{1, 3, 125, 126, 127, 4096, 4097, 20000, 65535, 65536, 70000} {
		body := bytes.Repeat([]byte{'a' + byte(size%26)}, size)
		head := []byte("h")[:min(1, size-1)]
		for _, binary := range []bool{false, true} {
			const burst = 6
			for range burst {
				server.Send(body, binary)
				server.SendSpliced(head, body[len(head):])
			}
			for i := range 2 * burst {
				typ, got, err := client.Read(ctx)
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				want := body
				if i%2 == 1 {
					want = append(bytes.Clone(head), body[len(head):]...)
				}
				if !bytes.Equal(got, want) || (typ == websocket.MessageBinary) != (binary && i%2 == 0) {
					t.Fatalf("message %d of %d bytes: %d bytes, %v", i, size, len(got), typ)
				}
			}
		}
	}
	done()
	for range pingers {
		if err := <-pings; err != nil {
			t.Error(err)
		}
	}
	server.Drop()
}
