package ops

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// quickEnd keeps the race detector from adding a second to the end of each process.
const quickEnd = "GORACE=atexit_sleep_ms=0"

// stopLimit is what an end by SIGTERM may take.
const stopLimit = 5 * time.Second

// server is the binary, run as a process; it can be ended and started again.
type server struct {
	*harness.Process
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
}

// newServer prepares a server on free ports of 127.0.0.1 without starting it.
func newServer(t *testing.T, which func() (string, error), more ...string) *server {
	t.Helper()
	port := harness.FreePort(t, "")
	s := &server{
		t: t, bin: built(t, which), dir: filepath.Join(t.TempDir(), "data"),
		host: "127.0.0.1", port: fmt.Sprint(port), udp: port, more: more,
	}
	// The banner's last line comes when the server is ready.
	s.Process = &harness.Process{Name: "the server", Path: s.bin, Env: []string{quickEnd}, Ready: "  Data "}
	s.http = &http.Client{Transport: new(http.Transport), Timeout: patience}
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		s.Kill()
		log := s.Log.String()
		if t.Failed() {
			t.Logf("server log:\n%s", log)
		}
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

func (s *server) args() []string {
	return append([]string{
		"--data", s.dir, "--http", s.host + ":" + s.port, "--udp-port", fmt.Sprint(s.udp), "--workers", "2",
	}, s.more...)
}

// start runs the binary and waits until it is ready.
func (s *server) start() {
	s.t.Helper()
	s.Args = s.args()
	if err := s.Start(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Await(patience); err != nil {
		s.t.Fatal(err)
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
	if err := s.Stop(stopLimit); err != nil {
		s.t.Error(err)
	}
	s.t.Logf("ended %v after SIGTERM", time.Since(begin).Round(time.Millisecond))
	s.http.CloseIdleConnections()
}

// kill ends the process as a crash does.
func (s *server) kill() {
	s.Kill()
	s.http.CloseIdleConnections()
}

// link returns the code of the banner's link of that name, "" for none.
func (s *server) link(name string) string {
	m := regexp.MustCompile(`(?m)^  ` + name + ` +http://\S+/invite/(\S+)`).FindStringSubmatch(s.Banner.String())
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
	return harness.Admin{URL: s.url(), Token: s.token, HTTP: s.http}.Do(ctx, method, path, body, answer)
}

// bot makes a bot and returns its id and bare token.
func (s *server) bot(name string) (proto.Snowflake, string) {
	s.t.Helper()
	made := harness.Admin{URL: s.url(), Token: s.token, HTTP: s.http}.Bot(s.t, s.guild, name)
	return made.ID, strings.TrimPrefix(made.Token, "Bot ")
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
