//go:build linux

package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

// patience bounds every single step.
const patience = 30 * time.Second

// node is one process.
type node struct {
	name string
	dir  string
	http string
	cmd  *exec.Cmd
	up   chan struct{} // closed once it serves
	done chan struct{} // closed once it has ended
}

// platform is a fleet with a database and people.
type platform struct {
	t        testing.TB
	binary   string
	database string
	bus      string
	nodes    map[string]*node
	url      string // of the node for clients
	admin    string // its token
	http     http.Client
	guild    proto.Snowflake
	lounge   proto.Snowflake
}

// start builds the binary and runs a gateway and REST node, two guild nodes, and two
// voice nodes.
func start(t testing.TB) *platform {
	t.Helper()
	p := &platform{t: t, nodes: map[string]*node{}, binary: filepath.Join(t.TempDir(), "hubbub")}
	build := exec.Command("go", "build", "-o", p.binary, "hubbub.dev/hubbub/cmd/hubbub")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.database = postgres(t)
	p.bus = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p.runFront()
	for _, name := range []string{"guilds-a", "guilds-b"} {
		p.runGuilds(name)
	}
	for _, name := range []string{"voice-a", "voice-b"} {
		p.run(name, "voice", "--nats", "nats://"+p.bus)
	}
	for _, n := range p.nodes {
		n.await(t)
	}
	t.Cleanup(p.http.CloseIdleConnections)
	front := p.nodes["front"]
	var where struct{ URL string }
	raw, err := os.ReadFile(filepath.Join(front.dir, "server.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &where); err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(front.dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	p.url, p.admin = where.URL, strings.TrimSpace(string(token))
	var made proto.Guild
	p.call(http.MethodPost, "/guilds", map[string]string{"name": "Test"}, &made)
	p.guild = made.ID
	var channel proto.Channel
	p.call(http.MethodPost, "/guilds/"+p.guild.String()+"/channels", map[string]any{"name": "lounge", "type": proto.ChannelVoice}, &channel)
	p.lounge = channel.ID
	return p
}

// runFront starts the node that clients reach, in which the bus is too.
func (p *platform) runFront() {
	p.run("front", "gateway,rest", "--nats-listen", p.bus, "--registration", "open")
}

func (p *platform) runGuilds(name string) { p.run(name, "guilds", "--nats", "nats://"+p.bus) }

// await waits until the node serves.
func (n *node) await(t testing.TB) {
	t.Helper()
	select {
	case <-n.up:
	case <-n.done:
		t.Fatalf("%s has ended", n.name)
	case <-time.After(patience):
		t.Fatalf("%s does not serve", n.name)
	}
}

// run starts a node, which ends with the test. A node that was killed comes back
// where it was.
func (p *platform) run(name, roles string, flags ...string) {
	p.t.Helper()
	n := &node{name: name, up: make(chan struct{}), done: make(chan struct{})}
	if before := p.nodes[name]; before != nil {
		n.dir, n.http = before.dir, before.http
	} else {
		n.dir, n.http = p.t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(p.t))
	}
	args := append([]string{
		"serve", "--node", name, "--roles", roles, "--data", n.dir, "--http", n.http, "--database", p.database,
		"--udp-port=-1", "--udp-bind", "127.0.0.1", "--workers", "1",
	}, flags...)
	n.cmd = exec.Command(p.binary, args...)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should the test not end by itself
	n.cmd.Stderr = &prefixed{to: p.t.Output(), prefix: name + ": "}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "is up.") {
				close(n.up)
			}
		}
		_ = n.cmd.Wait()
		close(n.done)
	})
	p.nodes[name] = n
	p.t.Cleanup(func() {
		n.kill()
		reader.Wait()
	})
}

// kill ends a node without a word.
func (p *platform) kill(name string) { p.nodes[name].kill() }

