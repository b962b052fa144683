package node

import (
	"fmt"
	"io"
	"net"
	"strings"
)

// Banner writes what an operator needs next: where to open, whom to invite, and
// which ports must be open.
func (n *Node) Banner(w io.Writer) {
	base := n.publicURL()
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	_, _ = fmt.Fprintf(w, "\nHubbub %s is up.\n\n", n.cfg.Version)
	line("Node", "%s (%s)", n.name, n.cfg.roles)
	if n.app != nil {
		line("Open", "%s", base)
	}
	if n.invite != "" {
		line("Invite", "%s/invite/%s", base, n.invite)
	}
	if n.ownerLink != "" {
		line("Owner", "%s/invite/%s  (works once: who enters by it runs the place)", base, n.ownerLink)
	}
	if n.cfg.Domain == "" {
		for _, ip := range lanAddresses() {
			line("On the LAN", "https://%s", net.JoinHostPort(ip, n.port))
		}
		line("CA", "%s  (or %s/ca.pem; browsers need it to allow microphones on the LAN)", n.authority.Path(), base)
	}
	line("Ports", "TCP %s%s", n.port, n.mediaPorts())
	line("Data", "%s", n.cfg.DataDir)
	_, _ = fmt.Fprintln(w)
}

func (n *Node) mediaPorts() string {
	if n.media == nil {
		return ""
	}
	ports := make([]uint16, n.media.Workers())
	for i := range ports {
		ports[i] = n.media.Port(i)
	}
	return ", UDP " + listPorts(ports)
}

// listPorts names ports for a person who opens a firewall: those that follow one another
// as a range.
func listPorts(ports []uint16) string {
	var b strings.Builder
	for first := 0; first < len(ports); {
		last := first
		for last+1 < len(ports) && ports[last+1] == ports[last]+1 {
			last++
		}
		if first > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, ports[first])
		if last > first {
			fmt.Fprintf(&b, "-%d", ports[last])
		}
		first = last + 1
	}
	return b.String()
}

func (n *Node) publicURL() string {
	switch {
	case n.cfg.PublicURL != "":
		return n.cfg.PublicURL
	case n.cfg.Domain != "" && n.port == "443":
		return "https://" + n.cfg.Domain
	case n.cfg.Domain != "":
		return "https://" + net.JoinHostPort(n.cfg.Domain, n.port)
	}
	host := listenHost(n.cfg.HTTP)
	if host == "" {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, n.port)
}

// lanAddresses returns this host's private IPv4 addresses, for links that other
// machines of the network can open.
func lanAddresses() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.To4() == nil || !ip.IP.IsPrivate() || strings.HasPrefix(ip.IP.String(), "172.17.") {
			continue
		}
		out = append(out, ip.IP.String())
	}
	return out
}
