// Package redisx holds what this module needs beyond go-redis: scripts, classes of errors, hash tags and masters, what hides
// behind a client and separate connections to the same server, panics and Goexit of foreign code, deadlines and contexts of
// background work, pauses between tries, and log lines for what goes on for long.
package redisx
