package tlsmux

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// certmagic looks after its lock files every five seconds, and ends up to five
	// seconds late.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// serve runs an HTTP server that answers with "tls" or "plain".
func serve(t *testing.T, a *Authority) string {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	l := Listen(inner, a.TLSConfig(), func(_ string, f func(context.Context)) {
		wg.Add(1)
		go func() { defer wg.Done(); f(context.Background()) }()
	})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := "plain"
		if r.TLS != nil {
			kind = "tls"
		}
		_, _ = io.WriteString(w, kind)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done; wg.Wait() })
	return inner.Addr().String()
}

func get(t *testing.T, a *Authority, url string) string {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestOnePortSpeaksBoth(t *testing.T) {
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, a)
	_, port, _ := net.SplitHostPort(addr)
	for url, want := range map[string]string{
		"http://" + addr:            "plain",
		"https://" + addr:           "tls",
		"https://localhost:" + port: "tls",
		"http://localhost:" + port:  "plain",
	} {
		if got := get(t, a, url); got != want {
			t.Errorf("%s answered %q, want %q", url, got, want)
		}
	}
}

func TestAuthorityIsKept(t *testing.T) {
	dir := t.TempDir()
	a, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if string(a.PEM()) != string(b.PEM()) {
		t.Error("a second start made another authority")
	}
	if err := os.WriteFile(dir+"/ca-key.pem", []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir); err == nil {
		t.Error("a broken key was accepted")
	}
}

func TestAuthorityIsAdopted(t *testing.T) {
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := a.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := OpenAuthority(dir); err != nil {
		t.Fatal(err)
	}
	b, err := AdoptAuthority(dir, bundle)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, a, "https://"+serve(t, b)); got != "tls" {
		t.Errorf("who trusts the one and asks the other got %q", got)
	}
	again, err := OpenAuthority(dir)
	if err != nil || string(again.PEM()) != string(a.PEM()) {
		t.Errorf("the next start has %v, %v", again, err)
	}
	leaf, err := a.issue("example.org")
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	server := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	for name, bad := range map[string][]byte{"nothing": nil, "half": bundle[:len(bundle)/2], "a server": server} {
		if _, err := AdoptAuthority(dir, bad); err == nil {
			t.Errorf("%s was adopted as an authority", name)
		}
	}
	if again, err := OpenAuthority(dir); err != nil || string(again.PEM()) != string(a.PEM()) {
		t.Errorf("what was refused is there: %v, %v", again, err)
	}
}

func TestSilentConnectionsAreBounded(t *testing.T) {
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, a)
	var idle []net.Conn
	for range maxPending {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	// Every place is taken by a client that says nothing: the next is served all
	// the same, and the oldest is cut.
	if got := get(t, a, "http://"+addr); got != "plain" {
		t.Errorf("one connection more got %q", got)
	}
	_ = idle[0].SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := idle[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the oldest of one too many: %v, want EOF", err)
	}
	for _, c := range idle {
		_ = c.Close()
	}
}

func TestCloseDropsSilentConnections(t *testing.T) {
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	sniffing := make(chan struct{}, 1)
	l := Listen(inner, a.TLSConfig(), func(name string, f func(context.Context)) {
		tasks.Go(func() { f(t.Context()) })
		if name == "tlsmux sniff" {
			sniffing <- struct{}{}
		}
	})
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	<-sniffing
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(helloTimeout / 2))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the silent connection was left open: %v", err)
	}
	tasks.Wait()
}
