// Package bustest gives tests a bus of their own, in process and without a
// socket.
package bustest

import (
	"testing"

	"hubbub.dev/hubbub/internal/edge/bus"
)

// New returns a bus that ends with the test.
func New(t testing.TB) *bus.Bus {
	t.Helper()
	b, err := bus.Start(bus.Config{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}
