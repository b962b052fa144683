package tlsmux

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// lines is a log that tests can wait on.
type lines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.text.Write(b)
}

// TestDomainWithoutACertificate has an ACME directory that refuses: the reason is in
// the server's own log, and TLS works meanwhile, by the local authority.
func TestDomainWithoutACertificate(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer refuses.Close()
	local, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{wrote: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	config, err := DomainTLSConfig(ctx, DomainConfig{
		Domain: "voice.example.test", Dir: t.TempDir(), CA: refuses.URL, Log: slog.New(slog.NewTextHandler(log, nil)),
	}, local)
	if err != nil {
		t.Fatal(err)
	}
	<-log.wrote
	log.mu.Lock()
	if text := log.text.String(); !strings.Contains(text, "certificate: ") || !strings.Contains(text, "domain=voice.example.test") {
		t.Errorf("log: %s", text)
	}
	log.mu.Unlock()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(local.PEM())
	for _, name := range []string{"voice.example.test", "localhost"} {
		ours, theirs := net.Pipe()
		server := tls.Server(theirs, config)
		client := tls.Client(ours, &tls.Config{RootCAs: pool, ServerName: name})
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		if err := client.Handshake(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = ours.Close()
		_ = theirs.Close()
	}
}
