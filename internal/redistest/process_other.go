//go:build !linux

package redistest

import "syscall"

// dieWithParent has no counterpart here: servers outlive a test process that
// is killed, and the next run chooses other ports.
func dieWithParent() *syscall.SysProcAttr { return nil }

// stopped cannot look at another process here and trusts the signal.
func stopped(int) bool { return true }
