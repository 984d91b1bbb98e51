package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// events of a workflow that fails once at its first step and then succeeds.
func story(id string) []Event {
	w := newWorkflow("run", id, time.Now()).Claim("a/1", 1, time.Now())
	events := w.Outbox
	w = w.Fail(time.Now())
	events = append(events, w.Outbox...)
	for w.Status != Done {
		w = w.Succeed(time.Now())
		events = append(events, w.Outbox...)
	}
	return events
}

func TestBoardIsTheSameInWhateverOrderEventsCome(t *testing.T) {
	t.Parallel()
	events := story("run-1")
	forward, backward := NewBoard(Options{}, new(Tally)), NewBoard(Options{}, new(Tally))
	for i := range events {
		forward.Apply(events[i])
		backward.Apply(events[len(events)-1-i])
	}
	for _, p := range []Picture{forward.Picture(), backward.Picture()} {
		assert.Equal(t, 1, p.Done)
		assert.Equal(t, 0, p.Running)
		assert.Equal(t, 1, p.Retries)
		assert.Equal(t, len(events), p.Received)
		require.Len(t, p.Workflows, 1)
		card := p.Workflows[0]
		assert.Equal(t, Done, card.Status)
		assert.Equal(t, len(card.Steps), card.Done)
	}
}

func TestBoardCountsARepeatedEventOnce(t *testing.T) {
	t.Parallel()
	b := NewBoard(Options{}, new(Tally))
	failed := story("run-1")[1]
	b.Apply(failed)
	b.Apply(failed)
	p := b.Picture()
	assert.Equal(t, 1, p.Retries)
	assert.Equal(t, 1, p.Repeated)
	assert.Equal(t, 1, p.Running)
}

func TestSeededWorkflowIsNotCountedAgain(t *testing.T) {
	t.Parallel()
	w := newWorkflow("run", "run-1", time.Now()).Claim("a/1", 1, time.Now()).Fail(time.Now())
	b := NewBoard(Options{}, new(Tally))
	b.Seed(w)
	b.Apply(w.Outbox[0]) // was told after the subscription, though it happened before Seed
	p := b.Picture()
	assert.Equal(t, 1, p.Running)
	assert.Equal(t, 1, p.Retries)
	assert.Equal(t, 1, p.Workflows[0].Attempt)
}

func TestBoardDoesNotGrow(t *testing.T) {
	t.Parallel()
	b := NewBoard(Options{}, new(Tally))
	for n := range 5 * remembered {
		for _, e := range story(fmt.Sprintf("run-%04d", n)) {
			b.Apply(e)
		}
	}
	assert.LessOrEqual(t, len(b.cards), 2*remembered)
	p := b.Picture()
	assert.Equal(t, 5*remembered, p.Done)
	assert.Len(t, p.Workflows, shown)
	assert.Len(t, p.Events, shown)
}

func TestWhatRanWhenRedisLostItsDataDoesNotRunForEver(t *testing.T) {
	t.Parallel()
	b := NewBoard(Options{}, new(Tally))
	for _, e := range story("done") {
		b.Apply(e)
	}
	running, back := story("lost"), story("back")
	b.Apply(running[0])
	b.Apply(back[0])

	b.Wiped()

	p := b.Picture()
	assert.Equal(t, 0, p.Running)
	assert.Equal(t, 2, p.Lost)
	assert.Equal(t, 1, p.Done)
	require.Len(t, p.Workflows, 1)
	b.Apply(back[1])
	assert.Equal(t, 1, b.Picture().Running, "it was not lost")
}

func TestEmptyPictureHasListsInJSON(t *testing.T) {
	t.Parallel()
	out, err := json.Marshal(NewBoard(Options{}, new(Tally)).Picture())
	require.NoError(t, err)
	assert.NotContains(t, string(out), "null")
}
