package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/tlsmux"
	"hubbub.dev/hubbub/internal/serve/discovery"
	"hubbub.dev/hubbub/internal/serve/gateway"
	"hubbub.dev/hubbub/internal/serve/guilds"
	"hubbub.dev/hubbub/internal/serve/rest"
	"hubbub.dev/hubbub/proto"
)

const (
	// subjectKey is where nodes with a database give the key of voice tokens to those
	// without one. Whoever is on the bus may have it: they could do all that it allows
	// without it. So it is with the local certificate authority on subjectAuthority, for
	// they tell clients which server to go to.
	subjectKey       = "fleet.key"
	subjectAuthority = "fleet.authority"
	// askAgain is how long it is until something that no node answered is asked again.
	askAgain = 250 * time.Millisecond
	// askPatience is how long the answer of one may take, which may have died since.
	askPatience = 2 * time.Second
	// numberLease is how long a node that is away keeps its numbers for ids.
	numberLease = time.Hour
	// healthEvery is how often the database is looked at, and ailingAfter how many
	// looks in a row must fail before the others are told.
	healthEvery = time.Second
	ailingAfter = 3
)

type keyAnswer struct {
	Key []byte `cbor:"1,keyasint"`
}

// nodeName returns what the node is called: as it was told, or after the host and the
// data directory.
func (n *Node) nodeName() (string, error) {
	if n.cfg.Node != "" {
		return n.cfg.Node, nil
	}
	path := filepath.Join(n.cfg.DataDir, "node")
	if b, err := os.ReadFile(path); err == nil && fleet.ValidName(strings.TrimSpace(string(b))) {
		return strings.TrimSpace(string(b)), nil
	}
	host, err := os.Hostname()
	if err != nil || fleet.CleanName(host) == "" {
		host = "node"
	}
	var tail [3]byte
	_, _ = rand.Read(tail[:]) // never fails
	host = fleet.CleanName(host)
	name := fmt.Sprintf("%s-%x", host[:min(len(host), 40)], tail)
	return name, os.WriteFile(path, []byte(name+"\n"), 0o600)
}

// route returns the bus subject of a guild's owner.
func (n *Node) route(g proto.Snowflake) string {
	return guild.OwnerSubject(n.discovery.View().GuildOwner(uint64(g)))
}

// openFleet begins to hear the other nodes.
func (n *Node) openFleet(context.Context) error {
	self := fleet.Member{Name: n.name, Epoch: n.epoch, Roles: n.cfg.roles}
	if n.cfg.roles.Has(fleet.Voice) {
		self.Region, self.Endpoint = n.cfg.Region, n.voiceEndpoint()
	}
	n.discovery = discovery.New(discovery.Config{
		Self: self, Alone: n.cfg.alone(), Sample: n.sample(), Mourned: n.returned, Log: n.log, Metrics: n.metrics,
	}, n.bus)
	n.bus.OnReturn(n.returned)
	return nil
}

// returned tells the roles that the bus, or the others' belief in this node, was away.
func (n *Node) returned() {
	if !n.opened.Load() {
		return
	}
	if n.guilds != nil {
		n.guilds.Returned()
	}
	if n.gateway != nil {
		n.gateway.Returned()
	}
	if n.voice != nil {
		n.voice.Returned()
	}
}

// voiceEndpoint returns where clients reach this node's voice gateway.
func (n *Node) voiceEndpoint() string {
	if n.cfg.VoiceEndpoint != "" {
		return n.cfg.VoiceEndpoint
	}
	if n.cfg.PublicURL != "" || n.cfg.Domain != "" {
		scheme, at, _ := strings.Cut(n.publicURL(), "://")
		if _, _, err := net.SplitHostPort(at); err == nil {
			return at
		}
		return net.JoinHostPort(at, map[string]string{"http": "80", "https": "443"}[scheme])
	}
	host := listenHost(n.cfg.HTTP)
	if host == "" {
		host = "127.0.0.1"
		if lan := lanAddresses(); len(lan) > 0 {
			host = lan[0]
		}
	}
	return net.JoinHostPort(host, n.port)
}

// beside returns the voice node that clients reach where they reached the gateway:
// this one, unless it was given an address of its own.
func (n *Node) beside() string {
	if n.voice == nil || n.cfg.VoiceEndpoint != "" {
		return ""
	}
	return n.name
}

