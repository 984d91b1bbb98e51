package lock

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// during calls a function while the first script is under way: its reply is there but not seen yet.
type during struct {
	once sync.Once
	f    func()
}

func (*during) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*during) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (d *during) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "evalsha" {
			d.once.Do(d.f)
		}
		return err
	}
}

// TestClosingTriesAllDebrisOnce: also what turns up while the last try of other debris is under way.
func TestClosingTriesAllDebrisOnce(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	m, err := NewRedisLockManager(client)
	require.NoError(t, err)
	late := newKeys("", "late")
	require.NoError(t, client.Set(t.Context(), late.lock(), "value", 0).Err())
	closed := make(chan error, 1)
	client.AddHook(&during{f: func() {
		go func() { closed <- m.Close(context.Background()) }()
		<-m.closing
		m.janitor.add(debris{node: m.nodes[0], keys: late, value: "value", until: time.Now().Add(time.Minute)})
	}})
	m.janitor.add(debris{
		node: m.nodes[0], keys: newKeys("", "never"), value: "value", uncertain: true, until: time.Now().Add(time.Minute),
	})
	require.NoError(t, <-closed)
	assert.Zero(t, client.Exists(t.Context(), late.lock()).Val())
}
