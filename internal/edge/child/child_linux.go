package child

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstFile is the descriptor that a child finds its control connection at, and above
// it the other files.
const firstFile = 3

// Own is the path of the binary that this process runs, also after its file was
// replaced or removed.
const Own = "/proc/self/exe"

// Memory is memory that outlives any process that maps it, as long as one does.
type Memory struct {
	Bytes []byte
	file  *os.File
}

// NewMemory returns zeroed memory. Pages that nobody touched cost nothing. Nobody can
// change its size, so that it never ends under a reader.
func NewMemory(name string, size int) (*Memory, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(int64(size)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), f.Close())
	}
	return OpenMemory(f)
}

// OpenMemory maps what another process made and owns f from then on.
func OpenMemory(f *os.File) (*Memory, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("mmap", err), f.Close())
	}
	return &Memory{Bytes: b, file: f}, nil
}

// File is the memory's, for a child to inherit.
func (m *Memory) File() *os.File { return m.file }

// Close unmaps the memory. No view of it may be used any more.
func (m *Memory) Close() error { return errors.Join(unix.Munmap(m.Bytes), m.file.Close()) }

// Process is a child that runs.
type Process struct {
	// Control is connected to the child's. It ends when the child does, and the child
	// is to end when it ends.
	Control net.Conn
	process *os.Process
}

// Start runs a program with its control connection and then files as the first
// descriptors above standard error. The child is killed when the calling thread ends:
// the caller locks its goroutine to it until after Wait. It gets no signals of the
// terminal.
func Start(path string, args, env []string, files []*os.File) (*Process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("child: %w", os.NewSyscallError("socketpair", err))
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer func() { _ = theirs.Close() }()
	control, err := connection(os.NewFile(uintptr(pair[0]), "control"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = append([]*os.File{theirs}, files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("child: %w", err), control.Close())
	}
	return &Process{Control: control, process: cmd.Process}, nil
}

// Adopt returns the child that this process started when it was another program, by its
// id and its control connection, which is the caller's no longer. The child is killed
// when the process's first thread ends, as it was the one that exec left.
func Adopt(pid int, control *os.File) (*Process, error) {
	c, err := connection(control)
	if err != nil {
		return nil, err
	}
	if ended, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); ended != 0 || err != nil {
		return nil, errors.Join(fmt.Errorf("child: %d is none that runs: %w", pid, cmp.Or(err, error(os.ErrProcessDone))), c.Close())
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("child: %w", err), c.Close())
	}
	return &Process{Control: c, process: process}, nil
}

// PID is the child's process id.
func (p *Process) PID() int { return p.process.Pid }

// Kill ends the child at once.
func (p *Process) Kill() { _ = p.process.Kill() }

// Wait returns when the child has ended, and says how unless it ended well. It closes
// the control connection.
func (p *Process) Wait() error {
	state, err := p.process.Wait()
	if err == nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
	}
	return errors.Join(err, p.Control.Close())
}

// Control returns in a child the connection to its parent. It may be called once.
func Control() (net.Conn, error) {
	f, err := inherited(firstFile)
	if err != nil {
		return nil, fmt.Errorf("%w: only a parent starts this", err)
	}
	return connection(f)
}

// File returns in a child the file with this index of those that Start was given. It
// may be called once for each.
func File(i int) (*os.File, error) { return inherited(firstFile + 1 + i) }

// Inherit returns a descriptor that the program before in this process left open.
func Inherit(fd int) (*os.File, error) { return inherited(fd) }

// End kills a child that this process started when it was another program, and waits for
// it. It does nothing to a process that is none.
func End(pid int) {
	if pid <= 1 {
		return // several, or no child
	}
	if ended, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); ended != 0 || err != nil {
		return
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	_, _ = unix.Wait4(pid, nil, 0, nil)
}

// Duplicate returns a copy of a connection's or a listener's descriptor, which goes on
// as it is.
func Duplicate(of syscall.Conn) (*os.File, error) {
	raw, err := of.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, failed := -1, error(nil)
	if err := raw.Control(func(original uintptr) { fd, failed = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, os.NewSyscallError("fcntl", failed)
	}
	return os.NewFile(uintptr(fd), "duplicate"), nil
}

// Replace has this process go on as another program, with descriptors that it inherits
// beside the standard ones. Nothing of the process but those and its children is left, so
// it returns only when that fails. It must be called on the thread that started the
// children, which are killed otherwise.
func Replace(path string, args, env []string, descriptors []int) error {
	for _, fd := range descriptors {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("child: descriptor %d: %w", fd, err)
		}
	}
	return os.NewSyscallError("execve", syscall.Exec(path, args, env))
}

func inherited(fd int) (*os.File, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("child: descriptor %d: %w", fd, err)
	}
	return os.NewFile(uintptr(fd), "inherited"), nil
}

func connection(f *os.File) (net.Conn, error) {
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("child: control connection: %w", err)
	}
	return c, nil
}
