package providers

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
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
