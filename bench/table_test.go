package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		goal  goal
		value float64
		want  string
	}{
		{atMost(1.10), 1.10, "met"},
		{atMost(1.10), 1.1001, "MISSED"}, // although it prints as 1.10
		{atLeast(2.5), 2.5, "met"},
		{atLeast(2.5), 2.4999, "MISSED"},
		{noGoal(), 7, "–"},
	} {
		require.Equal(t, test.want, row{goal: test.goal, value: count(test.value)}.verdict(), "%+v", test)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 3, median([]float64{5, 1, 3}), 0)
	require.InDelta(t, 2.5, median([]float64{4, 1, 2, 3}), 0)
	require.InDelta(t, 2, quantile([]float64{1, 2, 3, 4, 5}, 0.25), 0)
	require.InDelta(t, 7, quantile([]float64{7}, 0.75), 0)
}

func TestPrintTable(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	require.NoError(t, printTable(&text, []row{{
		what: "a", against: "b", goal: atMost(1.1), unit: "×",
		value: spread{median: 1.234, low: 1.2, high: 12.34}, detail: "c",
	}}))
	lines := strings.Split(text.String(), "\n")
	require.Contains(t, lines[2], "| ≤ 1.10 × | 1.23 × (1.20–12.3)")
	require.Contains(t, lines[2], "| MISSED ")
}

func TestRaceTakesTurns(t *testing.T) {
	t.Parallel()
	calls := make([]int, 2)
	op := func(i int) func(context.Context, int) error {
		return func(context.Context, int) error {
			calls[i]++
			return nil
		}
	}
	result, err := effort{rounds: 3, turn: time.Microsecond}.runRace(t.Context(), 1,
		contender{"a", op(0)}, contender{"b", op(1)})
	require.NoError(t, err)
	for i := range calls {
		require.GreaterOrEqual(t, calls[i], 3, "each has its turn in each round")
	}
	require.Len(t, result.nanos[0], 3)
	require.Len(t, result.nanos[1], 3)
}

func TestRatiosCompareTheSameRound(t *testing.T) {
	t.Parallel()
	// The second round was ten times as slow for both.
	result := &race{nanos: [][]float64{{2, 20, 2}, {1, 10, 1}}}
	require.Equal(t, spread{2, 2, 2}, result.times(1))
	require.Equal(t, spread{0.5, 0.5, 0.5}, result.throughput(1))
}

func TestRaceStopsAtAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	_, err := effort{rounds: 1, turn: time.Millisecond}.runRace(t.Context(), 2,
		contender{"peer", func(context.Context, int) error { return broken }})
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "peer")
}

func TestRunUndoesInReverseAndReportsFatal(t *testing.T) {
	t.Parallel()
	var order []string
	err := run(func(s *scope) error {
		s.Cleanup(func() { order = append(order, "first") })
		s.Cleanup(func() { order = append(order, "second") })
		s.Fatalf("no %s", "luck")
		return nil
	})
	require.ErrorContains(t, err, "no luck")
	require.Equal(t, []string{"second", "first"}, order)
}
