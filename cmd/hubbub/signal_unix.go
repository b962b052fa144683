//go:build unix

package main

import (
	"os"
	"syscall"
)

// upgradeSignals ask for what ctl upgrade does.
var upgradeSignals = []os.Signal{syscall.SIGUSR2}
