package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg Config) *Node {
	t.Helper()
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(context.Background()) })
	return n
}

func TestUsedPortsNameTheirFlagAndLeaveNothingBehind(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	_, port, _ := net.SplitHostPort(udp.LocalAddr().String())
	used, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	for flag, cfg := range map[string]Config{
		"--http":     {HTTP: tcp.Addr().String(), UDPPort: -1},
		"--udp-port": {HTTP: "127.0.0.1:0", UDPPort: used, UDPBind: "127.0.0.1", Workers: 1},
	} {
		cfg.DataDir = t.TempDir()
		if _, err := Start(t.Context(), cfg); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestOneServerForADataDirectory(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1}
	first, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("a second server started: %v", err)
	}
	first.Close(context.Background())
	start(t, cfg)
}

// pipeListener accepts one connection.
type pipeListener struct{ conns chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l pipeListener) Close() error   { close(l.conns); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// stall makes one request of a handler and returns the connection once it is sent.
func stall(t *testing.T, h http.HandlerFunc, request string) net.Conn {
	t.Helper()
	server := newServer(h, slog.New(slog.DiscardHandler))
	client, conn := net.Pipe()
	l := pipeListener{make(chan net.Conn, 1)}
	l.conns <- conn
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		_ = client.Close()
		<-done
	})
	if _, err := io.WriteString(client, request); err != nil {
		t.Fatal(err)
	}
	return client
}

func TestWhoTakesNoAnswerIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, ended := time.Now(), make(chan error, 1)
		stall(t, func(w http.ResponseWriter, _ *http.Request) {
			_, err := w.Write(make([]byte, 1<<20))
			ended <- err
		}, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if err := <-ended; err == nil {
			t.Error("the whole answer was written to nobody")
		}
		if after := time.Since(begin); after != writeTimeout {
			t.Errorf("cut after %v", after)
		}
	})
}

func TestWhoNeverEndsARequestIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		client := stall(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
		if _, err := io.Copy(io.Discard, client); err != nil {
			t.Error(err)
		}
		if after := time.Since(begin); after < readTimeout || after > readTimeout+time.Second {
			t.Errorf("cut after %v", after)
		}
	})
}

func TestReadiness(t *testing.T) {
	n := start(t, Config{DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1})
	ready := func() (int, string) {
		w := httptest.NewRecorder()
		n.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return w.Code, w.Body.String()
	}
	if status, body := ready(); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	n.closing.Store(true)
	if status, body := ready(); status != http.StatusServiceUnavailable || !strings.Contains(body, "shutting down") {
		t.Errorf("while shutting down: %d %s", status, body)
	}
	n.closing.Store(false)
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	if status, body := ready(); status != http.StatusServiceUnavailable || !strings.Contains(body, "database") {
		t.Errorf("without a database: %d %s", status, body)
	}
}

func TestWhatTheDataDirectorySays(t *testing.T) {
	dir := t.TempDir()
	n := start(t, Config{DataDir: dir, HTTP: "127.0.0.1:0", UDPPort: -1})
	for _, name := range []string{"hubbub.db", "admin.token", "server.json", "ca-key.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", name, info.Mode())
		}
	}
	var where struct{ URL string }
	data, err := os.ReadFile(filepath.Join(dir, "server.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &where); err != nil || where.URL != n.URL() {
		t.Errorf("server.json says %s (%v), not %s", data, err, n.URL())
	}
}

func TestURLIsWhereTheServerListens(t *testing.T) {
	for listen, want := range map[string]string{
		":8080": "http://127.0.0.1:99", "0.0.0.0:8080": "http://127.0.0.1:99", "[::]:8080": "http://127.0.0.1:99",
		"127.0.0.2:8080": "http://127.0.0.2:99", "[::1]:8080": "http://[::1]:99", "localhost:0": "http://localhost:99",
	} {
		n := &Node{cfg: Config{HTTP: listen}, port: "99"}
		if got := n.URL(); got != want {
			t.Errorf("--http %s: %s, want %s", listen, got, want)
		}
	}
}
