package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryWorkflowEndsAndNumbersItsEvents(t *testing.T) {
	t.Parallel()
	kinds := make(map[string]bool)
	for n := range 50 {
		w := newWorkflow("run", fmt.Sprintf("run-%04d", n), time.Now())
		kinds[w.Kind] = true
		var events []Event
		w = w.Claim("a/1", 7, time.Now())
		events = append(events, w.Outbox...)
		for tries := 0; w.Status != Done; tries++ {
			require.Less(t, tries, 4*(maxFailures+1), "it never ends")
			assert.Positive(t, w.takes(time.Second))
			if w.fails(0.9) {
				w = w.Fail(time.Now())
			} else {
				w = w.Succeed(time.Now())
			}
			events = append(events, w.Outbox...)
		}
		for i, e := range events {
			assert.Equal(t, int64(i+1), e.Seq)
			assert.Equal(t, int64(7), e.Token)
		}
		assert.Equal(t, WorkflowStarted, events[0].Type)
		assert.Equal(t, WorkflowDone, events[len(events)-1].Type)
		assert.Equal(t, len(steps(w.Kind)), w.Step)
		assert.Equal(t, int64(len(events)), w.Seq)
	}
	assert.Len(t, kinds, 3, "all kinds occur")
}

func TestClaimOfARunningWorkflowIsATakeover(t *testing.T) {
	t.Parallel()
	w := newWorkflow("run", "run-1", time.Now()).Claim("a/1", 7, time.Now())
	next := w.Claim("b/1", 9, time.Now())

	assert.Equal(t, 1, next.Takeovers)
	assert.Equal(t, w.Step, next.Step, "it goes on where it stopped")
	require.Len(t, next.Outbox, 1)
	assert.Equal(t, WorkflowResumed, next.Outbox[0].Type)
	assert.Equal(t, WorkflowStarted, w.Outbox[0].Type, "the state before is what it was")
}

func TestTriesAreTheSameInEveryProcess(t *testing.T) {
	t.Parallel()
	w := newWorkflow("run", "run-0007", time.Now())
	again := newWorkflow("run", "run-0007", time.Now())
	assert.Equal(t, w.fails(0.5), again.fails(0.5))
	assert.Equal(t, w.takes(time.Second), again.takes(time.Second))
	assert.False(t, w.fails(0))
	assert.True(t, w.fails(1))
	w.Attempt = maxFailures
	assert.False(t, w.fails(1), "the last try succeeds")
}
