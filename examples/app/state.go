package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/compozy/cache"
)

// keep is how long Redis remembers a workflow after its last change.
const keep = time.Hour

var (
	// errFencedOff means that somebody else has changed the workflow since: whatever was done on it must not count.
	errFencedOff = errors.New("somebody else has the workflow")
	// errVanished means that the state of the workflow is not in Redis any more.
	errVanished = errors.New("the state of the workflow is gone")
)

// Store keeps the workflows of one run in Redis. It is safe for concurrent use, by several processes as well.
type Store struct {
	states *cache.State[Workflow]
	rdb    cache.RedisInterface // for the lists and counters beside the states
	run    string
}

// NewStore returns the store of a run. It sends nothing.
func NewStore(states *cache.State[Workflow], rdb cache.RedisInterface, o Options) *Store {
	return &Store{states: states, rdb: rdb, run: o.Run}
}

// stateKey is where the states have a workflow. All runs share them.
func (s *Store) stateKey(id string) string { return s.run + "/" + id }

// Resource names the lock of a workflow.
func (s *Store) Resource(id string) string { return "workflow/" + id }

// ID returns the ID of the n-th workflow of this run. Processes that share a run make the same ones.
func (s *Store) ID(n int) string { return fmt.Sprintf("%s-%04d", s.run, n) }

// Submit adds a workflow, unless it is there already.
func (s *Store) Submit(ctx context.Context, id string) error {
	create := func() error {
		_, err := s.states.Create(ctx, s.stateKey(id), newWorkflow(s.run, id, time.Now()))
		return err
	}
	err := create()
	if errors.Is(err, cache.ErrUncertain) {
		err = create() // whether it is there or not, and whoever has put it there
	}
	var found *cache.ConflictError[Workflow] // it matches cache.ErrExists
	switch {
	case errors.As(err, &found) && found.Current.Value.Status != Waiting:
		return nil // it was listed, and may be off the list
	case err != nil && found == nil:
		return err
	}
	// Whoever has created it may have died before this. If it is finished meanwhile, it is listed once more: whoever picks
	// it then has nothing to run.
	return s.list(ctx, id)
}

// Load returns the state of a workflow, or errVanished.
func (s *Store) Load(ctx context.Context, id string) (Workflow, error) {
	item, err := s.states.Get(ctx, s.stateKey(id))
	if errors.Is(err, cache.ErrNotFound) { // which an outage is not
		return Workflow{}, errVanished
	}
	if err != nil {
		return Workflow{}, err
	}
	w := item.Value
	w.version = item.Version
	return w, nil
}

// Commit replaces the state old, which Load or Commit has returned, by next with the fact that led there, and returns what
// is stored. The fact is part of the state, so there are both or neither. It returns errFencedOff if old is not the state
// any more or a holder of a later lock has been there, and errVanished. After any other error the change may have been
// made, or may be made yet.
func (s *Store) Commit(ctx context.Context, old, next Workflow, what string) (Workflow, error) {
	fact := factOf(what, next.Worker, next.Token, old)
	next.Facts = append(slices.Clip(old.Facts), fact) // never append to what the older state shares
	version, err := s.states.Put(ctx, s.stateKey(next.ID), next,
		cache.IfVersion(old.version), // nobody has changed it since it was read,
		cache.WithFence(next.Token))  // and nobody with a later lock has written it
	switch {
	case errors.Is(err, cache.ErrFenced):
		return old, s.refused(ctx, old, fact)
	case errors.Is(err, cache.ErrConflict), errors.Is(err, cache.ErrUncertain):
		return s.settle(ctx, old, fact, err)
	case err != nil:
		return old, err
	}
	next.version = version
	return next, s.note(ctx, next.ID, fact)
}

// settle looks what became of a Put that has found another version, or had no reply. As each fact says under which token
// and in which try it came about, the history of the state tells whether it counts.
func (s *Store) settle(ctx context.Context, old Workflow, fact Fact, cause error) (Workflow, error) {
	stored, err := s.Load(ctx, old.ID)
	switch {
	case errors.Is(err, errVanished):
		return old, err
	case err != nil:
		return old, errors.Join(cause, err)
	case !fact.in(stored.Facts) && stored.version == old.version:
		return old, cause // not written, or not yet: if it comes late, it finds another version or another token
	case !fact.in(stored.Facts):
		return old, s.refused(ctx, old, fact)
	case stored.Token != fact.Token:
		return old, errFencedOff // after it had counted
	}
	return stored, s.note(ctx, stored.ID, fact) // nobody has written since, as this worker has the token
}

// refused notes that a fact does not count.
func (s *Store) refused(ctx context.Context, old Workflow, fact Fact) error {
	return errors.Join(errFencedOff, s.Note(ctx, factRefused, fact.Worker, fact.Token, old))
}
