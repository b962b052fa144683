// Package bus owns the connection between Hubbub's roles: publish, subscribe and
// request over NATS, embedded in this process or external, with CBOR messages.
// It never looks into a message and never retries one: what was not delivered
// is its sender's business.
package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Config says which bus to join. With an empty URL a server is embedded, without
// a TCP listener unless Listen is set, and apart from others unless Cluster is.
type Config struct {
	URL    string // of an external NATS server or cluster, comma-separated
	Name   string // of this node, for the server's logs
	Listen string // host:port for other processes, embedded only; empty for none
	// Cluster is where other embedded servers reach this one, host:port, and Peers are
	// where it reaches some of them; they tell it of the rest.
	Cluster string
	Peers   []string
	// Secret is what whoever comes to an embedded server must know, and what this node
	// says to others. Without it everybody may come.
	Secret string
	Log    *slog.Logger
}

// busUser is the name that goes with the secret.
const busUser = "hubbub"

// Errors of Request.
var (
	// ErrNoResponders means that nobody subscribes to the subject.
	ErrNoResponders = errors.New("bus: nobody listens on that subject")
	// ErrClosed means that the bus was closed or is out of reach.
	ErrClosed = errors.New("bus: closed")
)

// maxPayload bounds one message: a snapshot of a large guild is the largest.
const maxPayload = 32 << 20

// Bus is one node's connection. It is safe for concurrent use.
type Bus struct {
	nc       *nats.Conn
	embedded *server.Server
	log      *slog.Logger

	mu      sync.Mutex
	returns []func()
}

// Start joins the bus, starting an embedded server when no URL is given.
func Start(cfg Config) (*Bus, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bus{log: cfg.Log}
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.RetryOnFailedConnect(true),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			cfg.Log.Error("bus error", "subject", subject, "err", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				cfg.Log.Warn("bus lost", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { b.returned() }),
	}
	if cfg.URL == "" {
		s, err := embed(cfg)
		if err != nil {
			return nil, err
		}
		b.embedded = s
		opts = append(opts, nats.InProcessServer(s))
	}
	if cfg.Secret != "" {
		opts = append(opts, nats.UserInfo(busUser, cfg.Secret))
	}
	nc, err := nats.Connect(cfg.URL, opts...)
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("bus: connect: %w", err)
	}
	b.nc = nc
	return b, nil
}

