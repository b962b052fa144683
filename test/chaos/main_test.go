//go:build linux

package chaos

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

var (
	full = flag.Bool("full", false, "run every fault on a fleet of nine")
	seed = flag.Uint64("seed", 1, "decides order, victims and times")
	out  = flag.String("out", "", "directory for tables, plot and logs (default: the test's own)")
	only = flag.String("only", "", "run only the faults whose names begin with one of these, separated by commas")
)

// What the test's own binary is when it is started with one of these.
const (
	insideEnv = "HUBBUB_CHAOS_INSIDE" // the run itself, in its namespace
	busEnv    = "HUBBUB_CHAOS_BUS"    // a NATS server at this address
	echoEnv   = "HUBBUB_CHAOS_ECHO"   // what sends back all that comes to this address
	floodEnv  = "HUBBUB_CHAOS_FLOOD"  // a sender of junk to this address
)

func TestMain(m *testing.M) {
	flag.Parse()
	for name, run := range map[string]func(string) error{busEnv: runBus, floodEnv: runFlood, echoEnv: runEcho} {
		if to := os.Getenv(name); to != "" {
			if err := run(to); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	if os.Getenv(insideEnv) == "" {
		code, err := enter()
		if err == nil {
			os.Exit(code)
		}
		fmt.Fprintf(os.Stderr, "%v\nwithout namespaces all nodes share this host's network, on addresses of 127.0.1.0/24: power-offs and partitions are left out\n", err)
	}
	goleak.VerifyTestMain(m)
}

// enter runs this program again in a network namespace that is the clients', and in
// a mount namespace, so that everything that the run makes is gone when it ends.
func enter() (code int, err error) {
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return 0, fmt.Errorf("no network namespaces: %s is missing; scripts/test-deps.sh installs it", tool)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// The signal comes when the thread ends that started the process.
	runtime.LockOSThread()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("no network namespaces: %w; they need root (CAP_SYS_ADMIN)", err)
	}
	err = cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); ended || err == nil {
		return cmd.ProcessState.ExitCode(), nil
	}
	return 1, nil
}
