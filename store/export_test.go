package store

// Waiting returns for how many keys this process waits for the load of another.
func Waiting[V any](c *Cache[V]) int { return c.core.shared.leases.Waiting() }

// Callers returns how many callers share the call for a key.
func Callers[V any](c *Cache[V], key string) int { return c.calls.Members(key) }

// Pending returns how many deletes are to be repeated.
func Pending[V any](c *Cache[V]) int { return c.core.shared.repeats.count() }

// BreakersOpen returns how many servers are not asked.
func BreakersOpen[V any](c *Cache[V]) int { return c.core.shared.breakers.Open() }

// NearEntries returns how many values the near cache has.
func NearEntries[V any](c *Cache[V]) int { return c.near.Stats().Entries }
