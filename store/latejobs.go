package store

import (
	"sync"
	"time"

	"github.com/compozy/cache/internal/redisx"
)

// maxLate is how many calls of the loader are made at a time for keys that others were to load, and as many for keys for which
// Redis has stopped to answer: these may wait for a slot, and count as none of the others.
const maxLate = 4

// gathering is how long a key for which Redis has stopped to answer waits for others, which find out within a second of each other.
const gathering = 10 * time.Millisecond

// lateJobs loads keys of one LoadMany that other processes were to load, where that has come to nothing: one call of the loader
// has all keys that have come together meanwhile.
type lateJobs[V any] struct {
	batch        *batchJob[V]
	late, cutOff gathered[V]
}

// gathered is jobs that wait for one of a few goroutines, which takes all that there are.
type gathered[V any] struct {
	mu      sync.Mutex // guards what follows
	jobs    []*job[V]
	running int // goroutines that go on until there is nothing to take
}

// add adds a job. It reports whether the caller is to start a goroutine.
func (g *gathered[V]) add(j *job[V]) (start bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.jobs = append(g.jobs, j)
	if start = len(g.jobs) == 1 && g.running < maxLate; start {
		g.running++
	}
	return start
}

// take returns what there is; if that is nothing, the goroutine ends.
func (g *gathered[V]) take() []*job[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	jobs := g.jobs
	g.jobs = nil
	if len(jobs) == 0 {
		g.running--
	}
	return jobs
}

// add loads a key, of which this process holds the lease, which is not to be stored, or for which Redis has stopped to answer,
// and ends its call.
func (l *lateJobs[V]) add(j *job[V]) {
	queue, run := &l.late, l.run
	if j.cutOff {
		queue, run = &l.cutOff, l.runCutOff
	}
	if queue.add(j) {
		l.batch.cache.core.gate.Go(run)
	}
}

// run loads keys until there are none.
func (l *lateJobs[V]) run() {
	for jobs := l.late.take(); len(jobs) > 0; jobs = l.late.take() {
		var held, others []*job[V]
		for _, j := range jobs {
			if j.held != nil {
				held = append(held, j)
			} else {
				others = append(others, j)
			}
		}
		if len(held) > 0 {
			l.apart(held, l.batch.load)
		}
		if len(others) > 0 {
			l.apart(others, l.batch.pass)
		}
	}
}

// runCutOff loads keys for which Redis has stopped to answer, until there are none.
func (l *lateJobs[V]) runCutOff() {
	for {
		<-time.After(gathering)
		jobs := l.cutOff.take()
		if len(jobs) == 0 {
			return
		}
		for _, j := range jobs {
			j.cutOff = false
		}
		l.apart(jobs, l.batch.alone)
	}
}

// apart loads some keys in a goroutine of its own, which a codec may end: the others go on.
func (l *lateJobs[V]) apart(jobs []*job[V], f func([]*job[V])) {
	_ = redisx.Apart(func() error {
		protect(jobs, func() { f(jobs) })
		return nil
	})
}
