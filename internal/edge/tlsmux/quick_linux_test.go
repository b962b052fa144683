package tlsmux

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// connected returns both ends of a TCP connection, the first of them quick.
func connected(t *testing.T) (quickly, plain net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if plain, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	quickly = quick(c)
	if _, ok := quickly.(*quickConn); !ok {
		t.Fatalf("a %T", quickly)
	}
	t.Cleanup(func() { _ = quickly.Close(); _ = plain.Close() })
	for _, c := range []net.Conn{quickly, plain} {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return quickly, plain
}

// More than the kernel's buffers hold goes both ways at once.
func TestQuickConnectionCarriesAll(t *testing.T) {
	a, b := connected(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	write := func(c net.Conn, done chan<- error) {
		n, err := c.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		done <- err
	}
	done := make(chan error, 4)
	read := func(c net.Conn) {
		got := make([]byte, len(sent))
		_, err := io.ReadFull(c, got)
		if err == nil && !bytes.Equal(got, sent) {
			err = errors.New("other bytes")
		}
		done <- err
	}
	for _, c := range []net.Conn{a, b} {
		go write(c, done)
		go read(c)
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestQuickConnectionEnds(t *testing.T) {
	a, b := connected(t)
	if n, err := a.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing to read: %d, %v", n, err)
	}
	_ = a.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	_ = a.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := b.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the other's end: %v", err)
	}
	_ = a.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the own: %v", err)
	}
	if _, err := a.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing after the own: %v", err)
	}
}

// A write that has to wait does so until a deadline that was set before it, or is set while
// it waits; one that has passed lets nothing through, and one taken back holds nothing up.
func TestQuickConnectionKeepsDeadlinesOfWrites(t *testing.T) {
	a, b := connected(t)
	much := make([]byte, 16<<20)
	for name, set := range map[string]func(){
		"before": func() { _ = a.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)) },
		"meanwhile": func() {
			_ = a.SetWriteDeadline(time.Time{})
			time.AfterFunc(20*time.Millisecond, func() { _ = a.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)) })
		},
		"both": func() { _ = a.SetDeadline(time.Now().Add(20 * time.Millisecond)) },
	} {
		set()
		if n, err := a.Write(much); !errors.Is(err, os.ErrDeadlineExceeded) || n == len(much) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, b)
	}()
	_ = a.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := a.Write(much); err != nil {
		t.Errorf("with time: %v", err)
	}
	_ = a.SetWriteDeadline(time.Time{})
	_ = a.SetWriteDeadline(time.Now().Add(-time.Second))
	if n, err := a.Write([]byte("late")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %d bytes, %v", n, err)
	}
	_ = a.SetWriteDeadline(time.Time{})
	if _, err := a.Write([]byte("in time")); err != nil {
		t.Errorf("without one: %v", err)
	}
	_ = a.Close()
	<-drained
}

func TestQuickConnectionAllocatesNothing(t *testing.T) {
	a, b := connected(t)
	buffer := make([]byte, 16)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = b.Write(buffer)
		_, _ = a.Read(buffer)
		_, _ = a.Write(buffer)
		_, _ = b.Read(buffer)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
