//go:build !unix

package node

import "time"

// cpuTime is not known here: the node announces no use of processors.
func cpuTime() time.Duration { return 0 }
