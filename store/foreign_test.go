package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/store"
)

// foreign are contents of keys that no State of this type has written.
func foreign() map[string]func(ctx context.Context, c *redis.Client, key string) error {
	text := func(s string) func(context.Context, *redis.Client, string) error {
		return func(ctx context.Context, c *redis.Client, key string) error { return c.Set(ctx, key, s, 0).Err() }
	}
	big := fmt.Sprint(int64(1)<<53 - 1)
	return map[string]func(context.Context, *redis.Client, string) error{
		"nothing in it":        text(""),
		"text":                 text("hunter2"),
		"JSON":                 text(`{"password":"hunter2"}`),
		"another form":         text("cs2 sj- 1 0 0 00 -\n\"hunter2\""),
		"no line":              text("cs1 sj- 1 0 0 00 -"),
		"too few fields":       text("cs1 sj- 1 0 0 00\n\"hunter2\""),
		"too many fields":      text("cs1 sj- 1 0 0 00 - -\n\"hunter2\""),
		"an empty field":       text("cs1 sj- 1  0 00 -\n\"hunter2\""),
		"another kind":         text("cs1 xj- 1 0 0 00 -\n\"hunter2\""),
		"a value of a cache":   text("cs1 vj- 1 0 0 00 -\n\"hunter2\""),
		"known absent":         text("cs1 a-- 1 0 0 00 -\n"),
		"another codec":        text("cs1 sm- 1 0 0 00 -\n\"hunter2\""),
		"another compression":  text("cs1 sjz 1 0 0 00 -\n\"hunter2\""),
		"a long coding":        text("cs1 sj-- 1 0 0 00 -\n\"hunter2\""),
		"no number":            text("cs1 sj- x 0 0 00 -\n\"hunter2\""),
		"a hexadecimal number": text("cs1 sj- 0x10 0 0 00 -\n\"hunter2\""),
		"no TTL":               text("cs1 sj- 1 5+ 0 00 -\n\"hunter2\""),
		"a TTL of letters":     text("cs1 sj- 1 5+x 0 00 -\n\"hunter2\""),
		"two TTLs":             text("cs1 sj- 1 5+1+1 0 00 -\n\"hunter2\""),
		"a TTL alone":          text("cs1 sj- 1 +1 0 00 -\n\"hunter2\""),
		"a signed number":      text("cs1 sj- +1 0 0 00 -\n\"hunter2\""),
		"a negative number":    text("cs1 sj- -1 0 0 00 -\n\"hunter2\""),
		"a fraction":           text("cs1 sj- 1.5 0 0 00 -\n\"hunter2\""),
		"version zero":         text("cs1 sj- 0 0 0 00 -\n\"hunter2\""),
		"a large number":       text("cs1 sj- " + big + "0 0 0 00 -\n\"hunter2\""),
		"2^53":                 text("cs1 sj- 1 9007199254740992 0 00 -\n\"hunter2\""),
		"many digits":          text("cs1 sj- 00000000000000001 0 0 00 -\n\"hunter2\""),
		"invisible characters": text("cs1 sj- 1 0 0 \x01 -\n\"hunter2\""),
		"bytes":                text("\x00\xff\xfe"),
		"a list": func(ctx context.Context, c *redis.Client, key string) error {
			return c.LPush(ctx, key, "hunter2").Err()
		},
		"a hash": func(ctx context.Context, c *redis.Client, key string) error { return c.HSet(ctx, key, "a", "b").Err() },
		"a stream": func(ctx context.Context, c *redis.Client, key string) error {
			return c.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{"a", "b"}}).Err()
		},
	}
}

// TestForeign: what somebody else has written is an error, and stays.
func TestForeign(t *testing.T) {
	t.Parallel()
	server, st := setup[string](t)
	client := server.Client(t)
	ctx := t.Context()
	for name, write := range foreign() {
		key := redisKey(name)
		require.NoError(t, write(ctx, client, key), name)
		before, err := client.Dump(ctx, key).Result()
		require.NoError(t, err)
		for op, call := range map[string]func() error{
			"get":        func() error { _, err := st.Get(ctx, name); return err },
			"create":     func() error { _, err := st.Create(ctx, name, "a"); return err },
			"put":        func() error { _, err := st.Put(ctx, name, "a"); return err },
			"fenced put": func() error { _, err := st.Put(ctx, name, "a", store.WithFence(1<<52)); return err },
			"put if":     func() error { _, err := st.Put(ctx, name, "a", store.IfVersion(1)); return err },
			"update":     func() error { _, err := st.Update(ctx, name, func(*string) error { return nil }); return err },
			"delete":     func() error { return st.Delete(ctx, name) },
			"touch":      func() error { return st.Touch(ctx, name, time.Hour) },
		} {
			err := call()
			require.ErrorIs(t, err, store.ErrCodec, "%s, %s", op, name)
			require.NotErrorIs(t, err, store.ErrUnavailable, "%s, %s", op, name)
			assert.NotContains(t, err.Error(), "hunter2")
			after, err := client.Dump(ctx, key).Result()
			require.NoError(t, err)
			require.Equal(t, before, after, "%s, %s", op, name)
		}
	}
}

