package store

import (
	"fmt"
	"io"
	"time"
)

// Version tells the writes of a key apart: each write has a larger one than all before, also after a delete. It is the
// server's clock in microseconds at the write, or one more than the version before where that is larger: if the clock steps
// back, versions grow as long as the value is there, or what remains of its delete. 0 stands for no value.
type Version int64

// Source is where a value came from.
type Source string

const (
	// SourceNear is the near cache of this process.
	SourceNear Source = "near"
	// SourceRedis is Redis.
	SourceRedis Source = "redis"
	// SourceLoaded is the loader.
	SourceLoaded Source = "loaded"
	// SourceStale is a value that is past its TTL, or may be, and was returned as there was nothing better.
	SourceStale Source = "stale"
)

// Item is a value and what is known of it. Package fmt prints it without its value, and so does zap. Package encoding/json,
// and whatever logs by means of that, writes all of it.
type Item[V any] struct {
	// Key is the key.
	Key string
	// Value is the value, the zero value if there is none.
	Value V
	// Version is that of the value, 0 if there is none, or if it was loaded and is not stored.
	Version Version
	// Source is where the value came from, also if what came is that there is none.
	Source Source
	// Age is how long ago the value was written, by the server's clock.
	Age time.Duration
	// Stale says that the value is past its TTL, or may be.
	Stale bool
	// Cause is why a stale value was returned, nil otherwise.
	Cause error
}

// String describes the item without its value.
func (i Item[V]) String() string {
	text := fmt.Sprintf("item %q in version %d", i.Key, i.Version)
	if i.Source != "" {
		text += " from " + string(i.Source)
	}
	if i.Stale {
		text += ", stale"
	}
	return text
}

// Format writes String, whatever the verb.
func (i Item[V]) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, i.String()) }
