package lock

import "strings"

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
	// A tag that is empty would not be one, and "{}..." has an empty tag. The escape itself is escaped, so that two
	// resources never share a key.
	escape := ""
	if resource[0] == '}' || resource[0] == '%' {
		escape = "%"
	}
	k := keys{length: len(prefix) + len("lock:{") + len(escape) + len(resource) + len("}")}
	var all strings.Builder
	all.Grow(3*k.length + len(fenceSuffix) + len(queueSuffix) + len(seenSuffix))
	for _, suffix := range [...]string{fenceSuffix, queueSuffix, seenSuffix} {
		all.WriteString(prefix)
		all.WriteString("lock:{")
		all.WriteString(escape)
		all.WriteString(resource)
		all.WriteString("}")
		all.WriteString(suffix)
	}
	k.all = all.String()
	return k
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
