// Package node is the composition root: it reads one configuration, opens the
// data directory, and puts the roles together behind one port. It owns start,
// health and stop, and no product behaviour.
package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
)

// Config is everything an operator can set. Zero values mean the defaults that
// the flags of cmd/hubbub document.
type Config struct {
	DataDir string // certificates, database, tokens
	HTTP    string // host:port for HTTP and HTTPS
	UDPPort int    // of the first media worker, the others follow; -1 for ephemeral ports
	UDPBind string // address the media workers bind, empty for all IPv4 addresses
	Workers int    // media workers, 0 for one per core

	// MediaProcess runs the media workers in a child process, which is this binary with
	// MediaArgs. Linux only.
	MediaProcess bool
	MediaArgs    []string

	MaxSpeakers int           // heard at once in a channel, the loudest; 0 for 16
	SpreadFrom  int           // peers of a channel on one worker before others take the next; 0 for 500
	Wait        time.Duration // that a busy media worker may hold packets to send them together, up to 5 ms

	AttackRate int // packets of nobody a second from which a media worker is attacked; 0 for 100,000
	AdmitRate  int // Identifies a second, and Resumes, that each gateway takes; 0 for 250 per core

	PublicIP  string // that clients outside reach the media ports under, behind NAT
	PublicURL string // that people open, when a proxy stands in front
	Domain    string // to get a real certificate for
	ACMEEmail string
	ACMECA    string // ACME directory URL, empty for Let's Encrypt

	Name             string // of the instance and its first guild
	Region           string
	Registration     string // open, invite or closed
	LegacyEncryption bool

	Roles string // of this node, by name and separated by commas; empty for all
	Node  string // names this node in its fleet; empty for the host's name and a number kept in DataDir
	// VoiceEndpoint is host:port that clients reach this node's voice gateway under;
	// empty for the public URL, the domain, or the address it listens on.
	VoiceEndpoint string

	// RegionFallback names the regions that channels go to, in this order, while their own
	// has no voice node; empty for any. It is of nodes that own guilds.
	RegionFallback []string
	// DrainTimeout is how long Drain waits for calls to go over to other nodes; zero does
	// not wait.
	DrainTimeout time.Duration

	NATS          string   // URL of an external bus, empty for an embedded one
	NATSListen    string   // host:port where other nodes reach the embedded bus
	ClusterListen string   // host:port where other embedded buses reach this one
	ClusterPeers  []string // host:port of some of them
	BusSecret     string   // that nodes show each other's embedded bus
	Database      string   // DSN, empty for SQLite in DataDir

	HeartbeatInterval time.Duration // of both gateways; zero for each one's own
	ResumeWindow      time.Duration // for which a cut session can be resumed; zero for a minute

	Version string
	// Succession is what the program before in this process left, or nil.
	Succession *Succession
	Log        *slog.Logger

	roles fleet.Roles
}

// alone reports whether no other node can reach this one.
func (c *Config) alone() bool { return c.NATS == "" && c.NATSListen == "" && c.ClusterListen == "" }

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
	if c.AttackRate < 0 {
		bad("--attack-rate %d: at least 1", c.AttackRate)
	}
	if c.DrainTimeout < 0 {
		bad("--drain-timeout %v: not negative", c.DrainTimeout)
	}
	if c.AdmitRate < 0 {
		bad("--admit-rate %d: at least 1", c.AdmitRate)
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
	c.checkFleet(bad)
	return errors.Join(errs...)
}

// checkFleet checks the settings of a node among others.
func (c *Config) checkFleet(bad func(format string, args ...any)) {
	roles, err := fleet.ParseRoles(c.Roles)
	if err != nil {
		bad("--roles: %w", err)
	}
	c.roles = roles
	if c.Node != "" && !fleet.ValidName(c.Node) {
		bad("--node %q: letters, digits, - and _, at most %d", c.Node, fleet.MaxName)
	}
	if c.VoiceEndpoint != "" {
		if _, _, err := net.SplitHostPort(c.VoiceEndpoint); err != nil {
			bad("--voice-endpoint %q: want host:port", c.VoiceEndpoint)
		}
	}
	if c.NATS != "" && (c.NATSListen != "" || c.ClusterListen != "") {
		bad("--nats with --nats-listen or --cluster-listen: the bus is either external or embedded")
	}
	if len(c.ClusterPeers) > 0 && c.ClusterListen == "" {
		bad("--cluster-peers without --cluster-listen: the peers must reach this node too")
	}
	for flag, address := range map[string]string{"--nats-listen": c.NATSListen, "--cluster-listen": c.ClusterListen} {
		if address != "" && !loopback(address) && c.BusSecret == "" {
			bad("%s %s: whoever reaches the bus commands the fleet: set --bus-secret, or listen on a loopback address", flag, address)
		}
	}
	if c.alone() && roles != fleet.All {
		bad("--roles %s: the other roles must be reachable by --nats, --nats-listen or --cluster-listen", roles)
	}
	if roles.Has(fleet.Stored) && !c.alone() && strings.HasPrefix(c.Database, "sqlite:") && roles&fleet.Stored != fleet.Stored {
		bad("--roles %s with SQLite, which one process alone can use: set --database postgres://…", roles)
	}
}

// loopback reports whether nobody but this host reaches what listens there.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, parsed := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || parsed == nil && ip.IsLoopback())
}
