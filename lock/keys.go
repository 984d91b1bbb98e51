package lock

import "github.com/compozy/cache/internal/redisx"

// keys names what belongs to one resource in Redis. All names have the same hash tag, so that a script may touch all of
// them in a cluster.
type keys struct {
	// all is the names one after the other, so that they are one allocation.
	all string
	// length is how long the name of the lock is, with which all of them begin.
	length int
}

const (
	fenceSuffix = ":fence"
	queueSuffix = ":queue"
	seenSuffix  = ":seen"
)

// newKeys returns the names for a resource.
func newKeys(prefix, resource string) keys {
	name := prefix + "lock:" + redisx.HashTag(resource)
	return keys{all: name + fenceSuffix + name + queueSuffix + name + seenSuffix, length: len(name)}
}

// lock is the key that holds the holder's value and expires with the lock.
func (k keys) lock() string { return k.all[:k.length] }

// fence is the key of the last fencing token; it outlives the lock.
func (k keys) fence() string { return k.all[:k.length+len(fenceSuffix)] }

// queue is the sorted set of waiting values, by arrival.
func (k keys) queue() string {
	start := k.length + len(fenceSuffix)
	return k.all[start : start+k.length+len(queueSuffix)]
}

// list is the keys of scripts that use all of them.
func (k keys) list() []string { return []string{k.lock(), k.fence(), k.queue(), k.seen()} }

// seen is the hash from waiting values to the time until which they count as alive.
func (k keys) seen() string { return k.all[len(k.all)-k.length-len(seenSuffix):] }
