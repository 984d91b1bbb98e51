package notification_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/notification"
)

// numbered is what the fault tests publish: whoever has all numbers in order has lost and doubled nothing.
type numbered struct {
	N int `json:"n"`
}

// numberOf returns the number in a message, which may be in the data of an event of ours.
func numberOf(m *notification.Message) (int, error) {
	v, err := notification.Decode[struct {
		N    int      `json:"n"`
		Data numbered `json:"data"`
	}](m)
	return max(v.N, v.Data.N), err
}

// recorder collects what a subscription delivers until it is closed.
type recorder struct {
	sub   *notification.Subscription
	after string // event ID of what the subscriber had before it was recorded, if there was any
	done  chan struct{}

	mu       sync.Mutex
	messages []*notification.Message
	numbers  []int // of those that have one
}

func record(tb testing.TB, s *notification.Subscription) *recorder {
	tb.Helper()
	r := &recorder{sub: s, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for m := range s.Messages() {
			number, err := numberOf(m)
			r.mu.Lock()
			r.messages = append(r.messages, m)
			if err == nil {
				r.numbers = append(r.numbers, number)
			}
			r.mu.Unlock()
		}
	}()
	tb.Cleanup(func() {
		_ = s.Close()
		<-r.done
	})
	return r
}

// reached waits until a number has arrived.
func (r *recorder) reached(tb testing.TB, n int) {
	tb.Helper()
	require.Eventuallyf(tb, func() bool { return r.last() >= n }, 2*patience, 5*time.Millisecond, "number %d never arrived", n)
}

// received returns what has arrived by now.
func (r *recorder) received() []*notification.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// last returns the last number that arrived, 0 before the first.
func (r *recorder) last() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.numbers) == 0 {
		return 0
	}
	return r.numbers[len(r.numbers)-1]
}

// isOpen reports whether a message carries a gap that goes on behind it.
func isOpen(m *notification.Message) bool {
	return m.Gap != nil && m.Gap.Before == "" && m.EventID != ""
}

// gaps returns the reasons of the gaps that messages carried, of each that was open once.
func (r *recorder) gaps() []notification.GapReason {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reasons []notification.GapReason
	var open *notification.Gap
	for _, m := range r.messages {
		switch {
		case m.Gap == nil:
			continue
		case open == nil || m.Gap.After != open.After || m.Gap.Reason != open.Reason:
			reasons = append(reasons, m.Gap.Reason)
		}
		if open = nil; isOpen(m) {
			open = m.Gap
		}
	}
	return reasons
}

// verify asserts the promise of the package for what was published with success: every event exactly once and in
// order, but for repetitions that are flagged and come behind a gap, or a gap where some are missing, from the event before to
// the one behind. An open gap goes on to where it is repeated. It returns how many are missing.
func (r *recorder) verify(tb testing.TB, published []int) (missing int) {
	tb.Helper()
	return r.verifyOf(tb, published, numberOf)
}

// verifyOf is verify for one of several publishers. Messages for which numberOf returns an error are not of that one.
func (r *recorder) verifyOf(
	tb testing.TB, published []int, numberOf func(*notification.Message) (int, error),
) (missing int) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	at, last, before, told, open, ever := 0, -1, r.after, false, "", false
	for i, m := range r.messages {
		switch {
		case m.Gap == nil:
		case isOpen(m): // there may be another one already, which ends here
			if after := "after " + m.Gap.After; after != open {
				require.Equalf(tb, before, m.Gap.After, "where the gap of message %d begins: %+v", i, m.Gap)
			}
			if told, ever = true, true; open == "" {
				open = "after " + before
			}
		default:
			after := "after " + before
			if open != "" {
				after = open
			}
			require.Equalf(tb, after, "after "+m.Gap.After, "where the gap of message %d begins: %+v", i, m.Gap)
			require.Equalf(tb, m.EventID, m.Gap.Before, "where the gap of message %d ends: %+v", i, m.Gap)
			told, open, ever = true, "", true
		}
		if m.EventID != "" {
			before = m.EventID
		}
		number, err := numberOf(m)
		if err != nil {
			continue
		}
		if number <= last && m.Redelivered && ever {
			continue // its publisher has repeated it after a failover, and says so
		}
		require.Greaterf(tb, number, last, "message %d is out of order or came twice", i)
		last = number
		skipped := 0
		for at < len(published) && published[at] < number {
			at++
			skipped++
		}
		if at < len(published) && published[at] == number {
			at++
		}
		if skipped > 0 {
			require.Truef(tb, told, "%d events before number %d are missing without a gap", skipped, number)
		}
		missing += skipped
		told = open != ""
	}
	require.Equalf(tb, len(published), at, "the last events are missing, first %v", published[at:min(at+5, len(published))])
	return missing
}

// hasAll waits until everything has arrived that the journal holds for channel "k". What a restart or a failover has cost
// is not in there, so nothing excuses the loss of what is.
func (r *recorder) hasAll(tb testing.TB, server redis.UniversalClient) {
	tb.Helper()
	var missing []int
	assert.Eventually(tb, func() bool {
		entries, err := server.XRange(tb.Context(), journalKey, "-", "+").Result()
		if err != nil || len(entries) == 0 {
			return false
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		arrived := make(map[int]bool)
		for _, n := range r.numbers {
			arrived[n] = true
		}
		missing = nil
		for _, e := range entries {
			key, _ := e.Values["k"].(string)
			value, _ := e.Values["v"].(string)
			v, err := notification.Decode[numbered](&notification.Message{Payload: "{" + value})
			if strings.HasSuffix(key, ":k") && (err != nil || !arrived[v.N]) {
				missing = append(missing, v.N)
			}
		}
		return len(missing) == 0
	}, patience, 10*time.Millisecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(tb, missing, "the journal holds what never arrived")
}

// publisher publishes numbers and remembers which succeeded.
type publisher struct {
	system *notification.RedisNotificationSystem
	last   int
	sent   []int // published with success
}

func (p *publisher) publish(ctx context.Context, channel string, count int) (failed int) {
	for range count {
		p.last++
		if err := p.system.Publish(ctx, channel, numbered{p.last}); err != nil {
			failed++
			continue
		}
		p.sent = append(p.sent, p.last)
	}
	return failed
}
