package harness

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/proto"
)

// The regions of Nine: two voice nodes are in the first and one is in the second.
const (
	RegionNorth = "north"
	RegionSouth = "south"
)

// NodeSpec is one node of a fleet before it runs.
type NodeSpec struct {
	Name, Roles string
	Region      string
	// HTTP and Cluster are where it listens for clients and for other nodes' buses,
	// host:port. Empty ones are on a loopback address of the node's own, the second
	// beside the first where only that is given.
	HTTP, Cluster string
	Flags         []string
	// Wrap changes its command before each start, where it is set: see Process.
	Wrap func(*exec.Cmd)
}

// Nine is three nodes with a gateway and the REST API, three guild nodes, and three
// voice nodes in two regions.
func Nine() []NodeSpec {
	return []NodeSpec{
		{Name: "gateway-a", Roles: "gateway,rest"}, {Name: "gateway-b", Roles: "gateway,rest"}, {Name: "gateway-c", Roles: "gateway,rest"},
		{Name: "guilds-a", Roles: "guilds"}, {Name: "guilds-b", Roles: "guilds"}, {Name: "guilds-c", Roles: "guilds"},
		{Name: "voice-a", Roles: "voice", Region: RegionNorth}, {Name: "voice-b", Roles: "voice", Region: RegionNorth},
		{Name: "voice-c", Roles: "voice", Region: RegionSouth},
	}
}

// FleetConfig says what fleet to run. Nothing in it is Nine on a database of its own,
// each node with an embedded bus, clustered with all the others.
type FleetConfig struct {
	Dir      string // for data and logs; StartFleet makes one
	Binary   string // is Command's where none is given
	Database string // DSN; a PostgreSQL is started where none is given
	Nodes    []NodeSpec
	// Hub names the node whose embedded bus all others use, instead of a cluster. NATS
	// is the URL of a bus outside, instead of both.
	Hub, NATS string
	Flags     []string // of every node
}

// Fleet is the platform as processes of the real binary. Its methods are for one
// goroutine at a time.
type Fleet struct {
	Binary   string
	DSN      string
	Database *Postgres // nil when the database is somebody else's
	Nodes    []*FleetNode
	cfg      FleetConfig
	secret   string // of the bus, the file
}

// FleetNode is one node, as a process that can be killed, stopped, suspended and
// started again on the same data and addresses.
type FleetNode struct {
	*Process
	Spec  NodeSpec // with its addresses
	Data  string   // its directory
	Roles fleet.Roles
}

// StartFleet runs a fleet until the test ends. When the test fails, it prints what
// the nodes logged.
func StartFleet(t testing.TB, cfg FleetConfig) *Fleet {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	f, err := NewFleet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if t.Failed() {
			for _, n := range f.Nodes {
				t.Logf("%s:\n%s", n.Name, n.Log.String())
			}
		}
	})
	return f
}

// NewFleet runs a fleet and returns when every node of it serves. What was started
// before an error is ended again.
func NewFleet(cfg FleetConfig) (*Fleet, error) {
	f := &Fleet{cfg: cfg, Binary: cfg.Binary, DSN: cfg.Database}
	if err := f.start(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Fleet) start() (err error) {
	if f.Binary == "" {
		if f.Binary, err = Command(f.cfg.Dir, "cmd/hubbub"); err != nil {
			return err
		}
	}
	if f.DSN == "" {
		if f.Database, err = StartPostgres("127.0.0.1"); err != nil {
			return err
		}
		f.DSN = f.Database.DSN
	}
	specs := f.cfg.Nodes
	if specs == nil {
		specs = Nine()
	}
	for i, spec := range specs {
		n, err := f.node(i, spec)
		if err != nil {
			return err
		}
		f.Nodes = append(f.Nodes, n)
	}
	if f.secret, err = f.makeSecret(); err != nil {
		return err
	}
	for _, n := range f.Nodes {
		n.Args = f.args(n)
	}
	return f.Start(f.Nodes...)
}

// Add has one more node join a fleet whose bus is not a cluster, and waits until it
// serves.
func (f *Fleet) Add(spec NodeSpec) (*FleetNode, error) {
	n, err := f.node(len(f.Nodes), spec)
	if err != nil {
		return nil, err
	}
	f.Nodes = append(f.Nodes, n)
	n.Args = f.args(n)
	return n, f.Start(n)
}

// node gives a node its directory and addresses.
func (f *Fleet) node(i int, spec NodeSpec) (*FleetNode, error) {
	roles, err := fleet.ParseRoles(spec.Roles)
	if err != nil {
		return nil, err
	}
	if err := spec.place(i); err != nil {
		return nil, err
	}
	n := &FleetNode{Spec: spec, Data: filepath.Join(f.cfg.Dir, spec.Name), Roles: roles}
	n.Process = &Process{Name: spec.Name, Path: f.Binary, Wrap: spec.Wrap, Ready: "  Data "}
	return n, os.MkdirAll(n.Data, 0o700)
}

// place gives the i-th node addresses, where it has none.
func (spec *NodeSpec) place(i int) (err error) {
	host := fmt.Sprintf("127.0.0.%d", 11+i)
	if spec.HTTP != "" {
		if host, _, err = net.SplitHostPort(spec.HTTP); err != nil {
			return err
		}
		if spec.Cluster == "" {
			spec.Cluster = net.JoinHostPort(host, "6222")
		}
	}
	for _, address := range []*string{&spec.HTTP, &spec.Cluster} {
		if *address == "" {
			port, err := FreePorts(host)
			if err != nil {
				return err
			}
			*address = net.JoinHostPort(host, strconv.Itoa(port))
		}
	}
	return nil
}

// makeSecret writes the secret of the bus and returns its file.
func (f *Fleet) makeSecret() (string, error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	path := filepath.Join(f.cfg.Dir, "bus.secret")
	return path, os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(raw)), 0o600)
}

