package client

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/compozy/cache/config"
)

func TestClientNeverPrintsSecrets(t *testing.T) {
	t.Parallel()
	for _, cfg := range []*config.Config{
		{URL: "redis://app:hunter2@redis.internal:6380"},
		{Host: "redis.internal", Port: "6380", Username: "app", Password: "hunter2", LockNodes: []string{"redis://:hunter2@a:1", "b:1"}},
		{MasterName: "m", Addrs: []string{"redis.internal:6380"}, SentinelPassword: "hunter2"},
		{Cluster: true, Addrs: []string{"redis.internal:6380"}, Password: "hunter2"},
	} {
		r := build(t, cfg)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%30v"} {
			for name, v := range map[string]any{
				"client": r, "slice": []*Redis{r}, "field": struct{ R *Redis }{r}, "hidden field": struct{ r *Redis }{r},
			} {
				require.NotContains(t, fmt.Sprintf(verb, v), "hunter2", "%s of a %s", verb, name)
			}
		}
		require.Contains(t, fmt.Sprintf("%+v", r), "redis.internal:6380")
		field := zap.Any("redis", r)
		enc := zapcore.NewMapObjectEncoder()
		field.AddTo(enc)
		require.Equal(t, r.String(), enc.Fields["redis"])
	}
	require.Equal(t, "<nil>", fmt.Sprintf("%+v", (*Redis)(nil)))
}
