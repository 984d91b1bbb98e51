// Package linear has no code but its tests: they check recorded histories of locks, and of store.State, with Porcupine, a
// checker of linearizability. It is in this module so that Porcupine does not become a dependency of users.
package linear
