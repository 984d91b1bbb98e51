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
	poke    chan struct{} // tells the goroutine of new debris; never holds more than one

	mu      sync.Mutex // guards what follows
	pile    []debris   // not tried yet
	late    int        // how many were tried in vain, and will be again
	running bool
}

func newJanitor(m *RedisLockManager) *janitor {
	return &janitor{manager: m, poke: make(chan struct{}, 1)}
}

// add takes note of debris.
func (j *janitor) add(d debris) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.pile)+j.late >= maxDebris {
		return
	}
	if !d.queued {
		j.manager.leftovers.add(d.node, d.keys, d.value)
	}
	j.pile = append(j.pile, d)
	if !j.running {
		j.running = j.manager.tasks.spawn(j.run)
		return
	}
	select {
	case j.poke <- struct{}{}:
	default:
	}
}

// run works until nothing is left. What is new has its try at once, whatever is still to be tried again.
func (j *janitor) run() {
	var left []debris // tried before, and due again
	var due time.Time
	delay := retryDelay
	for {
		work, last := j.take(len(left)), j.closing()
		switch {
		case len(left) > 0 && (last || !time.Now().Before(due)):
			work, left = append(work, left...), nil
			delay = min(2*delay, maxCleanupDelay)
		case len(work) > 0:
		case len(left) > 0:
			j.wait(time.Until(due))
			continue
		default:
			return
		}
		again := j.sweep(work, last)
		if last {
			continue // this is given up
		}
		if len(left) == 0 {
			due = time.Now().Add(delay)
		}
		if left = append(left, again...); len(left) == 0 {
			delay = retryDelay
		}
	}
}

// wait pauses until the next try, or something new. The last try comes at once when the manager is closing.
func (j *janitor) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-j.poke:
	case <-j.manager.closing.Done():
	}
}

// closing reports whether the manager is.
func (j *janitor) closing() bool {
	select {
	case <-j.manager.closing.Done():
		return true
	default:
		return false
	}
}

// take returns what is new, given how many are to be tried again. It ends the running state if there is nothing at all.
func (j *janitor) take(late int) []debris {
	j.mu.Lock()
	defer j.mu.Unlock()
	work := j.pile
	j.pile, j.late = nil, late
	j.running = len(work)+late > 0
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
			n.pipeline(ctx, calls, func(index int, r result) {
				mu.Lock()
				defer mu.Unlock()
				d, again := mine[index].after(r)
				if again {
					left = append(left, d)
				} else if !d.queued {
					m.leftovers.settle(n, d.keys, d.value)
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
