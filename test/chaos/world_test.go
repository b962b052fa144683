//go:build linux

package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// patience bounds every single step.
const patience = 30 * time.Second

// httpPort is the nodes' port where each has an address of its own.
const httpPort = 8080

// size says how much there is of everything.
type size struct {
	nodes  []harness.NodeSpec
	guilds int
	talk   int // people of each guild who talk in its voice channel
	idle   int // people of each guild who are only there
}

// nine is the fleet of make chaos, five that of the short form.
func nine() size { return size{nodes: harness.Nine(), guilds: 6, talk: 4, idle: 20} }

func five() size {
	all := harness.Nine()
	return size{nodes: append(all[:2:2], all[3], all[4], all[6], all[7]), guilds: 2, talk: 3, idle: 2}
}

// community is a guild with a voice channel.
type community struct {
	id, lounge proto.Snowflake
	invite     string
	people     []*person // natives who talk
}

// world is a fleet, its network, and everybody on it.
type world struct {
	t     testing.TB
	net   *network
	fleet *harness.Fleet
	hosts map[string]*host // of nodes
	bus   *harness.Process
	busAt *host
	db    *harness.Postgres
	dir   string // for artifacts
	began time.Time
	said  harness.Transcript // by the clients
	log   *slog.Logger       // writes there

	guilds  []*community
	people  []*person
	auditor harness.Account
	visitor *visitor
	nonces  nonces
	members map[proto.Snowflake]map[proto.Snowflake]bool // of each guild, as at the beginning
	tenures map[tenure]string                            // who the database said owned a guild in a generation
}

// now is the run's clock.
func (w *world) now() time.Duration { return time.Since(w.began) }

func newWorld(t testing.TB, of size, dir string) *world {
	t.Helper()
	w := &world{
		t: t, net: newNetwork(t), hosts: map[string]*host{}, dir: dir, began: time.Now(), tenures: map[tenure]string{},
	}
	w.log = slog.New(slog.NewTextHandler(&w.said, nil))
	var err error
	if w.db, err = harness.StartPostgres(w.net.clients()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	bus := w.startBus()
	for i := range of.nodes {
		n := &of.nodes[i]
		at := w.net.host(n.Name, nodeNet)
		w.hosts[n.Name] = at
		n.HTTP = fmt.Sprintf("%s:%d", at.ip, w.net.port(at, httpPort))
		n.Flags = append(n.Flags, "--udp-bind", at.ip)
		n.Wrap = w.wrap(at)
	}
	w.fleet = harness.StartFleet(t, harness.FleetConfig{Nodes: of.nodes, NATS: bus, Database: w.db.DSN})
	w.populate(of)
	return w
}

// wrap makes a command run at a host.
func (w *world) wrap(at *host) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		there := w.net.command(at, cmd.Path, cmd.Args[1:]...)
		cmd.Path, cmd.Args, cmd.Err = there.Path, there.Args, there.Err
	}
}

// self is this binary as another program.
func (w *world) self(name string, at *host, env ...string) *harness.Process {
	w.t.Helper()
	path, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	return &harness.Process{Name: name, Path: path, Env: env, Wrap: w.wrap(at), Ready: "serves"}
}

// startBus runs a NATS server at a host of its own and returns its URL.
func (w *world) startBus() string {
	w.t.Helper()
	w.busAt = w.net.host("bus", nodeNet)
	address := fmt.Sprintf("%s:%d", w.busAt.ip, w.net.port(w.busAt, 4222))
	w.bus = w.self("bus", w.busAt, busEnv+"="+address)
	w.t.Cleanup(func() { w.bus.Kill() })
	w.startAgain(w.bus)
	return "nats://" + address
}

// runBus is the process of the bus.
func runBus(address string) error {
	var host string
	var port int
	if _, err := fmt.Sscanf(strings.Replace(address, ":", " ", 1), "%s %d", &host, &port); err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{Host: host, Port: port, MaxPayload: 32 << 20, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		return fmt.Errorf("no NATS at %s", address)
	}
	fmt.Println("serves")
	s.WaitForShutdown()
	return nil
}

// startAgain starts processes and waits until they serve.
func (w *world) startAgain(processes ...*harness.Process) {
	w.t.Helper()
	for _, p := range processes {
		if p.Running() {
			continue
		}
		if err := p.Start(); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, p := range processes {
		if err := p.Await(patience); err != nil {
			w.t.Fatal(err)
		}
	}
}

// with returns the nodes of a role as processes.
func (w *world) with(role fleet.Roles) (all []*harness.Process) {
	for _, n := range w.fleet.With(role) {
		all = append(all, n.Process)
	}
	return all
}

// gateways returns where clients come to.
func (w *world) gateways() (all []string) {
	for _, n := range w.fleet.With(fleet.Gateway) {
		all = append(all, n.Spec.HTTP)
	}
	return all
}

// admin is the API of a node that serves it now.
func (w *world) admin() harness.Admin {
	w.t.Helper()
	for _, n := range w.fleet.With(fleet.Gateway) {
		if n.Running() {
			return n.Admin()
		}
	}
	w.t.Fatal("no node has the admin API")
	return harness.Admin{}
}

// populate makes guilds and brings everybody in.
func (w *world) populate(of size) {
	w.t.Helper()
	admin := w.admin()
	w.net.settle(of.guilds * (of.talk + of.idle))
	for i := range of.guilds {
		g := &community{id: admin.Guild(w.t, fmt.Sprintf("Guild %d", i+1))}
		region := harness.RegionNorth
		if i%3 == 2 {
			region = harness.RegionSouth
		}
		g.lounge = admin.Channel(w.t, g.id, "lounge", proto.ChannelVoice, region)
		var made proto.Invite
		admin.Call(w.t, "POST", "/guilds/"+g.id.String()+"/invites", map[string]any{"channel_id": g.lounge, "max_age": 0}, &made)
		g.invite = made.Code
		w.guilds = append(w.guilds, g)
	}
	w.auditor = admin.Bot(w.t, w.guilds[0].id, "auditor")
	for _, g := range w.guilds[1:] {
		admin.Call(w.t, "PUT", "/guilds/"+g.id.String()+"/members/"+w.auditor.ID.String(), nil, nil)
	}
	for i, g := range w.guilds {
		for j := range of.talk + of.idle {
			p := w.person(fmt.Sprintf("%c%d", 'a'+i, j+1), g, admin, len(w.people)%len(w.gateways()))
			if j < of.talk {
				p.join()
				g.people = append(g.people, p)
			}
		}
	}
}

// hold lets time pass while a fault lasts.
func (w *world) hold(d time.Duration) {
	w.t.Helper()
	select {
	case <-time.After(d):
	case <-w.t.Context().Done():
		w.t.Fatal("the run was ended")
	}
}

// between returns a span that the seed chooses.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// writeLogs keeps what nodes and clients said.
func (w *world) writeLogs() {
	dir := filepath.Join(w.dir, "logs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Error(err)
		return
	}
	all := map[string][]byte{"clients": w.said.Bytes()}
	for _, n := range w.fleet.Nodes {
		all[n.Name] = n.Log.Bytes()
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name+".log"), text, 0o644); err != nil {
			w.t.Error(err)
		}
	}
}

// step is a context for one step.
func (w *world) step() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.t.Context(), patience)
}