func embed(cfg Config) (*server.Server, error) {
	if cfg.Cluster != "" && cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:-1" // a server in a cluster must listen for clients too
	}
	o := &server.Options{
		ServerName: cfg.Name, DontListen: cfg.Listen == "", NoSigs: true, NoLog: true,
		MaxPayload: maxPayload, MaxPending: 256 << 20,
	}
	if cfg.Secret != "" {
		o.Username, o.Password = busUser, cfg.Secret
	}
	if cfg.Listen != "" {
		var err error
		if o.Host, o.Port, err = hostPort(cfg.Listen); err != nil {
			return nil, err
		}
	}
	if cfg.Cluster != "" {
		if err := setCluster(o, cfg); err != nil {
			return nil, err
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("bus: embedded server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, errors.New("bus: embedded server did not start in 10 s")
	}
	return s, nil
}

func setCluster(o *server.Options, cfg Config) (err error) {
	o.Cluster.Name = busUser
	if o.Cluster.Host, o.Cluster.Port, err = hostPort(cfg.Cluster); err != nil {
		return err
	}
	if cfg.Secret != "" {
		o.Cluster.Username, o.Cluster.Password = busUser, cfg.Secret
	}
	for _, peer := range cfg.Peers {
		if _, _, err := hostPort(peer); err != nil {
			return err
		}
		route := &url.URL{Scheme: "nats", Host: peer}
		if cfg.Secret != "" {
			route.User = url.UserPassword(busUser, cfg.Secret)
		}
		o.Routes = append(o.Routes, route)
	}
	return nil
}

func hostPort(addr string) (string, int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("bus: address %q: %w", addr, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", 0, fmt.Errorf("bus: port %q: %w", port, err)
	}
	return host, n, nil
}

// Encode returns m as CBOR.
func Encode(m any) ([]byte, error) { return cbor.Marshal(m) }

// Decode reads CBOR into m.
func Decode(data []byte, m any) error { return cbor.Unmarshal(data, m) }

// encoders are the buffers of Publish. NATS copies what it is given, and messages
// of megabytes come by the hundred when a crowd joins a big guild.
var encoders = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Publish sends m to every subscriber of subject. It does not wait for delivery,
// and keeps nothing of m.
func (b *Bus) Publish(subject string, m any) error {
	buffer := encoders.Get().(*bytes.Buffer)
	defer encoders.Put(buffer)
	buffer.Reset()
	if err := cbor.MarshalToBuffer(m, buffer); err != nil {
		return fmt.Errorf("bus: encode for %s: %w", subject, err)
	}
	return b.nc.Publish(subject, buffer.Bytes())
}

// Message is one delivery. Data is the receiver's own.
type Message struct {
	Subject string
	Data    []byte
	msg     *nats.Msg
}

// Decode reads the message into v.
func (m Message) Decode(v any) error { return Decode(m.Data, v) }

// Respond answers a request with v; on a message without a reply subject it does
// nothing.
func (m Message) Respond(v any) error {
	if m.msg == nil || m.msg.Reply == "" {
		return nil
	}
	data, err := Encode(v)
	if err != nil {
		return fmt.Errorf("bus: encode reply on %s: %w", m.Subject, err)
	}
	return m.msg.Respond(data)
}

// Forward sends v to another subject in the place of the message, so that whoever
// answers it there answers this one's sender.
func (b *Bus) Forward(m Message, subject string, v any) error {
	data, err := Encode(v)
	if err != nil {
		return fmt.Errorf("bus: encode for %s: %w", subject, err)
	}
	if m.msg == nil || m.msg.Reply == "" {
		return b.nc.Publish(subject, data)
	}
	return b.nc.PublishRequest(subject, m.msg.Reply, data)
}

// Subscribe calls f for every message to subject ("*" stands for one token). f
// runs on the subscription's own goroutine, in order, and must only post to a
// mailbox: while it runs, later messages wait.
func (b *Bus) Subscribe(subject string, f func(Message)) (unsubscribe func(), err error) {
	sub, err := b.nc.Subscribe(subject, func(m *nats.Msg) {
		f(Message{Subject: m.Subject, Data: m.Data, msg: m})
	})
	if err != nil {
		return nil, fmt.Errorf("bus: subscribe %s: %w", subject, err)
	}
	// The mailbox behind f bounds what is kept; here only bytes are bounded.
	if err := sub.SetPendingLimits(-1, 256<<20); err != nil {
		return nil, fmt.Errorf("bus: subscribe %s: %w", subject, err)
	}
	// A subscription that the server does not know yet would lose the next
	// publish of another connection.
	if b.nc.IsConnected() {
		if err := b.nc.FlushTimeout(5 * time.Second); err != nil {
			return nil, fmt.Errorf("bus: subscribe %s: %w", subject, err)
		}
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// Request sends m and decodes the first answer into reply. The deadline is the
// context's.
func (b *Bus) Request(ctx context.Context, subject string, m, reply any) error {
	data, err := Encode(m)
	if err != nil {
		return fmt.Errorf("bus: encode for %s: %w", subject, err)
	}
	msg, err := b.nc.RequestWithContext(ctx, subject, data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNoResponders
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case err != nil:
		return fmt.Errorf("bus: request %s: %w", subject, err)
	}
	return Decode(msg.Data, reply)
}

// OnReturn has f called whenever the connection is back after it was lost. What was
// sent to this node meanwhile is lost. f must only post to mailboxes.
func (b *Bus) OnReturn(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.returns = append(b.returns, f)
}

func (b *Bus) returned() {
	b.log.Info("bus back")
	b.mu.Lock()
	returns := slices.Clone(b.returns)
	b.mu.Unlock()
	for _, f := range returns {
		f()
	}
}

// Connected reports whether messages can be sent now.
func (b *Bus) Connected() bool { return b.nc.IsConnected() }

// Close leaves the bus and ends an embedded server.
func (b *Bus) Close() {
	if b.nc != nil {
		b.nc.Close()
	}
	if b.embedded != nil {
		b.embedded.Shutdown()
		b.embedded.WaitForShutdown()
	}
}

// ClusterAddr returns where other embedded servers reach this one, or "".
func (b *Bus) ClusterAddr() string {
	if b.embedded == nil || b.embedded.ClusterAddr() == nil {
		return ""
	}
	return b.embedded.ClusterAddr().String()
}

// ClientURL returns where other processes reach an embedded server that listens,
// or "".
func (b *Bus) ClientURL() string {
	if b.embedded == nil || b.embedded.Addr() == nil {
		return ""
	}
	return "nats://" + b.embedded.Addr().String()
}
