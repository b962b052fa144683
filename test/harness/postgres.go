package harness

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// postgresDirs are where the server's programs are, beside the PATH.
const postgresDirs = "/usr/lib/postgresql/*/bin"

// Postgres is a database server of a test's own. As a process it can be killed,
// suspended and started again like any other.
type Postgres struct {
	*Process
	DSN  string
	root string // removed by Close
}

func program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob(filepath.Join(postgresDirs, name))
	if len(found) == 0 {
		return "", fmt.Errorf("no %s: scripts/test-deps.sh installs it", name)
	}
	return found[len(found)-1], nil
}

// StartPostgres makes a database on an address of this host and starts its server.
func StartPostgres(host string) (*Postgres, error) {
	// The path of a socket may have 107 bytes, and the server's user must reach it.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	p := &Postgres{root: dir}
	if err := p.start(host); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Postgres) start(host string) error {
	as, err := serverUser(p.root)
	if err != nil {
		return err
	}
	initdb, err := program("initdb")
	if err != nil {
		return err
	}
	postgres, err := program("postgres")
	if err != nil {
		return err
	}
	port, err := FreePorts(host)
	if err != nil {
		return err
	}
	data := filepath.Join(p.root, "data")
	cmd := exec.Command(initdb, "-D", data, "-A", "trust", "-U", "hubbub", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = p.root, as
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// Whoever reaches the address: nodes may come from network namespaces of their own.
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("host all all all trust\n"), 0o644); err != nil {
		return err
	}
	p.DSN = fmt.Sprintf("postgres://hubbub@%s:%d/postgres", host, port)
	p.Process = &Process{
		Name: "postgres", Path: postgres, Dir: p.root, Attr: as, Ready: "ready to accept connections",
		Args: []string{
			"-D", data, "-h", host, "-p", strconv.Itoa(port), "-k", p.root,
			"-c", "fsync=off", "-c", "max_connections=300",
		},
	}
	if err := p.Start(); err != nil {
		return err
	}
	return p.Await(Timeout)
}

// Close ends the server and removes its data.
func (p *Postgres) Close() {
	if p.Process != nil && p.Running() {
		// Immediate shutdown: its own children end with it.
		_ = p.Signal(syscall.SIGCONT)
		_ = p.Signal(syscall.SIGQUIT)
		<-p.Exited()
	}
	_ = os.RemoveAll(p.root)
}

// serverUser returns how to start the server, which refuses to run as root.
func serverUser(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}
