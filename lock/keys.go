package lock

// keys names what belongs to one resource in Redis. All names have the same hash tag, so that a script may touch all of
// them in a cluster.
type keys struct {
	// lock holds the holder's value and expires with the lock.
	lock string
	// fence holds the last fencing token; it outlives the lock.
	fence string
}

const fenceSuffix = ":fence"

// newKeys returns the names for a resource, in one allocation: lock is the beginning of fence.
func newKeys(prefix, resource string) keys {
	// A tag that is empty would not be one, and "{}..." has an empty tag. The escape itself is escaped, so that two
	// resources never share a key.
	escape := ""
	if resource[0] == '}' || resource[0] == '%' {
		escape = "%"
	}
	fence := prefix + "lock:{" + escape + resource + "}" + fenceSuffix
	return keys{lock: fence[:len(fence)-len(fenceSuffix)], fence: fence}
}

// queue is the sorted set of waiting values, by arrival.
func (k keys) queue() string { return k.lock + ":queue" }

// seen is the hash from waiting values to the time until which they count as alive.
func (k keys) seen() string { return k.lock + ":seen" }
