package main

import (
	"os"
	"os/signal"
	"syscall"

	"hubbub.dev/hubbub/internal/serve/node"
)

// mediaCmd is the process that the media workers of a server run in. The server starts
// it, and it ends with that.
type mediaCmd struct{}

// Run serves until the server that started this says otherwise.
func (mediaCmd) Run() error {
	// Whoever stops a service signals all of its processes, and this one has to outlast
	// the goodbyes.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	collectEagerly()
	// It was started by a path that says nothing of its name. Where there is no such file
	// it keeps that.
	_ = os.WriteFile("/proc/self/comm", []byte("hubbub-media"), 0)
	return node.RunMedia(version)
}