func TestForeignValuesStayAsTheyAre(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t)
	client := server.Client(t)
	for what, set := range map[string]func(key string){
		"text":        func(key string) { client.Set(t.Context(), key, "hello", 0) },
		"list":        func(key string) { client.RPush(t.Context(), key, "hello") },
		"codec":       func(key string) { client.Set(t.Context(), key, "cs1 vx- 1 0 0 ab -\n\"x\"", 0) },
		"compression": func(key string) { client.Set(t.Context(), key, "cs1 vjz 1 0 0 ab -\n\"x\"", 0) },
		"state":       func(key string) { client.Set(t.Context(), key, "cs1 sj- 1 0 0 ab -\n\"x\"", 0) },
	} {
		set(redisKey(what))
		before := client.Dump(t.Context(), redisKey(what)).Val()
		_, err := c.Get(t.Context(), what)
		require.ErrorIs(t, err, store.ErrCodec, what)
		_, err = c.GetOrLoad(t.Context(), what, never)
		require.ErrorIs(t, err, store.ErrCodec, what)
		require.ErrorIs(t, c.Set(t.Context(), what, "v"), store.ErrCodec, what)
		require.ErrorIs(t, c.Delete(t.Context(), what), store.ErrCodec, what)
		assert.Equal(t, before, client.Dump(t.Context(), redisKey(what)).Val(), what)

		late := what + " while it is loaded"
		loader := newGated[string]()
		one := async(t.Context(), c, late, loader.load)
		receive(t, loader.began, "the load")
		set(redisKey(late))
		loader.give("v", nil)
		require.ErrorIs(t, receive(t, one, "a caller").err, store.ErrCodec, what)
		assert.Equal(t, before, client.Dump(t.Context(), redisKey(late)).Val(), what)
	}
	type other struct{ N int }
	require.NoError(t, c.Set(t.Context(), "type", "a string"))
	numbers, err := store.NewCache[other](newCacheStore(t, newClient(t, server.Addr())), name)
	require.NoError(t, err)
	_, err = numbers.Get(t.Context(), "type")
	require.ErrorIs(t, err, store.ErrCodec)
	assert.NotContains(t, err.Error(), "a string")
}

// TestPayloads: what cannot be decoded is an error that shows nothing of it, and can be replaced.
func TestPayloads(t *testing.T) {
	t.Parallel()
	type thing struct {
		Number int8      `json:"number"`
		When   time.Time `json:"when"`
	}
	server, st := setup[thing](t, store.WithMaxSize(1000))
	client := server.Client(t)
	ctx := t.Context()
	big := s2.Encode(nil, make([]byte, 1001))
	for name, payload := range map[string]struct {
		coding, payload string
		err             error
	}{
		"no JSON":            {"j-", "hunter2", store.ErrCodec},
		"nothing":            {"j-", "", store.ErrCodec},
		"more":               {"j-", `{"number":1} hunter2`, store.ErrCodec},
		"two values":         {"j-", `{"number":1}{"number":1}`, store.ErrCodec},
		"another type":       {"j-", `{"number":"hunter2"}`, store.ErrCodec},
		"too large a number": {"j-", `{"number":112233}`, store.ErrCodec},
		"an error of a type": {"j-", `{"when":"hunter2"}`, store.ErrCodec},
		"not compressed":     {"js", `{"number":1}`, store.ErrCodec},
		"cut":                {"js", string(s2.Encode(nil, []byte(`{"number":1}`))[:8]), store.ErrCodec},
		"too large":          {"j-", `{"x":"` + fmt.Sprintf("%01000d", 0) + `"}`, store.ErrTooLarge},
		"large compressed":   {"js", string(big), store.ErrTooLarge},
		"a huge claim":       {"js", "\xff\xff\xff\xff\x0f", store.ErrTooLarge},
		"an impossible one":  {"js", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", store.ErrCodec},
	} {
		key := redisKey(name)
		require.NoError(t, client.Set(ctx, key, "cs1 s"+payload.coding+" 5 0 0 00 -\n"+payload.payload, 0).Err())
		_, err := st.Get(ctx, name)
		require.ErrorIs(t, err, payload.err, name)
		for _, secret := range []string{"hunter2", "112233", "0000"} {
			assert.NotContains(t, err.Error(), secret, name)
		}
		_, err = st.Create(ctx, name, thing{})
		require.ErrorIs(t, err, store.ErrExists, name)
		require.ErrorIs(t, err, payload.err, name)
		_, err = st.Put(ctx, name, thing{}, store.IfVersion(4))
		require.ErrorIs(t, err, store.ErrConflict, name)
		require.ErrorIs(t, err, payload.err, name)
		_, err = st.Update(ctx, name, func(*thing) error { return nil })
		require.ErrorIs(t, err, payload.err, name)
		put(t, st, name, thing{Number: 3}, store.IfVersion(5))
		assert.EqualValues(t, 3, get(t, st, name).Value.Number, name)
	}
}
