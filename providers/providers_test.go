package providers

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/store"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

func TestConfigurationFromASetting(t *testing.T) {
	t.Parallel()
	given := &config.Config{Host: "redis.internal"}

	from, err := Resolve(t.Context(), "", []Setting{{Source: "WithConfig", Config: given}})

	require.NoError(t, err)
	assert.Equal(t, "redis.internal", from.cfg.Host)
	assert.Equal(t, "6379", from.cfg.Port, "the rest has its defaults")
	assert.Empty(t, given.Port, "what was given stays as it was")
}

func TestOverrideChangesWhateverTheBaseIs(t *testing.T) {
	t.Parallel()
	override := Setting{Source: "embedded.Module", Override: func(c *config.Config) { c.Host = "embedded" }}

	from, err := Resolve(t.Context(), "", []Setting{
		override, {Source: "WithConfig", Config: &config.Config{Host: "redis.internal", KeyPrefix: "app:"}},
	})
	require.NoError(t, err)
	assert.Equal(t, "embedded", from.cfg.Host)
	assert.Equal(t, "app:", from.cfg.KeyPrefix)

	_, err = Resolve(t.Context(), "", []Setting{override, override})
	require.ErrorIs(t, err, ErrConflictingOptions)
}

func TestWhatAnOverrideBreaksIsReported(t *testing.T) {
	t.Parallel()
	_, err := Resolve(t.Context(), "", []Setting{
		{Source: "embedded.Module", Override: func(c *config.Config) { c.Port = "none" }},
		{Source: "WithConfig", Config: &config.Config{}},
	})
	require.ErrorIs(t, err, config.ErrInvalid)
}

func TestDefaultPrefix(t *testing.T) { // sets the environment, so not in parallel
	t.Setenv("SESSIONS_REDIS_HOST", "one")
	t.Setenv("OTHER_REDIS_HOST", "two")

	from, err := Resolve(context.Background(), "SESSIONS_", nil)
	require.NoError(t, err)
	assert.Equal(t, "one", from.cfg.Host)

	from, err = Resolve(context.Background(), "SESSIONS_", []Setting{{Source: "WithEnvPrefix", EnvPrefix: "OTHER_"}})
	require.NoError(t, err)
	assert.Equal(t, "two", from.cfg.Host, "a prefix that was asked for wins")
}

// What the configuration says about sizes and channels reaches the notification system.
func TestNotificationSizes(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	i := newInstance(t, &config.Config{
		URL: srv.URL(), NotificationMaxEventSize: 1000, NotificationHistoryBytes: 10_000, NotificationChannelPrefix: "staging:",
	})
	i.lifecycle.RequireStart()
	defer i.lifecycle.RequireStop()
	data := strings.Repeat("x", 500)
	require.ErrorIs(t, i.notifications.Publish(t.Context(), "k", map[string]string{"v": data + data}), notification.ErrInvalidArgument)
	for range 100 {
		require.NoError(t, i.notifications.Publish(t.Context(), "k", map[string]string{"v": data}))
	}
	kept := srv.Client(t).XLen(t.Context(), "cache:{notification}:staging::journal").Val()
	assert.Greater(t, kept, int64(5))
	assert.Less(t, kept, int64(20))
}

// What the configuration says about the store reaches it.
func TestStoreSettings(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	i := newInstance(t, &config.Config{
		URL: srv.URL(), KeyPrefix: "app:", ReadTimeout: time.Minute, StoreTimeout: time.Hour, StoreStateTimeout: 100 * time.Millisecond,
	})
	i.lifecycle.RequireStart()
	defer i.lifecycle.RequireStop()
	users, err := store.NewCache[string](i.store, "users")
	require.NoError(t, err)
	require.NoError(t, users.Set(t.Context(), "7", "Ann"))
	assert.EqualValues(t, 1, srv.Client(t).Exists(t.Context(), "app:v:users:{7}").Val())

	srv.Stop()
	defer srv.Continue()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // more than the default of StoreTimeout
	defer cancel()
	_, err = users.Get(ctx, "7")
	require.ErrorIs(t, err, context.DeadlineExceeded)

	flows, err := store.NewState[string](i.store, "flows")
	require.NoError(t, err)
	ctx, cancel = context.WithTimeout(t.Context(), time.Second) // less than the default of StoreStateTimeout
	defer cancel()
	_, err = flows.Get(ctx, "f")
	require.ErrorIs(t, err, store.ErrUnavailable)
}

// The words of the configuration are those of package notification, which config does not import.
func TestNotificationPolicies(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	for _, policy := range []notification.Policy{
		notification.PolicyReplay, notification.PolicyDropOldest, notification.PolicyDropNewest, notification.PolicyDisconnect,
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			cfg := &config.Config{
				URL: srv.URL(), KeyPrefix: string(policy), NotificationPolicy: string(policy), NotificationBufferSize: 1,
			}
			require.NoError(t, cfg.Validate())
			i := newInstance(t, cfg)
			i.lifecycle.RequireStart()
			defer i.lifecycle.RequireStop()
			sub, _ := i.notifications.Subscribe(t.Context(), string(policy)).(*notification.Subscription)
			for n := range 3 {
				require.NoError(t, i.notifications.Publish(t.Context(), string(policy), map[string]int{"n": n}))
			}
			first := 0 // which of the messages comes first
			switch policy {
			case notification.PolicyReplay:
				require.Eventually(t, func() bool { return len(sub.Messages()) == 1 }, time.Minute, time.Millisecond)
			case notification.PolicyDropOldest, notification.PolicyDropNewest:
				require.Eventually(t, func() bool { return sub.Dropped() == 2 }, time.Minute, time.Millisecond)
				if policy == notification.PolicyDropOldest {
					first = 2
				}
			case notification.PolicyDisconnect:
				require.Eventually(t, func() bool { return sub.Err() != nil }, time.Minute, time.Millisecond)
				require.ErrorIs(t, sub.Err(), notification.ErrSlowSubscriber)
			}
			got, err := notification.Decode[struct{ N int }](<-sub.Messages())
			require.NoError(t, err)
			assert.Equal(t, first, got.N)
			if policy == notification.PolicyReplay {
				assert.Contains(t, (<-sub.Messages()).Payload, `"n":1`)
				assert.Contains(t, (<-sub.Messages()).Payload, `"n":2`)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"sessions": "SESSIONS_", "read-only_2": "READ_ONLY_2_", "A": "A_"} {
		assert.Empty(t, CheckName(name))
		assert.Equal(t, want, envPrefix(name))
	}
	for _, name := range []string{"", "2nd", "a b", "ä", "a.b", `a"`, "default"} {
		assert.NotEmpty(t, CheckName(name), name)
	}
}

func TestSourceNamesWhatWasRead(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]*config.Config{
		"S_REDIS_URL":                             {URL: "redis://one"},
		"S_REDIS_ADDRS":                           {Addrs: []string{"one:1"}, Cluster: true},
		"S_REDIS_HOST and S_REDIS_PORT":           {Port: "7"},
		"the defaults, as S_REDIS_URL is not set": {},
	} {
		assert.Equal(t, want, variables("S_", cfg.WithDefaults()))
	}
	from, err := Resolve(t.Context(), "", []Setting{{Source: "WithConfig", Config: &config.Config{}}})
	require.NoError(t, err)
	assert.Equal(t, "WithConfig", from.describe(from.cfg, false))
	assert.Equal(t, "LockNodes of WithConfig", from.describe(from.cfg, true))
	assert.Equal(t, "fx.Replace or fx.Decorate", from.describe(&config.Config{}, false))
}
