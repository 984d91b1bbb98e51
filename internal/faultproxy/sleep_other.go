//go:build !linux

package faultproxy

import "time"

// sleepUntil is as exact as Go's timers are.
func sleepUntil(due time.Time) { time.Sleep(time.Until(due)) }
