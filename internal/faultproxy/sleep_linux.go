package faultproxy

import (
	"syscall"
	"time"
)

// sleepUntil lets the kernel wake this thread, which is exact to some 50 µs.
func sleepUntil(due time.Time) {
	for {
		wait := time.Until(due)
		if wait <= 0 {
			return
		}
		span := syscall.NsecToTimespec(wait.Nanoseconds())
		_ = syscall.Nanosleep(&span, nil) // a signal ends it early
	}
}
