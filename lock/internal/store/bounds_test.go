package store

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func settings(timeout time.Duration) Settings {
	return Settings{
		Timeout: timeout, Reservation: time.Second, Go: func(f func()) bool { go f(); return true }, Panicked: func(error) {},
	}
}

// hanging returns a client of a server that reads nothing.
func hanging() *redis.Client {
	return redis.NewClient(&redis.Options{
		ContextTimeoutEnabled: true, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			c, _ := net.Pipe()
			return c, nil
		},
	})
}

// TestRenewalsDoNotPileUp where a server hangs: more come than can fail one after the other.
func TestRenewalsDoNotPileUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := hanging()
		s := New(client, settings(time.Second))
		claims := make([]Claim, renewalBatch)
		for i := range claims {
			claims[i] = NewClaim(NewKeys("cache:", strconv.Itoa(i)), "claim", time.Hour, 1)
			claims[i].Tries[0].begin()
			claims[i].Tries[0].end(true, false, time.Now())
		}
		const rounds, every, timeout = 200, 50 * time.Millisecond, 200 * time.Millisecond
		var failed, most atomic.Int64
		for range rounds {
			s.Renew(claims, Timeouts{timeout, timeout}, func(_ int, r Reply) {
				assert.Equal(t, Failed, r.Outcome)
				failed.Add(1)
			})
			time.Sleep(every) // in a bubble
			s.renewals.mu.Lock()
			most.Store(max(most.Load(), int64(len(s.renewals.lanes[""].waiting))))
			s.renewals.mu.Unlock()
		}
		assert.LessOrEqual(t, most.Load(), 2*int64(timeout/every)*renewalBatch, "until they are late, and one is done")
		time.Sleep(time.Minute) // in a bubble
		assert.EqualValues(t, rounds*renewalBatch, failed.Load(), "each once")
		require.NoError(t, s.Close(t.Context()))
		require.NoError(t, client.Close())
		time.Sleep(time.Minute) // in a bubble: for what still dials in the background
	})
}

// TestReapersAreBounded: also by what is being tried just now.
func TestReapersAreBounded(t *testing.T) {
	t.Parallel()
	client := hanging()
	t.Cleanup(func() { _ = client.Close() })
	r := newReapers(link{Settings{Go: func(func()) bool { return true }}, client, nil}) // and its goroutine does not run
	fill := func() int {
		for range maxReaped + 10 {
			r.add(reaped{key: "job", until: time.Now().Add(time.Minute), quiet: true})
		}
		return r.servers[""].count
	}
	require.Equal(t, maxReaped, fill())
	for range 3 {
		work, _, last := r.take("", r.servers[""])
		require.Len(t, work, maxReaped)
		require.False(t, last)
		require.Equal(t, maxReaped, fill(), "while they are tried")
		r.put(r.servers[""], len(work), work, false)
		require.Equal(t, maxReaped, fill(), "and when they are to be tried again")
		r.servers[""].due = time.Time{}
	}
	work, _, _ := r.take("", r.servers[""])
	r.put(r.servers[""], len(work), nil, false)
	assert.Zero(t, r.servers[""].count)
}

// TestGivenUpUntilItEnds: Close reports what was too much to be remembered as long as it may be there.
func TestGivenUpUntilItEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		until time.Duration
		quiet bool
		want  error
	}{
		"there": {time.Minute, false, errLeft}, "of no interest": {time.Minute, true, nil}, "ended": {-time.Minute, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReapers(link{})
			r.giveUp(reaped{until: time.Now().Add(c.until), quiet: c.quiet})
			assert.Equal(t, c.want, r.close(t.Context()))
		})
	}
}
