package lock

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// during calls a function while the first script is under way: its reply is there but not seen yet.
type during struct {
	redistest.Hook

	once sync.Once
	f    func()
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
		<-m.closing.Done()
		m.janitor.add(debris{node: m.nodes[0], keys: late, value: "value", until: time.Now().Add(time.Minute)})
	}})
	m.janitor.add(debris{
		node: m.nodes[0], keys: newKeys("", "never"), value: "value", uncertain: true, until: time.Now().Add(time.Minute),
	})
	require.NoError(t, <-closed)
	require.Eventually(t, func() bool { return client.Exists(t.Context(), late.lock()).Val() == 0 },
		20*time.Second, time.Millisecond)
}

// removals answers in place of a server, which has one key.
type removals struct {
	redistest.Hook

	key  string
	gone atomic.Bool
}

func (h *removals) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			h.answer(cmd)
		}
		return nil
	}
}

func (h *removals) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		h.answer(cmd)
		return nil
	}
}

func (h *removals) answer(cmd redis.Cmder) {
	removed := int64(0)
	if cmd.Args()[3] == h.key && h.gone.CompareAndSwap(false, true) {
		removed = 1
	}
	if script, ok := cmd.(*redis.Cmd); ok {
		script.SetVal(removed)
	}
}

// A key that has to be looked for again and again does not hold up others.
func TestNewDebrisWaitsForNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := redis.NewClient(&redis.Options{ // answered by the hook
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}, // it would look up names
		})
		defer func() { _ = client.Close() }()
		never, other := newKeys("", "never"), newKeys("", "other")
		hook := &removals{key: other.lock()}
		client.AddHook(hook)
		m, err := NewRedisLockManager(client)
		require.NoError(t, err)
		defer func() { require.NoError(t, m.Close(t.Context())) }()
		until := time.Now().Add(time.Minute)
		m.janitor.add(debris{node: m.nodes[0], keys: never, value: "value", uncertain: true, until: until})
		time.Sleep(1300 * time.Millisecond) // in a bubble: until the pauses between two looks have grown to a second
		m.janitor.add(debris{node: m.nodes[0], keys: other, value: "value", until: until})
		synctest.Wait()
		require.True(t, hook.gone.Load())
		m.janitor.mu.Lock()
		defer m.janitor.mu.Unlock()
		require.Equal(t, 1, m.janitor.late, "the first is still to be looked for")
	})
}
