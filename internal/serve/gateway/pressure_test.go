package gateway_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// wire is a client that allocates nothing while it reads.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
}

func (w *world) wire() *wire {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(6 * patience))
	_, _ = io.WriteString(conn, "GET /gateway HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		w.t.Fatal(res, err)
	}
	return &wire{conn, r}
}

// send writes one text frame, masked with zeroes.
func (c *wire) send(s string) {
	b := []byte{0x81, 0x80 | 126, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(s)))
	_, _ = c.conn.Write(append(b, s...))
}

// skip reads one frame and returns its payload's length and opcode.
func (c *wire) skip() (n int, opcode byte, err error) {
	var first, second byte
	if first, err = c.r.ReadByte(); err != nil {
		return 0, 0, err
	}
	if second, err = c.r.ReadByte(); err != nil {
		return 0, 0, err
	}
	n, more := int(second), 0
	switch second {
	case 126:
		n, more = 0, 2
	case 127:
		n, more = 0, 8
	}
	for ; more > 0; more-- {
		b, err := c.r.ReadByte()
		if err != nil {
			return 0, 0, err
		}
		n = n<<8 | int(b)
	}
	_, err = c.r.Discard(n)
	return n, first & 15, err
}

// login goes to the first GUILD_CREATE.
func (c *wire) login(t *testing.T, key string) {
	t.Helper()
	c.send(fmt.Sprintf(`{"op":2,"d":{"token":%q,"properties":{}}}`, key))
	for range 3 { // hello, READY, GUILD_CREATE
		if _, _, err := c.skip(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSlowClientIsClosedAndHoldsUpNobody(t *testing.T) {
	w := newWorld(t, defaults())
	w.wire().login(t, aliceKey) // and reads no more
	p := w.dial("")
	p.identify(aliceKey, "", 1)
	pad := strings.Repeat("x", 512<<10)
	for i := 0; w.metric("hubbub_gateway_slow_clients_total") == 0; i++ {
		if i == 200 {
			t.Fatal("100 MiB wait for a client that reads nothing")
		}
		w.dispatch(guild.Dispatch{Guild: guildA, Event: "BIG", Data: fmt.Appendf(nil, `{"pad":%q}`, pad)})
		p.want("BIG")
	}
	w.dispatch(guild.Dispatch{Guild: guildA, Event: "SMALL", Data: []byte(`{}`)})
	p.want("SMALL")
}

// An event for many sessions is encoded once; what it costs for each of them is the
// queue, the write and, now and then, a longer buffer.
func TestFanOutAllocatesLittle(t *testing.T) {
	const clients, events = 100, 200
	cfg := defaults()
	w := newWorld(t, cfg)
	all := make([]*wire, clients)
	for i := range all {
		all[i] = w.wire()
		all[i].login(t, aliceKey)
	}
	var read sync.WaitGroup
	for _, c := range all {
		read.Go(func() {
			for range events {
				if _, op, err := c.skip(); err != nil || op != 1 {
					t.Error(op, err)
					return
				}
			}
		})
	}
	event := guild.Dispatch{Guild: guildA, Event: "MESSAGE_CREATE", Data: []byte(`{"content":"` + strings.Repeat("word ", 50) + `"}`)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range events {
		w.dispatch(event)
	}
	read.Wait()
	runtime.ReadMemStats(&after)
	if per := float64(after.Mallocs-before.Mallocs) / (clients * events); per > 2 {
		t.Errorf("%.2f allocations per event and client", per)
	}
}

// Connections that send rubbish leave nothing behind.
func TestFloodOfBadFramesLeavesMemoryFlat(t *testing.T) {
	w := newWorld(t, defaults())
	flood := func(n int) {
		for i := range n {
			c := w.wire()
			c.send([]string{"{", `{"op":99}`, strings.Repeat("x", 5000), `{"op":4,"d":{}}`, `{"op":2,"d":{"token":"no"}}`}[i%5])
			for {
				if _, op, err := c.skip(); err != nil || op == 8 {
					break
				}
			}
			_ = c.conn.Close()
		}
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // the first may only queue finalizers
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	flood(50)
	before := heap()
	flood(500)
	if after := heap(); after > before+4<<20 {
		t.Errorf("heap went from %d to %d KiB", before>>10, after>>10)
	}
	if n := w.metric("hubbub_gateway_sessions"); n != 0 {
		t.Errorf("%v sessions", n)
	}
}

// A client that sends frames as fast as it can, past every limit, disturbs nobody.
func TestFloodOfGoodFramesIsCutOff(t *testing.T) {
	w := newWorld(t, defaults())
	p := w.dial("")
	p.identify(aliceKey, "", 1)
	c := w.wire()
	c.login(t, aliceKey)
	for range 1000 {
		c.send(`{"op":1,"d":null}`)
	}
	acks := 0
	for {
		_, op, err := c.skip()
		if err != nil || op == 8 {
			break
		}
		acks++
	}
	if acks > 120 {
		t.Errorf("%d heartbeats were answered", acks)
	}
	p.send(`{"op":1,"d":null}`)
	p.want(proto.OpHeartbeatACK)
}

func TestConnectionsWithoutASessionAreBoundedPerAddress(t *testing.T) {
	cfg := defaults()
	cfg.PendingPerAddress = 2
	w := newWorld(t, cfg)
	p := w.dial("")
	w.dial("")
	if _, err := w.tryDial(""); err == nil || !strings.Contains(err.Error(), "429") {
		t.Fatalf("a third connection: %v", err)
	}
	p.identify(aliceKey, "", 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for { // the place is free a moment after READY
		if _, err := w.tryDial(""); err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("a session still counts as pending")
		}
	}
}
