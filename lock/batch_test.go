package lock_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestManyCallersShareRoundTrips: each gets the answer to its own command, also if the connections break.
func TestManyCallersShareRoundTrips(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	m := newManager(t, newClient(t, proxy.Addr()))
	var all sync.WaitGroup
	for caller := range 64 {
		all.Go(func() {
			resource := "job " + strconv.Itoa(caller)
			last := int64(0)
			for range 30 {
				l, err := m.Acquire(context.Background(), resource, longTTL)
				if !assert.NoError(t, err) {
					return
				}
				assert.Equal(t, resource, l.Resource())
				token := concrete(t, l).Token()
				assert.Greater(t, token, last)
				last = token
				_, err = m.Acquire(context.Background(), resource, longTTL)
				assert.ErrorIs(t, err, lock.ErrLockNotAcquired)
				assert.NoError(t, l.Release(context.Background()))
			}
		})
	}
	proxy.Cut()
	all.Wait()
	keys, err := server.Client(t).Keys(t.Context(), "cache:lock:{*}").Result()
	require.NoError(t, err)
	assert.Empty(t, keys)
	metrics := m.GetMetrics()
	assert.Equal(t, int64(64*30), metrics.AcquisitionsTotal-metrics.AcquisitionsFailed)
	assert.Equal(t, int64(64*30), metrics.AcquisitionsRefused)
	assert.Equal(t, int64(64*30), metrics.ReleasesTotal)
	assert.Zero(t, metrics.ReleasesFailed)
	assert.Zero(t, metrics.Held)
}