// sample returns what fills in how the node is doing.
func (n *Node) sample() func(*fleet.Member) {
	was := n.counted()
	return func(m *fleet.Member) {
		m.Ailing = ""
		if why := n.ailing.Load(); why != nil {
			m.Ailing = *why
		}
		now := n.counted()
		if span := now.at.Sub(was.at).Seconds(); span > 0.5 {
			m.CPU = (now.cpu - was.cpu).Seconds() / span
			m.Packets = uint64(float64(now.packets-was.packets) / span)
			m.Drops = uint64(float64(now.drops-was.drops) / span)
			was = now
		}
		if n.voice != nil {
			m.Capacity, m.Peers, m.Load = n.voice.Capacity(), n.voice.Sessions(), n.busiest()
			m.Attacked = n.attacked()
		}
	}
}

// count is what the node has done until an instant.
type count struct {
	at             time.Time
	cpu            time.Duration
	packets, drops uint64
}

func (n *Node) counted() count {
	c := count{at: time.Now(), cpu: cpuTime()}
	if n.media == nil {
		return c
	}
	for i := range n.media.Workers() {
		s := n.media.Stats(i)
		c.packets += s.PacketsIn + s.PacketsOut
		c.drops += s.KernelDrops + s.SendDrops
	}
	return c
}

// openRoles makes the roles and starts them, the ones that others need first.
func (n *Node) openRoles(ctx context.Context) error {
	if n.store != nil {
		n.group.Go("health", n.watchHealth)
	}
	var key []byte
	var err error
	if n.cfg.roles.Has(fleet.Voice | fleet.Guilds) {
		if key, err = n.tokenKey(ctx); err != nil {
			return fmt.Errorf("voice token key: %w", err)
		}
	}
	for _, role := range []struct {
		role fleet.Roles
		open func(context.Context, []byte) error
	}{{fleet.Guilds, n.openGuilds}, {fleet.Voice, n.startVoice}, {fleet.Gateway, n.openGateway}, {fleet.REST, n.openREST}} {
		if !n.cfg.roles.Has(role.role) {
			continue
		}
		if err := role.open(ctx, key); err != nil {
			return err
		}
	}
	n.group.Go("displaced", func(ctx context.Context) {
		select {
		case <-n.discovery.Displaced():
			n.group.Stop()
		case <-ctx.Done():
		}
	})
	n.opened.Store(true)
	if err := n.openOrders(); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return n.discovery.Start(n.group)
}

// tokenKey returns the key of voice tokens.
func (n *Node) tokenKey(ctx context.Context) ([]byte, error) {
	return n.shared(ctx, "voice-token", subjectKey, func() []byte {
		b := make([]byte, 32)
		_, _ = rand.Read(b)
		return b
	})
}

// openAuthority opens the local certificate authority. A fleet has one, which is that
// of its first node, for clients to trust it once.
func (n *Node) openAuthority(ctx context.Context) (err error) {
	if n.authority, err = tlsmux.OpenAuthority(n.cfg.DataDir); err != nil || n.cfg.alone() {
		return err
	}
	own, err := n.authority.Bundle()
	if err != nil {
		return err
	}
	bundle, err := n.shared(ctx, "local-authority", subjectAuthority, func() []byte { return own })
	if err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	if bytes.Equal(bundle, own) {
		return nil
	}
	n.log.Info("the local CA is the fleet's now: it replaces what was made here", "file", n.authority.Path())
	n.authority, err = tlsmux.AdoptAuthority(n.cfg.DataDir, bundle)
	return err
}

// shared returns a secret of the whole fleet: from the database, where the first node
// of all makes it, or from a node that has one.
func (n *Node) shared(ctx context.Context, name, subject string, generate func() []byte) ([]byte, error) {
	if n.store == nil {
		var answer keyAnswer
		for {
			ask, cancel := context.WithTimeout(ctx, askPatience)
			err := n.bus.Request(ask, subject, struct{}{}, &answer)
			cancel()
			if err == nil && len(answer.Key) > 0 {
				return answer.Key, nil
			}
			if err != nil && !errors.Is(err, bus.ErrNoResponders) && !errors.Is(err, context.DeadlineExceeded) {
				return nil, err
			}
			if !pause(ctx, askAgain) {
				return nil, ctx.Err()
			}
		}
	}
	secret, err := n.store.Secret(ctx, name, generate)
	if err != nil {
		return nil, err
	}
	unsubscribe, err := n.bus.Subscribe(subject, func(m bus.Message) {
		if err := m.Respond(keyAnswer{secret}); err != nil {
			n.log.Warn("a secret of the fleet was not given", "name", name, "err", err)
		}
	})
	if err != nil {
		return nil, err
	}
	n.onClose(unsubscribe)
	return secret, nil
}

