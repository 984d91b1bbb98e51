package lock

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// renewals is a number of them under way to all nodes.
type renewals struct {
	manager *RedisLockManager
	start   time.Time // before anything was sent
	cancel  context.CancelFunc

	mu       sync.Mutex // guards what follows
	open     int        // nodes under way
	items    []item
	outcomes []outcome // by item and node
}

// item is the renewal of one lock.
type item struct {
	lock       *RedisLock
	generation uint64
	open       int // nodes that have not answered
	extended   bool
	err        error
}

func (b *renewals) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open--; b.open == 0 {
		b.cancel()
	}
}

// record takes down a node's answer and acts where it decides a lock's fate.
func (b *renewals) record(n *node, index int, v vote) {
	m := b.manager
	b.mu.Lock()
	it := &b.items[index]
	outcomes := b.outcomes[index*len(m.nodes) : (index+1)*len(m.nodes)]
	outcomes[n.index] = v.outcome
	it.open--
	if v.err != nil {
		it.err = v.err
	}
	t := tallyOutcomes(outcomes)
	decided := !it.extended && t.granted >= m.quorum()
	it.extended = it.extended || decided
	var absent []*node
	switch {
	case decided:
		for i, o := range outcomes {
			if o == missing {
				absent = append(absent, m.nodes[i])
			}
		}
	case it.extended && v.outcome == missing:
		absent = []*node{n}
	}
	last, extended := it.open == 0, it.extended
	l, generation, err := it.lock, it.generation, it.err
	b.mu.Unlock()

	switch {
	case decided:
		if l.extend(b.start, generation) {
			m.metrics.renewals.Add(1)
			m.renewing.Over(m.set.logger, "lock: renewals succeed again")
			m.renewer.schedule(l, b.start.Add(interval(l.ttl)))
		}
	case extended:
	case m.lossBy(t) != nil:
		if l.isGeneration(generation) {
			l.lose(m.lossBy(t))
		}
	case last:
		b.retry(l, generation, err)
	}
	for _, n := range absent {
		m.rejoin(n, l, generation)
	}
}

// retry schedules a renewal that failed. The lock is held as long as its time is not up.
func (b *renewals) retry(l *RedisLock, generation uint64, err error) {
	m := b.manager
	if !l.isGeneration(generation) {
		return
	}
	m.metrics.renewalsFailed.Add(1)
	m.renewing.Log(m.set.logger, zap.WarnLevel, "lock: renewal failed", zap.String("resource", l.resource), zap.Error(err), zap.Time("until", l.Until()))
	m.renewer.schedule(l, time.Now().Add(min(l.ttl/10, 500*time.Millisecond)))
}

// isGeneration reports whether nothing has happened to the lock since.
func (l *RedisLock) isGeneration(generation uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == stateHeld && l.generation == generation
}

func tallyOutcomes(outcomes []outcome) tally {
	var t tally
	for _, o := range outcomes {
		switch o {
		case granted:
			t.granted++
		case missing:
			t.missing++
		case refused:
			t.refused++
		case failed:
			t.failed++
		case pending:
		}
	}
	return t
}
