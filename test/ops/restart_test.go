package ops

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"hubbub.dev/hubbub/proto"
)

// TestCallsComeBack ends a server with a call in it, by SIGTERM and as a crash
// does. Once it runs again the call goes on, and nobody in it had to do anything.
func TestCallsComeBack(t *testing.T) {
	s := startServer(t, checked)
	lounge := s.channel("Lounge")
	a, b := join(t, s, "anna", lounge), join(t, s, "ben", lounge)
	a.hears(t, b, 10)
	b.hears(t, a, 10)
	message, err := s.client("").Guest(t.Context(), "Ada", s.link("Invite"))
	if err != nil {
		t.Fatal(err)
	}
	writer := s.client(message.Token)
	for _, end := range []struct {
		name string
		by   func()
	}{{"SIGTERM", s.terminate}, {"kill", s.kill}} {
		sent, err := writer.SendMessage(t.Context(), s.channel("general"), "before "+end.name)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		end.by()
		s.start()
		a.hears(t, b, 10)
		b.hears(t, a, 10)
		t.Logf("%s: both hear each other %v later", end.name, time.Since(begin).Round(10*time.Millisecond))
		kept, err := writer.Messages(t.Context(), s.channel("general"), 0, 1)
		if err != nil || len(kept) != 1 || kept[0].ID != sent.ID {
			t.Errorf("%s: of the message sent before it %v is left: %v", end.name, kept, err)
		}
		for _, c := range []*caller{a, b} {
			if c.voice.Channel() != lounge {
				t.Errorf("%s: %s is in channel %d, not %d", end.name, c.name, c.voice.Channel(), lounge)
			}
		}
	}
	if got := len(voiceList(s)); got != 2 {
		t.Errorf("%d are in voice, not 2", got)
	}
}

// TestTermination ends a server while clients of every kind hang on it: the
// polite ones are told to resume, and the rude ones hold nothing up.
func TestTermination(t *testing.T) {
	s := startServer(t, checked)
	lounge := s.channel("Lounge")
	p := newPerson(t, s, "127.0.0.1", "anna")
	p.identify()
	p.join(lounge)
	waiting := p.dial("/gateway?v=10&encoding=json") // never identifies
	waiting.await(int(proto.OpHello), "")
	lobby := p.dial("/?v=8")
	lobby.await(int(proto.VoiceOpHello), "")

	silent := dialTCP(t, s) // sends no byte
	slow := dialTCP(t, s)   // sends half a request
	if _, err := io.WriteString(slow, "GET /readyz HTTP/1.1\r\nHost:"); err != nil {
		t.Fatal(err)
	}
	deaf := deafWebSocket(t, s) // reads nothing, so never answers a close
	// Requests in a row on a connection of their own see the end of readiness.
	statuses := make(chan int, 1<<16)
	p.tasks.Go(func() {
		defer close(statuses)
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		c := &http.Client{Transport: tr, Timeout: patience}
		for {
			resp, err := c.Get(s.url() + "/readyz")
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			statuses <- resp.StatusCode
		}
	})
	if status := <-statuses; status != http.StatusOK {
		t.Errorf("/readyz of a server that runs: %d", status)
	}
	s.terminate()
	last := 0
	for status := range statuses {
		last = status
	}
	if last != http.StatusServiceUnavailable {
		t.Errorf("the last /readyz before the end: %d", last)
	}
	for name, w := range map[string]*wire{"gateway": p.gateway, "unidentified gateway": waiting} {
		if code := w.closed(); code != proto.CloseUnknownError {
			t.Errorf("%s closed with %d", name, code)
		}
	}
	for name, w := range map[string]*wire{"voice": p.voice, "unidentified voice": lobby} {
		if code := w.closed(); code != proto.VoiceCloseServerCrashed {
			t.Errorf("%s closed with %d", name, code)
		}
	}
	for name, c := range map[string]net.Conn{"silent": silent, "slow": slow, "deaf": deaf} {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
			t.Errorf("the %s connection is still open", name)
		}
	}
}

func dialTCP(t *testing.T, s *server) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+s.port, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// deafWebSocket upgrades to the gateway and reads no further.
func deafWebSocket(t *testing.T, s *server) net.Conn {
	t.Helper()
	c := dialTCP(t, s)
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err := fmt.Fprintf(c, "GET /gateway?v=10 HTTP/1.1\r\nHost: localhost:%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", s.port)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("no upgrade: %v %v", resp, err)
	}
	return c
}

// TestCrashLosesNothingAcknowledged kills a server in the middle of writes.
func TestCrashLosesNothingAcknowledged(t *testing.T) {
	s := startServer(t, checked)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	acknowledged := make(chan proto.Snowflake, 1024)
	var task sync.WaitGroup
	task.Go(func() {
		defer close(acknowledged)
		for i := 0; ctx.Err() == nil; i++ {
			var made proto.Channel
			if s.try(ctx, http.MethodPost, "/guilds/"+s.guild.String()+"/channels", map[string]any{"name": fmt.Sprint("room-", i), "type": 0}, &made) != nil {
				return
			}
			acknowledged <- made.ID
		}
	})
	t.Cleanup(task.Wait)
	var ids []proto.Snowflake
	for id := range acknowledged {
		if ids = append(ids, id); len(ids) == 50 {
			s.kill()
		}
	}
	if len(ids) < 50 {
		t.Fatalf("only %d writes before the kill", len(ids))
	}
	s.start()
	kept := map[proto.Snowflake]bool{}
	var channels []proto.Channel
	s.admin(http.MethodGet, "/guilds/"+s.guild.String()+"/channels", nil, &channels)
	for _, c := range channels {
		kept[c.ID] = true
	}
	for i, id := range ids {
		if !kept[id] {
			t.Errorf("channel %d of %d is gone", i, len(ids))
		}
	}
}
