package client

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

func TestMetricsOfVersions(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := open(t, &config.Config{URL: srv.URL()})
	require.Regexp(t, `cache_info\{cache="default",mode="single",redis_version="",version="[^"]*"\} 1\n`, collect(t, r))
	require.NoError(t, r.HealthCheck(t.Context()))
	require.Regexp(t, `cache_info\{cache="default",mode="single",redis_version="(Redis|Valkey) \d+\.\d+\.\d+",version="[^"]*"\} 1\n`,
		collect(t, r))
	// Tests are built in a work tree.
	require.Contains(t, []string{"", "(devel)"}, moduleVersion())
}

func TestMetricsOfChecks(t *testing.T) {
	t.Parallel()
	srv, node := redistest.Start(t), redistest.Start(t)
	r := open(t, &config.Config{URL: srv.URL(), LockNodes: []string{node.Addr()}, MaxRetries: -1})
	const main, nodes = `cache_client_up{cache="default",server="main"} `, `cache_client_up{cache="default",server="lock_nodes"} `
	require.NotContains(t, collect(t, r), "cache_client_up{", "nobody has asked")
	require.NoError(t, r.WaitReady(t.Context()))
	require.Contains(t, collect(t, r), main+"1")
	require.Contains(t, collect(t, r), nodes+"1")

	srv.Kill()
	node.Kill()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, r.HealthCheck(ended))
	require.Contains(t, collect(t, r), main+"1", "a check that its caller has ended says nothing")
	require.Error(t, r.HealthCheck(t.Context()))
	require.Contains(t, collect(t, r), main+"0")
	require.Contains(t, collect(t, r), nodes+"1")
	require.Error(t, r.CheckLockNodes(t.Context()))
	require.Contains(t, collect(t, r), nodes+"0")

	srv.Restart()
	require.NoError(t, r.HealthCheck(t.Context()))
	require.Contains(t, collect(t, r), main+"1")
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	var v verdict
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	v.note(ended, errors.New("no answer"))
	require.Zero(t, v.is.Load())
	v.note(ended, nil)
	require.EqualValues(t, succeeded, v.is.Load(), "it has succeeded all the same")
	late, end := context.WithTimeout(t.Context(), 0)
	defer end()
	v.note(late, errors.New("no answer"))
	require.EqualValues(t, failed, v.is.Load(), "the server hangs")
}
