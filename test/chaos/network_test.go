//go:build linux

package chaos

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// host is a place in the network for a process.
type host struct {
	name string
	ip   string
	link string // its end of the cable in the clients' namespace, "" without namespaces
}

// network is one Ethernet segment: a bridge in the namespace of the clients, from
// which a cable leads to each host's namespace. Nodes, attackers and clients have
// addresses of different /24s, as strangers have. Without namespaces it is the
// loopback.
type network struct {
	t       testing.TB
	apart   bool // hosts have namespaces
	hosts   map[string]*host
	counted map[int]int
}

// The third number of an address.
const (
	clientNet = 0 // the browser's and the database's
	nodeNet   = 1
	personNet = 2 // the natives', one address each, so that limits of an address hit nobody
	attackNet = 3
)

const netnsDir = "/run/netns"

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{t: t, apart: os.Getenv(insideEnv) != "", hosts: map[string]*host{}, counted: map[int]int{}}
	if !n.apart {
		return n
	}
	// ip keeps the names of namespaces as files, which would outlive the run.
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("chaos", netnsDir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	// Without an address of its own a bridge takes that of a port, and another one when a host
	// is added: what the others know of it by ARP is wrong then, for up to a minute.
	n.ip("link set lo up", "link add hub address 02:00:00:00:00:01 type bridge", "addr add "+n.clients()+"/16 dev hub", "link set hub up")
	return n
}

// clients is the address of the clients and of the database.
func (n *network) clients() string {
	if !n.apart {
		return "127.0.0.1"
	}
	return fmt.Sprintf("10.77.%d.1", clientNet)
}

// person returns the address of a native client.
func (n *network) person(i int) string {
	if !n.apart {
		return fmt.Sprintf("127.0.%d.%d", personNet, i+1)
	}
	return fmt.Sprintf("10.77.%d.%d", personNet, i+1)
}

// settle gives the clients' host the addresses of so many persons.
func (n *network) settle(persons int) {
	n.t.Helper()
	if !n.apart {
		return
	}
	var commands strings.Builder
	for i := range persons {
		fmt.Fprintf(&commands, "addr add %s/16 dev hub\n", n.person(i))
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands.String())
	if said, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("addresses: %v\n%s", err, said)
	}
}

// host makes a place with an address in one of the /24s.
func (n *network) host(name string, in int) *host {
	n.t.Helper()
	n.counted[in]++
	h := &host{name: name, ip: fmt.Sprintf("127.0.%d.%d", in, n.counted[in])}
	n.hosts[name] = h
	if !n.apart {
		return h
	}
	h.ip = fmt.Sprintf("10.77.%d.%d", in, n.counted[in])
	h.link = fmt.Sprintf("hub%d-%d", in, n.counted[in])
	n.ip("netns add "+name,
		"link add "+h.link+" type veth peer name eth0 netns "+name,
		"link set "+h.link+" master hub up",
		"-n "+name+" addr add "+h.ip+"/16 dev eth0",
		"-n "+name+" link set lo up",
		"-n "+name+" link set eth0 up",
	)
	return h
}

// ip runs commands of ip.
func (n *network) ip(commands ...string) {
	n.t.Helper()
	for _, c := range commands {
		if said, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			n.t.Fatalf("ip %s: %v\n%s", c, err, said)
		}
	}
}

// command is a command that runs at a host: ip becomes what it starts, so the
// process is the program itself.
func (n *network) command(at *host, program string, args ...string) *exec.Cmd {
	if !n.apart {
		return exec.Command(program, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", at.name, program}, args...)...)
}

// unplug takes a host's cable out: not even the goodbyes of its kernel get away.
func (n *network) unplug(h *host) { n.t.Helper(); n.ip("link set " + h.link + " down") }
func (n *network) plug(h *host)   { n.t.Helper(); n.ip("link set " + h.link + " up") }

// part drops everything between a host and some addresses.
func (n *network) part(h *host, from ...string) {
	n.t.Helper()
	set := strings.Join(from, ", ")
	n.nft(h, `table ip chaos {
	chain in { type filter hook input priority 0; ip saddr { `+set+` } drop; }
	chain out { type filter hook output priority 0; ip daddr { `+set+` } drop; }
}
`)
}

// join takes back what part did.
func (n *network) join(h *host) { n.t.Helper(); n.nft(h, "delete table ip chaos\n") }

func (n *network) nft(h *host, rules string) {
	n.t.Helper()
	cmd := n.command(h, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(strings.ReplaceAll(rules, "; ", "\n"), "{ type", "{\ntype"))
	if said, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("nft at %s: %v\n%s", h.name, err, said)
	}
}

// port is where a host's process listens: the same everywhere, but on the loopback,
// where others may have it.
func (n *network) port(h *host, usual int) int {
	n.t.Helper()
	if n.apart {
		return usual
	}
	l, err := net.Listen("tcp", h.ip+":0")
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
