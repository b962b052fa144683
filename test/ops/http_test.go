package ops

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"hubbub.dev/hubbub/proto"
)

func TestHealthAndMetrics(t *testing.T) {
	s := startServer(t, checked)
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body := s.get(path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	status, body := s.get("/metrics")
	if status != http.StatusOK {
		t.Errorf("/metrics on this host: %d", status)
	}
	for _, series := range []string{"go_goroutines ", "process_resident_memory_bytes ", `hubbub_media_packets_received_total{worker="1"}`, "hubbub_gateway_sessions "} {
		if !strings.Contains(body, "\n"+series) {
			t.Errorf("/metrics has no %s", series)
		}
	}
	// A proxy on this host passes on what comes from anywhere.
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		if status, _ := s.get("/metrics", header, "203.0.113.7"); status != http.StatusForbidden {
			t.Errorf("/metrics with %s: %d", header, status)
		}
	}
	if status, _ := s.get("/metrics", "X-Forwarded-For", "203.0.113.7", "Authorization", "Bearer "+s.token); status != http.StatusOK {
		t.Errorf("/metrics through a proxy with the admin token: %d", status)
	}
	if status, _ := s.get("/admin/v1/guilds"); status != http.StatusUnauthorized {
		t.Errorf("the admin API without a token: %d", status)
	}
}

// TestEveryNameOfTheServerWorks connects under each name that a client on this
// host may use, in the clear and over TLS on the same port: what the server says
// of itself leads back to the name used.
func TestEveryNameOfTheServerWorks(t *testing.T) {
	s := newServer(t, checked)
	s.host = "" // all addresses
	s.start()
	names := map[string]string{"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1"}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = l.Close()
		names["[::1]"] = "::1"
	}
	for name, from := range names {
		for _, scheme := range []string{"http", "https"} {
			host := name + ":" + s.port
			t.Run(scheme+"://"+name, func(t *testing.T) {
				p := newPersonAt(t, s, scheme+"://"+host, from, "guest")
				var at struct{ URL string }
				p.rest(http.MethodGet, "/gateway", nil, &at)
				want := strings.Replace(p.base, "http", "ws", 1) + "/gateway"
				if strings.TrimSuffix(at.URL, "/") != want {
					t.Errorf("the gateway is said to be at %s, not %s", at.URL, want)
				}
				p.identify()
				if p.welcome.ResumeGatewayURL != want {
					t.Errorf("resume at %s, not %s", p.welcome.ResumeGatewayURL, want)
				}
				p.join(s.channel("Lounge"))
				if p.place.Endpoint == nil || *p.place.Endpoint != host {
					t.Errorf("voice endpoint %v, not %s", p.place.Endpoint, host)
				}
				if p.ready.IP != "127.0.0.1" || p.ready.Port != s.udp && p.ready.Port != s.udp+1 {
					t.Errorf("media at %s:%d", p.ready.IP, p.ready.Port)
				}
				if p.ready.SSRC == 0 || len(p.ready.Modes) == 0 {
					t.Errorf("ready: %+v", p.ready)
				}
				p.voice.send(int(proto.VoiceOpHeartbeat), map[string]int{"t": 7, "seq_ack": -1})
				p.voice.await(int(proto.VoiceOpHeartbeatACK), "")
			})
		}
	}
}
