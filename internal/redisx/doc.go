// Package redisx holds what the packages of this module share around go-redis:
// scripts, classes of errors, hash tags, what hides behind a client, contexts of
// background work, pauses between tries, and log lines for what goes on for long.
package redisx
