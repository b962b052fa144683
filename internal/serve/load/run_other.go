//go:build !linux

package load

import (
	"context"
	"errors"
	"io"
	"os"
)

var errPlatform = errors.New("the load generator needs Linux: it polls thousands of sockets by epoll and reads /proc")

// Run measures on Linux only.
func Run(context.Context, Config) (*Report, error) { return nil, errPlatform }

// Inside reports that nothing is apart here.
func Inside() bool { return false }

// Apart is on Linux only.
func Apart(context.Context, ...string) (int, error) { return 0, errPlatform }

// RunFloor forwards on Linux only.
func RunFloor(FloorConfig, *os.File, io.Writer) error { return errPlatform }
