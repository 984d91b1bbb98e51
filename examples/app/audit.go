package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what the facts say about a run.
type Verdict struct {
	Total, Done, Steps, Retries, Takeovers, Refused int
	LockWaits                                       int64
	Published                                       int64 // events that belong to the states in Redis
	Received                                        int   // of these, by this process' watcher
	Before                                          int64 // of these, out before it listened
	Gaps                                            []string
	// Problems say which workflow was lost or ran twice, or whose events were, and how that shows.
	Problems []string
	Took     time.Duration
}

// OK reports whether every workflow ran, once, and no event was lost without a word.
func (v Verdict) OK() bool { return len(v.Problems) == 0 }

// audit reads what Redis has on the workflows and compares it with the watcher's books. The error means that it could
// not be read: then there is no verdict.
func audit(ctx context.Context, s *Store, books *Books, ids []string) (Verdict, error) {
	v := Verdict{Total: len(ids), Gaps: books.Gaps()}
	for _, id := range ids {
		w, facts, err := s.Ledger(ctx, id)
		if errors.Is(err, errVanished) {
			v.problem(id, "lost: its state is not in Redis")
			continue
		}
		if err != nil {
			return v, err
		}
		v.judge(w, facts, books)
	}
	waits, err := s.Waits(ctx)
	v.LockWaits = waits
	return v, err
}

// judge adds one workflow to the verdict.
func (v *Verdict) judge(w Workflow, facts []Fact, books *Books) {
	v.Retries += w.Retries
	v.Takeovers += w.Takeovers
	v.Published += w.Seq
	v.Received += books.Received(w.ID)
	if w.Status == Done {
		v.Done++
	} else {
		v.problem(w.ID, "lost: nobody finished it, it is %s before step %q", w.Status, w.stepName())
	}

	var order []int  // of the steps done
	var newest int64 // token of an accepted fact
	for _, f := range facts {
		switch f.What {
		case factRefused:
			v.Refused++
			continue
		case factBegun:
			continue // begun is not done: one that lost its lock may begin a step, and find its result refused
		case factDone:
			order = append(order, f.Step)
		}
		if f.Token < newest {
			v.problem(w.ID, "ran twice: %s (token %d) %s step %d after a later holder (token %d)", f.Worker, f.Token, f.What, f.Step+1, newest)
		}
		newest = max(newest, f.Token)
	}
	v.Steps += len(order)
	want := w.Step // steps before it are done; once all are, it is their number
	for n, name := range stepNames(w.Kind) {
		switch times := count(order, n); {
		case times > 1:
			v.problem(w.ID, "ran twice: step %q was done %d times", name, times)
		case times == 0 && n < want:
			v.problem(w.ID, "lost: step %q counts as done, but nobody did it", name)
		}
	}
	for _, f := range facts {
		if f.accepted() && !f.in(w.Facts) {
			v.problem(w.ID, "ran twice: %s (token %d) %s step %d, which the state does not know", f.Worker, f.Token, f.What, f.Step+1)
		}
	}
	if !slices.IsSorted(order) {
		v.problem(w.ID, "ran twice: steps were done in the order %v", order)
	}
	v.compare(w, books)
}

// compare checks the events of a workflow.
func (v *Verdict) compare(w Workflow, books *Books) {
	for _, found := range books.Contradictions(w.ID) {
		v.problem(w.ID, "ran twice: %s", found)
	}
	v.Before += books.Since(w.ID)
	missing := books.Missing(w.ID, w.Seq)
	if len(missing) == 0 {
		return
	}
	if len(v.Gaps) == 0 { // a subscription that says so may miss events, a silent one may not
		v.problem(w.ID, "events lost: of its %d events, %s did not come", w.Seq, list(missing))
	}
}

func (v *Verdict) problem(id, format string, args ...any) {
	v.Problems = append(v.Problems, id+": "+fmt.Sprintf(format, args...))
}

func count(in []int, n int) int {
	times := 0
	for _, i := range in {
		if i == n {
			times++
		}
	}
	return times
}

func list(numbers []int64) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(numbers)), ", "), "[]")
}
