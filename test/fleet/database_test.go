//go:build linux

package fleet

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// postgresDirs are where the server's programs are, beside the PATH.
const postgresDirs = "/usr/lib/postgresql/*/bin"

func program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, _ := filepath.Glob(filepath.Join(postgresDirs, name))
	if len(found) == 0 {
		t.Fatalf("no %s: scripts/test-deps.sh installs it", name)
	}
	return found[len(found)-1]
}

// freePort returns a TCP port of the loopback that nobody has now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// postgres starts a database server until the test ends and returns its DSN.
func postgres(t testing.TB) string {
	t.Helper()
	// Not t.TempDir: the path of a socket may have 107 bytes, and the server's user
	// must reach it.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as := serverUser(t, dir)
	data, port := filepath.Join(dir, "data"), freePort(t)
	do := func(name string, args ...string) {
		t.Helper()
		log := filepath.Join(dir, "output")
		out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = out.Close() }()
		cmd := exec.Command(program(t, name), args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = dir, out, out, as
		if err := cmd.Run(); err != nil {
			said, _ := os.ReadFile(log)
			t.Fatalf("%s: %v\n%s", name, err, said)
		}
	}
	do("initdb", "-D", data, "-A", "trust", "-U", "hubbub", "--no-sync")
	do("pg_ctl", "-D", data, "-w", "-o", fmt.Sprintf("-h 127.0.0.1 -p %d -k %s -c fsync=off", port, dir), "start")
	t.Cleanup(func() { do("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop") })
	return fmt.Sprintf("postgres://hubbub@127.0.0.1:%d/postgres", port)
}

// serverUser returns how to start the server, which refuses to run as root.
func serverUser(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
