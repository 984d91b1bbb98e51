package lock

import "time"

// rejoin sets a lock on a master that does not have it, which was restarted empty or unreachable when the lock was
// acquired. A majority of the others has just confirmed the lock, and its time is not up: so nothing is revived, the
// lock only gets back the copies that make it survive the next failure.
func (m *RedisLockManager) rejoin(n *node, l *RedisLock, generation uint64) {
	left := time.Until(l.Until())
	if left < time.Millisecond || !l.isGeneration(generation) {
		return
	}
	m.tasks.spawn(func() {
		r := m.newRound(m.ctx, time.Now(), extending, l.keys, l.value, l.ttl, nil)
		defer r.done()
		_, _, err := n.number(r, newCall(n.scripts.join, []string{l.keys.lock(), l.keys.fence()}, l.value, left.Milliseconds(), l.token))
		if !l.isGeneration(generation) {
			// Released or lost while this was under way: it may have come after the release.
			m.janitor.add(debris{
				node: n, keys: l.keys, value: l.value, uncertain: err != nil, until: time.Now().Add(cleanupTime(l.ttl)),
			})
		}
	})
}
