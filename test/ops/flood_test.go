package ops

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// growth is what resident memory may gain by all floods together, in KiB.
const growth = 40 << 10

// listener counts which numbered frames of another caller it hears.
type listener struct {
	mu         sync.Mutex
	from, last uint64 // first and last number heard
	heard      uint64
	ssrc       uint32 // of the other
}

func (l *listener) count() (heard, of uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard, l.last - l.from + 1
}

// listen hears other until the test ends.
func (c *caller) listen(t *testing.T, other *caller) *listener {
	l := new(listener)
	ctx, cancel := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() {
		for {
			select {
			case p := <-c.voice.Packets():
				if n := number(p.Opus); p.UserID == other.id && n > 0 {
					l.mu.Lock()
					if l.heard == 0 {
						l.from = n
					}
					l.heard++
					l.ssrc = p.SSRC
					l.last = max(l.last, n)
					l.mu.Unlock()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); task.Wait() })
	return l
}

// resident returns the resident memory of the process and its children in KiB.
func (s *server) resident() int {
	s.t.Helper()
	sum := s.residentOf(s.Pid())
	for _, pid := range s.children() {
		sum += s.residentOf(pid)
	}
	return sum
}

func (s *server) residentOf(pid int) int {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		s.t.Fatalf("no VmRSS in %s", status)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// metric returns the sum of a metric's series.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	_, body := s.get("/metrics")
	sum, found := harness.Metric(body, name)
	if !found {
		s.t.Fatalf("no metric %s", name)
	}
	return sum
}

// until asks the server again and again, each answer being the event that the
// next question waits for, until a metric is as wanted.
func (s *server) until(name string, wanted func(float64) bool) {
	s.t.Helper()
	limit := time.Now().Add(2 * patience)
	for {
		v := s.metric(name)
		if wanted(v) {
			return
		}
		if time.Now().After(limit) {
			s.t.Fatalf("%s stays at %g", name, v)
		}
	}
}

// TestFloods attacks every port of a server with a call in it: the call does not
// notice, memory stays, and what was opened is closed again.
func TestFloods(t *testing.T) {
	s := startServer(t, shipped, "--attack-rate", "10000")
	lounge := s.channel("Lounge")
	a, b := join(t, s, "anna", lounge), join(t, s, "ben", lounge)
	a.hears(t, b, 10)
	b.hears(t, a, 10)
	ab, ba := a.listen(t, b), b.listen(t, a)
	goroutines, memory := s.metric("go_goroutines"), s.resident()
	t.Logf("before: %d KiB resident, %g goroutines", memory, goroutines)

	floods := []struct {
		name string
		run  func(*testing.T, *server)
	}{
		{"silent connections", floodSilent}, {"junk datagrams", floodUDP},
		{"junk as fast as can be", floodJunk(ab, ba)}, {"bad requests", floodREST}, {"oversize frames", floodFrames},
	}
	idle := floodIdle(t, s)
	for _, flood := range floods {
		begin := time.Now()
		flood.run(t, s)
		t.Logf("%s: %v, %d KiB resident", flood.name, time.Since(begin).Round(time.Millisecond), s.resident())
	}
	idle()

	s.until("go_goroutines", func(n float64) bool { return n <= goroutines+10 })
	// The runtime gives memory back bit by bit.
	s.until("process_resident_memory_bytes", func(n float64) bool { return int(n)>>10 <= memory+growth })
	t.Logf("afterwards: %d KiB more resident", s.resident()-memory)
	for name, l := range map[string]*listener{"anna hears ben": ab, "ben hears anna": ba} {
		heard, of := l.count()
		t.Logf("%s: %d of %d packets", name, heard, of)
		if of < 100 || float64(heard) < 0.99*float64(of) {
			t.Errorf("%s: only %d of %d packets", name, heard, of)
		}
	}
}

// floodUDP sends 20,000 datagrams of every kind that a worker tells apart.
func floodUDP(t *testing.T, s *server) {
	before := s.metric("hubbub_media_packets_received_total")
	random := rand.NewChaCha8([32]byte{1})
	const each = 10000
	for port := range 2 {
		conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", s.udp+port))
		if err != nil {
			t.Fatal(err)
		}
		pkt := make([]byte, 1200)
		firsts := []byte{0x80, 0x81, 0x90, 0x00, 0x01, 20, 22, 63, 0x13, 0xff}
		for i := range each {
			n := 1 + rand.IntN(len(pkt)-1)
			_, _ = random.Read(pkt[:n])
			pkt[0] = firsts[i%len(firsts)]
			if _, err := conn.Write(pkt[:n]); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.Close()
	}
	s.until("hubbub_media_packets_received_total", func(n float64) bool {
		return n+s.metric("hubbub_media_kernel_drops_total") >= before+2*each
	})
}

// floodSilent opens 2,000 connections that say nothing, and is served meanwhile.
func floodSilent(t *testing.T, s *server) {
	conns := make([]net.Conn, 2000)
	for i := range conns {
		conns[i] = dialTCP(t, s)
	}
	if status, body := s.get("/readyz"); status != http.StatusOK {
		t.Errorf("behind silent connections: %d %s", status, body)
	}
	s.http.CloseIdleConnections()
	for _, c := range conns {
		_ = c.Close()
	}
}

// floodIdle opens 2,000 WebSockets that never identify: some are let in, the rest
// refused at the door. What it returns checks that no more than the call is left:
// the gateway's have gone by then, and the voice gateway's were turned out.
func floodIdle(t *testing.T, s *server) (check func()) {
	const count = 1000
	open := map[string][]net.Conn{}
	for path, limit := range map[string]int{"/gateway?v=10": 256, "/?v=8": 1024} {
		accepted := 0
		for range count {
			c := dialTCP(t, s)
			open[path] = append(open[path], c)
			if upgrade(t, c, path) == http.StatusSwitchingProtocols {
				accepted++
			}
		}
		if accepted == 0 || accepted > limit {
			t.Errorf("%s let %d of %d in", path, accepted, count)
		}
	}
	for _, c := range open["/gateway?v=10"] {
		_ = c.Close()
	}
	return func() {
		for _, name := range []string{"hubbub_gateway_connections", "hubbub_voice_connections"} {
			s.until(name, func(n float64) bool { return n == 2 })
		}
		for _, c := range open["/?v=8"] {
			_ = c.Close()
		}
	}
}

// upgrade asks for a WebSocket by hand and returns the status.
func upgrade(t *testing.T, c net.Conn, path string) int {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// floodREST sends 5,000 requests that are wrong in all ways.
func floodREST(t *testing.T, s *server) {
	guest, err := s.client("").Guest(t.Context(), "Mallory", s.link("Invite"))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1<<20)
	requests := []struct{ method, path, token, body string }{
		{"GET", "/api/v10/nowhere", "", ""},
		{"GET", "/api/v99/users/@me", "", ""},
		{"GET", "/api/v10/users/@me", "wrong", ""},
		{"POST", "/api/v10/auth/login", "", `{"login":`},
		{"POST", "/api/v10/auth/login", "", long},
		{"POST", "/api/v10/channels/1/messages", guest.Token, `{"content":"x"}`},
		{"PATCH", "/api/v10/guilds/999999999999/members/1", guest.Token, `[]`},
		{"DELETE", "/api/v10/users/@me", guest.Token, ""},
		{"GET", "/admin/v1/guilds", "Bearer wrong", ""},
		{"GET", "/api/v10/guilds/" + strings.Repeat("9", 4000), guest.Token, ""},
	}
	var tasks sync.WaitGroup
	for range 4 {
		tasks.Go(func() {
			for i := range 1250 {
				q := requests[i%len(requests)]
				req, err := http.NewRequestWithContext(t.Context(), q.method, s.url()+q.path, strings.NewReader(q.body))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", q.token)
				resp, err := s.http.Do(req)
				if err != nil {
					continue // cut in the middle of a body that is too long
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode < 400 || resp.StatusCode >= 500 {
					t.Errorf("%s %.60s: %d", q.method, q.path, resp.StatusCode)
				}
			}
		})
	}
	tasks.Wait()
	s.http.CloseIdleConnections()
}

// floodFrames sends frames over each gateway's limit, with and without a session.
func floodFrames(t *testing.T, s *server) {
	p := newPerson(t, s, "127.0.0.9", "oscar") // whose limits are its own
	p.identify()
	p.join(s.channel("Quiet Room"))
	flood := func(w *wire, size int, want ...proto.CloseCode) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		big := []byte(`{"op":1,"d":"` + strings.Repeat("x", size) + `"}`)
		_ = w.conn.Write(ctx, websocket.MessageText, big) // fails when the server has seen enough
		if code := w.closed(); !slices.Contains(want, code) {
			t.Errorf("a frame of %d bytes is closed with %d, not %d", size, code, want)
		}
	}
	flood(p.voice, 20<<10, proto.VoiceCloseDecodeError)
	flood(p.gateway, 20<<10, proto.CloseDecodeError)
	const reset = -1 // the close frame may be lost while we still write
	for range 10 {
		flood(p.dial("/gateway?v=10"), 20<<10, proto.CloseDecodeError)
		flood(p.dial("/?v=8"), 20<<10, proto.VoiceCloseDecodeError)
		flood(p.dial("/gateway?v=10"), 2<<20, proto.CloseDecodeError, reset)
		flood(p.dial("/?v=8"), 2<<20, proto.VoiceCloseDecodeError, reset)
	}
}
