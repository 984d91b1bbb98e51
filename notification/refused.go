package notification

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// refusals are the names that Redis does not let us listen to although a component wants to: it has subscribed with a
// context that goes on. A refused subscription is closed, so that nothing else remembers it.
type refusals struct {
	mu sync.Mutex
	// byName holds the last subscription to each name. One is enough, and a component that tries again and again with the
	// same context must not pile up more.
	byName map[subject]*Subscription
}

// add notes that Redis refused the name of s.
func (r *refusals) add(s *Subscription) {
	r.mu.Lock()
	earlier := r.byName[s.subject()]
	if r.byName == nil {
		r.byName = make(map[subject]*Subscription)
	}
	r.byName[s.subject()] = s
	r.mu.Unlock()
	if earlier != nil && earlier != s {
		earlier.unwatch()
	}
}

// granted notes that Redis accepted a name.
func (r *refusals) granted(asked subject) {
	r.mu.Lock()
	s := r.byName[asked]
	delete(r.byName, asked)
	r.mu.Unlock()
	if s != nil {
		s.unwatch()
	}
}

// forget notes that nobody waits for s any more.
func (r *refusals) forget(s *Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[s.subject()] == s {
		delete(r.byName, s.subject())
	}
}

// err returns an error that names one of them and counts the others, or nil if there are none.
func (r *refusals) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byName) == 0 {
		return nil
	}
	byText := func(a, b subject) int { return strings.Compare(a.name, b.name) }
	first := r.byName[slices.MinFunc(slices.Collect(maps.Keys(r.byName)), byText)]
	err := fmt.Errorf("%w: %w", ErrNotLive, first.Err())
	if others := len(r.byName) - 1; others > 0 {
		err = fmt.Errorf("%w (and %d more)", err, others)
	}
	return err
}

// refused ends a subscription that Redis refused.
func (s *Subscription) refused(err refusal) {
	known := &s.system.pump.refusals
	s.shut(err)
	if !s.isRefused() { // it was closed before
		return
	}
	known.add(s)
	if s.abandoned.Load() {
		known.forget(s) // its context has ended meanwhile
	}
}

// isRefused reports whether Redis refused the subscription.
func (s *Subscription) isRefused() bool {
	_, refused := errors.AsType[refusal](s.Err())
	return refused
}

// unwatch stops watching the context.
func (s *Subscription) unwatch() {
	s.mu.Lock()
	detach := s.detach
	s.mu.Unlock()
	if detach != nil {
		detach()
	}
}

// refusal is an error that Redis answered to a subscription.
type refusal string

func (e refusal) Error() string { return string(e) }

// RedisError marks it as an answer of the server.
func (refusal) RedisError() {}
