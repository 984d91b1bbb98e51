package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hold plays a trial in which a command takes as long as took says, and returns the way that was better and how often
// each was measured.
func hold(t *testing.T, subject *trial, took func(chosen way, n int) time.Duration) (better way, counts [ways]int) {
	t.Helper()
	for {
		chosen, measured := subject.next()
		if !measured {
			return chosen, counts
		}
		subject.took(chosen, took(chosen, counts[chosen]))
		counts[chosen]++
	}
}

func TestTrialChoosesTheFasterWay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		asleep, awake time.Duration
		before, want  way
	}{
		"awake is faster":                 {asleep: 100, awake: 50, want: awake},
		"asleep is faster":                {asleep: 50, awake: 100, want: asleep},
		"a gain that is not worth it":     {asleep: 100, awake: 91, want: asleep},
		"a small gain that is worth it":   {asleep: 100, awake: 89, want: awake},
		"both the same, it costs nothing": {asleep: 100, awake: 100, want: asleep},
		"still some gain":                 {asleep: 100, awake: 99, before: awake, want: awake},
		"a gain no more":                  {asleep: 100, awake: 101, before: awake, want: asleep},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			better, counts := hold(t, &trial{better: tc.before}, func(chosen way, n int) time.Duration {
				if n < trialSize/3 {
					return time.Duration(chosen) * time.Second // some are held up, or are quite different commands
				}
				return [...]time.Duration{asleep: tc.asleep, awake: tc.awake}[chosen]
			})
			require.Equal(t, tc.want, better)
			require.Equal(t, [ways]int{trialSize, trialSize}, counts)
		})
	}
}

func TestTrialIsRepeated(t *testing.T) {
	t.Parallel()
	subject := &trial{}
	for _, faster := range []way{awake, asleep, awake} {
		better, _ := hold(t, subject, func(chosen way, _ int) time.Duration {
			if chosen == faster {
				return 1
			}
			return 2
		})
		require.Equal(t, faster, better)
		for range trialPause - 1 { // hold has seen the first
			chosen, measured := subject.next()
			require.Equal(t, faster, chosen)
			require.False(t, measured)
		}
	}
}

// Commands that take turns must not be compared with each other: a lock is released as often as it is acquired.
func TestTrialChoosesByChance(t *testing.T) {
	t.Parallel()
	seen := make(map[[2]way]bool)
	for range 1000 { // two at the beginning of a trial
		subject := &trial{}
		one, _ := subject.next()
		subject.took(one, 1)
		other, _ := subject.next()
		seen[[2]way{one, other}] = true
	}
	require.Len(t, seen, 4)
}

func TestTrialIgnoresLateSamples(t *testing.T) {
	t.Parallel()
	subject := &trial{}
	for range 3 * trialSize {
		subject.took(awake, 1)
	}
	_, measured := subject.next()
	require.True(t, measured, "nothing to compare with")
	hold(t, subject, func(way, int) time.Duration { return 2 })
	subject.took(awake, 1) // in the pause
	require.Empty(t, subject.samples[awake])
}
