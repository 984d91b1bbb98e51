package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// No worker writes like that. If the states let one do so, the list shows what the history has lost.
func TestAnOverwrittenChangeIsInTheLedger(t *testing.T) {
	t.Parallel()
	s, w := submitted(t)
	claimed := commit(t, s, w, w.Claim("a/1", 5, time.Now()), factClaimed)
	commit(t, s, claimed, claimed.Succeed(time.Now()), factDone)
	_, err := s.states.Put(t.Context(), s.stateKey(w.ID), claimed)
	require.NoError(t, err)
	claimed, err = s.Load(t.Context(), w.ID)
	require.NoError(t, err)
	again := commit(t, s, claimed, claimed.Claim("b/1", 6, time.Now()), factClaimed)
	commit(t, s, again, again.Succeed(time.Now()), factDone)

	books := NewBooks()
	w, facts, err := s.Ledger(t.Context(), w.ID)
	require.NoError(t, err)
	var v Verdict
	v.judge(w, facts, books)

	assert.Contains(t, v.Problems, w.ID+`: ran twice: step "`+stepNames(w.Kind)[0]+`" was done 2 times`)
	assert.Contains(t, v.Problems, w.ID+": ran twice: a/1 (token 5) done step 1, which the state does not know")
}

func TestMergeKeepsTheOrderOfEachSource(t *testing.T) {
	t.Parallel()
	now := time.Now()
	fact := func(what string, token int64, seconds int) Fact {
		return Fact{What: what, Token: token, At: now.Add(time.Duration(seconds) * time.Second)}
	}
	claimed, done := fact(factClaimed, 1, 5), fact(factDone, 1, 1) // by a clock that was set back
	begun, refused, early := fact(factBegun, 1, 6), fact(factRefused, 1, 7), fact(factBegun, 0, 0)

	all := merge([]Fact{claimed, done}, []Fact{early, claimed, begun, done, refused})

	assert.Equal(t, []Fact{early, claimed, done, begun, refused}, all)
	assert.Equal(t, []Fact{begun}, merge(nil, []Fact{begun}))
	assert.Empty(t, merge(nil, nil))
}
