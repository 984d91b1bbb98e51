package store

import "github.com/compozy/cache/internal/redisx"

// Keys names what belongs to one resource in Redis. All names have the same hash tag, so that a script may touch all of
// them in a cluster.
type Keys struct {
	// all is the names one after the other, so that they are one allocation.
	all string
	// length is how long the name of the lock is, with which all of them begin.
	length int
}

const (
	fenceSuffix    = ":fence"
	queueSuffix    = ":queue"
	reservedSuffix = ":next"
)

// NewKeys returns the names for a resource.
func NewKeys(prefix, resource string) Keys {
	name := prefix + "lock:" + redisx.HashTag(resource)
	return Keys{all: name + fenceSuffix + name + queueSuffix + name + reservedSuffix, length: len(name)}
}

// Lock is the key that contains the holder's value and expires with the lock.
func (k Keys) Lock() string { return k.all[:k.length] }

// Fence is the key of the last fencing token; it outlives the lock.
func (k Keys) Fence() string { return k.all[:k.length+len(fenceSuffix)] }

// Queue is the sorted set of those who wait, by arrival.
func (k Keys) Queue() string {
	start := k.length + len(fenceSuffix)
	return k.all[start : start+k.length+len(queueSuffix)]
}

// Reserved is the key of the reservation, which contains the name of the waiter who is to have the lock.
func (k Keys) Reserved() string { return k.all[len(k.all)-k.length-len(reservedSuffix):] }

// taking is the keys of scripts that take a lock, freeing of those that free it.
func (k Keys) taking() []string  { return []string{k.Lock(), k.Fence(), k.Queue(), k.Reserved()} }
func (k Keys) freeing() []string { return []string{k.Lock(), k.Queue(), k.Reserved()} }
