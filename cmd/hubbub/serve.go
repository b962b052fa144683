package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hubbub.dev/hubbub/internal/serve/node"
)

// gcPercent trades a little of the CPU that joins and events take for a third of the
// heap: forwarding makes no garbage.
const gcPercent = 50

// processes says whether the media workers can have a process of their own: it maps
// more memory, which it hardly touches, than 32 bits address.
const processes = runtime.GOOS == "linux" && strconv.IntSize == 64

// serveCmd is every setting of the server. Each flag is also an environment
// variable, HUBBUB_ and its name in capitals, and a key of the YAML file.
type serveCmd struct {
	Config      string        `help:"YAML file of settings, keys named like the flags." env:"HUBBUB_CONFIG" placeholder:"FILE"`
	Data        string        `help:"Directory for the database, certificates and tokens." env:"HUBBUB_DATA" placeholder:"DIR"`
	HTTP        string        `name:"http" help:"Address of the one TCP port, for HTTP and HTTPS." env:"HUBBUB_HTTP" default:":8080"`
	UDPPort     int           `name:"udp-port" help:"UDP port of the first media worker; the others follow it." env:"HUBBUB_UDP_PORT" default:"50000"`
	UDPBind     string        `name:"udp-bind" help:"Address that the media workers bind." env:"HUBBUB_UDP_BIND" placeholder:"IP"`
	Workers     int           `help:"Media workers, one UDP port each (0: one per core)." env:"HUBBUB_WORKERS" default:"0"`
	MaxSpeakers int           `name:"max-speakers" help:"How many speakers of a channel are heard at once: the loudest." env:"HUBBUB_MAX_SPEAKERS" default:"16"`
	SpreadFrom  int           `name:"spread-from" help:"How many people of a channel one media worker has before others take the next." env:"HUBBUB_SPREAD_FROM" default:"500"`
	Wait        time.Duration `help:"How long a busy media worker may hold packets to send them together, up to 5ms: halves its CPU time for that much delay." env:"HUBBUB_WAIT" default:"0s"`

	AttackRate   int  `name:"attack-rate" help:"From how many packets of nobody a second a media worker calls itself attacked (0: 100,000)." env:"HUBBUB_ATTACK_RATE" default:"0"`
	AdmitRate    int  `name:"admit-rate" help:"How many identifies a second, and as many resumes, each gateway takes; others wait their turn (0: 250 per core)." env:"HUBBUB_ADMIT_RATE" default:"0"`
	MediaProcess bool `name:"media-process" help:"Run the media workers in a process of their own, whose crash or upgrade nobody hears (64-bit Linux)." env:"HUBBUB_MEDIA_PROCESS" default:"true" negatable:""`

	PublicIP string `name:"public-ip" help:"Address that clients outside reach this host under, when it is behind NAT." env:"HUBBUB_PUBLIC_IP" placeholder:"IP"`

	PublicURL string `name:"public-url" help:"URL that people open, when a reverse proxy stands in front." env:"HUBBUB_PUBLIC_URL" placeholder:"URL"`
	Domain    string `help:"Domain of this server: gets it a real certificate. Needs --http :443." env:"HUBBUB_DOMAIN"`
	ACMEEmail string `name:"acme-email" help:"Where the certificate authority writes to." env:"HUBBUB_ACME_EMAIL"`
	ACMECA    string `name:"acme-ca" help:"ACME directory (default: Let's Encrypt)." env:"HUBBUB_ACME_CA" placeholder:"URL"`

	Name             string `help:"Name of this server and of its first guild." env:"HUBBUB_NAME" default:"Hubbub"`
	Region           string `help:"Name of the voice region." env:"HUBBUB_REGION" default:"local"`
	Registration     string `help:"Who may make an account: open, invite (by invite link) or closed." env:"HUBBUB_REGISTRATION" default:"invite" enum:"open,invite,closed"`
	LegacyEncryption bool   `name:"legacy-encryption" help:"Offer xsalsa20_poly1305 to old bot libraries (no replay protection of its own)." env:"HUBBUB_LEGACY_ENCRYPTION"`

	Roles          string        `help:"What this node does: gateway, rest, guilds, voice, separated by commas (default: all)." env:"HUBBUB_ROLES" placeholder:"ROLES"`
	Node           string        `help:"Name of this node, different from all others in the fleet (default: the host's, and a number)." env:"HUBBUB_NODE" placeholder:"NAME"`
	VoiceEndpoint  string        `name:"voice-endpoint" help:"Where clients reach this node's voice gateway (default: the public URL, the domain, or the address it listens on)." env:"HUBBUB_VOICE_ENDPOINT" placeholder:"HOST:PORT"`
	RegionFallback string        `name:"region-fallback" help:"Regions that channels go to, in this order, while their own has no voice node, separated by commas (default: any)." env:"HUBBUB_REGION_FALLBACK" placeholder:"REGION,…"`
	DrainTimeout   time.Duration `name:"drain-timeout" help:"How long a node that is told to end waits for its calls to go over to other voice nodes." env:"HUBBUB_DRAIN_TIMEOUT" default:"30s"`
	NATSListen     string        `name:"nats-listen" help:"Where other nodes reach the embedded bus by --nats." env:"HUBBUB_NATS_LISTEN" placeholder:"HOST:PORT"`
	ClusterListen  string        `name:"cluster-listen" help:"Where the embedded buses of other nodes reach this one." env:"HUBBUB_CLUSTER_LISTEN" placeholder:"HOST:PORT"`
	ClusterPeers   string        `name:"cluster-peers" help:"Where this node's embedded bus reaches some of the others, separated by commas." env:"HUBBUB_CLUSTER_PEERS" placeholder:"HOST:PORT,…"`
	BusSecret      string        `name:"bus-secret" help:"File with the secret that the nodes' embedded buses ask for." env:"HUBBUB_BUS_SECRET" placeholder:"FILE"`

	NATS     string `name:"nats" help:"NATS cluster to use as the bus (default: embedded)." env:"HUBBUB_NATS" placeholder:"URL"`
	Database string `help:"postgres://… or sqlite:<file> (default: SQLite in the data directory)." env:"HUBBUB_DATABASE" placeholder:"DSN"`

	LogLevel  string `name:"log-level" help:"debug, info, warn or error." env:"HUBBUB_LOG_LEVEL" default:"info" enum:"debug,info,warn,error"`
	LogFormat string `name:"log-format" help:"text or json." env:"HUBBUB_LOG_FORMAT" default:"text" enum:"text,json"`
}

