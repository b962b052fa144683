package node

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreComplete(t *testing.T) {
	c := Config{DataDir: "/x"}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	if c.HTTP != ":8080" || c.UDPPort != 50000 || c.Workers < 1 || c.Database != "sqlite:/x/hubbub.db" || c.Registration != "invite" {
		t.Errorf("defaults: %+v", c)
	}
}

func TestBadSettingsNameTheirFlag(t *testing.T) {
	for flag, c := range map[string]Config{
		"--workers":      {Workers: 1000},
		"--udp-port":     {UDPPort: 65535, Workers: 4},
		"--max-speakers": {MaxSpeakers: -1},
		"--spread-from":  {SpreadFrom: -1},
		"--wait":         {Wait: time.Second},
		"--public-ip":    {PublicIP: "example.org"},
		"--udp-bind":     {UDPBind: "eth0"},
		"--public-url":   {PublicURL: "voice.example.org"},
		"--registration": {Registration: "maybe"},

		"--roles":          {Roles: "gateway,web", NATS: "nats://x"},
		"reachable by":     {Roles: "gateway"},
		"with SQLite":      {Roles: "gateway", NATS: "nats://x"},
		"--node":           {Node: "a.b"},
		"--voice-endpoint": {VoiceEndpoint: "voice.example.org"},
		"--nats with":      {NATS: "nats://x", NATSListen: "127.0.0.1:4222"},
		"--bus-secret":     {NATSListen: "0.0.0.0:4222"},
		"--cluster-peers":  {ClusterPeers: []string{"a:1"}},
	} {
		if err := c.complete(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	c := Config{PublicURL: "https://voice.example.org/", Workers: 1}
	if err := c.complete(); err != nil || c.PublicURL != "https://voice.example.org" {
		t.Errorf("%q, %v", c.PublicURL, err)
	}
}