// signal sends a node a signal.
func (p *platform) signal(name string, s syscall.Signal) {
	p.t.Helper()
	if err := p.nodes[name].cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// suspend stops a node as if its host slept, and returns when it has stopped.
func (p *platform) suspend(name string) {
	p.t.Helper()
	p.signal(name, syscall.SIGSTOP)
	stat := fmt.Sprintf("/proc/%d/stat", p.nodes[name].cmd.Process.Pid)
	for deadline := time.Now().Add(patience); ; {
		said, err := os.ReadFile(stat)
		if err != nil {
			p.t.Fatal(err)
		}
		if bytes.Contains(said, []byte(") T ")) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not stop: %s", name, said)
		}
	}
}

// stop asks a node to end.
func (p *platform) stop(name string) {
	p.t.Helper()
	p.signal(name, syscall.SIGTERM)
	select {
	case <-p.nodes[name].done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", name)
	}
}

func (n *node) kill() {
	_ = n.cmd.Process.Kill() // it may have ended
	<-n.done
}

// prefixed writes lines that begin with a name.
type prefixed struct {
	mu     sync.Mutex
	to     io.Writer
	prefix string
}

func (w *prefixed) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range bytes.Lines(b) {
		if _, err := fmt.Fprintf(w.to, "%s%s\n", w.prefix, bytes.TrimRight(line, "\n")); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// call makes a call to the admin API, which must succeed.
func (p *platform) call(method, path string, body, answer any) {
	p.t.Helper()
	if status, data := p.try(method, path, body); status >= 300 {
		p.t.Fatalf("%s %s: %d %s", method, path, status, data)
	} else if answer != nil {
		if err := json.Unmarshal(data, answer); err != nil {
			p.t.Fatal(err)
		}
	}
}

// try makes a call to the admin API.
func (p *platform) try(method, path string, body any) (status int, answer []byte) {
	p.t.Helper()
	payload, err := json.Marshal(body)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.url+"/admin/v1"+path, bytes.NewReader(payload))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.admin)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, data
}

// inVoice returns who is in voice, as the guilds' owners have it.
func (p *platform) inVoice() map[proto.Snowflake]guild.VoiceListEntry {
	p.t.Helper()
	var list []guild.VoiceListEntry
	p.call(http.MethodGet, "/voice", nil, &list)
	by := map[proto.Snowflake]guild.VoiceListEntry{}
	for _, e := range list {
		if _, twice := by[e.User]; twice {
			p.t.Errorf("user %d is in voice twice", e.User)
		}
		by[e.User] = e
	}
	return by
}

// owner returns the node that the guild belongs to while both guild nodes run.
func (p *platform) owner() string {
	table := fleet.NewTable(1, fleet.Member{Name: "guilds-a", Roles: fleet.Guilds})
	table.Hear(1, fleet.Member{Name: "guilds-b", Roles: fleet.Guilds})
	return table.View().GuildOwner(uint64(p.guild))
}

// member returns the admin API's path of a person in the guild.
func (p *platform) member(who *person) string {
	return "/guilds/" + p.guild.String() + "/members/" + who.id.String()
}

// person is a bot with a gateway session, and what it saw.
type person struct {
	*client.Gateway
	id     proto.Snowflake
	states chan proto.VoiceState
	guilds chan proto.GuildCreate
}

func (p *platform) person(name string) *person {
	p.t.Helper()
	var made struct {
		User  proto.User `json:"user"`
		Token string     `json:"token"`
	}
	p.call(http.MethodPost, "/bots", map[string]any{"name": name, "guild_id": p.guild}, &made)
	c, err := client.New(client.Config{BaseURL: p.url, Token: "Bot " + made.Token})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	who := &person{
		Gateway: c.Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice}),
		id:      made.User.ID, states: make(chan proto.VoiceState, 1000), guilds: make(chan proto.GuildCreate, 100),
	}
	client.On(who.Gateway, client.VoiceStateUpdate, func(s proto.VoiceState) {
		select {
		case who.states <- s:
		default: // nobody looks
		}
	})
	client.On(who.Gateway, client.GuildCreate, func(g proto.GuildCreate) { who.guilds <- g })
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := who.Connect(ctx); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(who.Close)
	return who
}

// join brings a person into the lounge.
func (p *platform) join(who *person) *client.Voice {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	v, err := who.JoinVoice(ctx, p.guild, p.lounge, client.VoiceOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}