func (f *Fleet) args(n *FleetNode) []string {
	args := []string{
		"serve", "--node", n.Name, "--roles", n.Spec.Roles, "--data", n.Data, "--http", n.Spec.HTTP,
		"--database", f.DSN, "--bus-secret", f.secret, "--udp-port=-1", "--workers", "1", "--registration", "open",
	}
	if n.Spec.Region != "" {
		args = append(args, "--region", n.Spec.Region)
	}
	switch {
	case f.cfg.NATS != "":
		args = append(args, "--nats", f.cfg.NATS)
	case f.cfg.Hub == n.Name:
		args = append(args, "--nats-listen", n.Spec.Cluster)
	case f.cfg.Hub != "":
		args = append(args, "--nats", "nats://"+f.Node(f.cfg.Hub).Spec.Cluster)
	default:
		var peers []string
		for _, other := range f.Nodes {
			if other != n {
				peers = append(peers, other.Spec.Cluster)
			}
		}
		args = append(args, "--cluster-listen", n.Spec.Cluster, "--cluster-peers", strings.Join(peers, ","))
	}
	return append(append(args, f.cfg.Flags...), n.Spec.Flags...)
}

// Start begins runs of nodes that have none, all at once, and waits until they serve.
func (f *Fleet) Start(nodes ...*FleetNode) error {
	for _, n := range nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := n.Await(Timeout); err != nil {
			return err
		}
	}
	return nil
}

// Stop asks nodes to end, all at once, and waits for it.
func (f *Fleet) Stop(nodes ...*FleetNode) error {
	failed := make(chan error)
	for _, n := range nodes {
		go func() { failed <- n.Stop(Timeout) }()
	}
	var errs []error
	for range nodes {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

// Close ends the fleet and its database. Directories stay.
func (f *Fleet) Close() {
	for _, n := range f.Nodes {
		n.Kill()
	}
	if f.Database != nil {
		f.Database.Close()
	}
}

// Node returns the node of that name, nil where there is none.
func (f *Fleet) Node(name string) *FleetNode {
	for _, n := range f.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// With returns the nodes that have one of the roles, whether they run or not.
func (f *Fleet) With(roles fleet.Roles) (nodes []*FleetNode) {
	for _, n := range f.Nodes {
		if n.Roles.Has(roles) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// GuildOwner returns the node that a guild belongs to once all know which guild nodes
// run now, nil where none does.
func (f *Fleet) GuildOwner(guild proto.Snowflake) *FleetNode {
	var table *fleet.Table
	for _, n := range f.With(fleet.Guilds) {
		member := fleet.Member{Name: n.Name, Roles: n.Roles}
		switch {
		case !n.Running():
		case table == nil:
			table = fleet.NewTable(1, member)
		default:
			table.Hear(1, member)
		}
	}
	if table == nil {
		return nil
	}
	return f.Node(table.View().GuildOwner(uint64(guild)))
}

// URL returns where the node serves plain HTTP.
func (n *FleetNode) URL() string { return "http://" + n.Spec.HTTP }

// HTTPSURL returns the same over TLS, signed by the authority of CAFile.
func (n *FleetNode) HTTPSURL() string { return "https://" + n.Spec.HTTP }

// CAFile returns the certificate of the authority that the node's own is signed by.
func (n *FleetNode) CAFile() string { return filepath.Join(n.Data, "ca.pem") }

// AdminToken returns the token of the node's admin API, and of its metrics.
func (n *FleetNode) AdminToken() string {
	token, err := os.ReadFile(filepath.Join(n.Data, "admin.token"))
	if err != nil {
		return "" // the node will say that it is wrong
	}
	return strings.TrimSpace(string(token))
}

// Admin returns the admin API of a node with the REST role.
func (n *FleetNode) Admin() Admin { return Admin{URL: n.URL(), Token: n.AdminToken()} }

var udpPorts = regexp.MustCompile(`UDP (\d+)(?:-(\d+))?`)

// MediaPorts returns the UDP ports of the media workers of this run, none for a node
// without the voice role.
func (n *FleetNode) MediaPorts() (ports []int) {
	m := udpPorts.FindStringSubmatch(n.Banner.String())
	if m == nil {
		return nil
	}
	first, _ := strconv.Atoi(m[1]) // both are digits
	last, _ := strconv.Atoi(m[2])
	for port := first; port <= max(first, last); port++ {
		ports = append(ports, port)
	}
	return ports
}
