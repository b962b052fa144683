package child

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// role has the test binary be a child: one that echoes, or one that starts such a child
// itself and tells its process id.
const role = "HUBBUB_TEST_CHILD"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "echo":
		err = echo()
	case "parent":
		err = parent()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// echo says what the memory holds, writes into it, and then repeats what it is told.
func echo() error {
	control, err := Control()
	if err != nil {
		return err
	}
	f, err := File(0)
	if err != nil {
		return err
	}
	m, err := OpenMemory(f)
	if err != nil {
		return err
	}
	copy(m.Bytes[100:], "back")
	if _, err := control.Write(m.Bytes[:5]); err != nil {
		return err
	}
	_, err = io.Copy(control, control)
	return err
}

func parent() error {
	control, err := Control()
	if err != nil {
		return err
	}
	m, err := NewMemory("test", 4096)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	p, err := Start(Own, nil, []string{role + "=echo"}, []*os.File{m.File()})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(control, p.PID()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, control)
	return err
}

func start(t *testing.T, what string, files ...*os.File) *Process {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	p, err := Start(Own, nil, []string{role + "=" + what}, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Control.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestChildSharesWhatItWasGiven(t *testing.T) {
	m, err := NewMemory("test", 4096)
	if err != nil {
		t.Fatal(err)
	}
	copy(m.Bytes, "there")
	p := start(t, "echo", m.File())
	said := make([]byte, 5)
	if _, err := io.ReadFull(p.Control, said); err != nil || string(said) != "there" {
		t.Fatalf("the child reads %q, %v", said, err)
	}
	if !bytes.HasPrefix(m.Bytes[100:], []byte("back")) {
		t.Errorf("the child wrote %q", m.Bytes[100:104])
	}
	if _, err := p.Control.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(p.Control, said); err != nil || string(said) != "hello" {
		t.Errorf("the child says %q, %v", said, err)
	}
	p.Kill()
	if _, err := p.Control.Read(said); err == nil {
		t.Error("a dead child's connection goes on")
	}
	if err := p.Wait(); err == nil {
		t.Error("a killed child ended well")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestChildEndsWithItsParent kills a parent, whose child is nobody's then.
func TestChildEndsWithItsParent(t *testing.T) {
	p := start(t, "parent")
	var orphan int
	if _, err := fmt.Fscan(p.Control, &orphan); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	_ = p.Wait()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(10 * time.Second); syscall.Kill(orphan, 0) == nil && !zombie(orphan); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the child outlives its parent")
		}
	}
}

// zombie reports whether a process has ended and nobody has asked how.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func TestOnlyParentsStartChildren(t *testing.T) {
	if c, err := inherited(1 << 20); err == nil {
		t.Errorf("inherited %v", c)
	}
}

func TestMemoryKeepsItsSize(t *testing.T) {
	m, err := NewMemory("test", 4096)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.File().Truncate(0); err == nil {
		t.Error("memory shrinks under its readers")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestView(t *testing.T) {
	memory := make([]byte, 64)
	View[uint64](memory, 8, 2)[1] = 0xFF
	if !bytes.Contains(memory[16:24], []byte{0xFF}) {
		t.Errorf("%x", memory)
	}
	for name, f := range map[string]func(){
		"past the end": func() { View[uint64](memory, 8, 8) },
		"unaligned":    func() { View[uint64](memory, 1, 1) },
		"negative":     func() { View[uint64](memory, -8, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}
