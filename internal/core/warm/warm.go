// Package warm owns the reading of memory before it is needed. Where one worker has
// thousands of peers, what a packet takes of each of them has left the caches when the
// next one comes, and fetching its dozen lines one after the other costs more than the
// cryptography that needs them. Go has no prefetch; but loads that wait for nothing
// before them are fetched beside each other, so reading a byte of every line of several
// peers at once takes hardly longer than of one. Nothing here keeps or changes anything.
package warm

import (
	"reflect"
	"unsafe"
)

// line is a cache line's size in bytes on all that servers run on, or half of it.
const line = 64

// Object is the memory of one value.
type Object struct {
	at   unsafe.Pointer // nil: there is none
	size uintptr
}

// Of returns the memory that a pointer points to, also one within an interface: of a
// cipher.AEAD its keys and tables. Of anything else there is none.
func Of(pointer any) Object {
	v := reflect.ValueOf(pointer)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return Object{}
	}
	return Object{v.UnsafePointer(), v.Type().Elem().Size()}
}

// Touch reads a byte of each of the object's lines, and returns something made of them so
// that the compiler does, too.
func (o Object) Touch() (sum byte) {
	for i := uintptr(0); i < o.size; i += line {
		sum ^= *(*byte)(unsafe.Add(o.at, i))
	}
	return sum
}
