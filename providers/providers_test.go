package providers

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

func TestConfigurationFromASetting(t *testing.T) {
	t.Parallel()
	given := &config.Config{Host: "redis.internal"}

	cfg, err := configuration(t.Context(), "", []Setting{{Source: "WithConfig", Config: given}})

	require.NoError(t, err)
	assert.Equal(t, "redis.internal", cfg.Host)
	assert.Equal(t, "6379", cfg.Port, "the rest has its defaults")
	assert.Empty(t, given.Port, "what was given stays as it was")
}

func TestOverrideChangesWhateverTheBaseIs(t *testing.T) {
	t.Parallel()
	override := Setting{Source: "embedded.Module", Override: func(c *config.Config) { c.Host = "embedded" }}

	cfg, err := configuration(t.Context(), "", []Setting{
		override, {Source: "WithConfig", Config: &config.Config{Host: "redis.internal", KeyPrefix: "app:"}},
	})
	require.NoError(t, err)
	assert.Equal(t, "embedded", cfg.Host)
	assert.Equal(t, "app:", cfg.KeyPrefix)

	_, err = configuration(t.Context(), "", []Setting{override, override})
	require.ErrorIs(t, err, ErrConflictingOptions)
}

func TestWhatAnOverrideBreaksIsReported(t *testing.T) {
	t.Parallel()
	_, err := configuration(t.Context(), "", []Setting{
		{Source: "embedded.Module", Override: func(c *config.Config) { c.Port = "none" }},
		{Source: "WithConfig", Config: &config.Config{}},
	})
	require.ErrorIs(t, err, config.ErrInvalid)
}

func TestDefaultPrefix(t *testing.T) { // sets the environment, so not in parallel
	t.Setenv("SESSIONS_REDIS_HOST", "one")
	t.Setenv("OTHER_REDIS_HOST", "two")

	cfg, err := configuration(context.Background(), "SESSIONS_", nil)
	require.NoError(t, err)
	assert.Equal(t, "one", cfg.Host)

	cfg, err = configuration(context.Background(), "SESSIONS_", []Setting{{Source: "WithEnvPrefix", EnvPrefix: "OTHER_"}})
	require.NoError(t, err)
	assert.Equal(t, "two", cfg.Host, "a prefix that was asked for wins")
}

// The words of the configuration are those of package notification, which config does not import.
func TestNotificationPolicies(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	for _, policy := range []notification.Policy{
		notification.Replay, notification.DropOldest, notification.DropNewest, notification.Disconnect,
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
			case notification.Replay:
				require.Eventually(t, func() bool { return len(sub.Messages()) == 1 }, time.Minute, time.Millisecond)
			case notification.DropOldest, notification.DropNewest:
				require.Eventually(t, func() bool { return sub.Dropped() == 2 }, time.Minute, time.Millisecond)
				if policy == notification.DropOldest {
					first = 2
				}
			case notification.Disconnect:
				require.Eventually(t, func() bool { return sub.Err() != nil }, time.Minute, time.Millisecond)
				require.ErrorIs(t, sub.Err(), notification.ErrSlowSubscriber)
			}
			got, err := notification.Decode[struct{ N int }](<-sub.Messages())
			require.NoError(t, err)
			assert.Equal(t, first, got.N)
			if policy == notification.Replay {
				assert.Contains(t, (<-sub.Messages()).Payload, `"n":1`)
				assert.Contains(t, (<-sub.Messages()).Payload, `"n":2`)
			}
		})
	}
}

func TestEnvPrefix(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"sessions": "SESSIONS_", "read-only_2": "READ_ONLY_2_", "A": "A_"} {
		got, err := envPrefix(name)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, name := range []string{"", "2nd", "a b", "ä", "a.b", `a"`} {
		_, err := envPrefix(name)
		require.ErrorIs(t, err, ErrInvalidOption, name)
	}
}
