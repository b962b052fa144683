package harness

import "syscall"

// lifeline ends a process with the test that started it, should that not come to its
// cleanups.
func lifeline(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
