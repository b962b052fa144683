package node

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
)

// both returns a node with all roles but voice, and a voice node on its bus.
func both(t *testing.T) (front, voice *Node) {
	front = start(t, Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", Roles: "gateway,rest,guilds", Node: "front", NATSListen: "127.0.0.1:-1",
		BusSecret: "a secret of the fleet",
	})
	voice = start(t, Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1, Roles: "voice", Region: "far",
		NATS: front.BusURL(), BusSecret: "a secret of the fleet",
	})
	return front, voice
}

func TestRolesApart(t *testing.T) {
	front, voice := both(t)
	if voice.store != nil || voice.rest != nil || voice.gateway != nil || voice.guilds != nil || front.voice != nil || front.media != nil {
		t.Error("a node has more than its roles")
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		m, there := front.discovery.View().Member(voice.Name())
		if there {
			if m.Roles != fleet.Voice || m.Endpoint != strings.TrimPrefix(voice.URL(), "http://") {
				t.Errorf("%+v", m)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the voice node was never seen")
		}
	}
	if got := front.regions(); !slices.Equal(got, []string{"far"}) {
		t.Errorf("regions %q", got)
	}
	get := func(n *Node, path string) int {
		w := httptest.NewRecorder()
		n.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	for path, want := range map[string][2]int{
		"/readyz": {200, 200}, "/api/v10/gateway": {200, 404}, "/": {200, 404}, "/healthz": {200, 200},
	} {
		if a, b := get(front, path), get(voice, path); a != want[0] || b != want[1] {
			t.Errorf("%s: %d and %d, want %v", path, a, b, want)
		}
	}
	var out strings.Builder
	voice.Banner(&out)
	if s := out.String(); strings.Contains(s, "Invite") || strings.Contains(s, "Open") || !strings.Contains(s, "UDP") {
		t.Errorf("a voice node's banner: %s", s)
	}
}

// Who trusts one node of a fleet trusts all of them.
func TestAFleetHasOneAuthority(t *testing.T) {
	front, voice := both(t)
	pem, err := os.ReadFile(front.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	if other, err := os.ReadFile(voice.CAFile()); err != nil || string(other) != string(pem) {
		t.Errorf("the voice node's authority is another: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, n := range []*Node{front, voice} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(n.HTTPSURL(), "https://"), &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
		if err != nil {
			t.Errorf("%s: %v", n.Name(), err)
			continue
		}
		_ = conn.Close()
	}
}

func TestANodeKeepsItsName(t *testing.T) {
	dir := t.TempDir()
	n := &Node{cfg: Config{DataDir: dir}}
	name, err := n.nodeName()
	if err != nil || !fleet.ValidName(name) {
		t.Fatalf("%q, %v", name, err)
	}
	if again, err := n.nodeName(); err != nil || again != name {
		t.Errorf("%q, then %q, %v", name, again, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node"), []byte("no name\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := n.nodeName(); err != nil || !fleet.ValidName(again) {
		t.Errorf("%q, %v", again, err)
	}
}

func TestVoiceEndpoints(t *testing.T) {
	for want, cfg := range map[string]Config{
		"voice.example.org:7000": {VoiceEndpoint: "voice.example.org:7000", PublicURL: "https://example.org"},
		"example.org:443":        {PublicURL: "https://example.org"},
		"example.org:8443":       {PublicURL: "https://example.org:8443"},
		"example.org:80":         {PublicURL: "http://example.org"},
		"d.example.org:99":       {Domain: "d.example.org", HTTP: ":99"},
		"127.0.0.2:99":           {HTTP: "127.0.0.2:99"},
	} {
		n := &Node{cfg: cfg, port: "99"}
		if got := n.voiceEndpoint(); got != want {
			t.Errorf("%+v: %s, want %s", cfg, got, want)
		}
	}
}

func TestTheLaterOfTwoNodesOfANameStays(t *testing.T) {
	front := start(t, Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1, Node: "one", NATSListen: "127.0.0.1:-1",
	})
	later := start(t, Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1, Roles: "voice", Node: "two", NATS: front.BusURL(),
	})
	start(t, Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", UDPPort: -1, Roles: "voice", Node: "two", NATS: front.BusURL(),
	})
	select {
	case <-later.Done():
	case <-time.After(20 * time.Second):
		t.Error("two nodes of one name go on")
	}
}
