package client

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// endless has a deadline and never ends, as contexts that somebody has made himself may do.
type endless struct {
	context.Context

	deadline time.Time
}

func (e endless) Deadline() (time.Time, bool) { return e.deadline, true }

func TestContextThatNeverEnds(t *testing.T) {
	t.Parallel()
	hole := listen(t, nil)
	for name, url := range map[string]string{
		"refused": "redis://127.0.0.1:1", "hangs": "redis://" + hole.address(), "TLS": "rediss://" + hole.address(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, &config.Config{URL: url, DialTimeout: time.Hour, ReadTimeout: -1, PingTimeout: time.Hour})
			for what, ask := range map[string]func(context.Context) error{"HealthCheck": r.HealthCheck, "WaitReady": r.WaitReady} {
				ends(t, what, func() {
					require.ErrorIs(t, ask(endless{t.Context(), time.Now().Add(50 * time.Millisecond)}), ErrUnreachable)
				})
			}
		})
	}
}

// TestCheckWithoutTime: nothing was asked, so nothing is known.
func TestCheckWithoutTime(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL(), LockNodes: []string{srv.Addr()}})
	over, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for _, ctx := range []context.Context{over, endless{t.Context(), time.Now()}} {
		for _, ask := range []func(context.Context) error{r.HealthCheck, r.CheckLockNodes, r.WaitReady} {
			require.ErrorIs(t, ask(ctx), context.DeadlineExceeded)
		}
	}
	require.EqualValues(t, succeeded, r.metrics.checked.is.Load())
	require.EqualValues(t, succeeded, r.metrics.nodesChecked.is.Load())
}
