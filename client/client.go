package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Config says which server to talk to, and as whom.
type Config struct {
	// BaseURL is the server's scheme, host and port: "https://localhost:8080".
	// With "http" the two WebSockets are unencrypted too.
	BaseURL string
	// Token is a bot's token with the prefix "Bot ", or a user's without one.
	// It may be empty for calls that need none, such as Guest.
	Token string
	// TLS is used for every connection when set. CAFile names a PEM file whose
	// certificates are trusted besides the system's.
	TLS    *tls.Config
	CAFile string
	// Dial opens every connection when set: "tcp" for requests and WebSockets, "udp"
	// for media, where each connection is for one session and its key. An address
	// is host:port. It may be called by several goroutines at once.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Log receives reconnections at Info and protocol detail at Debug; nil
	// discards them.
	Log *slog.Logger
}

// Client makes requests with one token. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	token   string
	http    *http.Client
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	log     *slog.Logger
	backoff backoff

	claimAnswer time.Duration
}

// New returns a client of the server at cfg.BaseURL. It connects to nothing yet.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(cfg.BaseURL, "/"))
	if err != nil {
		return nil, fmt.Errorf("client: base URL: %w", err)
	}
	if (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, fmt.Errorf("client: base URL %q: want http(s)://host:port", cfg.BaseURL)
	}
	tlsConfig, err := trust(cfg.TLS, cfg.CAFile)
	if err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = tlsConfig
	dial := cfg.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	} else {
		transport.DialContext, transport.Proxy = dial, nil
	}
	// A WebSocket upgrade needs HTTP/1.1, and both share this transport.
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	return &Client{
		base:    base,
		token:   cfg.Token,
		http:    &http.Client{Transport: transport},
		dial:    dial,
		log:     log,
		backoff: backoff{min: 250 * time.Millisecond, max: 30 * time.Second},

		claimAnswer: claimAnswer,
	}, nil
}

// WithToken returns a client of the same server that speaks for another token.
func (c *Client) WithToken(token string) *Client {
	other := *c
	other.token = token
	return &other
}

// Close drops idle connections. Gateways that are open stay open.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func trust(base *tls.Config, caFile string) (*tls.Config, error) {
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if caFile == "" {
		return base, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("client: CA file: %w", err)
	}
	base = base.Clone()
	if base.RootCAs == nil {
		if base.RootCAs, err = x509.SystemCertPool(); err != nil {
			base.RootCAs = x509.NewCertPool()
		}
	} else {
		base.RootCAs = base.RootCAs.Clone()
	}
	if !base.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client: CA file %s: no certificate in it", caFile)
	}
	return base, nil
}

// webSocketURL turns host:port into the URL of a WebSocket there, encrypted
// exactly when the base URL is.
func (c *Client) webSocketURL(host, query string) string {
	scheme := "wss"
	if c.base.Scheme == "http" {
		scheme = "ws"
	}
	return scheme + "://" + host + "/?" + query
}

func (c *Client) dialOptions() *websocket.DialOptions {
	return &websocket.DialOptions{HTTPClient: c.http}
}

// bareToken is the token as Identify carries it.
func (c *Client) bareToken() string { return strings.TrimPrefix(c.token, "Bot ") }
