package batch_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redistest"
)

func TestWork(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 7, batch.Work(nil, 7))
	assert.Equal(t, 7+3+5, batch.Work([]any{"set", []byte("12345"), 3, nil}, 7), "numbers are small")
}

// largest is a hook that notes how many commands a pipeline has at most.
type largest struct {
	redistest.Hook

	n atomic.Int64
}

func (l *largest) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for n := int64(len(cmds)); ; {
			old := l.n.Load()
			if n <= old || l.n.CompareAndSwap(old, n) {
				break
			}
		}
		return next(ctx, cmds)
	}
}

func TestPipelinesAreNotTooMuchWork(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	l := new(largest)
	client.AddHook(l)
	c := batch.NewCommands(client, batch.CommandSettings{Timeout: time.Minute, Parallel: 1, MaxWork: 40})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			cmd := redis.NewStringCmd(t.Context(), "get", "k")
			assert.ErrorIs(t, c.Process(t.Context(), "k", cmd, 10), redis.Nil)
		})
	}
	all.Go(func() {
		cmd := redis.NewStatusCmd(t.Context(), "set", "l", strings.Repeat("x", 1000))
		assert.NoError(t, c.Process(t.Context(), "l", cmd, batch.Work(cmd.Args(), 0)), "more than there may be")
	})
	all.Wait()
	assert.LessOrEqual(t, l.n.Load(), int64(4))
}
