package near

import _ "embed"

// Lua begins scripts that change a key: with publish(channel, key), which they call after they have written.
//
//go:embed publish.lua
var Lua string

// Channel returns the Settings.Channel for keys that begin with a prefix.
func Channel(prefix string) string { return prefix + "near" }
