package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tick is what /proc counts CPU time in, USER_HZ: 1/100 s on every Linux.
const tick = 10 * time.Millisecond

const (
	serverCore = 0
	loadCore   = 1
)

// cpuTime is what all threads of a process have used, those that ended too. The total
// is the scheduler's, exact; user and system are the kernel's estimate of the split.
type cpuTime struct{ total, user, system time.Duration }

func (c cpuTime) sub(o cpuTime) cpuTime {
	return cpuTime{c.total - o.total, c.user - o.user, c.system - o.system}
}

func (c cpuTime) add(o cpuTime) cpuTime {
	return cpuTime{c.total + o.total, c.user + o.user, c.system + o.system}
}

func (c cpuTime) userShare() float64 {
	if c.user+c.system == 0 {
		return 0
	}
	return float64(c.user) / float64(c.user+c.system)
}

// family returns a process and its children: a server's media workers may be one.
func family(pid int) []int {
	all := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		ids, _ := os.ReadFile(list)
		for _, id := range strings.Fields(string(ids)) {
			if child, err := strconv.Atoi(id); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// cpuOf reads the CPU time of a process and its children.
func cpuOf(pid int) (sum cpuTime, err error) {
	for i, id := range family(pid) {
		one, err := cpuOfOne(id)
		switch {
		case err == nil:
			sum = sum.add(one)
		case i == 0: // a child may have ended meanwhile
			return sum, err
		}
	}
	return sum, nil
}

func cpuOfOne(pid int) (cpuTime, error) {
	// The clock id of a process's scheduler time: the complement of its id above
	// CPUCLOCK_SCHED (clock_getcpuclockid(3), linux/posix-timers.h).
	const cpuClockSched = 2
	var clock unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuClockSched), &clock); err != nil {
		return cpuTime{}, os.NewSyscallError("clock_gettime", err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return cpuTime{}, err
	}
	// The second field is a name in parentheses that may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const user, system = 14 - 3, 15 - 3 // proc(5) counts from 1, and two fields are cut off
	if len(fields) <= system {
		return cpuTime{}, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	u, err1 := strconv.ParseInt(fields[user], 10, 64)
	s, err2 := strconv.ParseInt(fields[system], 10, 64)
	return cpuTime{
		total: time.Duration(clock.Nano()), user: time.Duration(u) * tick, system: time.Duration(s) * tick,
	}, errors.Join(err1, err2)
}

// residentOf reads the resident memory of a process and its children in bytes, pages
// that they share counted for each.
func residentOf(pid int) (sum int64, err error) {
	for i, id := range family(pid) {
		one, err := residentOfOne(id)
		switch {
		case err == nil:
			sum += one
		case i == 0:
			return 0, err
		}
	}
	return sum, nil
}

func residentOfOne(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status: no VmRSS", pid)
}

func affinity(tid, core int) error {
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("pinning to core %d: %w", core, err)
	}
	return nil
}

// pinSelf pins every thread of this process; those to come inherit it.
func pinSelf(core int) error {
	for range 2 { // a thread may begin while the first round goes on
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				return err
			}
			if err := affinity(tid, core); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	runtime.GOMAXPROCS(1)
	return nil
}

// startOn starts a command on one core, or on all for a negative one, and in the servers'
// namespace if they have one.
func startOn(cmd *exec.Cmd, core int, n *network) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// A child begins on the cores, and in the namespace, of the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if core < 0 {
		return n.start(cmd)
	}
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := affinity(0, core); err != nil {
		return err
	}
	return errors.Join(n.start(cmd), unix.SchedSetaffinity(0, &before))
}

// server is a Hubbub server that this process started.
type server struct {
	cmd        *exec.Cmd
	dir        string
	url, token string
}

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
	pollInterval = 20 * time.Millisecond
)

// spawn starts a server in a directory of its own and waits until it is ready. The
// command's own flags come last, and so win.
func spawn(ctx context.Context, command []string, core int, n *network) (*server, error) {
	dir, err := os.MkdirTemp("", "hubbub-load-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir}
	args := append([]string{command[1], "--data", dir, "--http", n.host() + ":0", "--udp-port=-1", "--log-level", "warn"}, command[2:]...)
	s.cmd = exec.Command(command[0], args...)
	s.cmd.Stderr = os.Stderr
	if err := startOn(s.cmd, core, n); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("starting a server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if s.ready(ctx) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			s.stop()
			return nil, fmt.Errorf("the server that was started is not ready: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

func (s *server) ready(ctx context.Context) bool {
	var err error
	if s.url, s.token, err = ServerOf(s.dir); err != nil {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// stop ends the server and removes its directory.
func (s *server) stop() {
	end(s.cmd)
	_ = os.RemoveAll(s.dir)
}

// end ends a command that was started, by force if it does not hear.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(stopTimeout, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	kill.Stop()
}
