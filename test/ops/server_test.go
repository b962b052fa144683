package ops

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
)

// quickEnd keeps the race detector from adding a second to the end of each process.
const quickEnd = "GORACE=atexit_sleep_ms=0"

// stopLimit is what an end by SIGTERM may take.
const stopLimit = 5 * time.Second

// transcript is bytes that several goroutines add to.
type transcript struct {
	mu    sync.Mutex
	bytes []byte
}

func (b *transcript) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

// Bytes returns a copy of what was written.
func (b *transcript) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.bytes)
}

func (b *transcript) String() string { return string(b.Bytes()) }

// server is the binary, run as a process; it can be ended and started again.
type server struct {
	t        *testing.T
	bin, dir string
	host     string // that the TCP port is bound to, "" for all
	port     string // TCP
	udp      int    // first of two UDP ports
	more     []string
	expected string // in the log, and no reason to complain
	token    string
	guild    proto.Snowflake
	http     *http.Client

	log    transcript // all runs'
	banner transcript // this run's standard output
	cmd    *exec.Cmd
	exited chan struct{}
	tasks  sync.WaitGroup
}

// newServer prepares a server on free ports of 127.0.0.1 without starting it.
func newServer(t *testing.T, which func() (string, error), more ...string) *server {
	t.Helper()
	tcp, udp := freePorts(t)
	s := &server{
		t: t, bin: built(t, which), dir: filepath.Join(t.TempDir(), "data"),
		host: "127.0.0.1", port: fmt.Sprint(tcp), udp: udp, more: more,
	}
	s.http = &http.Client{Transport: new(http.Transport), Timeout: patience}
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		if s.cmd != nil {
			s.kill()
		}
		if t.Failed() {
			t.Logf("server log:\n%s", s.log.String())
		}
		log := s.log.String()
		if s.expected != "" {
			log = strings.ReplaceAll(log, s.expected, "")
		}
		for _, complaint := range []string{"DATA RACE", "panic", "level=ERROR"} {
			if strings.Contains(log, complaint) {
				t.Errorf("%s in the server's log:\n%s", complaint, log)
			}
		}
	})
	return s
}

// startServer starts a server and waits until clients can join.
func startServer(t *testing.T, which func() (string, error), more ...string) *server {
	t.Helper()
	s := newServer(t, which, more...)
	s.start()
	return s
}

// freePorts returns a TCP port and the first of two UDP ports that nobody uses,
// from below the range that the kernel gives to outgoing connections.
func freePorts(t *testing.T) (tcp, udp int) {
	t.Helper()
	free := func(network string, port int) bool {
		var c io.Closer
		var err error
		if network == "tcp" {
			c, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		} else {
			c, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		}
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	for range 200 {
		port := 10240 + 2*rand.IntN(10000)
		if free("tcp", port) && free("udp", port) && free("udp", port+1) {
			return port, port
		}
	}
	t.Fatal("no free ports")
	return 0, 0
}

func (s *server) args() []string {
	return append([]string{
		"--data", s.dir, "--http", s.host + ":" + s.port, "--udp-port", fmt.Sprint(s.udp), "--workers", "2",
	}, s.more...)
}

// start runs the binary and waits for the whole banner, which comes when the
// server is ready.
func (s *server) start() {
	s.t.Helper()
	s.cmd, s.exited, s.banner = exec.Command(s.bin, s.args()...), make(chan struct{}), transcript{}
	s.cmd.Stderr = &s.log
	s.cmd.Env = append(os.Environ(), quickEnd)
	out, in := io.Pipe()
	s.cmd.Stdout = in
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ready := make(chan struct{})
	s.tasks.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			_, _ = s.banner.Write(append(lines.Bytes(), '\n'))
			if strings.HasPrefix(lines.Text(), "  Data ") {
				close(ready)
			}
		}
	})
	exited := s.exited
	s.tasks.Go(func() {
		_ = s.cmd.Wait()
		_ = in.Close()
		close(exited)
	})
	select {
	case <-ready:
	case <-exited:
		s.t.Fatalf("the server ended at once:\n%s", s.log.String())
	case <-time.After(patience):
		s.t.Fatal("the server does not start")
	}
	token, err := os.ReadFile(filepath.Join(s.dir, "admin.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	if s.guild == 0 {
		var guilds []proto.Guild
		s.admin(http.MethodGet, "/guilds", nil, &guilds)
		s.guild = guilds[0].ID
	}
}

// terminate sends SIGTERM and wants a clean end in time.
func (s *server) terminate() {
	s.t.Helper()
	begin := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(stopLimit):
		s.t.Fatalf("the server still runs %v after SIGTERM", stopLimit)
	}
	s.tasks.Wait()
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("SIGTERM ends the server with %d", code)
	}
	s.t.Logf("ended %v after SIGTERM", time.Since(begin).Round(time.Millisecond))
	s.cmd = nil
	s.http.CloseIdleConnections()
}

// kill ends the process as a crash does.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.tasks.Wait()
	s.cmd = nil
	s.http.CloseIdleConnections()
}

// link returns the code of the banner's link of that name, "" for none.
func (s *server) link(name string) string {
	m := regexp.MustCompile(`(?m)^  ` + name + ` +http://\S+/invite/(\S+)`).FindStringSubmatch(s.banner.String())
	if m == nil {
		return ""
	}
	return m[1]
}

func (s *server) url() string    { return "http://127.0.0.1:" + s.port }
func (s *server) caFile() string { return filepath.Join(s.dir, "ca.pem") }

// roots returns the server's own authority.
func (s *server) roots() *x509.CertPool {
	s.t.Helper()
	ca, err := os.ReadFile(s.caFile())
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		s.t.Fatal("ca.pem has no certificate")
	}
	return pool
}

// get makes a plain request and returns status and body.
func (s *server) get(path string, header ...string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url()+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// admin makes a call to the admin API, which must succeed.
func (s *server) admin(method, path string, body, answer any) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.try(ctx, method, path, body, answer); err != nil {
		s.t.Fatal(err)
	}
}

// try makes a call to the admin API.
func (s *server) try(ctx context.Context, method, path string, body, answer any) error {
	payload, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url()+"/admin/v1"+path, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("admin %s %s: %d %s", method, path, resp.StatusCode, data)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(data, answer)
}

// bot makes a bot and returns its id and bare token.
func (s *server) bot(name string) (proto.Snowflake, string) {
	s.t.Helper()
	var made struct {
		User  proto.User `json:"user"`
		Token string     `json:"token"`
	}
	s.admin(http.MethodPost, "/bots", map[string]any{"name": name, "guild_id": s.guild}, &made)
	return made.User.ID, made.Token
}

// channel returns the guild's channel of that name.
func (s *server) channel(name string) proto.Snowflake {
	s.t.Helper()
	var channels []proto.Channel
	s.admin(http.MethodGet, "/guilds/"+s.guild.String()+"/channels", nil, &channels)
	for _, c := range channels {
		if c.Name == name {
			return c.ID
		}
	}
	s.t.Fatalf("no channel %q", name)
	return 0
}

// client returns an SDK client over TLS.
func (s *server) client(token string) *client.Client {
	s.t.Helper()
	c, err := client.New(client.Config{BaseURL: "https://127.0.0.1:" + s.port, Token: token, CAFile: s.caFile(), Log: slog.New(slog.NewTextHandler(s.t.Output(), nil)).With("client", token[max(0, len(token)-4):])})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// run runs the binary to its end and returns what it said and its exit code.
func run(t *testing.T, bin string, env []string, args ...string) (out, complaint string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(append(os.Environ(), quickEnd), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}
