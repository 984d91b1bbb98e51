package lock

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// maxDebris bounds the memory that an unreachable Redis can cost. What is beyond it ends with its TTL.
	maxDebris = 10_000
	// doubtTime is how long after a key was looked for at first it is looked for again, if a command that may create it
	// could still be under way.
	doubtTime = 2 * time.Second
	// maxCleanupDelay is the longest pause between two tries.
	maxCleanupDelay = time.Second
	// lastCleanupTime is how long a node has for the last try, when the manager is being closed: Close waits for it.
	lastCleanupTime = 200 * time.Millisecond
)

// cleanupTime is how long cleaning up is tried: beyond the life of the key, as a Redis that was stopped may execute what
// it had received before when it goes on.
func cleanupTime(ttl time.Duration) time.Duration { return ttl + time.Minute }

// debris is a value that may be on a node, as key or in the queue, though nobody wants it any more.
type debris struct {
	node      *node
	keys      keys
	value     string
	queued    bool // it may be in the queue as well
	uncertain bool // a command that creates it may not have arrived yet
	until     time.Time
	doubt     time.Time // until when to look for what may come yet
}

// cleanUp has the janitor see to it that nothing stays behind of a lock that has ended.
func (l *RedisLock) cleanUp() {
	for _, n := range l.manager.nodes {
		l.manager.janitor.add(debris{
			node: n, keys: l.keys, value: l.value, uncertain: l.repeated, until: time.Now().Add(l.ttl),
		})
	}
}

// janitor removes debris in the background. Its goroutine runs only while there is some.
type janitor struct {
	manager *RedisLockManager

	mu      sync.Mutex // guards what follows
	pile    []debris
	running bool
}

// add takes note of debris.
func (j *janitor) add(d debris) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.pile) >= maxDebris {
		return
	}
	if !d.queued {
		j.manager.leftovers.add(d.node, d.keys, d.value)
	}
	j.pile = append(j.pile, d)
	if !j.running {
		j.running = j.manager.tasks.spawn(j.run)
	}
}

// run works until nothing is left.
func (j *janitor) run() {
	delay := retryDelay
	for {
		work := j.take()
		if work == nil {
			return
		}
		last := j.closing()
		left := j.sweep(work, last)
		if len(left) == 0 {
			delay = retryDelay
			continue
		}
		if last {
			continue // this is given up, but what came in the meantime has not been tried
		}
		j.wait(delay)
		j.mu.Lock()
		j.pile = append(j.pile, left...)
		j.mu.Unlock()
		delay = min(2*delay, maxCleanupDelay)
	}
}

// wait pauses between two tries; the last one comes at once when the manager is closing.
func (j *janitor) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-j.manager.closing:
	}
}

// closing reports whether the manager is.
func (j *janitor) closing() bool {
	select {
	case <-j.manager.closing:
		return true
	default:
		return false
	}
}

// take returns all there is, or nil and ends the running state.
func (j *janitor) take() []debris {
	j.mu.Lock()
	defer j.mu.Unlock()
	work := j.pile
	j.pile = nil
	if len(work) == 0 {
		j.running = false
		return nil
	}
	return work
}

// sweep tries to remove debris once, on all nodes side by side, and returns what has to be tried again. The
// last try has less time.
func (j *janitor) sweep(work []debris, last bool) []debris {
	m := j.manager
	timeout := maxNodeTimeout
	if last {
		timeout = lastCleanupTime
	}
	ctx, cancel := context.WithTimeout(m.ctx, timeout)
	defer cancel()
	var mu sync.Mutex // guards left
	var left []debris
	var all sync.WaitGroup
	for _, n := range m.nodes {
		var mine []debris
		var calls []call
		for _, d := range work {
			if d.node == n {
				mine = append(mine, d)
				calls = append(calls, n.releaseCall(d.keys, d.value, d.queued))
			}
		}
		if len(mine) == 0 {
			continue
		}
		all.Go(func() {
			n.pipeline(ctx, calls, func(first int, results []result) {
				mu.Lock()
				defer mu.Unlock()
				for i, r := range results {
					d, again := mine[first+i].after(r)
					if again {
						left = append(left, d)
					} else if !d.queued {
						m.leftovers.settle(n, d.keys, d.value)
					}
				}
			})
		})
	}
	all.Wait()
	return slices.Clip(left)
}

// after returns what is left of the debris after a try, and whether there is anything.
func (d debris) after(r result) (debris, bool) {
	now := time.Now()
	switch {
	case r.err != nil:
		return d, now.Before(d.until)
	case !d.uncertain:
		return d, false
	default:
		// Gone by now. But a command that was held up on its way may come yet, and so may the repetition of one that has
		// come: look again for a short time.
		if d.doubt.IsZero() {
			d.doubt = now.Add(doubtTime)
		}
		return d, now.Before(d.doubt)
	}
}
