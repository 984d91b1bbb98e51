// Package server reads and writes entries on one Redis: a single server, the master that Sentinels know, or a Cluster.
// Every reply says what time it is by the clock of the server that has the key.
//
// Reads of concurrent callers leave together. Writes are one script each, and are repeated in a way that does nothing
// twice: see [Outcome]. Nothing here decodes values, and nothing waits longer than its context.
package server
