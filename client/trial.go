package client

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// trialSize is how many commands of each way are compared. How long a command takes varies by more than the ways
	// differ: with 16 the slower one won each third trial.
	trialSize = 64
	// trialPause is how many commands are sent in the better way before the next trial.
	trialPause = 32 * trialSize
)

// trial finds out which way to wait for a reply is the faster one, here and now: it measures some commands of each, by
// chance, as commands that take turns may differ, and compares the medians, as some may take any time.
type trial struct {
	mu      sync.Mutex // guards what follows
	pause   int        // so many commands until the next trial
	better  way
	samples [ways][]time.Duration // of length trialSize at most
}

// way is how to wait for a reply.
type way uint32

const (
	asleep way = iota // as any connection does
	awake             // by polling
	ways
	// among others that are under way; neither measured nor polled for.
	among = ways
	// unasked is what comes by itself, as to a subscription.
	unasked = ways + 1
)

// next returns how to wait for the reply to the next command, and whether the trial wants to know how long it took.
func (t *trial) next() (chosen way, measured bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pause > 0 {
		t.pause--
		return t.better, false
	}
	chosen = way(rand.Uint32N(uint32(ways)))
	if len(t.samples[chosen]) == trialSize {
		chosen = 1 - chosen
	}
	return chosen, true
}

// took tells how long a measured command took.
func (t *trial) took(chosen way, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pause > 0 || len(t.samples[chosen]) == trialSize {
		return // another one was faster to say so
	}
	t.samples[chosen] = append(t.samples[chosen], took)
	if len(t.samples[asleep])+len(t.samples[awake]) < 2*trialSize {
		return
	}
	for i := range t.samples {
		slices.Sort(t.samples[i])
	}
	const middle = trialSize / 2
	t.better = choose(t.better, t.samples[awake][middle], t.samples[asleep][middle])
	t.pause = trialPause
	for i := range t.samples {
		t.samples[i] = t.samples[i][:0]
	}
}

// choose returns the better way, given that of before and how long each takes. Polling keeps a processor busy, so it
// has to gain a tenth to begin with. After that it only has to gain something, or chance would end it now and then.
func choose(before way, polling, sleeping time.Duration) way {
	enough := 10*polling < 9*sleeping
	if before == awake {
		enough = polling < sleeping
	}
	if enough {
		return awake
	}
	return asleep
}
