package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/breaker"
	"github.com/compozy/cache/store/internal/server"
)

const (
	// maxRepeats is how many keys are remembered whose delete failed.
	maxRepeats = 10_000
	// minRepeatDelay and maxRepeatDelay bound the pause before they are tried again.
	minRepeatDelay = 100 * time.Millisecond
	maxRepeatDelay = time.Second
	// parallelDeletes is how many deletes are sent together.
	parallelDeletes = 100
)

// repeats has the names of keys which are known to be wrong and could not be deleted, with what deletes them. It tries until it
// succeeds.
type repeats struct {
	shared *shared
	log    *zap.Logger
	full   redisx.Repeated
	panics redisx.Repeated

	mu      sync.Mutex // guards what follows
	keys    map[string]repeat
	added   uint64 // ever
	running bool
}

// repeat is a delete that is to be repeated.
type repeat struct {
	deletes func(ctx context.Context) server.Reply
	number  uint64 // in the order in which they were added
}

func newRepeats(s *shared, log *zap.Logger) *repeats {
	return &repeats{shared: s, log: log, keys: make(map[string]repeat)}
}

// add has a key deleted later.
func (r *repeats) add(key string, deletes func(ctx context.Context) server.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.keys[key]; !known && len(r.keys) >= maxRepeats {
		r.full.Log(r.log, zap.WarnLevel, "store: so many deletes have failed that some are not repeated, "+
			"and old values stay until their TTL ends")
		return
	}
	r.added++
	r.keys[key] = repeat{deletes, r.added}
	if !r.running {
		r.running = true
		r.shared.helpers.Go(r.run)
	}
}

// begin returns what remove needs to know of a write that begins now.
func (r *repeats) begin() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.added
}

// remove takes note that a key was written or deleted after all, by a write that began then: a delete that has failed since may
// have been called for what that write stored.
func (r *repeats) remove(key string, began uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys[key].number <= began {
		delete(r.keys, key)
	}
}

// count returns how many keys wait.
func (r *repeats) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.keys)
}

// run deletes keys until there are none.
func (r *repeats) run() {
	ctx := redisx.Background(r.shared.helpers.Closing())
	for failures := 1; ; failures++ {
		if redisx.Sleep(ctx, redisx.Backoff(failures, minRepeatDelay, maxRepeatDelay)) != nil {
			return // the store is closed
		}
		left := r.all()
		if left == nil {
			return
		}
		groups := r.shared.breakers.Group(left)
		for _, err := range parallel(len(groups), func(g int) error { return r.some(ctx, left, groups[g]) }) {
			if err == nil {
				failures = 0
			}
		}
	}
}

// some deletes those of the keys that one server has, until it does not answer.
func (r *repeats) some(ctx context.Context, keys []string, which []int) error {
	for part := range slices.Chunk(which, parallelDeletes) {
		if err := r.try(ctx, keys, part); err != nil {
			return err
		}
	}
	return nil
}

// all returns what is to be deleted; if that is nothing, no goroutine is counted any more.
func (r *repeats) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = len(r.keys) > 0
	return slices.Collect(maps.Keys(r.keys))
}

// try deletes some of the keys. The error says that Redis did not answer for one.
func (r *repeats) try(ctx context.Context, keys []string, which []int) error {
	errs := parallel(len(which), func(i int) error {
		err := redisx.Apart(func() error { return r.once(ctx, keys[which[i]]) }) // hooks have no caller here who could recover
		if p, panicked := errors.AsType[*redisx.PanicError](err); panicked {
			r.panics.Log(r.log, zap.ErrorLevel, "store: a hook of the client panics while deletes are repeated",
				zap.String("panic", redisx.PanicText(p.Value)))
			return breaker.ErrNoAnswer
		}
		return err
	})
	return errors.Join(errs...)
}

// once deletes a key, unless somebody has done so meanwhile. The error says that Redis did not answer.
func (r *repeats) once(ctx context.Context, key string) error {
	r.mu.Lock()
	again := r.keys[key]
	r.mu.Unlock()
	if again.deletes == nil {
		return nil
	}
	switch again.deletes(ctx).Outcome {
	case server.Failed, server.Uncertain:
		return breaker.ErrNoAnswer
	default:
		r.remove(key, again.number)
		return nil
	}
}
