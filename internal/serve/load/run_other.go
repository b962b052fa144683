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

// RunFloor forwards on Linux only.
func RunFloor(FloorConfig, *os.File, io.Writer) error { return errPlatform }
