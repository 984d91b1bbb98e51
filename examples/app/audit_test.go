package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// finished is a workflow that ran as it should, with its facts and with books in which all its events are.
func finished() (Workflow, []Fact, *Books) {
	books := NewBooks()
	w := newWorkflow("run", "run-1", time.Now())
	facts := []Fact{{What: factClaimed, Token: 3, Worker: "a/1"}}
	books.Open(w.ID, 0)
	for w = w.Claim("a/1", 3, time.Now()); ; w = w.Succeed(time.Now()) {
		for _, e := range w.Outbox {
			books.Enter(e)
		}
		if w.Status == Done {
			w.Facts = slices.DeleteFunc(slices.Clone(facts), func(f Fact) bool { return !f.accepted() })
			return w, facts, books
		}
		facts = append(facts,
			Fact{What: factBegun, Step: w.Step, Token: 3, Worker: "a/1"},
			Fact{What: factDone, Step: w.Step, Token: 3, Worker: "a/1"})
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(w *Workflow, facts *[]Fact, books *Books)
		problem string // "" for none
	}{
		"all is well": {
			change: func(*Workflow, *[]Fact, *Books) {},
		},
		"a step begun twice is not done twice": {
			change: func(_ *Workflow, facts *[]Fact, _ *Books) {
				*facts = append(*facts, Fact{What: factBegun, Step: 1, Token: 2}, Fact{What: factRefused, Step: 1, Token: 2})
			},
		},
		"an event may come twice": {
			change: func(w *Workflow, _ *[]Fact, books *Books) { books.Enter(w.Outbox[0]) },
		},
		"not finished": {
			change:  func(w *Workflow, _ *[]Fact, _ *Books) { w.Status = Running },
			problem: "run-1: lost: nobody finished it",
		},
		"done, but by nobody": {
			change:  func(_ *Workflow, facts *[]Fact, _ *Books) { *facts = (*facts)[:len(*facts)-1] },
			problem: "counts as done, but nobody did it",
		},
		"a step twice": {
			change: func(_ *Workflow, facts *[]Fact, _ *Books) {
				*facts = append(*facts, Fact{What: factDone, Step: 0, Token: 3})
			},
			problem: "was done 2 times",
		},
		"an earlier holder came through": {
			change: func(_ *Workflow, facts *[]Fact, _ *Books) {
				*facts = append(*facts, Fact{What: factFailed, Step: 1, Token: 2, Worker: "b/1"})
			},
			problem: "ran twice: b/1 (token 2) failed step 2 after a later holder (token 3)",
		},
		"a change that another has overwritten": {
			change: func(_ *Workflow, facts *[]Fact, _ *Books) {
				*facts = append(*facts, Fact{What: factFailed, Step: 2, Token: 3, Worker: "b/1"})
			},
			problem: "ran twice: b/1 (token 3) failed step 3, which the state does not know",
		},
		"the end told twice": {
			change: func(w *Workflow, _ *[]Fact, books *Books) {
				e := w.Outbox[len(w.Outbox)-1]
				e.Seq++
				books.Enter(e)
			},
			problem: "its end was told 2 times",
		},
		"one event by two holders": {
			change: func(w *Workflow, _ *[]Fact, books *Books) {
				e := w.Outbox[0]
				e.Token = 9
				books.Enter(e)
			},
			problem: "told by the holders of tokens 3 and 9",
		},
		"an event lost": {
			change:  func(w *Workflow, _ *[]Fact, _ *Books) { w.Seq++ },
			problem: "events lost: of its",
		},
		"an event lost, and the subscription said so": {
			change: func(w *Workflow, _ *[]Fact, books *Books) { w.Seq++; books.Gap("cut off") },
		},
		"an event before anybody listened": {
			change: func(w *Workflow, _ *[]Fact, books *Books) {
				books.workflows[w.ID].seen = map[int64]int64{}
				books.Open(w.ID, w.Seq)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, facts, books := finished()
			c.change(&w, &facts, books)
			v := Verdict{Total: 1, Gaps: books.Gaps()}

			v.judge(w, facts, books)

			if c.problem == "" {
				assert.True(t, v.OK(), v.Problems)
				return
			}
			assert.False(t, v.OK())
			assert.Contains(t, v.Problems[0], c.problem)
		})
	}
}