// number leases a number for the ids of a role, and keeps it.
func (n *Node) number(ctx context.Context, role fleet.Roles) (uint16, error) {
	holder := n.name + "/" + role.String()
	number, err := n.store.LeaseNumber(ctx, holder, time.Now(), numberLease)
	if err != nil {
		return 0, err
	}
	n.group.Go("number lease", func(ctx context.Context) {
		for pause(ctx, numberLease/60) {
			if again, err := n.store.LeaseNumber(ctx, holder, time.Now(), numberLease); err != nil {
				n.log.Warn("number for ids not renewed", "role", role, "err", err)
			} else if again != number {
				n.log.Error("the number for ids was lost to another node: this node ends", "role", role)
				n.group.Stop()
			}
		}
	})
	return number, nil
}

func (n *Node) openGuilds(ctx context.Context, key []byte) error {
	number, err := n.number(ctx, fleet.Guilds)
	if err != nil {
		return err
	}
	n.guilds = guilds.New(guilds.Config{
		Node: n.name, Owner: fmt.Sprintf("%s/%d", n.name, n.epoch), Number: number, View: n.discovery.View, TokenKey: key,
		Fallback: n.cfg.RegionFallback, Log: n.log, Metrics: n.metrics,
	}, n.bus, n.store)
	n.discovery.Listen(n.guilds)
	return n.guilds.Start(n.group)
}

func (n *Node) startVoice(_ context.Context, key []byte) error {
	if err := n.openVoice(key); err != nil {
		return err
	}
	return n.voice.Start(n.group)
}

func (n *Node) openGateway(context.Context, []byte) error {
	var restored []gateway.Suspended
	if before := n.cfg.Succession; before != nil {
		restored = before.legacy.Gateway
	}
	n.gateway = gateway.New(gateway.Config{
		Restored: restored,
		Node:     n.name, Epoch: n.epoch, Region: n.cfg.Region, PublicURL: n.cfg.PublicURL, Route: n.route, Beside: n.beside(), Log: n.log, Metrics: n.metrics,
		Heartbeat: n.cfg.HeartbeatInterval, AdmitPerSecond: n.cfg.AdmitRate, ResumeWindow: n.cfg.ResumeWindow,
	}, n.bus, n.store)
	n.discovery.Listen(n.gateway)
	return n.gateway.Start(n.group)
}

func (n *Node) openREST(ctx context.Context, _ []byte) error {
	number, err := n.number(ctx, fleet.REST)
	if err != nil {
		return err
	}
	n.rest = rest.New(rest.Config{
		Node: n.name, Number: number, Route: n.route, Regions: n.regions,
		Name: n.cfg.Name, Version: n.cfg.Version, Region: n.cfg.Region, Registration: n.cfg.Registration,
		AdminToken: n.adminToken, PublicURL: n.cfg.PublicURL, Log: n.log, Metrics: n.metrics, GatewayPath: "/gateway",
	}, n.bus, n.store)
	return nil
}

// regions returns the regions that have a voice node now.
func (n *Node) regions() []string {
	var names []string
	for _, m := range n.discovery.View().Members() {
		if m.Roles.Has(fleet.Voice) && !slices.Contains(names, m.Region) {
			names = append(names, m.Region)
		}
	}
	slices.Sort(names)
	return names
}

// join makes the node one that others count on.
func (n *Node) join(ctx context.Context) error { return n.discovery.Join(ctx) }

// watchHealth looks whether the database answers.
func (n *Node) watchHealth(ctx context.Context) {
	why := "database"
	for failed := 0; pause(ctx, healthEvery); {
		look, cancel := context.WithTimeout(ctx, readyTimeout)
		err := n.store.Ping(look)
		cancel()
		if err == nil {
			failed = 0
			n.ailing.Store(nil)
		} else if failed++; failed >= ailingAfter {
			n.ailing.Store(&why)
		}
	}
}

// pause waits and reports whether ctx was still alive at its end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Name returns what the node is called in its fleet.
func (n *Node) Name() string { return n.name }

// BusURL returns where other nodes reach the embedded bus, or "".
func (n *Node) BusURL() string { return n.bus.ClientURL() }
