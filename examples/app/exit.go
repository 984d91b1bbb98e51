package main

import "sync/atomic"

// Exit codes, besides 0.
const (
	exitFailed      = 1   // a workflow was lost or ran twice, an event was lost, or there is no telling
	exitUsage       = 2   // bad flags or configuration, or no Redis at start
	exitInterrupted = 130 // before there was a verdict, as shells have it for an interrupt
)

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
