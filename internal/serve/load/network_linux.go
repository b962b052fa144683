package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// insideEnv says that this process is in a namespace of its own already. The server would take a
	// name that begins with HUBBUB_ for a setting.
	insideEnv = "INSIDE_HUBBUB_LOAD"
	// The two ends of the cable. Nobody else can see them.
	networkServer = "10.99.0.1"
	networkLoad   = "10.99.0.2"
	// receiveMask is what new devices of a namespace take for their receiving cores.
	receiveMask = "/proc/sys/net/core/rps_default_mask"
	ownNetwork  = "/proc/thread-self/ns/net"
)

// Inside reports whether this process is the one that Apart has started.
func Inside() bool { return os.Getenv(insideEnv) != "" }

// Apart runs this program again with arguments, in a network namespace that is gone with
// it, and returns its exit code. It needs root, or CAP_SYS_ADMIN.
func Apart(ctx context.Context, args ...string) (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return 0, errors.New("--network needs the program ip (Debian: apt-get install iproute2)")
	}
	// The signal comes when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("--network makes network namespaces, which takes root (CAP_SYS_ADMIN): %w", err)
	}
	err = cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); ended || err == nil {
		return cmd.ProcessState.ExitCode(), nil
	}
	return 1, err
}

// network is a namespace for the servers, joined to this process's own by a cable (a
// veth pair). Each end's packets are received on the core of who they are for. On the
// loopback the sender's core does the receiver's part too, and the sender is billed for
// it; here a server is billed what it would be with its clients on other hosts.
type network struct{ own, servers *os.File }

func newNetwork() (*network, error) {
	n := &network{}
	err := n.build()
	if err != nil {
		n.close()
		return nil, fmt.Errorf("a network of two namespaces: %w", err)
	}
	return n, nil
}

func (n *network) build() (err error) {
	// If the thread can not come back it stays locked, and ends with its goroutine.
	runtime.LockOSThread()
	if n.own, err = os.Open(ownNetwork); err != nil {
		return err
	}
	if err := receiveOn(loadCore); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if n.servers, err = os.Open(ownNetwork); err != nil {
		return err
	}
	// The cable's other end is named by a descriptor: this thread may be the one whose
	// namespace counts as the process's.
	err = errors.Join(receiveOn(serverCore), ip(
		"link set lo up",
		fmt.Sprintf("link add cable type veth peer name cable netns /proc/%d/fd/%d", os.Getpid(), n.own.Fd()),
		"addr add "+networkServer+"/24 dev cable",
		"link set cable up",
	))
	if err := enter(n.own); err != nil {
		return err
	}
	err = errors.Join(err, ip("link set lo up", "addr add "+networkLoad+"/24 dev cable", "link set cable up"))
	runtime.UnlockOSThread()
	return err
}

// receiveOn has the devices that this thread's namespace gets from now on handle what
// they receive on one core, whichever core it was sent on.
func receiveOn(core int) error {
	err := os.WriteFile(receiveMask, []byte(strconv.FormatUint(1<<core, 16)), 0)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: the kernel is too old", err)
	}
	return err
}

func enter(namespace *os.File) error {
	return os.NewSyscallError("setns", unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET))
}

// ip runs commands of ip in this thread's namespace.
func ip(commands ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w\n%s", err, said)
	}
	return nil
}

// start starts a command in the servers' namespace, from a locked thread.
func (n *network) start(cmd *exec.Cmd) error {
	if n == nil {
		return cmd.Start()
	}
	if err := enter(n.servers); err != nil {
		return err
	}
	return errors.Join(cmd.Start(), enter(n.own))
}

// host is the address of servers.
func (n *network) host() string {
	if n == nil {
		return "127.0.0.1"
	}
	return networkServer
}

func (n *network) close() {
	if n == nil {
		return
	}
	for _, f := range []*os.File{n.own, n.servers} {
		if f != nil {
			_ = f.Close()
		}
	}
}
