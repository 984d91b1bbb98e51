package main

import (
	"errors"
	"sync/atomic"

	"github.com/compozy/cache"
)

// Exit codes, besides 0.
const (
	exitFailed      = 1   // the run failed: a workflow was lost or ran twice, an event was lost, there is no telling, or no start
	exitUsage       = 2   // the flags, or the configuration in the environment, cannot be used as they are
	exitInterrupted = 130 // before there was a verdict, as shells have it for an interrupt
)

// exitCode tells what is wrong with the configuration from all else that can keep a run from starting.
func exitCode(err error) int {
	if errors.Is(err, cache.ErrInvalidConfig) {
		return exitUsage
	}
	return exitFailed
}

// Exit holds the code with which the program is going to end.
type Exit struct{ code atomic.Int32 }

// NewExit returns what holds if nobody sets anything: a run with an end was interrupted, one without ended as it
// should.
func NewExit(o Options) *Exit {
	e := new(Exit)
	if o.Batch() {
		e.Set(exitInterrupted)
	}
	return e
}

// Set replaces the code.
func (e *Exit) Set(code int) { e.code.Store(int32(code)) }

// Code returns the code.
func (e *Exit) Code() int { return int(e.code.Load()) }
