// Package node is the composition root: it reads one configuration, opens the
// data directory, and puts the roles together behind one port. It owns start,
// health and stop, and no product behaviour.
package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Config is everything an operator can set. Zero values mean the defaults that
// the flags of cmd/hubbub document.
type Config struct {
	DataDir string // certificates, database, tokens
	HTTP    string // host:port for HTTP and HTTPS
	UDPPort int    // of the first media worker, the others follow; -1 for ephemeral ports
	UDPBind string // address the media workers bind, empty for all IPv4 addresses
	Workers int    // media workers, 0 for one per core

	MaxSpeakers int           // heard at once in a channel, the loudest; 0 for 16
	SpreadFrom  int           // peers of a channel on one worker before others take the next; 0 for 500
	Wait        time.Duration // that a busy media worker may hold packets to send them together, up to 5 ms

	PublicIP  string // that clients outside reach the media ports under, behind NAT
	PublicURL string // that people open, when a proxy stands in front
	Domain    string // to get a real certificate for
	ACMEEmail string
	ACMECA    string // ACME directory URL, empty for Let's Encrypt

	Name             string // of the instance and its first guild
	Region           string
	Registration     string // open, invite or closed
	LegacyEncryption bool

	NATS     string // URL of an external bus, empty for an embedded one
	Database string // DSN, empty for SQLite in DataDir

	HeartbeatInterval time.Duration // of both gateways; zero for each one's own
	ResumeWindow      time.Duration // for which a cut session can be resumed; zero for a minute

	Version string
	Log     *slog.Logger
}

// DefaultDataDir returns the user's state directory for Hubbub:
// $XDG_STATE_HOME/hubbub, ~/.local/state/hubbub, or the platform's own place.
func DefaultDataDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "hubbub")
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		if dir, err := os.UserConfigDir(); err == nil {
			return filepath.Join(dir, "hubbub")
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "hubbub")
	}
	return "hubbub-data"
}

// complete fills defaults in and refuses what cannot work, naming the flag.
func (c *Config) complete() error {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.DataDir, DefaultDataDir())
	def(&c.HTTP, ":8080")
	def(&c.Name, "Hubbub")
	def(&c.Region, "local")
	def(&c.Registration, "invite")
	def(&c.Version, "dev")
	def(&c.Database, "sqlite:"+filepath.Join(c.DataDir, "hubbub.db"))
	if c.UDPPort == 0 {
		c.UDPPort = 50000
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c.check()
}

func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Workers < 1 || c.Workers > 256 {
		bad("--workers %d: between 1 and 256", c.Workers)
	}
	if c.UDPPort != -1 && (c.UDPPort < 1 || c.UDPPort+c.Workers > 65536) {
		bad("--udp-port %d with %d workers: the ports must lie between 1 and 65535", c.UDPPort, c.Workers)
	}
	if c.MaxSpeakers < 0 || c.MaxSpeakers > 1000 {
		bad("--max-speakers %d: between 1 and 1000", c.MaxSpeakers)
	}
	if c.SpreadFrom < 0 {
		bad("--spread-from %d: at least 1", c.SpreadFrom)
	}
	if c.Wait < 0 || c.Wait > 5*time.Millisecond {
		bad("--wait %v: between 0 and 5ms", c.Wait)
	}
	if c.PublicIP != "" {
		if _, err := netip.ParseAddr(c.PublicIP); err != nil {
			bad("--public-ip %q: not an IP address", c.PublicIP)
		}
	}
	if c.UDPBind != "" {
		if _, err := netip.ParseAddr(c.UDPBind); err != nil {
			bad("--udp-bind %q: not an IP address", c.UDPBind)
		}
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
			bad("--public-url %q: want http(s)://host[:port] and no path", c.PublicURL)
		}
		c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	}
	switch c.Registration {
	case "open", "invite", "closed":
	default:
		bad("--registration %q: open, invite or closed", c.Registration)
	}
	return errors.Join(errs...)
}
