// Package load makes the callers of one process that want the same key share one piece of work, and runs loaders apart from
// their callers. It does no I/O of its own.
//
// A [Group] has one [Call] for each key that somebody works on. The first caller to join does the work, or has it done in the
// background, and finishes the call; the others wait, each for as long as its own context allows. [Run] runs a loader whose
// context belongs to nobody. [Limit] bounds how many run at a time.
package load
