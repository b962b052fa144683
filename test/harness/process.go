package harness

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hubbub.dev/hubbub/test/lifeline"
)

// binariesEnv names a directory where scripts/e2e.sh has built every command that tests
// run, so that each is linked once for all of them.
const binariesEnv = "TEST_BINARIES"

// Command returns the binary of a command of this module, as it is shipped. Where none
// was built for all tests, it is built into dir.
func Command(dir, command string) (path string, err error) {
	if built := os.Getenv(binariesEnv); built != "" {
		path = filepath.Join(built, filepath.Base(command))
		_, err = os.Stat(path)
		return path, err
	}
	path = filepath.Join(dir, filepath.Base(command))
	return path, Build(path, command, "0")
}

// Build compiles a command of this module to path. cgo is "0", as the server is
// shipped, or "1", which -race needs.
func Build(path, command, cgo string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "hubbub.dev/hubbub/"+command)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", command, err, out)
	}
	return nil
}

// Transcript is text that several goroutines add to.
type Transcript struct {
	mu    sync.Mutex
	bytes []byte
}

// Write adds to the text. It never fails.
func (b *Transcript) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

// Bytes returns a copy of what was written.
func (b *Transcript) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.bytes)
}

func (b *Transcript) String() string { return string(b.Bytes()) }

// Len returns how many bytes were written.
func (b *Transcript) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.bytes)
}

// watch passes text on and looks for a line in it.
type watch struct {
	to    *Transcript
	found func()
	want  string // is in the line
	rest  []byte
}

func (w *watch) Write(p []byte) (int, error) {
	_, _ = w.to.Write(p)
	w.rest = append(w.rest, p...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if w.rest = rest; bytes.Contains(line, []byte(w.want)) {
			w.found()
		}
	}
}

// Process is a program that a test runs, ends and runs again. Its methods are for one
// goroutine at a time.
type Process struct {
	Name string
	Path string
	Args []string
	Env  []string // beside this process's, without its settings of Hubbub
	Dir  string
	Attr *syscall.SysProcAttr
	// Wrap changes the command of each run before it starts, where it is set: to start
	// it in a network namespace, say. What runs must keep the process id.
	Wrap func(*exec.Cmd)
	// Ready is in the line that the program says once it serves.
	Ready string

	Log    Transcript  // standard error of all runs
	Banner *Transcript // standard output of the last run

	cmd    *exec.Cmd
	ready  chan struct{}
	exited chan struct{}
}

// Start begins a run. Await tells when it serves.
func (p *Process) Start() error {
	if p.Running() {
		return fmt.Errorf("%s runs already", p.Name)
	}
	cmd := exec.Command(p.Path, p.Args...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "HUBBUB_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, p.Env...)
	cmd.Dir = p.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if p.Attr != nil {
		*cmd.SysProcAttr = *p.Attr
	}
	lifeline.Attach(cmd.SysProcAttr)
	p.Banner = &Transcript{}
	ready := make(chan struct{})
	found := sync.OnceFunc(func() { close(ready) })
	cmd.Stdout = &watch{to: p.Banner, want: p.Ready, found: found}
	cmd.Stderr = &watch{to: &p.Log, want: p.Ready, found: found}
	if p.Wrap != nil {
		p.Wrap(cmd)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.ready, p.exited = cmd, ready, exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	return nil
}

// Await waits until the program serves.
func (p *Process) Await(limit time.Duration) error {
	select {
	case <-p.ready:
		return nil
	case <-p.exited:
		return fmt.Errorf("%s ended at once:\n%s", p.Name, p.Log.String())
	case <-time.After(limit):
		return fmt.Errorf("%s does not serve after %v:\n%s", p.Name, limit, p.Log.String())
	}
}

// Running reports whether a run was started and has not ended.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Exited is closed when the last run has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Succeeded reports whether the last run has ended, and well.
func (p *Process) Succeeded() bool { return !p.Running() && p.cmd.ProcessState.Success() }

// Pid returns the process id of the last run.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the run.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the run, if there is one, without a word.
func (p *Process) Kill() {
	if p.Running() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.exited
	}
}

// Stop asks the run to end, and fails when it does not within limit or ends with an
// exit code other than 0.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	select {
	case <-p.exited:
	case <-time.After(limit):
		return fmt.Errorf("%s still runs %v after SIGTERM", p.Name, limit)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("SIGTERM ends %s with %d", p.Name, code)
	}
	return nil
}

// Suspend stops the run as if its host slept, and returns when it has stopped. What it
// started itself goes on.
func (p *Process) Suspend() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	stat := fmt.Sprintf("/proc/%d/stat", p.Pid())
	for deadline := time.Now().Add(Timeout); ; {
		said, err := os.ReadFile(stat)
		if err != nil {
			return err
		}
		if bytes.Contains(said, []byte(") T ")) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not stop: %s", p.Name, said)
		}
	}
}

// Continue wakes a run that was suspended.
func (p *Process) Continue() error { return p.Signal(syscall.SIGCONT) }

// Children returns the processes that the run has started and that run.
func (p *Process) Children() ([]int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Pid()))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// given are the ports that FreePorts has returned. Who asked may not use them yet.
var given sync.Map

// FreePorts returns a port of this host's address that nobody uses for TCP, nor it and the
// next for UDP, from below the range that the kernel gives to outgoing connections. It
// returns none twice.
func FreePorts(host string) (int, error) {
	free := func(network string, port int) bool {
		address := net.JoinHostPort(host, strconv.Itoa(port))
		if network == "tcp" {
			l, err := net.Listen(network, address)
			return err == nil && l.Close() == nil
		}
		c, err := net.ListenPacket(network, address)
		return err == nil && c.Close() == nil
	}
	for range 200 {
		port := 10240 + 2*rand.IntN(10000)
		if free("tcp", port) && free("udp", port) && free("udp", port+1) {
			if _, before := given.LoadOrStore(port, nil); !before {
				return port, nil
			}
		}
	}
	return 0, errors.New("no free ports of " + host)
}

// FreePort is FreePorts for a test, which fails when there are none.
func FreePort(t testing.TB, host string) int {
	t.Helper()
	port, err := FreePorts(host)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
