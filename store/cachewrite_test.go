package store_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/store"
)

func TestSetAndDeleteRefuseWhatIsLoadedAtTheTime(t *testing.T) {
	t.Parallel()
	server, a, b := two[string](t)
	for name, write := range map[string]func(c *store.Cache[string]) error{
		"set":    func(c *store.Cache[string]) error { return c.Set(t.Context(), "set", "new") },
		"delete": func(c *store.Cache[string]) error { return c.Delete(t.Context(), "delete") },
	} {
		for _, writer := range []*store.Cache[string]{a, b} {
			require.NoError(t, server.Client(t).FlushAll(t.Context()).Err())
			loader := newGated[string]()
			early := async(t.Context(), a, name, loader.load)
			receive(t, loader.began, "the load")
			require.NoError(t, write(writer))
			late := async(t.Context(), a, name, loader.load)
			requireLate := func() {
				if name == "delete" {
					receive(t, loader.began, "the second load")
					loader.give("new", nil)
				}
				out := receive(t, late, "late")
				require.NoError(t, out.err)
				assert.Equal(t, "new", out.item.Value, "%s: who asks after the write does not get what was before", name)
			}
			requireEarly := func() {
				out := receive(t, early, "early")
				require.NoError(t, out.err)
				assert.Equal(t, "old", out.item.Value)
				assert.Zero(t, out.item.Version, "it was not stored")
			}
			if writer == b {
				requireCallers(t, a, name, 2)
				loader.give("old", nil)
				requireEarly()
				requireLate()
				continue
			}
			if name == "set" { // what was written here is known here: nobody waits for the load
				requireLate()
				loader.give("old", nil)
				requireEarly()
				continue
			}
			receive(t, loader.began, "the second load")
			loader.give("either", nil)
			loader.give("either", nil)
			for _, ch := range []<-chan outcome[string]{early, late} {
				require.NoError(t, receive(t, ch, "a caller").err)
			}
		}
	}
}

func TestHotKeyUnderWrites(t *testing.T) {
	t.Parallel()
	_, a, b := two[int](t)
	var written atomic.Int64
	require.NoError(t, a.Set(t.Context(), "k", 0))
	var all sync.WaitGroup
	stop := make(chan struct{})
	for _, c := range []*store.Cache[int]{a, b} {
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					least := written.Load()
					got, err := c.GetOrLoad(t.Context(), "k", never[int])
					if !assert.NoError(t, err) || !assert.GreaterOrEqual(t, int64(got), least) {
						return
					}
				}
			})
		}
	}
	for i := range 300 {
		require.NoError(t, a.Set(t.Context(), "k", i+1))
		written.Store(int64(i + 1))
	}
	close(stop)
	all.Wait()
}

func TestSetOfWhatCannotBeStoredChangesNothing(t *testing.T) {
	t.Parallel()
	_, c := setupCache[any](t, store.WithMaxSize(10))
	require.NoError(t, c.Set(t.Context(), "k", "old"))
	require.ErrorIs(t, c.Set(t.Context(), "k", "much too large"), store.ErrTooLarge)
	require.ErrorIs(t, c.Set(t.Context(), "k", func() {}), store.ErrCodec)
	v, err := c.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, "old", v)
}
