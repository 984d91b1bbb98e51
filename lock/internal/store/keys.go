package store

import "github.com/compozy/cache/internal/redisx"

// Keys names what belongs to one resource in Redis. All names have the same hash tag, so that a script may touch all of
// them in a cluster.
type Keys struct{ lock string }

// NewKeys returns the names for a resource.
func NewKeys(prefix, resource string) Keys { return Keys{prefix + "lock:" + redisx.HashTag(resource)} }

// Lock is the key that contains the holder's value and expires with the lock.
func (k Keys) Lock() string { return k.lock }

// Fence is the key of the last fencing token; it outlives the lock.
func (k Keys) Fence() string { return k.lock + ":fence" }

// Queue is the sorted set of those who wait, by arrival.
func (k Keys) Queue() string { return k.lock + ":queue" }

// Reserved is the key of the reservation, which contains the name of the waiter who is to have the lock.
func (k Keys) Reserved() string { return k.lock + ":next" }

// taking is the keys of scripts that take a lock, freeing of those that free it.
func (k Keys) taking() []string  { return []string{k.Lock(), k.Fence(), k.Queue(), k.Reserved()} }
func (k Keys) freeing() []string { return []string{k.Lock(), k.Queue(), k.Reserved()} }
