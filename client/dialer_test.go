package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

func TestCloseWhileSentinelsAreStopped(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]redistest.Option{"plain": nil, "TLS": {redistest.WithTLS()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sentinel := redistest.Start(t, opts...)
			r := open(t, &config.Config{
				MasterName: "m", Addrs: []string{sentinel.Addr()}, TLSConfig: sentinel.TLSConfig(),
				DialTimeout: time.Hour, ReadTimeout: time.Hour, // nothing but Close ends the question
			})
			sentinel.Stop()
			require.ErrorIs(t, r.WaitReady(within(t, 100*time.Millisecond)), ErrUnreachable)

			closed := make(chan error, 1)
			go func() { closed <- r.Close() }()
			select {
			case err := <-closed:
				require.NoError(t, err)
			case <-time.After(patience):
				sentinel.Continue() // or the test would hang as well
				require.FailNow(t, "Close waits for an answer")
			}
		})
	}
}
