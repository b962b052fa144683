//go:build !linux

package child

import (
	"net"
	"os"
	"syscall"
)

// Own is the path of the binary that this process runs.
const Own = ""

// Memory is memory that several processes map.
type Memory struct{ Bytes []byte }

// NewMemory fails here.
func NewMemory(string, int) (*Memory, error) { return nil, ErrUnsupported }

// OpenMemory fails here.
func OpenMemory(*os.File) (*Memory, error) { return nil, ErrUnsupported }

// File is the memory's.
func (m *Memory) File() *os.File { return nil }

// Close unmaps the memory.
func (m *Memory) Close() error { return nil }

// Process is a child that runs.
type Process struct{ Control net.Conn }

// Start fails here.
func Start(string, []string, []string, []*os.File) (*Process, error) { return nil, ErrUnsupported }

// PID is the child's process id.
func (p *Process) PID() int { return 0 }

// Kill ends the child.
func (p *Process) Kill() {}

// Wait returns when the child has ended.
func (p *Process) Wait() error { return nil }

// Control fails here.
func Control() (net.Conn, error) { return nil, ErrUnsupported }

// File fails here.
func File(int) (*os.File, error) { return nil, ErrUnsupported }

// Adopt fails here.
func Adopt(int, *os.File) (*Process, error) { return nil, ErrUnsupported }

// Inherit fails here.
func Inherit(int) (*os.File, error) { return nil, ErrUnsupported }

// Replace fails here.
func Replace(string, []string, []string, []int) error { return ErrUnsupported }

// Duplicate fails here.
func Duplicate(syscall.Conn) (*os.File, error) { return nil, ErrUnsupported }

// End does nothing here.
func End(int) {}
