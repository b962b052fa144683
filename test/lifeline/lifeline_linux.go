// Package lifeline ends processes with the test that started them, should that not come
// to its cleanups.
package lifeline

import "syscall"

// Attach has a process killed when the one that starts it ends.
func Attach(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
