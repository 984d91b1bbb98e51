// Package entry is what a key of the store holds: a line of text that says what is known of the value, and the
// value's bytes. It does no I/O: scripts write entries, see [Lua], and [Parse] reads them.
package entry

import _ "embed"

// Lua is what scripts that read or write entries begin with. It agrees with [Parse] on what an entry is.
//
//go:embed entry.lua
var Lua string
