//go:build !unix

package main

import "os"

// upgradeSignals are none here.
var upgradeSignals []os.Signal
