// Package linear has no code but its tests: they check recorded histories of locks with Porcupine, a checker of
// linearizability. It is in this module so that Porcupine does not become a dependency of those who use locks.
package linear