// Run serves until a signal (SIGINT, SIGTERM, a closed terminal) or until a part of
// the server fails.
func (c *serveCmd) Run() error {
	log := c.logger()
	collectEagerly()
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	secret, err := c.busSecret()
	if err != nil {
		return err
	}
	n, err := node.Start(ctx, node.Config{
		Roles: c.Roles, Node: c.Node, VoiceEndpoint: c.VoiceEndpoint,
		NATSListen: c.NATSListen, ClusterListen: c.ClusterListen, ClusterPeers: list(c.ClusterPeers), BusSecret: secret,
		RegionFallback: list(c.RegionFallback), DrainTimeout: c.DrainTimeout,
		DataDir: c.Data, HTTP: c.HTTP, UDPPort: c.UDPPort, UDPBind: c.UDPBind, Workers: c.Workers,
		MediaProcess: c.MediaProcess && processes, MediaArgs: []string{"media"},
		MaxSpeakers: c.MaxSpeakers, SpreadFrom: c.SpreadFrom, Wait: c.Wait,
		AttackRate: c.AttackRate, AdmitRate: c.AdmitRate,
		PublicIP: c.PublicIP, PublicURL: c.PublicURL, Domain: c.Domain, ACMEEmail: c.ACMEEmail, ACMECA: c.ACMECA,
		Name: c.Name, Region: c.Region, Registration: c.Registration, LegacyEncryption: c.LegacyEncryption,
		NATS: c.NATS, Database: c.Database, Version: version, Succession: node.Succeed(log), Log: log,
	})
	if err != nil {
		return explain(err)
	}
	n.Banner(os.Stdout)
	upgrade := make(chan os.Signal, 1)
	if len(upgradeSignals) > 0 { // none would mean all
		signal.Notify(upgrade, upgradeSignals...)
		defer signal.Stop(upgrade)
	}
	for running := true; running; {
		select {
		case <-upgrade:
			if err := n.Upgrade(ctx); err != nil {
				log.Error("not upgraded", "err", err)
			}
		case <-n.Upgraded():
			if err := n.Replace(ctx); err != nil {
				log.Error("not replaced", "err", err)
			}
		case <-ctx.Done():
			log.Info("shutting down: clients are told to resume")
			running = false
		case <-n.Asked():
			log.Info("asked to drain: shutting down")
			running = false
		case <-n.Done():
			err = errors.New("a part of the server failed; the log says which")
			running = false
		}
	}
	stop() // a further signal ends the process at once
	begin := time.Now()
	if err == nil {
		n.Drain(context.Background())
	}
	n.Close(context.Background())
	log.Info("stopped", "took", time.Since(begin).Round(time.Millisecond))
	return err
}

// busSecret reads the secret's file.
func (c *serveCmd) busSecret() (string, error) {
	if c.BusSecret == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.BusSecret)
	if err != nil {
		return "", fmt.Errorf("--bus-secret: %w", err)
	}
	secret := strings.TrimSpace(string(b))
	if len(secret) < 16 {
		return "", fmt.Errorf("--bus-secret %s: at least 16 characters, from a random source", c.BusSecret)
	}
	return secret, nil
}

func list(commas string) []string {
	return strings.FieldsFunc(commas, func(r rune) bool { return r == ',' || r == ' ' })
}

func collectEagerly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

func (c *serveCmd) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // kong checked the enum
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

// explain adds what to do to the errors that newcomers meet.
func explain(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w\nAnother program has that port: is Hubbub running already? Choose others with --http and --udp-port", err)
	}
	if errors.Is(err, syscall.EACCES) && strings.Contains(err.Error(), "listen") {
		return fmt.Errorf("%w\nPorts below 1024 need privileges: choose a higher one, or give the binary CAP_NET_BIND_SERVICE", err)
	}
	return err
}
