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

func TestPrintRows(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	require.NoError(t, printRows(&text, []row{{
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

func TestMetersCountWhatATurnUses(t *testing.T) {
	t.Parallel()
	var served time.Duration
	var requests int
	m := meters{served: func() time.Duration { return served }, requests: func() int { return requests }}
	op := func(trips int) func(context.Context, int) error {
		return func(context.Context, int) error {
			served += time.Duration(trips) * time.Microsecond
			requests += trips
			return nil
		}
	}
	result, err := effort{rounds: 3, turn: time.Microsecond}.runMetered(t.Context(), 1, m,
		contender{"a", op(2)}, contender{"b", op(1)})
	require.NoError(t, err)
	require.Equal(t, [][]float64{{2, 2, 2}, {1, 1, 1}}, result.requests)
	require.Equal(t, [][]float64{{2000, 2000, 2000}, {1000, 1000, 1000}}, result.served)
}

func TestCostsAndGoalsOfAnOperation(t *testing.T) {
	t.Parallel()
	near := &race{
		names: []string{"ours", "peer", "other"},
		nanos: [][]float64{{120}, {100}, {60}}, busy: [][]float64{{15}, {10}, {5}}, served: [][]float64{{5}, {4}, {2}},
	}
	far := &race{nanos: [][]float64{{1010}, {1000}, {900}}, requests: [][]float64{{2}, {1}, {1}}}
	o := operation{name: "op", goals: costGoals{
		trips: atMost(1), link: atMost(1.05), serverCPU: noGoal(), clientCPU: atMost(1.5), loopback: atMost(1.25),
	}}
	r := o.compare(near, far, []float64{9, 7, 5})
	require.Equal(t, []cost{{
		operation: "op", peer: "peer", trips: "2; 1", link: "1.01µs; 1µs (1.01 ×)", serverCPU: "5ns; 4ns (1.25 ×)",
		clientCPU: "15ns; 10ns (1.50 ×)", allocations: "9; 7", loopback: "120ns; 100ns (1.20 ×)",
	}}, r.costs)
	verdicts := make(map[string]string)
	for _, row := range r.rows {
		verdicts[row.what+", "+row.against] = row.verdict()
	}
	require.Equal(t, map[string]string{
		"op: round trips, peer": "MISSED", "op: time over a link of 1 ms, peer": "met", "op: client CPU, peer": "met",
		"op: time on loopback, peer": "met", "op: time over a link of 1 ms, other": "–", "op: time on loopback, other": "–",
	}, verdicts)
	var text strings.Builder
	require.NoError(t, printReport(&text, r))
	require.Contains(t, text.String(), "| 1.01µs; 1µs (1.01 ×) | 5ns; 4ns (1.25 ×)")
	require.Contains(t, text.String(), "MISSED")
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

func TestRunPassesOtherPanicsOn(t *testing.T) {
	t.Parallel()
	undone := false
	require.PanicsWithValue(t, "a bug", func() {
		_ = run(func(s *scope) error {
			s.Cleanup(func() { undone = true })
			panic("a bug")
		})
	})
	require.True(t, undone)
}
