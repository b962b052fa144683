// Package child owns what a process shares with a child that it starts: a connection
// to control it, memory that both map, and descriptors that the child inherits. It does
// not know what passes over any of them, and never starts a goroutine.
package child

import (
	"errors"
	"unsafe"
)

// ErrUnsupported says that this system has no children of this kind.
var ErrUnsupported = errors.New("child: not supported on this system")

// View returns a part of memory as count values of a type without pointers. It panics
// if that does not lie within, or not as the type needs it.
func View[T any](memory []byte, offset, count int) []T {
	var t T
	size, align := int(unsafe.Sizeof(t)), int(unsafe.Alignof(t))
	if offset < 0 || count < 0 || count > (len(memory)-offset)/size {
		panic("child: view outside of the memory")
	}
	if count == 0 {
		return nil
	}
	first := unsafe.Pointer(&memory[offset])
	if uintptr(first)%uintptr(align) != 0 {
		panic("child: view is not aligned")
	}
	return unsafe.Slice((*T)(first), count)
}
