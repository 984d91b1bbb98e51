package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// What a fact can say.
const (
	factClaimed = "claimed" // a worker with a lock has taken the workflow
	factBegun   = "begun"   // it has begun a step; nobody checks whether it was allowed to
	factDone    = "done"    // the step succeeded and the store accepted it
	factFailed  = "failed"  // the step failed and the store accepted that
	factRefused = "refused" // the store did not accept what a worker without lock did
)

// Fact is an entry of a workflow's ledger: the verdict on a run is found from it, not from what any process believes.
//
// The ledger has two sources. Accepted facts are the history within the state, written with the change that they tell of.
// All facts are noted in a list, which is only ever appended to; accepted ones after that. So if a state were ever replaced
// by somebody who had not seen it, the list would show what its history has lost.
type Fact struct {
	What    string    `json:"what"`
	Step    int       `json:"step"`
	Attempt int       `json:"attempt"`
	Token   int64     `json:"token"`
	Worker  string    `json:"worker"`
	At      time.Time `json:"at"`
}

func factOf(what, worker string, token int64, w Workflow) Fact {
	return Fact{What: what, Step: w.Step, Attempt: w.Attempt, Token: token, Worker: worker, At: time.Now()}
}

// accepted reports whether the fact says that the store accepted a change.
func (f Fact) accepted() bool { return f.What != factBegun && f.What != factRefused }

// in reports whether the fact is among others, at whatever time.
func (f Fact) in(others []Fact) bool {
	return slices.ContainsFunc(others, func(o Fact) bool {
		o.At = f.At
		return o == f
	})
}

// Note appends a fact on the next step of w to the list, whoever may hold the lock.
func (s *Store) Note(ctx context.Context, what, worker string, token int64, w Workflow) error {
	return s.note(ctx, w.ID, factOf(what, worker, token, w))
}

func (s *Store) note(ctx context.Context, id string, f Fact) error {
	entry, err := json.Marshal(f)
	if err != nil {
		return err
	}
	tx := s.rdb.TxPipeline()
	tx.RPush(ctx, s.ledgerKey(id), entry)
	tx.Expire(ctx, s.ledgerKey(id), keep)
	_, err = tx.Exec(ctx)
	return err
}

// Ledger returns the state of a workflow and all facts on it, or errVanished.
func (s *Store) Ledger(ctx context.Context, id string) (Workflow, []Fact, error) {
	// The list is read first: the state has all accepted facts that are in it by then.
	entries, err := s.rdb.LRange(ctx, s.ledgerKey(id), 0, -1).Result()
	if err != nil {
		return Workflow{}, nil, err
	}
	noted := make([]Fact, len(entries))
	for i, entry := range entries {
		if err := json.Unmarshal([]byte(entry), &noted[i]); err != nil {
			return Workflow{}, nil, fmt.Errorf("ledger of %s: %w", id, err)
		}
	}
	w, err := s.Load(ctx, id)
	if err != nil {
		return Workflow{}, nil, err
	}
	return w, merge(w.Facts, noted), nil
}

// merge puts what was noted and is not in the history between the facts of the history, by time. The clocks of processes
// differ, so the order within each stays.
func merge(history, noted []Fact) []Fact {
	noted = slices.DeleteFunc(slices.Clone(noted), func(f Fact) bool { return f.in(history) })
	var all []Fact
	for _, f := range history {
		for len(noted) > 0 && noted[0].At.Before(f.At) {
			all, noted = append(all, noted[0]), noted[1:]
		}
		all = append(all, f)
	}
	return append(all, noted...)
}
