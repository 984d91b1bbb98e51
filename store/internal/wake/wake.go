// Package wake is how the end of a lease reaches those who wait for it: scripts write messages, see [Lua], and [Parse] reads
// them. It does no I/O.
package wake

import (
	_ "embed"
	"strconv"
	"strings"
)

// Lua is what scripts that end leases begin with, after that of entries.
//
//go:embed wake.lua
var Lua string

// Word says how a lease ended.
type Word string

const (
	// Filled means that its holder has stored a value. The message has what was stored, unless that is too large.
	Filled Word = "filled"
	// Failed means that its holder has no value. The message says why.
	Failed Word = "failed"
	// Revoked means that somebody else has stored or deleted a value.
	Revoked Word = "revoked"
)

// Message is what a waiter receives. It is a hint: it may be lost, and may come late.
type Message struct {
	Word  Word
	Token string // of the lease that has ended
	Now   int64  // when that was, by the server's clock, in microseconds
	Lease string // its key
	Body  string
}

// Parse reads a message. It reports false if that is none.
func Parse(payload string) (Message, bool) {
	word, rest, ok1 := strings.Cut(payload, " ")
	token, rest, ok2 := strings.Cut(rest, " ")
	now, rest, ok3 := strings.Cut(rest, " ")
	size, rest, ok4 := strings.Cut(rest, " ")
	micros, err1 := strconv.ParseInt(now, 10, 64)
	n, err2 := strconv.Atoi(size)
	if !ok1 || !ok2 || !ok3 || !ok4 || err1 != nil || err2 != nil || n < 0 || n > len(rest) {
		return Message{}, false
	}
	return Message{Word: Word(word), Token: token, Now: micros, Lease: rest[:n], Body: rest[n:]}, true
}
