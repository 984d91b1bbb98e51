// Package batch lets what concurrent callers want of Redis leave together.
//
// A [Queue] is a group commit: whatever arrives while a batch is under way leaves
// with the next one. A caller that is alone waits for nobody. [Commands] is a
// queue of Redis commands for each server, so that in a Cluster a master that hangs
// holds up nobody but its own callers. [Pipeline] sends a list of commands that one
// caller already has, likewise by master.
//
// Each caller follows its own context: the end of it ends the call at once, and the
// caller learns whether the item may have been sent. A batch outlives its callers,
// as it carries the items of others. An exception is the caller that sends its item by
// itself, which Settings.Alone allows: its context is that of Send, and it waits for Send.
package batch
